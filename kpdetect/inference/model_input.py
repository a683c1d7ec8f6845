"""Crops of photographs and of labelled faces, as a model takes them."""

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, image_box
from kpdetect.core.images import Pixels, read_image, warp_crop
from kpdetect.data import Annotations, with_image_boxes
from kpdetect.data.crops import evaluation_crops
from kpdetect.inference.predictor import Predictor
from kpdetect.modelfile.spec import Spec


def face_of_image(image: str, spec: Spec, face: int) -> Pixels:
    """Detects the faces of a photograph and crops one of them.

    Args:
        image: The photograph's file.
        spec: The model's description.
        face: The number of the face, from 0, the largest.

    Returns:
        (height, width, C) uint8, as the model takes it.

    Raises:
        KpdetectError: The file is not a picture, or there is no such face.
    """
    photograph = read_image(image)
    if spec.crop.around == "image":
        return crop_of(photograph, image_box((photograph.shape[0], photograph.shape[1])), spec)
    faces = Predictor()(photograph)  # and not the detector alone, since the score rejects false detections
    if not faces:
        raise KpdetectError(f"{image}: no face found; choose another photograph, or labelled faces with --data")
    _check_face_number(image, face, len(faces))
    return crop_of(photograph, faces[face].box, spec)


def crop_of(photograph: Pixels, box_xyxy: Floats, spec: Spec) -> Pixels:
    """Crops a box (4,) of a photograph (H, W, 3): (height, width, C) uint8, as the model takes it."""
    return warp_crop(photograph, spec.crop.matrix(box_xyxy), spec.crop.size_hw, spec.channels)


def face_of_data(annotations: Annotations, spec: Spec, face: int) -> Pixels:
    """Crops the labelled face of a row, from 0: (height, width, C) uint8, as the model takes it.

    Raises:
        KpdetectError: There is no such row.
    """
    _check_face_number(f"'{annotations.name}'", face, len(annotations))
    one = annotations.take([face])
    if spec.crop.around == "image":
        one = with_image_boxes(one)
    return np.asarray(evaluation_crops(one, spec.crop, spec.channels)[0][0])


def _check_face_number(where: str, face: int, count: int) -> None:
    if not 0 <= face < count:
        raise KpdetectError(f"{where}: expected --face from 0 to {count - 1}, received {face}")
