"""Crops of photographs and of labelled faces as a model takes them."""

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, image_box
from kpdetect.core.images import Pixels, read_image, warp_crop
from kpdetect.data import Annotations, with_image_boxes
from kpdetect.data.crops import evaluation_crops
from kpdetect.inference.predictor import Predictor
from kpdetect.modelfile.spec import Spec


def face_of_image(image: str, spec: Spec, face: int) -> Pixels:
    """A crop around a face that the detector finds in a photograph, as the model takes it.

    Args:
        image: The photograph's file.
        spec: The model's description.
        face: Which one, from 0; the biggest is the first.

    Raises:
        KpdetectError: It is no image, or there is no such face.
    """
    photograph = read_image(image)
    if spec.crop.around == "image":
        return crop_of(photograph, image_box((photograph.shape[0], photograph.shape[1])), spec)
    faces = Predictor()(photograph)  # its score leaves out what the detector alone takes for a face
    if not faces:
        raise KpdetectError(f"{image}: no face found; choose another photograph, or labelled faces by --data")
    _check_face(image, face, len(faces))
    return crop_of(photograph, faces[face].box, spec)


def crop_of(photograph: Pixels, box_xyxy: Floats, spec: Spec) -> Pixels:
    """A box of a photograph (H, W, 3), as the model takes it."""
    return warp_crop(photograph, spec.crop.matrix(box_xyxy), spec.crop.size_hw, spec.channels)


def face_of_data(annotations: Annotations, spec: Spec, face: int) -> Pixels:
    """A crop around a labelled face, as the model takes it; `face` is its row, from 0.

    Raises:
        KpdetectError: There is no such face.
    """
    _check_face(f"'{annotations.name}'", face, len(annotations))
    one = annotations.take([face])
    if spec.crop.around == "image":
        one = with_image_boxes(one)
    return np.asarray(evaluation_crops(one, spec.crop, spec.channels)[0][0])


def _check_face(where: str, face: int, count: int) -> None:
    if not 0 <= face < count:
        raise KpdetectError(f"{where}: expected --face from 0 to {count - 1}, received {face}")
