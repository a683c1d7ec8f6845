"""Owns `Face`, the result of a prediction, and the detectors that find face boxes in a photograph."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kpdetect.detection import finder, haar
from kpdetect.detection.boxes import biggest_first, merge_boxes
from kpdetect.detection.face import FACE_SCORE, Face
from kpdetect.detection.finder import FaceFinder
from kpdetect.detection.haar import CASCADES, Cascade, HaarDetector, cascade_path
from kpdetect.detection.yunet import YuNetDetector

Detector = Callable[[npt.NDArray[np.uint8]], npt.ArrayLike]
"""A photograph (H, W, 3) uint8 RGB to its face boxes (N, 4), the tight boxes of the points, biggest first."""

HAAR = "haar"


def make_detector(name: str | None = None, judged: bool = False, min_face: float | None = None) -> Detector:
    """A detector by what commands call it, for one thread at a time.

    Args:
        name: None for `FaceFinder`, ``haar`` for OpenCV's cascades, or YuNet's ONNX file.
        judged: A model's own score will leave out what is no face, so that more may be found than is sure.
        min_face: The smallest face as a share of the longer side, in (0, 1]; None for what each detector does by
            itself. (YuNet looks for all that it sees.)

    Raises:
        KpdetectError: There is no such file, or OpenCV has no cascades.
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
    "Detector",
    "Face",
    "FaceFinder",
    "HaarDetector",
    "YuNetDetector",
    "biggest_first",
    "cascade_path",
    "make_detector",
    "merge_boxes",
]
