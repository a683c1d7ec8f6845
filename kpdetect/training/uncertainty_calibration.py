"""Calibrates the predicted uncertainty of a trained network on validation faces, and fits its face score."""

import dataclasses
import logging
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
from kpdetect.modelfile.spec import Spec

_LOG = logging.getLogger(__name__)

MIN_CROPS = 20  # least number of face crops, and of background crops, to fit a face score
RELIABLE_CROPS = 200  # with fewer a face score is unreliable; with 200, a rate of 5 % has a standard error of 1.5 %


def predict_function_of(network: keras.Model) -> PredictUncertainty:
    """A network as a function from crops (B, H, W, C) uint8 to a `kpdetect.modelfile.runtime.Prediction`."""

    def predict(crops: npt.NDArray[np.uint8]) -> Prediction:
        named = models.split_joined(network.predict_on_batch(crops))
        arrays = {name: np.asarray(array, np.float32) for name, array in named.items()}
        return Prediction(**arrays)

    return predict


@dataclass(frozen=True)
class ValidationPredictions:
    """Predictions of a network on N validation faces, computed once for all measurements.

    Attributes:
        crops: (N, H, W, C) uint8.
        truth: (N, K, 2) labels relative to the crops.
        output: Keypoints (N, K, 2) and uncertainty (N, K), relative to the crops.
    """

    crops: npt.NDArray[np.uint8]
    truth: Floats
    output: Prediction

    def calibrated(self, factors: npt.NDArray[np.float64]) -> "ValidationPredictions":
        """The same predictions with the uncertainty multiplied by `factors` (K,)."""
        uncertainty = self.output.uncertainty
        scaled = None if uncertainty is None else np.asarray(uncertainty * factors, np.float32)
        return dataclasses.replace(self, output=self.output._replace(uncertainty=scaled))


def predict_faces(network: keras.Model, faces: Annotations, spec: Spec) -> ValidationPredictions:
    """Predicts labelled faces in crops of their labelled boxes."""
    crops, truth, _ = evaluation_crops(faces, spec.crop, spec.channels)
    return ValidationPredictions(crops, truth, predict_with_uncertainty(predict_function_of(network), crops))


def calibrate(network: keras.Model, val: Annotations, spec: Spec) -> Spec:
    """Scales the predicted uncertainty to the errors on validation faces, and fits the face score.

    Args:
        network: Its `kpdetect.models.ExpectedError` layer is changed in place.
        val: Faces that the network was not trained on.
        spec: The network's spec.

    Returns:
        The spec with ``uncertainty`` and, unless the network outputs a score, ``face_score``; unchanged if the network
        predicts no uncertainty.

    Example:
        >>> network, spec = load_bundle("runs/first")  # doctest: +SKIP
        >>> spec = calibrate(network, load("synthetic:200:9"), spec)  # doctest: +SKIP
    """
    return calibrate_predictions(predict_faces(network, val, spec), network, val, spec)[1]


def calibrate_predictions(
    predictions: ValidationPredictions, network: keras.Model, val: Annotations, spec: Spec
) -> tuple[ValidationPredictions, Spec]:
    """Like `calibrate`, from predictions that are computed already; also returns the calibrated predictions."""
    layer = next((layer for layer in network.layers if isinstance(layer, models.ExpectedError)), None)
    if layer is None:
        return predictions, spec
    factors = uncertainty_errors(predictions.output, predictions.truth, val, spec).factors()
    layer.calibrate(factors)
    predictions, spec = predictions.calibrated(factors), dataclasses.replace(spec, uncertainty=True)
    if predictions.output.score is not None:  # a learned score needs no formula
        return predictions, spec
    background = background_crops(val, spec)
    if min(len(predictions.crops), len(background)) < MIN_CROPS:
        _LOG.info(
            f"no face score: it needs {MIN_CROPS} validation faces and {MIN_CROPS} crops of background, found "
            f"{len(predictions.crops)} and {len(background)}"
        )
        return predictions, spec
    if min(len(predictions.crops), len(background)) < RELIABLE_CROPS:
        _LOG.warning(
            f"the face score is unreliable, fitted on only {len(predictions.crops)} validation faces and "
            f"{len(background)} crops of background: use {RELIABLE_CROPS} validation faces or more"
        )
    outputs = predictions.output, predict_with_uncertainty(predict_function_of(network), background)
    uncertainties = [output.uncertainty for output in outputs if output.uncertainty is not None]
    return predictions, dataclasses.replace(spec, face_score=fit_face_score(*uncertainties))
