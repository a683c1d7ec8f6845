"""Checks that tracked keypoints are a face: by size, shape and motion, and by the score or a second prediction."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, jitter_boxes, tight_box

SMALLEST_SIDE = 12.0  # pixels of the face's longer side; below it, keypoints collapse
NARROWEST = 0.4  # shorter over longer side; a face in profile has 0.6
LEAST_INSIDE = 0.5  # share of the face's box that has to lie in the picture
FURTHEST_JUMP = 0.5  # of the face's side, between two frames
GREATEST_GROWTH = 1.4  # of the face's side, between two frames

LEAST_SCORE = 0.5
"""Of `kpdetect.detection.Face.score`. Measured by ``benchmarks/tracking.py``: all faces of three labelled sets score
more, and none of 572 random boxes on photographs without a face."""

SHIFT_XY, SCALE = (-0.1, -0.1), 1.1  # how the second prediction's box differs
MOST_DISAGREEMENT = 0.04
"""Mean distance between the keypoints of the first and second prediction, in sides of the face. Measured by
``benchmarks/tracking.py``: 99 % of the faces of three labelled sets are below 0.019; of random boxes on photographs
without a face, where the keypoints follow the box, 0.3 % are below 0.04."""


def face_boxes(keypoints: npt.ArrayLike) -> Floats:
    """The tight boxes (N, 4) of keypoints (N, K, 2), in pixels."""
    return tight_box(np.asarray(keypoints, np.float32))


def longer_sides(boxes_xyxy: npt.ArrayLike) -> Floats:
    """The longer sides (N,) of boxes (N, 4), in pixels.

    Example:
        >>> longer_sides([[0, 0, 30, 40]]).tolist()
        [40.0]
    """
    boxes = np.asarray(boxes_xyxy, np.float32)
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).max(axis=-1))


def plausible_boxes(boxes_xyxy: npt.ArrayLike, size_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which tight boxes of keypoints can be faces: neither collapsed nor outside the picture.

    Args:
        boxes_xyxy: (N, 4) in pixels.
        size_hw: The picture's (height, width).

    Returns:
        (N,) bool.

    Example:
        >>> plausible_boxes([[10, 10, 60, 60], [10, 10, 60, 14]], (240, 320)).tolist()
        [True, False]
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    size = boxes[:, 2:] - boxes[:, :2]
    height, width = size_hw
    inside = np.clip(boxes[:, 2:], 0, (width, height)) - np.clip(boxes[:, :2], 0, (width, height))
    longer, shorter = size.max(axis=1), size.min(axis=1)
    visible = np.prod(inside, axis=1) >= LEAST_INSIDE * np.prod(size, axis=1)
    return np.asarray((longer >= SMALLEST_SIDE) & (shorter >= NARROWEST * longer) & visible)


def plausible_motion(before_xyxy: npt.ArrayLike, after_xyxy: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which faces moved and grew as little as a face does between two frames.

    Args:
        before_xyxy: (N, 4), their boxes in one frame.
        after_xyxy: (N, 4), their boxes in the next.

    Returns:
        (N,) bool.
    """
    before, after = np.asarray(before_xyxy, np.float64), np.asarray(after_xyxy, np.float64)
    side = np.maximum(longer_sides(before), 1e-6)
    jump = np.linalg.norm((after[:, 2:] + after[:, :2] - before[:, 2:] - before[:, :2]) / 2, axis=1)
    growth = np.maximum(longer_sides(after), 1e-6) / side
    return np.asarray((jump <= FURTHEST_JUMP * side) & (np.maximum(growth, 1 / growth) <= GREATEST_GROWTH))


def displaced_boxes(boxes_xyxy: npt.ArrayLike) -> Floats:
    """The boxes (N, 4) of the second prediction: moved to the upper left, and larger."""
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    return jitter_boxes(boxes, SHIFT_XY, np.full(len(boxes), SCALE))


def disagreement(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """The mean distance between two predictions of each face.

    Args:
        first: (N, K, 2) in pixels.
        second: (N, K, 2) in pixels.

    Returns:
        (N,) in sides of the first prediction's tight box.

    Example:
        >>> disagreement([[[0.0, 0.0], [10.0, 5.0]]], [[[1.0, 0.0], [11.0, 5.0]]]).round(3)
        array([0.1], dtype=float32)
    """
    points = np.asarray(first, np.float32)
    distance = np.linalg.norm(points - np.asarray(second, np.float32), axis=-1).mean(axis=-1)
    return np.asarray(distance / np.maximum(longer_sides(face_boxes(points)), 1e-6), np.float32)
