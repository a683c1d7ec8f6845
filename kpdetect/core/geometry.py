"""Owns the coordinate contract: boxes, 3x3 matrices, and how a face box becomes a crop. NumPy alone.

A keypoint is ``(x, y)`` in pixels, float32, 0-based, with **the pixel's centre on the integer**. So a flip is
``W - 1 - x``, a resize by s is ``(x + 0.5) * s - 0.5``, and relative is ``(x + 0.5) / W``. A matrix is a forward
one: it takes source pixels to target pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


def apply_matrix(matrix: npt.ArrayLike, points: npt.ArrayLike) -> Floats:
    """Moves points by a 3x3 matrix.

    Args:
        matrix: (3, 3), or (N, 3, 3) for N sets of points.
        points: (..., K, 2), or (N, K, 2).

    Returns:
        Points of the same shape, float32.

    >>> apply_matrix(scaling(2.0), [[0.0, 3.0]])
    array([[0.5, 6.5]], dtype=float32)
    """
    m = np.asarray(matrix, np.float64)
    p = np.asarray(points, np.float64)
    moved = p @ np.swapaxes(m[..., :2, :2], -1, -2) + m[..., None, :2, 2]
    return np.asarray(moved, np.float32)


def invert(matrix: npt.ArrayLike) -> Matrix:
    """The inverse of one (3, 3) or of many (N, 3, 3) matrices."""
    return np.asarray(np.linalg.inv(np.asarray(matrix, np.float64)))


def translation(dx: float, dy: float) -> Matrix:
    """A shift by (dx, dy) pixels."""
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1]], np.float64)


def scaling(scale: float) -> Matrix:
    """A resize by `scale`: ``(x + 0.5) * scale - 0.5``."""
    shift = 0.5 * scale - 0.5
    return np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]], np.float64)


def rotation(angle_deg: float, center_xy: tuple[float, float]) -> Matrix:
    """A turn about a point; positive angles turn the picture clockwise as it is seen (y points down)."""
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float64)
    x, y = center_xy
    return np.asarray(translation(x, y) @ turn @ translation(-x, -y))


def horizontal_flip(width: float) -> Matrix:
    """A mirror image of a picture `width` pixels wide: ``width - 1 - x``."""
    return np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]], np.float64)


def fit_similarity(source: npt.ArrayLike, target: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Matrix | None:
    """The turn, size and shift that take points to others best: the least weighted squares, in complex numbers.

    >>> fit_similarity([[0, 0], [1, 0]], [[5, 5], [5, 7]]).round(6).tolist()
    [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0], [0.0, 0.0, 1.0]]

    Args:
        source: (n, 2).
        target: (n, 2).
        weights: (n,); all the same where there are none.

    Returns:
        (3, 3); None where the source's points fall together.
    """
    z, w = np.asarray(source, np.float64) @ (1, 1j), np.asarray(target, np.float64) @ (1, 1j)
    weight = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    middle_z, middle_w = np.average(z, weights=weight), np.average(w, weights=weight)
    spread = (weight * abs(z - middle_z) ** 2).sum()
    if spread < 1e-9:
        return None
    turn = (weight * np.conj(z - middle_z) * (w - middle_w)).sum() / spread
    shift = middle_w - turn * middle_z
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag], [0, 0, 1]])


def to_relative(points: npt.ArrayLike, size_hw: tuple[int, int]) -> Floats:
    """Pixels to [0, 1]: ``(x + 0.5) / width``.

    >>> to_relative([[0.0, 49.5]], (100, 200))
    array([[0.0025, 0.5   ]], dtype=float32)
    """
    height, width = size_hw
    return np.asarray((np.asarray(points, np.float64) + 0.5) / (width, height), np.float32)


def to_pixels(relative: npt.ArrayLike, size_hw: tuple[int, int]) -> Floats:
    """[0, 1] to pixels, the inverse of `to_relative`."""
    height, width = size_hw
    return np.asarray(np.asarray(relative, np.float64) * (width, height) - 0.5, np.float32)


def mirrored_relative(relative: npt.ArrayLike, swap: Sequence[int]) -> Floats:
    """Points relative to a crop (…, K, 2) as they are in its mirror image; twice gives them back.

    Args:
        relative: In the scheme's order.
        swap: The scheme's left-right permutation.

    >>> mirrored_relative([[0.25, 0.5], [1.0, 0.5]], [1, 0])
    array([[0.  , 0.5 ],
           [0.75, 0.5 ]], dtype=float32)
    """
    points = np.array(relative, np.float32)[..., list(swap), :]
    points[..., 0] = 1 - points[..., 0]
    return points


def tight_box(keypoints: npt.ArrayLike, visible: npt.ArrayLike | None = None) -> Floats:
    """The face box of a scheme's points: the smallest box around them.

    Args:
        keypoints: (..., K, 2) in pixels.
        visible: (..., K) of bool; points that are not visible do not count, unless none is.

    Returns:
        (..., 4) as (x0, y0, x1, y1), float32.
    """
    points = np.asarray(keypoints, np.float32)
    if visible is not None:
        seen = np.asarray(visible, bool)
        seen = seen | ~seen.any(axis=-1, keepdims=True)
        low = np.where(seen[..., None], points, np.inf).min(axis=-2)
        high = np.where(seen[..., None], points, -np.inf).max(axis=-2)
    else:
        low, high = points.min(axis=-2), points.max(axis=-2)
    return np.asarray(np.concatenate([low, high], axis=-1), np.float32)


def image_box(size_hw: tuple[int, int]) -> Floats:
    """The box of a whole image (4,), border to border: what stands for the tight box of a single point.

    >>> image_box((480, 640)).tolist()
    [-0.5, -0.5, 639.5, 479.5]
    """
    height, width = size_hw
    return np.array([-0.5, -0.5, width - 0.5, height - 0.5], np.float32)


def jitter_boxes(boxes_xyxy: npt.ArrayLike, shift_xy: npt.ArrayLike, scale: npt.ArrayLike) -> Floats:
    """Boxes moved and scaled about their centres, as a detector's boxes are off.

    Args:
        boxes_xyxy: (N, 4).
        shift_xy: (N, 2) or (2,), as a fraction of each box's width and height.
        scale: (N,) or a number; 1 keeps the size.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    size = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2 + np.asarray(shift_xy) * size
    half = size / 2 * np.asarray(scale, np.float64)[..., None]
    return np.asarray(np.concatenate([center - half, center + half], axis=-1), np.float32)


def intersection_over_union(first_xyxy: npt.ArrayLike, second_xyxy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Overlap of every box of one list with every box of another: (N, 4), (M, 4) -> (N, M) in [0, 1]."""
    first = np.asarray(first_xyxy, np.float64).reshape(-1, 1, 4)
    second = np.asarray(second_xyxy, np.float64).reshape(1, -1, 4)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    area = np.prod(first[..., 2:] - first[..., :2], axis=-1) + np.prod(second[..., 2:] - second[..., :2], axis=-1)
    return np.asarray(common / np.maximum(area - common, 1e-12))


@dataclass(frozen=True)
class CropRule:
    """How a face box becomes the crop a model sees: centred on the box, upright, `margin` times its longer side.

    For a crop that is not square, the side that is shorter relative to the crop is extended, so that pixels stay
    square. The crop may reach over the photograph's border; what lies outside is black.

    Attributes:
        size_hw: The crop's (height, width) in pixels.
        margin: The crop's side over the box's longer side; 1 is a tight crop.
        around: What the box is: ``face``, the tight box of the points, or ``image``, the whole picture (`image_box`),
            for models of pictures that show one face each.
    """

    size_hw: tuple[int, int]
    margin: float
    around: str = "face"

    def __post_init__(self) -> None:
        if self.around not in ("face", "image"):
            raise KpdetectError(f"crop rule: expected a crop around 'face' or 'image', received '{self.around}'")
        if min(self.size_hw) < 1 or not self.margin > 0:
            raise KpdetectError(f"crop rule: expected a positive size and margin, received {self}")

    def matrix(self, box_xyxy: npt.ArrayLike) -> Matrix:
        """The photograph-to-crop matrix of one box (4,) or of many (N, 4).

        Raises:
            KpdetectError: A box has no area, or a coordinate is not finite.
        """
        boxes = np.asarray(box_xyxy, np.float64)
        size = boxes[..., 2:] - boxes[..., :2]
        if not np.isfinite(boxes).all() or (size <= 0).any():
            bad = boxes.reshape(-1, 4)[~((size > 0).all(-1) & np.isfinite(boxes).all(-1)).reshape(-1)][0]
            raise KpdetectError(f"face box: expected x0 < x1 and y0 < y1, all finite, received {bad.tolist()}")
        height, width = self.size_hw
        pixels_per_cell = self.margin * np.maximum(size[..., 0] / width, size[..., 1] / height)
        scale = 1.0 / pixels_per_cell
        center = (boxes[..., :2] + boxes[..., 2:]) / 2
        matrix = np.zeros((*boxes.shape[:-1], 3, 3))
        matrix[..., 0, 0] = matrix[..., 1, 1] = scale
        # The box's centre falls on the crop's: relative 0.5, which is pixel W / 2 - 0.5.
        matrix[..., :2, 2] = np.array([width / 2 - 0.5, height / 2 - 0.5]) - center * scale[..., None]
        matrix[..., 2, 2] = 1
        return matrix

    def upright_matrix(self, keypoints: npt.ArrayLike, across_xy: npt.ArrayLike) -> Matrix:
        """The photograph-to-crop matrices of faces whose points are known: turned level, about the points' tight box.

        Args:
            keypoints: (N, K, 2), in pixels of the photograph.
            across_xy: (N, 2), what is to run along the crop's x axis, such as from eye to eye; any length but zero.

        Returns:
            (N, 3, 3).

        Raises:
            KpdetectError: The points of a face span no area, or a direction has no length.
        """
        across = np.asarray(across_xy, np.float64)
        length = np.linalg.norm(across, axis=-1)
        if not np.isfinite(length).all() or (length <= 0).any():
            raise KpdetectError("upright crop: expected directions of some length, received one of none")
        cos, sin = (across / length[:, None]).T
        turn = np.zeros((len(across), 3, 3))
        turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1], turn[:, 2, 2] = cos, sin, -sin, cos, 1
        turned = apply_matrix(turn, keypoints)
        boxes = np.concatenate([turned.min(axis=1), turned.max(axis=1)], axis=1)
        return np.asarray(self.matrix(boxes) @ turn, np.float64)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description; `from_dict` reads it back."""
        return {"size_hw": list(self.size_hw), "margin": self.margin, "around": self.around}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "CropRule":
        """Reads what `to_dict` wrote."""
        height, width = description["size_hw"]
        return cls((int(height), int(width)), float(description["margin"]), str(description.get("around", "face")))
