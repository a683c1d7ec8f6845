"""Owns `Face`, the result of a prediction, and the detectors that find face boxes in a photograph."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kpdetect.faces.boxes import biggest_first, merge_boxes
from kpdetect.faces.face import Face
from kpdetect.faces.haar import CASCADES, JUDGED_SCORE, JUDGED_VOTES, MIN_VOTES, Cascade, HaarDetector, cascade_path
from kpdetect.faces.yunet import YuNetDetector

Detector = Callable[[npt.NDArray[np.uint8]], npt.ArrayLike]
"""A photograph (H, W, 3) uint8 RGB to its face boxes (N, 4), the tight boxes of the points, biggest first."""

__all__ = [
    "CASCADES",
    "JUDGED_SCORE",
    "JUDGED_VOTES",
    "MIN_VOTES",
    "Cascade",
    "Detector",
    "Face",
    "HaarDetector",
    "YuNetDetector",
    "biggest_first",
    "cascade_path",
    "merge_boxes",
]
