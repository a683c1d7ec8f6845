"""Owns what happens to a network's uncertainty when its training is done: it is made to agree with validation faces."""

import dataclasses
import sys

import keras
import numpy as np
import numpy.typing as npt

from kpdetect import models
from kpdetect.crops import evaluation_crops
from kpdetect.datasets import Annotations
from kpdetect.runtime import Marks
from kpdetect.spec import OUTPUT_NAME, UNCERTAINTY_NAME, Spec
from kpdetect.uncertainty import MarkCrops, background_crops, fit_face_score, judge, mark_batches

FEWEST_CROPS = 20  # of faces and of background; fewer tell nothing of either


def marks_of(network: keras.Model) -> MarkCrops:
    """A network as a function from crops to marks."""

    def mark(crops: npt.NDArray[np.uint8]) -> Marks:
        named = models.split_joined(network.predict_on_batch(crops))
        arrays = {name: np.asarray(array, np.float32) for name, array in named.items()}
        return Marks(arrays[OUTPUT_NAME], arrays.get(UNCERTAINTY_NAME))

    return mark


def calibrate(network: keras.Model, val: Annotations, spec: Spec) -> Spec:
    """Makes the uncertainty agree with the errors on validation faces, and measures what tells a face from none.

    Args:
        network: Its `ExpectedError` layer is changed.
        val: Faces that it was not trained on.
        spec: Of the network.

    Returns:
        The spec, with ``uncertainty`` and ``face_score``; as it was for a network that tells no uncertainty.
    """
    layer = next((layer for layer in network.layers if isinstance(layer, models.ExpectedError)), None)
    if layer is None:
        return spec
    mark = marks_of(network)
    layer.calibrate(judge(mark, val, spec).factors())
    spec = dataclasses.replace(spec, uncertainty=True)
    faces, background = evaluation_crops(val, spec.crop, spec.channels)[0], background_crops(val, spec)
    if min(len(faces), len(background)) < FEWEST_CROPS:
        print(f"no score of a face: {len(faces)} faces and {len(background)} crops beside them", file=sys.stderr)
        return spec
    said = [mark_batches(mark, crops).uncertainty for crops in (faces, background)]
    return dataclasses.replace(spec, face_score=fit_face_score(*(part for part in said if part is not None)))
