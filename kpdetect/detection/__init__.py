"""`Face`, the detectors that find face boxes in a photograph, and the suppression of overlapping boxes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kpdetect.detection import finder, haar
from kpdetect.detection.boxes import (
    largest_first,
    non_maximum_suppression,
    weighted_non_maximum_suppression,
    without_contained,
)
from kpdetect.detection.face import FACE_SCORE, Face
from kpdetect.detection.finder import Detections, FaceFinder
from kpdetect.detection.haar import CASCADES, Cascade, HaarDetector, cascade_path
from kpdetect.detection.yunet import YuNetDetector

Detector = Callable[[npt.NDArray[np.uint8]], npt.ArrayLike]
"""A function from a photograph (H, W, 3) uint8 RGB to face boxes (N, 4) in pixels, the tight boxes of the keypoints."""

HAAR = "haar"


def make_detector(name: str | None = None, judged: bool = False, min_face: float | None = None) -> Detector:
    """Makes a detector by its name in the commands. Use it from one thread at a time.

    Args:
        name: None for `FaceFinder`, ``haar`` for OpenCV's Haar cascades, or the path of YuNet's ONNX file.
        judged: The keypoint model rejects false detections by their score, so that a lower threshold can be used.
        min_face: The smallest face as a share of the photograph's longer side, in (0, 1]; None for the detector's
            default. YuNet ignores it.

    Returns:
        A function from a photograph (H, W, 3) uint8 RGB to boxes (N, 4) in pixels, largest first.

    Raises:
        KpdetectError: There is no such file, or this OpenCV has no Haar cascades.

    Example:
        >>> make_detector(min_face=0.1)(np.zeros((90, 120, 3), np.uint8)).shape
        (0, 4)
    """
    if name is None:
        return FaceFinder(min_face or finder.MIN_FACE, finder.JUDGED_SCORE if judged else finder.MIN_SCORE)
    if name == HAAR:
        return HaarDetector(min_face or haar.MIN_FACE, haar.JUDGED_VOTES if judged else haar.MIN_VOTES)
    return YuNetDetector(name)


__all__ = [
    "CASCADES",
    "FACE_SCORE",
    "HAAR",
    "Cascade",
    "Detections",
    "Detector",
    "Face",
    "FaceFinder",
    "HaarDetector",
    "YuNetDetector",
    "cascade_path",
    "largest_first",
    "make_detector",
    "non_maximum_suppression",
    "weighted_non_maximum_suppression",
    "without_contained",
]
