"""Changes of a filter's picture before it is placed: narrowed to stay inside a face, shortened below the top border."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Matrix
from kpdetect.core.images import Pixels, cv2

_SAMPLES = 8  # of the contour, per segment
_NARROWEST = 0.25  # of a half; a face in profile still shows some of it
_EDGE = 0.97  # share of the distance to the contour that a half may take

Places = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]


def projected_outline(matrix: Matrix, contour: Places) -> Places:
    """A contour of the face in pixels of the picture.

    Args:
        matrix: (3, 3), from pixels of the picture to pixels of the photograph.
        contour: (n, 2), neighbouring points in pixels of the photograph.

    Returns:
        (8 * (n - 1) + 1, 2), densely sampled.
    """
    steps = np.arange((len(contour) - 1) * _SAMPLES + 1) / _SAMPLES
    dense = np.stack([np.interp(steps, np.arange(len(contour)), contour[:, axis]) for axis in (0, 1)], axis=1)
    moved = np.column_stack([dense, np.ones(len(dense))]) @ np.linalg.inv(matrix).T
    return np.asarray(moved[:, :2] / moved[:, 2:])


def narrowed(picture: Pixels, level: int, middle: float, outline: Places, ends: Box) -> Pixels:
    """Narrows each half of a picture towards its middle, so that it stays inside an outline.

    Args:
        picture: (h, w, 4), a level of the filter.
        level: Its number of halvings.
        middle: The column between the halves, in pixels of the whole picture.
        outline: (n, 2), in pixels of the whole picture; the first half of the points is on the left of the middle.
        ends: (x0, y0, y1, x1) of the whole picture: its first and last column that is not transparent, and the rows
            that the outer columns use.
    """
    x0, y0, y1, x1 = ends
    beside = (outline[:, 1] >= y0) & (outline[:, 1] <= y1)
    first_half = np.arange(len(outline)) < len(outline) // 2
    left_x, right_x = outline[beside & first_half, 0], outline[beside & ~first_half, 0]
    left = _EDGE * (middle - left_x.max()) / (middle - x0) if len(left_x) and middle > x0 else 1.0
    right = _EDGE * (right_x.min() - middle) / (x1 - middle) if len(right_x) and middle < x1 else 1.0
    if left >= 1 and right >= 1:
        return picture
    left, right = np.clip([left, right], _NARROWEST, 1)
    center, x = _at_level(middle, level), np.arange(picture.shape[1])
    source_x = center + (x - center) / np.where(x < center, left, right)
    return _resampled(picture, source_x, np.arange(picture.shape[0]))


def shortened(picture: Pixels, level: int, rows: tuple[float, float], matrix: Matrix, drawn: Box) -> Pixels:
    """Removes rows of a picture, as many as needed for its top to be inside the photograph.

    Args:
        picture: (h, w, 4), a level of the filter.
        level: Its number of halvings.
        rows: First and last row that may be removed, in pixels of the whole picture.
        matrix: (3, 3), from pixels of the whole picture to pixels of the photograph; affine.
        drawn: The box (x0, y0, x1, y1) of the whole picture that is not transparent.
    """
    (first, last), (x0, y0, x1, _) = rows, drawn
    down = matrix[1, 1]
    if down <= 0:  # upside down
        return picture
    highest = matrix[1, 2] + down * y0 + min(matrix[1, 0] * x0, matrix[1, 0] * x1)
    cut = float(np.clip(-highest / down, 0, last - first))
    if cut == 0:
        return picture
    y = (np.arange(picture.shape[0]) + 0.5) * 2**level - 0.5
    between = last - (last - y) * (last - first) / max(last - first - cut, 1e-6)
    source_y = np.where(y >= last, y, np.where(y >= first + cut, between, y - cut))
    return _resampled(picture, np.arange(picture.shape[1]), _at_level(source_y, level))


def _at_level(places: Any, level: int) -> Any:
    """Pixels of the whole picture as pixels of one that was halved `level` times."""
    return (places + 0.5) / 2**level - 0.5


def _resampled(picture: Pixels, source_x: npt.ArrayLike, source_y: npt.ArrayLike) -> Pixels:
    """A picture of the same size whose pixel (x, y) shows (source_x[x], source_y[y]); transparent outside."""
    map_x, map_y = np.meshgrid(np.asarray(source_x, np.float32), np.asarray(source_y, np.float32))
    sampled = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0,) * 4)
    return np.asarray(sampled, np.uint8)
