"""Owns what tells a tracked face from none: the model's own score, or else what its points alone say."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, jitter_boxes, tight_box

SMALLEST_SIDE = 12.0  # pixels of the face's longer side; below, points collapse on each other
NARROWEST = 0.4  # shorter over longer side; a face in profile has 0.6
LEAST_INSIDE = 0.5  # share of the face's box that must lie in the picture
FURTHEST_JUMP = 0.5  # of the face's side, from one frame to the next; a cut of the film moves further
GREATEST_GROWTH = 1.4  # and no face grows or shrinks more between two frames

LEAST_SCORE = 0.5
"""Of `kpdetect.detection.Face.score`, where the model tells one. ``benchmarks/tracking.py`` measures it: all faces
of three
labelled sets score more, and none of 572 boxes at random on photographs without a face."""

SHIFT_XY, SCALE = (-0.1, -0.1), 1.1  # how the second look's box differs
MOST_DISAGREEMENT = 0.04
"""Mean distance of a face's points from those of a second look, in sides of its box. ``benchmarks/tracking.py``
measures it: 99 % of the faces of three labelled sets stay below 0.019, and 0.3 % of boxes at random on photographs
without a face, since there the points follow the box and not the picture."""


def boxes_of(keypoints: npt.ArrayLike) -> Floats:
    """The tight boxes (N, 4) of faces' points (N, K, 2)."""
    return tight_box(np.asarray(keypoints, np.float32))


def sides_of(boxes_xyxy: npt.ArrayLike) -> Floats:
    """The longer sides (N,) of boxes (N, 4), in pixels."""
    boxes = np.asarray(boxes_xyxy, np.float32)
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).max(axis=-1))


def look_like_faces(boxes_xyxy: npt.ArrayLike, size_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which tight boxes of points (N, 4) may be a face's: neither collapsed nor out of the picture; (N,)."""
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    size = boxes[:, 2:] - boxes[:, :2]
    height, width = size_hw
    inside = np.clip(boxes[:, 2:], 0, (width, height)) - np.clip(boxes[:, :2], 0, (width, height))
    longer, shorter = size.max(axis=1), size.min(axis=1)
    seen = np.prod(inside, axis=1) >= LEAST_INSIDE * np.prod(size, axis=1)
    return np.asarray((longer >= SMALLEST_SIDE) & (shorter >= NARROWEST * longer) & seen)


def moved_on(before_xyxy: npt.ArrayLike, after_xyxy: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which faces (N,) moved from box to box, (N, 4) each, as a face can between two frames."""
    before, after = np.asarray(before_xyxy, np.float64), np.asarray(after_xyxy, np.float64)
    side = np.maximum(sides_of(before), 1e-6)
    jump = np.linalg.norm((after[:, 2:] + after[:, :2] - before[:, 2:] - before[:, :2]) / 2, axis=1)
    growth = np.maximum(sides_of(after), 1e-6) / side
    return np.asarray((jump <= FURTHEST_JUMP * side) & (np.maximum(growth, 1 / growth) <= GREATEST_GROWTH))


def second_look(boxes_xyxy: npt.ArrayLike) -> Floats:
    """The boxes (N, 4) that a second look crops: further to the upper left, and larger."""
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    return jitter_boxes(boxes, SHIFT_XY, np.full(len(boxes), SCALE))


def disagreement(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """How far two looks' points (N, K, 2) lie apart on average, in sides of the first's tight boxes; (N,).

    >>> float(disagreement([[[0.0, 0.0], [10.0, 5.0]]], [[[1.0, 0.0], [11.0, 5.0]]])[0])
    0.10000000149011612
    """
    points = np.asarray(first, np.float32)
    distance = np.linalg.norm(points - np.asarray(second, np.float32), axis=-1).mean(axis=-1)
    return np.asarray(distance / np.maximum(sides_of(boxes_of(points)), 1e-6), np.float32)
