"""Shading of a synthetic head: a surface with bumps at the keypoints, lit by a directional light."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.images import Pixels, cv2
from kpdetect.data.synthetic.appearance import Appearance

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

CELLS = 72  # cells per side of the grid; the shading is smooth, so a coarse grid is sufficient
REACH = 1.7  # extent of the grid from the centre of the face, in eye distances
HIGHLIGHT_SHARPNESS = 14


def light_head(image: Pixels, mask: Pixels, to_image: Doubles, face: Doubles, appearance: Appearance) -> None:
    """Shades the head, in place: ambient and diffuse light, and specular highlights (Blinn, 1977).

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8, strength of the shading.
        to_image: (3, 3), from the upright frame, in eye distances, to pixels of the image.
        face: (68, 2), keypoints in the upright frame.
        appearance: Direction, colour and strength of the light.
    """
    diffuse, shine = _light_maps(face, appearance)
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


def _light_maps(face: Doubles, appearance: Appearance) -> tuple[Floats, Floats]:
    """Factors of the colours (CELLS, CELLS, 3), and highlights to add (CELLS, CELLS) in [0, 1]."""
    slope_x, slope_y = _surface_slope(face)
    normal_z = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    normal_x, normal_y = slope_x * normal_z, slope_y * normal_z
    light = np.array([*appearance.light_xy, 1.0])
    light /= np.linalg.norm(light)
    facing = np.clip(normal_x * light[0] + normal_y * light[1] + normal_z * light[2], 0, None)
    half = light + np.array([0, 0, 1])  # halfway between light and viewer, for Blinn's highlights
    half /= np.linalg.norm(half)
    mirror = np.clip(normal_x * half[0] + normal_y * half[1] + normal_z * half[2], 0, None) ** HIGHLIGHT_SHARPNESS
    brightness = appearance.ambient + (1 - appearance.ambient) * 1.18 * facing
    diffuse = brightness[..., None] * np.array(appearance.light_color)
    diffuse *= 1 - _redness(face)[..., None] * np.array([-0.01, 0.07, 0.06])
    return diffuse.astype(np.float32), (mirror * appearance.shine).astype(np.float32)


def _surface_slope(face: Doubles) -> tuple[Doubles, Doubles]:
    """Slope of the surface to the right and down, each (CELLS, CELLS): a convex base with a bump per feature."""
    axis = np.linspace(-REACH, REACH, CELLS)
    middle_x, middle_y = face[[0, 16, 30], 0].mean(), face[[0, 16, 8], 1].mean()
    round_x, round_y = (axis - middle_x) / 0.95, (axis - middle_y + 0.15) / 1.35
    base_x, base_y = round_x * 0.7 + round_x**3 * 0.5, round_y * 0.55 + round_y**3 * 0.4
    x, y, spread_x, spread_y, height = _bumps(face).T
    from_x, from_y = axis - x[:, None], axis - y[:, None]
    bell_x, bell_y = np.exp(-((from_x / spread_x[:, None]) ** 2)), np.exp(-((from_y / spread_y[:, None]) ** 2))
    slope_x = bell_x * from_x * (2 * height / spread_x**2)[:, None]
    slope_y = bell_y * from_y * (2 * height / spread_y**2)[:, None]
    return base_x[None, :] + bell_y.T @ slope_x, base_y[:, None] + slope_y.T @ bell_x


def _bumps(face: Doubles) -> Doubles:
    """(16, 5) Gaussian bumps: x, y, width in x, width in y, height, in eye distances; hollows are negative."""
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


def _redness(face: Doubles) -> Doubles:
    """Redness of the skin at cheeks and nose, (CELLS, CELLS)."""
    axis = np.linspace(-REACH, REACH, CELLS)
    spots = np.array([face[[36, 48, 2]].mean(axis=0), face[[45, 54, 14]].mean(axis=0), face[30]])
    bell_x = np.exp(-(((axis - spots[:, :1]) / 0.25) ** 2))
    bell_y = np.exp(-(((axis - spots[:, 1:]) / 0.2) ** 2))
    return np.asarray(bell_y.T @ bell_x)


def _rows_and_columns(mask: Pixels) -> tuple[slice, slice]:
    """The bounding box of the non-zero pixels of a mask."""
    x, y, width, height = cv2.boundingRect(mask)
    return slice(y, y + height), slice(x, x + width)
