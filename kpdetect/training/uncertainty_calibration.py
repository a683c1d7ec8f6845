"""Owns what happens to a network's uncertainty when its training is done: it is made to agree with validation faces."""

import dataclasses
import sys
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from kpdetect import models
from kpdetect.core.geometry import Floats
from kpdetect.data import Annotations
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.uncertainty import (
    PredictUncertainty,
    background_crops,
    fit_face_score,
    predict_with_uncertainty,
    uncertainty_errors,
)
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import OUTPUT_NAME, UNCERTAINTY_NAME, Spec

FEWEST_CROPS = 20  # of faces and of background; fewer tell nothing of either


def predict_function_of(network: keras.Model) -> PredictUncertainty:
    """A network as a function from crops to marks."""

    def mark(crops: npt.NDArray[np.uint8]) -> Prediction:
        named = models.split_joined(network.predict_on_batch(crops))
        arrays = {name: np.asarray(array, np.float32) for name, array in named.items()}
        return Prediction(arrays[OUTPUT_NAME], arrays.get(UNCERTAINTY_NAME))

    return mark


@dataclass(frozen=True)
class Look:
    """What a network saw of faces and said of them: each is decoded and marked once, whatever is measured of it.

    Attributes:
        crops: (N, H, W, C) uint8.
        truth: (N, K, 2), the labels, relative to the crops.
        marks: What the network said.
    """

    crops: npt.NDArray[np.uint8]
    truth: Floats
    marks: Prediction

    def calibrated(self, factors: npt.NDArray[np.float64]) -> "Look":
        """What the network says once its uncertainty is multiplied by (K,) factors."""
        uncertainty = self.marks.uncertainty
        said = None if uncertainty is None else np.asarray(uncertainty * factors, np.float32)
        return dataclasses.replace(self, marks=Prediction(self.marks.keypoints, said))


def look_at(network: keras.Model, faces: Annotations, spec: Spec) -> Look:
    """Shows faces to a network."""
    crops, truth, _ = evaluation_crops(faces, spec.crop, spec.channels)
    return Look(crops, truth, predict_with_uncertainty(predict_function_of(network), crops))


def calibrate(network: keras.Model, val: Annotations, spec: Spec) -> Spec:
    """Makes the uncertainty agree with the errors on validation faces, and measures what tells a face from none.

    Args:
        network: Its `ExpectedError` layer is changed.
        val: Faces that it was not trained on.
        spec: Of the network.

    Returns:
        The spec, with ``uncertainty`` and ``face_score``; as it was for a network that tells no uncertainty.
    """
    return calibrate_by(look_at(network, val, spec), network, val, spec)[1]


def calibrate_by(look: Look, network: keras.Model, val: Annotations, spec: Spec) -> tuple[Look, Spec]:
    """What `calibrate` does, by what the network said of the faces before; also what it says of them now."""
    layer = next((layer for layer in network.layers if isinstance(layer, models.ExpectedError)), None)
    if layer is None:
        return look, spec
    factors = uncertainty_errors(look.marks, look.truth, val, spec).factors()
    layer.calibrate(factors)
    look, spec = look.calibrated(factors), dataclasses.replace(spec, uncertainty=True)
    background = background_crops(val, spec)
    if min(len(look.crops), len(background)) < FEWEST_CROPS:
        print(f"no score of a face: {len(look.crops)} faces and {len(background)} crops beside them", file=sys.stderr)
        return look, spec
    said = look.marks.uncertainty, predict_with_uncertainty(predict_function_of(network), background).uncertainty
    return look, dataclasses.replace(spec, face_score=fit_face_score(*(part for part in said if part is not None)))
