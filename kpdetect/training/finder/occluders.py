"""Draws masks, sunglasses and other occluders over faces of training canvases.

The finder's faces are oriented boxes; `kpdetect.data.occlusion` draws over faces with known points.
"""

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, rotation
from kpdetect.core.images import Pixels, cv2
from kpdetect.data.occlusion import SUBPIXEL_BITS, blend, in_subpixels, polygon_mask
from kpdetect.detection.oriented import OUTLINE

SHADES = (15, 245)  # of an occluder


def cover(picture: Pixels, face: Floats, rng: np.random.Generator) -> None:
    """Draws a random occluder over a face: a mask over nose and mouth, sunglasses, or a patch over a part of it.

    Args:
        picture: (H, W) uint8 grey, which is changed.
        face: (5,) oriented box of the face, see `kpdetect.detection.oriented`.
        rng: Random generator.

    Example:
        ``cover(canvas.picture, canvas.faces[0], np.random.default_rng(0))``
    """
    kind = rng.random()
    if kind < 0.55:
        _draw_mask(picture, face, rng)
    elif kind < 0.65:
        _draw_sunglasses(picture, face, rng)
    else:
        _draw_patch(picture, face, rng)


def _draw_mask(picture: Pixels, face: Floats, rng: np.random.Generator) -> None:
    """A mask from the bridge or the tip of the nose to the chin, with a gradient of shade, folds and ear loops."""
    top = rng.uniform(-0.15, 0.12)  # in heights of the face from its centre, at the cheeks
    jaw = OUTLINE[OUTLINE[:, 1] > top] * (rng.uniform(0.9, 1.04), rng.uniform(0.98, 1.12))
    left, right = jaw[-1], jaw[0]
    nose = np.array([rng.normal(0, 0.03), min(top, right[1]) - rng.uniform(-0.03, 0.2)])
    slope = rng.uniform(0.5, 1.0)
    edge = [left, left * (1 - slope) + nose * slope, nose, right * (1 - slope) + nose * slope]
    edge[1][1], edge[3][1] = nose[1] + 0.04, nose[1] + 0.04
    if rng.random() < 0.6:
        shade = rng.uniform(*SHADES)
        for corner, ear in ((left, (-0.52, -0.1)), (right, (0.52, -0.1))):
            _line(picture, _place(np.array([corner, np.add(ear, rng.normal(0, 0.05, 2))]), face), shade, face, 0.012)
    shape = _place(np.concatenate([jaw, edge]), face)
    shade = rng.uniform(*SHADES)
    _fill(picture, shape, shade, rng)
    for height in rng.uniform(nose[1] + 0.1, 0.45, rng.integers(4)):  # folds
        half = 0.42 - 0.5 * max(height - 0.1, 0)
        fold = np.array([[-half, height], [0, height + rng.uniform(0, 0.06)], [half, height]])
        _line(picture, _place(fold, face), np.clip(shade + rng.normal(0, 30), 0, 255), face, 0.01)


def _draw_sunglasses(picture: Pixels, face: Floats, rng: np.random.Generator) -> None:
    """Two dark ellipses and a bar at the height of the eyes."""
    shade, radii = rng.uniform(0, 70), rng.uniform((0.14, 0.09), (0.22, 0.17))
    angle = np.linspace(0, 2 * np.pi, 17)[:-1]
    for x in (-0.23, 0.23):
        ellipse = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii + (x, -0.25)
        _fill(picture, _place(ellipse, face), shade, rng)
    _line(picture, _place(np.array([[-0.5, -0.3], [0.5, -0.3]]), face), shade, face, 0.03)


def _draw_patch(picture: Pixels, face: Floats, rng: np.random.Generator) -> None:
    """A rectangle or an ellipse of another part of the picture, or of one shade, over up to 45 % of the face."""
    angle = np.linspace(0, 2 * np.pi, 5 if rng.random() < 0.5 else 17)[:-1] + rng.uniform(0, np.pi)
    radii = rng.uniform(0.12, 0.42, 2)
    place = rng.uniform(-0.5, 0.5, 2)
    if rng.random() < 0.4:
        place[1] = rng.uniform(0.25, 0.6)  # hands, cups, scarves and shoulders cover the mouth
    shape = _place(np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii + place, face)
    _fill(picture, shape, rng.uniform(*SHADES), rng, textured=rng.random() < 0.6)


def _place(shape: npt.ArrayLike, face: Floats) -> Floats:
    """Points (P, 2) in widths and heights of the upright face from its centre, as pixels of the picture."""
    turn = rotation(float(face[4]), (0, 0))[:2, :2]
    return np.asarray(np.asarray(shape) * face[2:4] @ turn.T + face[:2], np.float32)


def _fill(picture: Pixels, shape: Floats, shade: float, rng: np.random.Generator, textured: bool = False) -> None:
    """Fills a polygon (P, 2) with a shade and a gradient, or with another part of the picture."""
    height, width = picture.shape
    low = np.clip(np.floor(shape.min(axis=0)).astype(int) - 1, 0, (width, height))
    high = np.clip(np.ceil(shape.max(axis=0)).astype(int) + 2, 0, (width, height))
    region = picture[low[1] : high[1], low[0] : high[0]]
    if not region.size:
        return
    rows, columns = region.shape
    if textured:
        y, x = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        paint = picture[y : y + rows, x : x + columns].astype(np.float32)
    else:
        slope_y, slope_x = rng.normal(0, 25, 2)
        paint = shade + slope_y * np.linspace(-1, 1, rows)[:, None] + slope_x * np.linspace(-1, 1, columns)
        paint = paint + rng.normal(0, rng.uniform(0, 6), region.shape)
    mask = polygon_mask(np.asarray(shape - low, np.float32), (rows, columns))
    blend(region, np.asarray(mask / np.float32(255), np.float32), paint)


def _line(picture: Pixels, points: Floats, shade: float, face: Floats, width: float) -> None:
    """Draws a line through points (P, 2), `width` in sides of the face; thinner lines than a pixel are left out."""
    thickness = round(width * float(max(face[2:4])))
    if thickness >= 1:
        cv2.polylines(picture, [in_subpixels(points)], False, float(shade), thickness, cv2.LINE_AA, SUBPIXEL_BITS)
