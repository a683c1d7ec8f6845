"""Owns where a model looks by itself for large faces, when no detector has found any: windows all over a photograph."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, intersection_over_union

SIDES = (0.6, 0.4)
"""Of the photograph's shorter side; smaller windows are soon hundreds, and cascades are good at small faces."""
STEP = 0.4  # of a window's side: what a model still makes a face out of is off by less than half of it
SMALLEST = 20  # pixels of a window's side
LONGEST = 4  # longer over shorter side of a photograph; windows all over a longer one would be hundreds
SAME_FACE = 0.4  # intersection over union from which two finds are one face
LEAST_SCORE = 0.02
"""Of what a window shows, which is a face cut anyhow; the crop about the points then found is judged like any other."""


def windows(size_hw: tuple[int, int]) -> Floats:
    """Square boxes of `SIDES` all over a photograph, evenly, in steps of at most `STEP` of their sides.

    Returns:
        (N, 4) float32 as (x0, y0, x1, y1) in pixels; none reaches over the border. A photograph of 4:3 has 50, a very
        small or long one has none.
    """
    height, width = size_hw
    boxes = [np.zeros((0, 4))]
    for share in SIDES if max(size_hw) <= LONGEST * min(size_hw) else ():
        side = share * min(height, width)
        if side < SMALLEST:
            continue
        x, y = (_starts(extent, side) for extent in (width, height))
        corners = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) - 0.5
        boxes.append(np.concatenate([corners, corners + side], axis=1))
    return np.asarray(np.concatenate(boxes), np.float32)


def non_maximum_suppression(boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Which of boxes (N, 4) are left without those that show the face of one with a higher score; the highest first.

    >>> non_maximum_suppression([[0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 29, 9]], [0.5, 0.9, 0.7])
    array([1, 2])
    """
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    overlap = intersection_over_union(boxes, boxes)
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist():
        if (overlap[index, kept] < SAME_FACE).all():
            kept.append(index)
    return np.array(kept, np.int64)


def _starts(extent: float, side: float) -> npt.NDArray[np.float64]:
    """Where windows begin along one side of the photograph, from border to border."""
    count = int(np.ceil((extent - side) / (STEP * side) - 1e-9)) + 1
    return np.linspace(0, extent - side, count)
