"""Evaluates a model on labelled faces: plain, mirrored and centred errors, per region, and with wrong boxes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, jitter_boxes, mirrored_relative, to_pixels
from kpdetect.core.progress import progress
from kpdetect.data import Annotations, with_image_boxes
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.metrics import Summary, nme_per_face, nme_per_point, summary
from kpdetect.modelfile.spec import Spec

PredictCrops = Callable[[npt.NDArray[np.uint8]], Floats]
"""Predicts crops: (B, H, W, C) uint8 to relative points (B, K, 2)."""

BATCH_SIZE = 64
JITTER_LEVELS = (0.05, 0.10, 0.15, 0.20)
JITTER_FACES = 500  # a sample is enough for a curve; every level crops all faces again


@dataclass(frozen=True)
class Evaluation:
    """Errors of one model on one set of faces and boxes. Errors are fractions of the normaliser.

    Attributes:
        crops: (N, H, W, C) uint8, the model's input.
        true_px: (N, K, 2), labels in pixels of the crop; NaN where a point is not visible.
        predicted_px: (N, K, 2), predictions in pixels of the crop.
        errors: (N,) plain error of each face.
        plain: Summary of `errors`.
        mirrored: Mean error on mirrored pictures; None if the scheme has no flip permutation.
        centred: Mean error after subtracting the set's mean residual.
        point_centred: Mean error after subtracting each point's mean residual, fitted on half of the faces and
            evaluated on the other half.
        label_shift: (x, y), estimated bias of the labels; see `ErrorMeasure.label_shift`. None without a flip
            permutation.
        regions: Mean error per group of points.
        missed: Number of faces for which the detector found no box.
        constant: Mean error of a constant prediction: the mean training target in the model's own crops. None if the
            spec does not record that target.
    """

    crops: npt.NDArray[np.uint8]
    true_px: Floats
    predicted_px: Floats
    errors: npt.NDArray[np.float64]
    plain: Summary
    mirrored: float | None
    centred: float
    point_centred: float
    label_shift: tuple[float, float] | None
    regions: dict[str, float]
    missed: int = 0
    constant: float | None = None


def predict_batches(predict: PredictCrops, crops: npt.NDArray[np.uint8]) -> Floats:
    """Runs a model over many crops in batches: (N, H, W, C) uint8 to (N, K, 2)."""
    starts = range(0, len(crops), BATCH_SIZE)
    parts = [
        predict(np.ascontiguousarray(crops[start : start + BATCH_SIZE]))
        for start in progress(starts, "predicting", unit="batch")
    ]
    return np.concatenate(parts).astype(np.float32)


def evaluate(
    predict: PredictCrops, annotations: Annotations, spec: Spec, boxes: Floats | None = None, missed: int = 0
) -> Evaluation:
    """Evaluates a model on labelled faces.

    Args:
        predict: The model; see `PredictCrops`.
        annotations: Labelled faces that have a box.
        spec: The model's description, which contains its crop rule.
        boxes: (N, 4) boxes to crop by, in pixels; default: the labels' own.
        missed: Number of further faces without a box; each counts as a failure.

    Raises:
        KpdetectError: The model's scheme differs from the data's, or no face has a visible point.

    Example:
        ```python
        model = kpdetect.modelfile.runtime.load("compact-160-v2")
        print(evaluate(model, load("ibug:helen"), model.spec).plain.mean)  # 0.03 is 3 %
        ```
    """
    check_scheme(spec, annotations)
    if not len(annotations):
        raise KpdetectError(f"'{annotations.name}': contains no face to evaluate on")
    if not annotations.visible.any():
        raise KpdetectError(f"'{annotations.name}': none of its {len(annotations)} faces has a visible point")
    crops, relative, _ = evaluation_crops(annotations, spec.crop, spec.channels, boxes)
    predictions = CropPredictions(
        crops=crops,
        truth=to_pixels(relative, spec.crop.size_hw),
        predicted=to_pixels(predict_batches(predict, crops), spec.crop.size_hw),
        mirrored=mirrored_predictions(predict, crops, spec),
    )
    return evaluate_predictions(predictions, annotations, spec, missed)


@dataclass(frozen=True)
class CropPredictions:
    """A model's input and output for N faces; points in pixels of the crops.

    Attributes:
        crops: (N, H, W, C) uint8.
        truth: (N, K, 2), the labels.
        predicted: (N, K, 2).
        mirrored: (N, K, 2), predictions on the mirrored crops, mirrored back; NaN where there is none. None if the
            scheme has no flip permutation.
    """

    crops: npt.NDArray[np.uint8]
    truth: Floats
    predicted: Floats
    mirrored: Floats | None


def evaluate_predictions(
    predictions: CropPredictions, annotations: Annotations, spec: Spec, missed: int = 0
) -> Evaluation:
    """Computes the errors of predictions; see `evaluate`."""
    measure = ErrorMeasure(annotations, spec)
    truth, predicted, mirrored = predictions.truth, predictions.predicted, predictions.mirrored
    errors = measure.per_face(truth, predicted)
    return Evaluation(
        crops=predictions.crops,
        true_px=np.where(annotations.visible[..., None], truth, np.float32(np.nan)),
        predicted_px=predicted,
        errors=errors,
        plain=summary(np.concatenate([errors, np.full(missed, np.inf)])),
        mirrored=None if mirrored is None else float(np.nanmean(measure.per_face(truth, mirrored))),
        centred=measure.mean_after_offset(
            truth, predicted, np.nanmean(measure.residuals(truth, predicted), axis=(0, 1))
        ),
        point_centred=measure.point_centred(truth, predicted),
        label_shift=None if mirrored is None else measure.label_shift(truth, predicted, mirrored),
        regions=measure.regions(truth, predicted),
        missed=missed,
        constant=measure.constant(truth),
    )


def match_annotations(spec: Spec, annotations: Annotations) -> Annotations:
    """Returns the faces with the points and boxes that a model expects.

    If the model's points are a subset of the labels', these are selected. For a model of whole pictures, the boxes
    become those of the pictures. Otherwise the faces are returned unchanged.

    Raises:
        KpdetectError: The model predicts points that the labels do not have.
    """
    names = spec.schema.point_names
    if names != annotations.schema.point_names and set(names) <= set(annotations.schema.point_names):
        annotations = annotations.select(names)
    check_scheme(spec, annotations)
    if spec.crop.around == "image" and annotations.boxes_around != "image":
        annotations = with_image_boxes(annotations)
    return annotations


def check_scheme(spec: Spec, annotations: Annotations) -> None:
    """Checks that a model predicts the points that the data are labelled with.

    Raises:
        KpdetectError: The schemes differ.
    """
    if spec.schema.point_names != annotations.schema.point_names:
        raise KpdetectError(
            f"'{annotations.name}': expected {spec.schema.num_keypoints} points of scheme '{spec.schema.name}', which "
            f"the model predicts, received {annotations.schema.num_keypoints} points of scheme "
            f"'{annotations.schema.name}'; use data or a model of the other scheme"
        )


@dataclass(frozen=True)
class ErrorMeasure:
    """Errors of predictions for one set of faces, in the crops of one model."""

    annotations: Annotations
    spec: Spec

    def per_face(self, truth: Floats, predicted: Floats) -> npt.NDArray[np.float64]:
        """Returns the plain error of each face, (N,)."""
        width = float(self.spec.crop.size_hw[1])
        return nme_per_face(truth, predicted, self.annotations.visible, self.annotations.schema, width)

    def constant(self, truth: Floats) -> float | None:
        """The mean error of predicting the mean training target for every face; None where the spec has none."""
        target = self.spec.mean_target
        if target is None:
            return None
        predicted = np.broadcast_to(to_pixels(target, self.spec.crop.size_hw), truth.shape)
        return float(np.nanmean(self.per_face(truth, predicted)))

    def normalizers(self, truth: Floats) -> npt.NDArray[np.float64]:
        """Returns what each face's residuals are divided by, (N, 1, 1)."""
        width = float(self.spec.crop.size_hw[1])
        return self.annotations.schema.normalizers(truth, width)[:, None, None].astype(np.float64)

    def residuals(self, truth: Floats, predicted: Floats) -> npt.NDArray[np.float64]:
        """Returns (N, K, 2), predicted minus true, divided by the normaliser; NaN where a point is not visible."""
        residual = (predicted.astype(np.float64) - truth) / self.normalizers(truth)
        residual[~self.annotations.visible] = np.nan
        return residual

    def mean_after_offset(self, truth: Floats, predicted: Floats, offset: npt.NDArray[np.float64]) -> float:
        """Returns the mean error after subtracting `offset` from the predictions, in normalisers: (2,) or (K, 2)."""
        moved = (predicted - offset * self.normalizers(truth)).astype(np.float32)
        return float(np.nanmean(self.per_face(truth, moved)))

    def point_centred(self, truth: Floats, predicted: Floats) -> float:
        """Returns the mean error after subtracting each point's mean residual.

        The residuals are fitted on every other face and subtracted from the rest, in both directions (two-fold
        cross-validation).
        """
        residual = self.residuals(truth, predicted)
        half = np.arange(len(truth)) % 2 == 0
        corrected = predicted.astype(np.float64)
        for fit, report in ((half, ~half), (~half, half)):
            if fit.any() and report.any():
                offset = np.nan_to_num(_mean_over_faces(residual[fit]))
                corrected[report] -= offset * self.normalizers(truth)[report]
        return float(np.nanmean(self.per_face(truth, corrected.astype(np.float32))))

    def label_shift(self, truth: Floats, predicted: Floats, mirrored: Floats) -> tuple[float, float]:
        """Estimates the bias of the labels, (x, y) in normalisers.

        It is minus half the sum of the mean residuals on plain and on mirrored pictures, the latter mirrored back.

        A model trained with flips errs symmetrically on a picture and its mirror image, so its own error cancels in x.
        In y it does not cancel: the y value is the bias of the labels and of the model together.
        """
        plain = np.nanmean(self.residuals(truth, predicted), axis=(0, 1))
        turned_back = np.nanmean(self.residuals(truth, mirrored), axis=(0, 1))
        shift = -(plain + turned_back) / 2
        return float(shift[0]), float(shift[1])

    def regions(self, truth: Floats, predicted: Floats) -> dict[str, float]:
        """Returns the mean error of each group of points."""
        width = float(self.spec.crop.size_hw[1])
        errors = nme_per_point(truth, predicted, self.annotations.visible, self.annotations.schema, width)
        groups = self.annotations.schema.regions
        return {name: float(np.nanmean(errors[:, list(part)])) for name, part in groups.items()}


def _mean_over_faces(residual: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Averages (N, K, 2) to (K, 2) without warnings; NaN for a point that no face shows."""
    seen = ~np.isnan(residual)
    total = np.where(seen, residual, 0.0).sum(axis=0)
    count = seen.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mirrored_predictions(predict: PredictCrops, crops: npt.NDArray[np.uint8], spec: Spec) -> Floats | None:
    """Predicts mirrored crops and mirrors the points back.

    Returns:
        (N, K, 2) in pixels of the crop; None if the scheme has no flip permutation.
    """
    swap = spec.schema.flip_permutation
    if swap is None:
        return None
    relative = predict_batches(predict, crops[:, :, ::-1])  # a view; each batch is copied when it is used
    return to_pixels(mirrored_relative(relative, swap), spec.crop.size_hw)


def box_jitter_curve(
    predict: PredictCrops, annotations: Annotations, spec: Spec, seed: int = 0
) -> dict[str, list[tuple[float, float]]]:
    """Evaluates a model with wrong boxes: shifted in a random direction, too small and too large.

    Args:
        predict: The model.
        annotations: Labelled faces; at most `JITTER_FACES` of them are used, drawn by `seed`.
        spec: The model's description.
        seed: Seed of the sample and of the directions.

    Returns:
        ``shift`` and ``scale``, each a list of (box error as a fraction of the box, mean error as a fraction).

    Example:
        ``box_jitter_curve(model, faces, model.spec)["shift"][0]`` is (0.0, the error with exact boxes).
    """
    random = np.random.default_rng(seed)
    rows = random.permutation(len(annotations))[:JITTER_FACES]
    sample = annotations.take(rows)
    angle = random.uniform(0, 2 * np.pi, len(sample))
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def error(boxes: Floats) -> float:
        crops, relative, _ = evaluation_crops(sample, spec.crop, spec.channels, boxes)
        predicted = to_pixels(predict_batches(predict, crops), spec.crop.size_hw)
        return float(np.nanmean(ErrorMeasure(sample, spec).per_face(to_pixels(relative, spec.crop.size_hw), predicted)))

    exact = error(sample.boxes)
    shifts = [(level, error(jitter_boxes(sample.boxes, level * direction, 1.0))) for level in JITTER_LEVELS]
    scales = [level for size in JITTER_LEVELS for level in (-size, size)]
    scaled = [(level, error(jitter_boxes(sample.boxes, (0.0, 0.0), 1.0 + level))) for level in scales]
    return {"shift": [(0.0, exact), *shifts], "scale": sorted([(0.0, exact), *scaled])}
