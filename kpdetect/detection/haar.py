"""`HaarDetector`: OpenCV's Haar cascades as a detector, with their squares converted to tight face boxes."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, as_rgb, cv2, to_channels
from kpdetect.detection.boxes import largest_first, weighted_non_maximum_suppression


@dataclass(frozen=True)
class Cascade:
    """One of OpenCV's Haar cascades (Viola and Jones, CVPR 2001), and how its square is converted to a face box.

    Attributes:
        file: Its file in ``cv2.data.haarcascades``.
        shift_xy: From the square's centre to the box's, in sides of the square.
        size_wh: The box's width and height, in sides of the square.
        mirrored: Whether it runs on the mirrored picture.

    Example:
        ``CASCADES[0].file`` is the name of a file in OpenCV's package.
    """

    file: str
    shift_xy: tuple[float, float]
    size_wh: tuple[float, float]
    mirrored: bool = False

    def face_boxes(self, squares_xyxy: npt.ArrayLike) -> Floats:
        """Converts squares of this cascade (N, 4) to tight boxes of the keypoints (N, 4), float32.

        Example:
            >>> Cascade("x.xml", (0.0, 0.1), (0.8, 0.6)).face_boxes([[0, 0, 100, 100]]).round(3).tolist()
            [[10.0, 30.0, 90.0, 90.0]]
        """
        squares = np.asarray(squares_xyxy, np.float64).reshape(-1, 4)
        side = squares[:, 2:] - squares[:, :2]
        center = (squares[:, :2] + squares[:, 2:]) / 2 + side * self.shift_xy
        half = side * self.size_wh / 2
        return np.asarray(np.concatenate([center - half, center + half], axis=1), np.float32)


CASCADES = (
    Cascade("haarcascade_frontalface_default.xml", (0.0, 0.150), (0.861, 0.831)),
    Cascade("haarcascade_frontalface_alt2.xml", (0.0, 0.158), (0.886, 0.858)),
    Cascade("haarcascade_profileface.xml", (-0.096, 0.160), (0.767, 0.742)),
    Cascade("haarcascade_profileface.xml", (0.096, 0.160), (0.767, 0.742), mirrored=True),
)
"""Shifts and sizes are medians over labelled faces with 68 keypoints, averaged over three sets (YouTube Faces, 300-W,
whole AFW photographs), measured by ``benchmarks/detector_boxes.py``. Half of the frontal faces are within 0.07 sides of
them. The frontal ones are made symmetric (their shift in x is below 0.01), the two profiles mirror images."""

SMALLEST_WINDOW = 40  # pixels; in smaller windows, down to the 20 or 24 of the training, most detections are false
SMALLEST_FACE = 30  # pixels of the photograph; smaller faces have too little detail for keypoints
BORDER = 0.15  # of the shorter side: a square includes forehead and neck, which tightly cut pictures lack
MIN_FACE = 0.05  # of the longer side
MIN_VOTES = 10  # windows of a face, if no keypoint model judges the detections
JUDGED_VOTES = 3
"""And if one does. On 60 photographs of 300-W held out of training, 3 votes with a model's judgement find 93 % of the
faces with 0.02 false boxes a photograph; 10 votes without it find 92 % with 0.12, and on whole photographs with several
faces 83 instead of 90 % (``benchmarks/detection.py``)."""


class HaarDetector:
    """Finds faces with the Haar cascades that come with OpenCV 4: two frontal ones, and profiles of both sides.

    A cascade's vote is the number of its windows around a face. Overlapping boxes are averaged and their votes added.
    Use an object of this class from one thread at a time, as OpenCV's cascades require.

    Args:
        min_face: The smallest face to find, as a share of the photograph's longer side, in (0, 1], but at least 30
            pixels. Half of it takes four times as long.
        min_votes: The lowest number of votes of a face. A higher one finds fewer faces and fewer false ones: 10 finds
            83 % of the labelled faces of the whole AFW photographs, and nothing in 4 photographs without a face.
        profiles: Run the profile cascades too. Without them it is twice as fast and finds 75 % of the faces.

    Raises:
        KpdetectError: An option is out of range, or this OpenCV has no Haar cascades.

    Example:
        >>> boxes = HaarDetector()(photograph)  # doctest: +SKIP
    """

    def __init__(self, min_face: float = MIN_FACE, min_votes: int = MIN_VOTES, profiles: bool = True) -> None:
        if not 0 < min_face <= 1 or min_votes < 1:
            raise KpdetectError(
                f"detector: expected min_face in (0, 1] and min_votes from 1, received {min_face} and {min_votes}"
            )
        self.min_face = min_face
        self.min_votes = min_votes
        self.cascades = CASCADES if profiles else CASCADES[:2]
        self._classifiers = {file: _classifier(file) for file in {cascade.file for cascade in self.cascades}}

    def __call__(self, image_rgb: npt.NDArray[np.uint8]) -> Floats:
        """Finds the faces of a photograph.

        Args:
            image_rgb: (H, W, 3) uint8.

        Returns:
            (N, 4) float32 tight boxes (x0, y0, x1, y1) in pixels, largest first; they may reach over the border.
        """
        found = self.squares(image_rgb)
        boxes = np.concatenate([cascade.face_boxes(squares) for cascade, squares, _ in found])
        votes = np.concatenate([votes for _, _, votes in found])
        fused, sums = weighted_non_maximum_suppression(boxes, votes)
        return largest_first(fused[sums >= self.min_votes])

    def squares(self, image_rgb: npt.NDArray[np.uint8]) -> list[tuple[Cascade, Floats, Floats]]:
        """The detections of each cascade, before suppression: (cascade, squares (n, 4) in pixels, votes (n,))."""
        working = _Working.of(as_rgb(image_rgb), self.min_face)
        return [(cascade, *working.detect(self._classifiers[cascade.file], cascade)) for cascade in self.cascades]


@dataclass(frozen=True)
class _Working:
    """The input of the cascades: grey, scaled, with a border, and with its histogram equalised."""

    grey: Pixels
    scale_xy: tuple[float, float]
    border: int

    @classmethod
    def of(cls, image_rgb: Pixels, min_face: float) -> "_Working":
        height, width = image_rgb.shape[:2]
        scale = SMALLEST_WINDOW / max(min_face * max(height, width), SMALLEST_FACE)
        size_xy = (max(round(width * scale), 1), max(round(height * scale), 1))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        grey = cv2.resize(to_channels(image_rgb, 1), size_xy, interpolation=interpolation)
        border = int(BORDER * min(size_xy))
        grey = cv2.copyMakeBorder(grey, border, border, border, border, cv2.BORDER_REPLICATE)
        return cls(np.asarray(cv2.equalizeHist(grey), np.uint8), (size_xy[0] / width, size_xy[1] / height), border)

    def detect(self, classifier: Any, cascade: Cascade) -> tuple[Floats, Floats]:
        """A cascade's squares in pixels of the photograph, and their votes."""
        picture = np.ascontiguousarray(self.grey[:, ::-1]) if cascade.mirrored else self.grey
        window = (SMALLEST_WINDOW, SMALLEST_WINDOW)
        rectangles, counts = classifier.detectMultiScale2(picture, scaleFactor=1.1, minNeighbors=2, minSize=window)
        squares = np.asarray(rectangles, np.float64).reshape(-1, 4)
        squares[:, 2:] += squares[:, :2]
        if cascade.mirrored:
            squares[:, [0, 2]] = self.grey.shape[1] - squares[:, [2, 0]]
        # A rectangle is given by pixel edges, which are half a pixel before the centres.
        inner = (squares - self.border) / (*self.scale_xy, *self.scale_xy) - 0.5
        return np.asarray(inner, np.float32), np.asarray(counts, np.float32).reshape(-1)


def cascade_path(file: str) -> str:
    """The path of a cascade's file in OpenCV's package.

    Raises:
        KpdetectError: This OpenCV has no Haar cascades.

    Example:
        ``cascade_path("haarcascade_frontalface_alt2.xml")``
    """
    if not (hasattr(cv2, "CascadeClassifier") and hasattr(cv2, "data")):
        raise KpdetectError(
            f"OpenCV {cv2.__version__} has no Haar cascades, which the detector 'haar' needs; expected 4.10 or later, "
            'below 5: pip install "opencv-python>=4.10,<5"'
        )
    return os.path.join(cv2.data.haarcascades, file)  # type: ignore[attr-defined]  # missing in OpenCV's stubs


def _classifier(file: str) -> Any:
    path = cascade_path(file)  # first: it raises if this OpenCV does not have the class
    classifier = cv2.CascadeClassifier(path)
    if classifier.empty():
        raise KpdetectError(f"{file}: OpenCV cannot read this cascade; reinstall opencv-python")
    return classifier
