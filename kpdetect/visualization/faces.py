"""Owns faces marked on a photograph: boxes and points, with OpenCV alone, so that prediction needs no Matplotlib."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, as_rgb, cv2
from kpdetect.detection import Face

BOX_RGB = (255, 200, 0)
POINT_RGB = (0, 255, 120)
RIM_RGB = (0, 0, 0)  # about each point, so that it shows on light skin as on dark
SMALLEST_RADIUS = 0.6  # pixels; on faces so small, points with rims would hide the face
SMALLEST_RIMMED = 1.2

_SHIFT = 4  # OpenCV draws at sixteenths of a pixel
_FAR = 1e6  # OpenCV's coordinates are 32-bit integers; what lies further out shows nothing anyway


def draw_faces(image_rgb: npt.ArrayLike, faces: Iterable[Face]) -> Pixels:
    """Prediction faces on a copy of a photograph: their boxes and points, in lines that fit each face's size.

    Args:
        image_rgb: (H, W, 3) uint8, the photograph that the faces' pixels count in.
        faces: What `Predictor` gave; none leaves the photograph as it is.

    Returns:
        (H, W, 3) uint8.
    """
    canvas = np.array(as_rgb(image_rgb))
    for face in faces:
        side = float((face.box[2:] - face.box[:2]).max())
        x0, y0, x1, y1 = (_fixed(value) for value in face.box)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), BOX_RGB, max(1, round(side / 120)), cv2.LINE_AA, _SHIFT)
        _draw_points(canvas, face.keypoints, max(SMALLEST_RADIUS, side / 110))
    return canvas


def _fixed(value: float) -> int:
    """A coordinate as OpenCV's fixed-point number."""
    return round(float(np.clip(value, -_FAR, _FAR)) * (1 << _SHIFT))


def _draw_points(canvas: Pixels, keypoints: Floats, radius: float) -> None:
    discs = [(1.45 * radius, RIM_RGB)] * (radius >= SMALLEST_RIMMED) + [(radius, POINT_RGB)]
    for width, color in discs:
        for x, y in keypoints:
            cv2.circle(canvas, (_fixed(x), _fixed(y)), _fixed(width), color, -1, cv2.LINE_AA, _SHIFT)
