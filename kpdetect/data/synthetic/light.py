"""Owns the light on a drawn head: a relief of hills at the points, lit from one side."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.images import Pixels, cv2
from kpdetect.data.synthetic.appearance import Look

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

CELLS = 72  # the relief's grid; the light is soft, so it may be coarse
REACH = 1.7  # the grid goes this many eye distances from the middle of the face
HIGHLIGHT_SHARPNESS = 14


def light_head(image: Pixels, mask: Pixels, to_image: Doubles, face: Doubles, look: Look) -> None:
    """Lights the skin, in place.

    Args:
        image: (H, W, 3), painted on.
        mask: (H, W), where there is skin, 0 to 255.
        to_image: (3, 3), from the upright face in eye distances to pixels of the image.
        face: (68, 2), the points in the upright frame, in eye distances from the middle of the face.
        look: Light, shine and so on.
    """
    diffuse, shine = _light_maps(face, look)
    grid_to_face = np.array([[2 * REACH / (CELLS - 1), 0, -REACH], [0, 2 * REACH / (CELLS - 1), -REACH], [0, 0, 1]])
    matrix = (to_image @ grid_to_face)[:2]
    rows, columns = _rows_and_columns(mask)
    part = image[rows, columns]
    matrix[:, 2] -= (columns.start, rows.start)
    size = (part.shape[1], part.shape[0])
    maps = cv2.warpAffine(
        np.dstack([diffuse, shine[..., None]]), matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    weight = mask[rows, columns][..., None] * np.float32(1 / 255)
    lit = part * (1 + (maps[..., :3] - 1) * weight) + maps[..., 3:] * weight * 255
    part[...] = np.clip(lit, 0, 255)


def _light_maps(face: Doubles, look: Look) -> tuple[Floats, Floats]:
    """What the light multiplies colours by (CELLS, CELLS, 3), and the highlights it adds (CELLS, CELLS) in [0, 1]."""
    lean_x, lean_y = _relief(face)
    normal_z = 1 / np.sqrt(1 + lean_x**2 + lean_y**2)
    normal_x, normal_y = lean_x * normal_z, lean_y * normal_z
    light = np.array([*look.light_xy, 1.0])
    light /= np.linalg.norm(light)
    facing = np.clip(normal_x * light[0] + normal_y * light[1] + normal_z * light[2], 0, None)
    half = light + np.array([0, 0, 1])  # between the light and the viewer: Blinn's highlights
    half /= np.linalg.norm(half)
    mirror = np.clip(normal_x * half[0] + normal_y * half[1] + normal_z * half[2], 0, None) ** HIGHLIGHT_SHARPNESS
    brightness = look.ambient + (1 - look.ambient) * 1.18 * facing
    diffuse = brightness[..., None] * np.array(look.light_color)
    diffuse *= 1 - _blush(face)[..., None] * np.array([-0.01, 0.07, 0.06])
    return diffuse.astype(np.float32), (mirror * look.shine).astype(np.float32)


def _relief(face: Doubles) -> tuple[Doubles, Doubles]:
    """How far the surface leans to the right and down: a rounded base, and a hill or a hollow per feature."""
    axis = np.linspace(-REACH, REACH, CELLS)
    middle_x, middle_y = face[[0, 16, 30], 0].mean(), face[[0, 16, 8], 1].mean()
    round_x, round_y = (axis - middle_x) / 0.95, (axis - middle_y + 0.15) / 1.35
    base_x, base_y = round_x * 0.7 + round_x**3 * 0.5, round_y * 0.55 + round_y**3 * 0.4
    x, y, spread_x, spread_y, height = _hills(face).T
    from_x, from_y = axis - x[:, None], axis - y[:, None]
    bell_x, bell_y = np.exp(-((from_x / spread_x[:, None]) ** 2)), np.exp(-((from_y / spread_y[:, None]) ** 2))
    lean_x = bell_x * from_x * (2 * height / spread_x**2)[:, None]
    lean_y = bell_y * from_y * (2 * height / spread_y**2)[:, None]
    return base_x[None, :] + bell_y.T @ lean_x, base_y[:, None] + lean_y.T @ bell_x


def _hills(face: Doubles) -> Doubles:
    """Rows of (x, y, spread in x, spread in y, height), in eye distances."""
    right_eye, left_eye = face[36:42].mean(axis=0), face[42:48].mean(axis=0)
    right_cheek = right_eye * 0.5 + face[48] * 0.5 + (face[2] - face[48]) * 0.2
    left_cheek = left_eye * 0.5 + face[54] * 0.5 + (face[14] - face[54]) * 0.2
    return np.array(
        [
            (*face[27], 0.09, 0.16, 0.025),
            (*face[28], 0.09, 0.14, 0.045),
            (*face[29], 0.10, 0.14, 0.06),
            (*face[30], 0.12, 0.12, 0.11),
            (*face[31], 0.08, 0.08, 0.025),
            (*face[35], 0.08, 0.08, 0.025),
            (*right_eye, 0.24, 0.13, -0.055),
            (*left_eye, 0.24, 0.13, -0.055),
            (*face[19], 0.26, 0.15, 0.025),
            (*face[24], 0.26, 0.15, 0.025),
            (*right_cheek, 0.26, 0.24, 0.07),
            (*left_cheek, 0.26, 0.24, 0.07),
            (*face[51], 0.22, 0.06, 0.014),
            (*face[57], 0.18, 0.07, 0.022),
            (*(face[57] * 0.65 + face[8] * 0.35), 0.2, 0.07, -0.02),
            (*(face[57] * 0.25 + face[8] * 0.75), 0.24, 0.16, 0.06),
        ]
    )


def _blush(face: Doubles) -> Doubles:
    """How red the skin is: cheeks, nose."""
    axis = np.linspace(-REACH, REACH, CELLS)
    spots = np.array([face[[36, 48, 2]].mean(axis=0), face[[45, 54, 14]].mean(axis=0), face[30]])
    bell_x = np.exp(-(((axis - spots[:, :1]) / 0.25) ** 2))
    bell_y = np.exp(-(((axis - spots[:, 1:]) / 0.2) ** 2))
    return np.asarray(bell_y.T @ bell_x)


def _rows_and_columns(mask: Pixels) -> tuple[slice, slice]:
    x, y, width, height = cv2.boundingRect(mask)
    return slice(y, y + height), slice(x, x + width)
