"""Geometry of keypoints, boxes, 3x3 matrices and crops, in NumPy.

A keypoint is ``(x, y)`` in pixels, float32, 0-based, with **the pixel centre on the integer**. So a flip is
``W - 1 - x``, a resize by s is ``(x + 0.5) * s - 0.5``, and a relative coordinate is ``(x + 0.5) / W``. Matrices map
source pixels to target pixels.
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
    """Applies an affine 3x3 matrix to points.

    Args:
        matrix: (3, 3), or (N, 3, 3) for N sets of points.
        points: (..., K, 2), or (N, K, 2).

    Returns:
        Transformed points of the same shape, float32.

    >>> apply_matrix(scaling(2.0), [[0.0, 3.0]])
    array([[0.5, 6.5]], dtype=float32)
    """
    m = np.asarray(matrix, np.float64)
    p = np.asarray(points, np.float64)
    moved = p @ np.swapaxes(m[..., :2, :2], -1, -2) + m[..., None, :2, 2]
    return np.asarray(moved, np.float32)


def invert(matrix: npt.ArrayLike) -> Matrix:
    """Returns the inverse of one (3, 3) or of N (N, 3, 3) matrices, float64.

    >>> invert(translation(2, 0))[0].tolist()
    [1.0, 0.0, -2.0]
    """
    return np.asarray(np.linalg.inv(np.asarray(matrix, np.float64)))


def translation(dx: float, dy: float) -> Matrix:
    """Returns the (3, 3) matrix of a shift by (dx, dy) pixels.

    >>> apply_matrix(translation(2, 3), [[0, 0]]).tolist()
    [[2.0, 3.0]]
    """
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1]], np.float64)


def scaling(scale: float) -> Matrix:
    """Returns the (3, 3) matrix of a resize by `scale`: ``(x + 0.5) * scale - 0.5``.

    >>> apply_matrix(scaling(2), [[0, 0]]).tolist()
    [[0.5, 0.5]]
    """
    shift = 0.5 * scale - 0.5
    return np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]], np.float64)


def rotation(angle_deg: float, center_xy: tuple[float, float]) -> Matrix:
    """Returns the (3, 3) matrix of a rotation about a point.

    >>> apply_matrix(rotation(90, (0, 0)), [[1, 0]]).round(6).tolist()
    [[0.0, 1.0]]

    Args:
        angle_deg: Degrees; positive angles turn the displayed image clockwise, because y points down.
        center_xy: The centre of rotation in pixels.
    """
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float64)
    x, y = center_xy
    return np.asarray(translation(x, y) @ turn @ translation(-x, -y))


def horizontal_flip(width: float) -> Matrix:
    """Returns the (3, 3) matrix that mirrors an image of `width` pixels: ``width - 1 - x``.

    >>> apply_matrix(horizontal_flip(10), [[0, 4]]).tolist()
    [[9.0, 4.0]]
    """
    return np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]], np.float64)


def fit_similarity(source: npt.ArrayLike, target: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Matrix | None:
    """Fits the rotation, scale and translation that map points to other points with the least weighted squared error.

    Points are treated as complex numbers, where a similarity is ``a * z + b``.

    >>> fit_similarity([[0, 0], [1, 0]], [[5, 5], [5, 7]]).round(6).tolist()
    [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0], [0.0, 0.0, 1.0]]

    Args:
        source: (n, 2).
        target: (n, 2).
        weights: (n,), non-negative; None weighs all points equally.

    Returns:
        (3, 3) float64, or None if all source points coincide.
    """
    z, w = np.asarray(source, np.float64) @ (1, 1j), np.asarray(target, np.float64) @ (1, 1j)
    weight = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    mean_z, mean_w = np.average(z, weights=weight), np.average(w, weights=weight)
    variance = (weight * abs(z - mean_z) ** 2).sum()
    if variance < 1e-9:
        return None
    a = (weight * np.conj(z - mean_z) * (w - mean_w)).sum() / variance
    b = mean_w - a * mean_z
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag], [0, 0, 1]])


def to_relative(points: npt.ArrayLike, size_hw: tuple[int, int]) -> Floats:
    """Converts pixels to coordinates relative to the image, [0, 1] inside it: ``(x + 0.5) / width``.

    >>> to_relative([[0.0, 49.5]], (100, 200))
    array([[0.0025, 0.5   ]], dtype=float32)

    Args:
        points: (..., 2) in pixels.
        size_hw: (height, width) of the image in pixels.

    Returns:
        (..., 2) float32.
    """
    height, width = size_hw
    return np.asarray((np.asarray(points, np.float64) + 0.5) / (width, height), np.float32)


def to_pixels(relative: npt.ArrayLike, size_hw: tuple[int, int]) -> Floats:
    """Converts relative coordinates to pixels; the inverse of `to_relative`.

    >>> to_pixels([[0.5, 0.5]], (100, 200)).tolist()
    [[99.5, 49.5]]
    """
    height, width = size_hw
    return np.asarray(np.asarray(relative, np.float64) * (width, height) - 0.5, np.float32)


def mirrored_relative(relative: npt.ArrayLike, swap: Sequence[int]) -> Floats:
    """Mirrors relative points and exchanges left and right ones. Applied twice, it is the identity.

    Args:
        relative: (..., K, 2), relative to the crop, in [0, 1].
        swap: The scheme's flip permutation, K indices.

    Returns:
        (..., K, 2) float32.

    >>> mirrored_relative([[0.25, 0.5], [1.0, 0.5]], [1, 0])
    array([[0.  , 0.5 ],
           [0.75, 0.5 ]], dtype=float32)
    """
    points = np.array(relative, np.float32)[..., list(swap), :]
    points[..., 0] = 1 - points[..., 0]
    return points


def tight_box(keypoints: npt.ArrayLike, visible: npt.ArrayLike | None = None) -> Floats:
    """Returns the face box of a set of points: the smallest axis-aligned box that contains them.

    >>> tight_box([[1, 5], [3, 2]]).tolist()
    [1.0, 2.0, 3.0, 5.0]

    Args:
        keypoints: (..., K, 2) in pixels.
        visible: (..., K) bool; only visible points count. Faces without a visible point use all points.

    Returns:
        (..., 4) float32, (x0, y0, x1, y1) in pixels.
    """
    points = np.asarray(keypoints, np.float32)
    if visible is not None:
        used = np.asarray(visible, bool)
        used = used | ~used.any(axis=-1, keepdims=True)
        low = np.where(used[..., None], points, np.inf).min(axis=-2)
        high = np.where(used[..., None], points, -np.inf).max(axis=-2)
    else:
        low, high = points.min(axis=-2), points.max(axis=-2)
    return np.asarray(np.concatenate([low, high], axis=-1), np.float32)


def image_box(size_hw: tuple[int, int]) -> Floats:
    """Returns the box of a whole image, (4,) float32, from border to border. It replaces the tight box of one point.

    >>> image_box((480, 640)).tolist()
    [-0.5, -0.5, 639.5, 479.5]
    """
    height, width = size_hw
    return np.array([-0.5, -0.5, width - 0.5, height - 0.5], np.float32)


def jitter_boxes(boxes_xyxy: npt.ArrayLike, shift_xy: npt.ArrayLike, scale: npt.ArrayLike) -> Floats:
    """Shifts and scales boxes about their centres, to simulate the errors of a face detector.

    >>> jitter_boxes([[0, 0, 10, 20]], (0.1, 0), 2).tolist()
    [[-4.0, -10.0, 16.0, 30.0]]

    Args:
        boxes_xyxy: (N, 4), (x0, y0, x1, y1).
        shift_xy: (N, 2) or (2,), as a fraction of each box's width and height.
        scale: (N,) or a number; 1 keeps the size.

    Returns:
        (N, 4) float32.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    size = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2 + np.asarray(shift_xy) * size
    half = size / 2 * np.asarray(scale, np.float64)[..., None]
    return np.asarray(np.concatenate([center - half, center + half], axis=-1), np.float32)


def intersection_over_union(first_xyxy: npt.ArrayLike, second_xyxy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the intersection over union of each pair of boxes: (N, 4), (M, 4) -> (N, M) float64 in [0, 1].

    >>> intersection_over_union([[0, 0, 2, 2]], [[0, 0, 2, 1]]).round(3).tolist()
    [[0.5]]
    """
    first = np.asarray(first_xyxy, np.float64).reshape(-1, 1, 4)
    second = np.asarray(second_xyxy, np.float64).reshape(1, -1, 4)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    area = np.prod(first[..., 2:] - first[..., :2], axis=-1) + np.prod(second[..., 2:] - second[..., :2], axis=-1)
    return np.asarray(common / np.maximum(area - common, 1e-12))


@dataclass(frozen=True)
class CropRule:
    """Rule for the model's input crop: centred on a face box, its side `margin` times the box's longer side.

    For a crop that is not square, the box side that is shorter relative to the crop is extended, so that pixels stay
    square. The crop may extend beyond the image; pixels outside are black.

    >>> CropRule(size_hw=(100, 100), margin=1.0).matrix([0, 0, 50, 50])[:2].tolist()
    [[2.0, 0.0, -0.5], [0.0, 2.0, -0.5]]

    Attributes:
        size_hw: (height, width) of the crop in pixels.
        margin: Side of the crop divided by the longer side of the box; 1 is a tight crop.
        around: What the box contains: ``face``, the tight box of the points, or ``image``, the whole image
            (`image_box`), for models of images with one face each.

    Raises:
        KpdetectError: The size, the margin or `around` is invalid.
    """

    size_hw: tuple[int, int]
    margin: float
    around: str = "face"

    def __post_init__(self) -> None:
        if self.around not in ("face", "image"):
            raise KpdetectError(f"crop rule: expected a crop around 'face' or 'image', received '{self.around}'")
        if min(self.size_hw) < 1 or not self.margin > 0:
            raise KpdetectError(f"crop rule: expected a positive size and margin, received {self}")

    def matrix(self, box_xyxy: npt.ArrayLike, roll_deg: npt.ArrayLike = 0.0) -> Matrix:
        """Returns the image-to-crop matrix of one box, (4,) -> (3, 3), or of N boxes, (N, 4) -> (N, 3, 3).

        Args:
            box_xyxy: (4,) or (N, 4), the tight box of the face after it is turned upright about the box's centre.
            roll_deg: () or (N,), the face's rotation in degrees, clockwise in the picture; the crop turns it upright.

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
        roll = np.deg2rad(np.asarray(roll_deg, np.float64))
        matrix = np.zeros((*boxes.shape[:-1], 3, 3))
        matrix[..., 0, 0] = matrix[..., 1, 1] = scale * np.cos(roll)
        matrix[..., 0, 1] = scale * np.sin(roll)
        matrix[..., 1, 0] = 0.0 - matrix[..., 0, 1]  # 0 and not -0 without a rotation
        # The box centre maps to the crop centre: relative 0.5, which is pixel W / 2 - 0.5.
        middle = np.array([width / 2 - 0.5, height / 2 - 0.5])
        matrix[..., :2, 2] = middle - np.einsum("...ij,...j->...i", matrix[..., :2, :2], center)
        matrix[..., 2, 2] = 1
        return matrix

    def upright_matrix(self, keypoints: npt.ArrayLike, across_xy: npt.ArrayLike) -> Matrix:
        """Returns image-to-crop matrices that rotate each face upright, around the tight box of its rotated points.

        Args:
            keypoints: (N, K, 2), in pixels of the image.
            across_xy: (N, 2), the direction that becomes the crop's x axis, such as from eye to eye; any non-zero
                length.

        Returns:
            (N, 3, 3) float64.

        Raises:
            KpdetectError: The points of a face span no area, or a direction is zero or not finite.
        """
        across = np.asarray(across_xy, np.float64)
        length = np.linalg.norm(across, axis=-1)
        if not np.isfinite(length).all() or (length <= 0).any():
            raise KpdetectError("upright crop: expected non-zero, finite direction vectors")
        cos, sin = (across / length[:, None]).T
        turn = np.zeros((len(across), 3, 3))
        turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1], turn[:, 2, 2] = cos, sin, -sin, cos, 1
        turned = apply_matrix(turn, keypoints)
        boxes = np.concatenate([turned.min(axis=1), turned.max(axis=1)], axis=1)
        return np.asarray(self.matrix(boxes) @ turn, np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-serialisable description, which `from_dict` reads."""
        return {"size_hw": list(self.size_hw), "margin": self.margin, "around": self.around}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "CropRule":
        """Returns the rule that `to_dict` described."""
        height, width = description["size_hw"]
        return cls((int(height), int(width)), float(description["margin"]), str(description.get("around", "face")))
