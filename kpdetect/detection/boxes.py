"""Owns boxes that several looks at a photograph gave: which of them show one face, and their order."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, intersection_over_union

SAME_FACE = 0.35  # intersection over union from which two boxes are votes for one face
INSIDE = 0.5  # share of the smaller box from which it is a part of the greater one's face


def merge_boxes(boxes_xyxy: npt.ArrayLike, votes: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Makes one box of boxes that show the same face.

    The box of most votes takes in those that overlap it, weighed by their votes; then a box that lies mostly in
    another of more votes, or around it, is dropped with its votes.

    Args:
        boxes_xyxy: (N, 4).
        votes: (N,), positive.

    Returns:
        Boxes (M, 4) and the sums of their votes (M,).

    >>> merge_boxes([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]], [3, 1, 2])[1]
    array([4., 2.], dtype=float32)
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    weights = np.asarray(votes, np.float64).reshape(-1)
    order = np.lexsort((*boxes.T, -weights))  # by votes, then by place: the order of the input does not matter
    boxes, weights = boxes[order], weights[order]
    merged, sums = _join(boxes, weights)
    kept = _not_within_another(merged, sums)
    return np.asarray(merged[kept], np.float32), np.asarray(sums[kept], np.float32)


def biggest_first(boxes_xyxy: npt.ArrayLike) -> Floats:
    """Boxes (N, 4) by area, the greatest first."""
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(boxes[np.argsort(-area, kind="stable")])


def _join(boxes: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    overlap = intersection_over_union(boxes, boxes)
    free = np.ones(len(boxes), bool)
    merged, sums = [], []
    for index in range(len(boxes)):
        if free[index]:
            group = free & (overlap[index] >= SAME_FACE)
            group[index] = True  # a box without area overlaps not even itself
            free &= ~group
            merged.append(np.average(boxes[group], axis=0, weights=weights[group]))
            sums.append(weights[group].sum())
    return np.reshape(merged, (-1, 4)), np.array(sums)


def _not_within_another(boxes: npt.NDArray[np.float64], votes: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Indices of the boxes that share at most `INSIDE` of the smaller area with any box of more votes."""
    kept: list[int] = []
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for index in np.argsort(-votes, kind="stable").tolist():
        low = np.maximum(boxes[index, :2], boxes[kept, :2])
        high = np.minimum(boxes[index, 2:], boxes[kept, 2:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        if (common <= INSIDE * np.minimum(area[index], area[kept])).all():
            kept.append(index)
    return np.array(kept, np.int64)
