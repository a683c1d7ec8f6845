"""`YuNetDetector`: YuNet, run by OpenCV from a file of the user's, with its five points converted to a face box."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, as_rgb, cv2
from kpdetect.core.text import is_utf8
from kpdetect.detection.boxes import largest_first

LEAN, DROP, SIZE_WH = -1.21, 0.147, (2.18, 2.11)
"""Coefficients of `boxes_of_five_points`: means over three labelled sets (YouTube Faces, 300-W, whole AFW photographs),
measured by ``benchmarks/detector_boxes.py``. The boxes have a mean intersection over union of 0.84 with the labels'."""

MAX_OVERLAP = 0.3  # OpenCV's default for its non-maximum suppression
MOST_CANDIDATES = 5000  # OpenCV's default


class YuNetDetector:
    """Finds faces with YuNet (Wu et al. 2023, doi:10.1007/s11633-023-1423-y), a small network that OpenCV runs.

    Neither kpdetect nor OpenCV contains its model file: download ``face_detection_yunet_2023mar.onnx`` from
    https://github.com/opencv/opencv_zoo. Use an object of this class from one thread at a time.

    Args:
        model: The ONNX file.
        min_score: The lowest score of a face, in [0, 1].
        longest_side: Larger photographs are scaled down to this longer side in pixels. A face needs about ten of
            these pixels.

    Raises:
        KpdetectError: An option is out of range, or OpenCV cannot read the file.

    Example:
        >>> boxes = YuNetDetector("face_detection_yunet_2023mar.onnx")(photograph)  # doctest: +SKIP
    """

    def __init__(self, model: str | os.PathLike[str], min_score: float = 0.6, longest_side: int = 640) -> None:
        if not 0 <= min_score <= 1 or longest_side < 32:
            raise KpdetectError(
                f"YuNet: expected min_score in [0, 1] and longest_side from 32, received {min_score}, {longest_side}"
            )
        self.model = Path(model)
        self.longest_side = longest_side
        if not self.model.is_file():
            raise KpdetectError(f"{model}: expected YuNet's ONNX file, but there is no such file")
        if not is_utf8(str(model)):
            raise KpdetectError(f"{model}: expected a file name in UTF-8, since OpenCV opens no other; rename the file")
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(model), "", (longest_side, longest_side), min_score, MAX_OVERLAP, MOST_CANDIDATES
            )
        except cv2.error as error:
            raise self._failed(error) from error

    def __call__(self, image_rgb: npt.NDArray[np.uint8]) -> Floats:
        """Finds the faces of a photograph.

        Args:
            image_rgb: (H, W, 3) uint8.

        Returns:
            (N, 4) float32 tight boxes (x0, y0, x1, y1) in pixels, largest first.

        Raises:
            KpdetectError: The model file is not YuNet.
        """
        working, scale_xy = _working(as_rgb(image_rgb), self.longest_side)
        try:
            self._network.setInputSize((working.shape[1], working.shape[0]))
            _, rows = self._network.detect(working)
        except cv2.error as error:
            raise self._failed(error) from error
        if rows is None:
            return np.zeros((0, 4), np.float32)
        points = np.asarray(rows, np.float64)[:, 4:14].reshape(-1, 5, 2)
        # The network's coordinates are those of pixel edges, half a pixel before the centres.
        return largest_first(boxes_of_five_points(points / scale_xy - 0.5))

    def _failed(self, error: Any) -> KpdetectError:
        reason = str(error.err or error).splitlines()[0]
        return KpdetectError(f"{self.model}: OpenCV cannot run this file as YuNet: {reason}")


def boxes_of_five_points(points: npt.ArrayLike) -> Floats:
    """Estimates the tight boxes of 68 keypoints from five of them.

    The unit is the distance between the eyes, or between eyes and mouth if that is longer, as in a profile. The box is
    centred between eyes and mouth, shifted down by `DROP` units, and sideways by `LEAN` times the offset of the nose,
    which grows as the head turns.

    Args:
        points: (N, 5, 2) in pixels: eyes, tip of the nose, corners of the mouth; each pair in either order.

    Returns:
        (N, 4) float32 boxes (x0, y0, x1, y1) in pixels.

    Example:
        >>> boxes_of_five_points([[[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]]]).round().astype(int).tolist()
        [[28, 32, 72, 74]]
    """
    five = np.asarray(points, np.float64).reshape(-1, 5, 2)
    eyes, mouth = five[:, :2].mean(axis=1), five[:, 3:].mean(axis=1)
    height = np.maximum(np.linalg.norm(mouth - eyes, axis=1, keepdims=True), 1e-6)
    unit = np.maximum(height, np.linalg.norm(five[:, 1] - five[:, 0], axis=1, keepdims=True))
    down = (mouth - eyes) / height
    across = np.stack([down[:, 1], -down[:, 0]], axis=1)
    lead = ((five[:, 2] - (eyes + mouth) / 2) * across).sum(axis=1, keepdims=True)
    center = (eyes + mouth) / 2 + LEAN * lead * across + DROP * unit * down
    half = unit * SIZE_WH / 2
    return np.asarray(np.concatenate([center - half, center + half], axis=1), np.float32)


def _working(image_rgb: Pixels, longest_side: int) -> tuple[Pixels, tuple[float, float]]:
    """The network's input, scaled down and BGR, and its scale in x and y."""
    height, width = image_rgb.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    size_xy = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(image_rgb, size_xy, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1], np.uint8), (size_xy[0] / width, size_xy[1] / height)
