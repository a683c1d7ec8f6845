"""Models of other projects for comparison, if they are installed: dlib and MediaPipe."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kpdetect.core.geometry import CropRule, Floats
from kpdetect.core.images import Pixels

MESH_CROP = CropRule((192, 192), 1.5)
"""The crop of MediaPipe's graph: 1.5 times the face."""


def dlib_predictor() -> tuple[Callable[[Pixels, Floats], Floats], Path]:
    """Returns dlib's predictor of 68 points (Kazemi and Sullivan, CVPR 2014).

    Returns:
        A function from a picture (H, W, 3) RGB uint8 and a face box (4,) to points (68, 2) in its pixels; and its file.

    Raises:
        ModuleNotFoundError: dlib or face_recognition_models is not installed.
    """
    import dlib
    import face_recognition_models

    file = Path(face_recognition_models.pose_predictor_model_location())
    predictor = dlib.shape_predictor(str(file))

    def mark(picture: Pixels, box_xyxy: Floats) -> Floats:
        shape = predictor(picture, dlib.rectangle(*(round(float(side)) for side in box_xyxy)))
        return np.array([(part.x, part.y) for part in shape.parts()], np.float32)

    return mark, file


def mediapipe_mesh(threads: int = 1) -> tuple[Callable[[Pixels], Floats], Path]:
    """Returns MediaPipe's face mesh (Kartynnik et al., arXiv:1907.06724): its TFLite alone, without MediaPipe's graph.

    Returns:
        A function from a crop by `MESH_CROP`, (192, 192, 3) RGB uint8, to points (468, 2) in pixels that count from the
        crop's corner; and its file.

    Raises:
        ModuleNotFoundError: MediaPipe is not installed.
    """
    from ai_edge_litert.interpreter import Interpreter

    package = importlib.util.find_spec("mediapipe")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'mediapipe'", name="mediapipe")
    file = Path(package.origin).parent / "modules" / "face_landmark" / "face_landmark.tflite"
    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]["index"]
    mesh = max(interpreter.get_output_details(), key=lambda output: int(np.prod(output["shape"])))["index"]

    def mark(crop: Pixels) -> Floats:
        interpreter.set_tensor(image, crop[None].astype(np.float32) / 255)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(mesh).reshape(-1, 3)[:, :2], np.float32)

    return mark, file
