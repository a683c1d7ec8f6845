"""Suppression of overlapping boxes, and their order by size."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, intersection_over_union

SAME_FACE = 0.4  # intersection over union from which `non_maximum_suppression` takes two boxes for one face
FUSED = 0.35  # and from which `weighted_non_maximum_suppression` averages two boxes
CONTAINED = 0.5  # share of the smaller box's area from which it is a part of the other box's face


def non_maximum_suppression(
    boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike, max_overlap: float = SAME_FACE
) -> npt.NDArray[np.int64]:
    """Keeps the box of the highest score among boxes that overlap.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).
        max_overlap: Boxes whose intersection over union with a kept one is at least this are suppressed.

    Returns:
        The indices of the kept boxes, by falling score.

    Example:
        >>> non_maximum_suppression([[0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 29, 9]], [0.5, 0.9, 0.7])
        array([1, 2])
    """
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    overlap = intersection_over_union(boxes, boxes)
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist():
        if (overlap[index, kept] < max_overlap).all():
            kept.append(index)
    return np.array(kept, np.int64)


def weighted_non_maximum_suppression(boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Averages overlapping boxes, weighted by their scores, and drops averages that another one contains.

    The box of the highest score absorbs all boxes that overlap it by `FUSED`; the rest follows in the same way. Then a
    box that shares more than `CONTAINED` of its area, or of the other's, with one of a higher summed score is dropped.
    The averaging is that of BlazeFace (Bazarevsky et al. 2019, https://arxiv.org/abs/1907.05047).

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,), positive: a network's scores, or counts of a cascade's windows.

    Returns:
        Boxes (M, 4) and the sums of their scores (M,), by falling sum.

    Example:
        >>> weighted_non_maximum_suppression([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]], [3, 1, 2])[1]
        array([4., 2.], dtype=float32)
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    weights = np.asarray(scores, np.float64).reshape(-1)
    groups = overlapping_groups(boxes, weights, FUSED)
    fused = np.reshape([np.average(boxes[group], axis=0, weights=weights[group]) for group in groups], (-1, 4))
    totals = np.array([weights[group].sum() for group in groups], np.float64)
    kept = without_contained(fused, totals)
    return np.asarray(fused[kept], np.float32), np.asarray(totals[kept], np.float32)


def overlapping_groups(
    boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike, min_overlap: float
) -> list[npt.NDArray[np.int64]]:
    """Groups boxes: the one of the highest score absorbs all that overlap it; the rest follows in the same way.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).
        min_overlap: The intersection over union from which a box is absorbed.

    Returns:
        The indices of each group, by falling score; the first is the box that absorbed the others. The order of the
        input does not matter.

    Example:
        >>> overlapping_groups([[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 12]], [3, 2, 4], 0.35)
        [array([2, 0]), array([1])]
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    order = np.lexsort((*boxes.T, -np.asarray(scores, np.float64)))  # by score, then by place
    overlap = intersection_over_union(boxes, boxes)
    free = np.ones(len(boxes), bool)
    groups = []
    for index in order.tolist():
        if free[index]:
            joined = free & (overlap[index] >= min_overlap)
            joined[index] = True  # a box without area does not even overlap itself
            free &= ~joined
            groups.append(order[joined[order]])
    return groups


def without_contained(
    boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike, most_contained: float = CONTAINED
) -> npt.NDArray[np.int64]:
    """Drops boxes that share more than a part of their area, or of the other's, with one of a higher score.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).
        most_contained: The share of the smaller box's area that two kept boxes have in common at most.

    Returns:
        The indices of the kept boxes, by falling score.

    Example:
        >>> without_contained([[0, 0, 10, 10], [2, 2, 6, 6], [8, 8, 18, 18]], [0.9, 0.5, 0.7])
        array([0, 2])
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist():
        low = np.maximum(boxes[index, :2], boxes[kept, :2])
        high = np.minimum(boxes[index, 2:], boxes[kept, 2:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        if (common <= most_contained * np.minimum(area[index], area[kept])).all():
            kept.append(index)
    return np.array(kept, np.int64)


def largest_first(boxes_xyxy: npt.ArrayLike) -> Floats:
    """Boxes (N, 4) by falling area; equal ones keep their order.

    Example:
        >>> largest_first([[0, 0, 1, 1], [0, 0, 3, 3]]).tolist()
        [[0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 1.0, 1.0]]
    """
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(boxes[np.argsort(-area, kind="stable")])
