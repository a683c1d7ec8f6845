"""Owns honest measuring: errors plain, mirrored and centred, per group of points, and as the boxes go wrong."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, jitter_boxes, mirrored_relative, to_pixels
from kpdetect.data import Annotations, with_image_boxes
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.metrics import Summary, nme_per_face, nme_per_point, summary
from kpdetect.modelfile.spec import Spec

PredictCrops = Callable[[npt.NDArray[np.uint8]], Floats]
"""Crops (B, H, W, C) uint8 to relative points (B, K, 2)."""

BATCH_SIZE = 64
JITTER_LEVELS = (0.05, 0.10, 0.15, 0.20)
JITTER_FACES = 500  # a sample is enough for a curve, and every level cuts its crops anew


@dataclass(frozen=True)
class Evaluation:
    """What measuring one model on one set of boxes gave; errors are fractions of the normaliser.

    Attributes:
        crops: (N, H, W, C) uint8, what the model saw.
        true_px: (N, K, 2), labels in pixels of the crop; NaN where a point is not visible.
        predicted_px: (N, K, 2), predictions in pixels of the crop.
        errors: (N,) plain error of each face.
        plain: Summary of `errors`.
        mirrored: Mean error on mirrored pictures; None where the scheme has no mirror image.
        centred: Mean error with the set's mean residual taken out.
        point_centred: Mean error with each point's mean residual taken out, fitted on one half, reported on the other.
        label_shift: (x, y), half the difference of the mean residuals on mirrored and plain pictures: how far the
            labels stand from what a flip-trained model sees.
        regions: Mean error per group of points.
        missed: Faces that no box was found for.
        constant: Mean error of predicting `Spec.mean_target` for every face, the error that any training has to beat;
            None where the spec has none.
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
    """Runs a model over many crops in batches: (N, H, W, C) to (N, K, 2)."""
    starts = range(0, len(crops), BATCH_SIZE)
    parts = [predict(np.ascontiguousarray(crops[start : start + BATCH_SIZE])) for start in starts]
    return np.concatenate(parts).astype(np.float32)


def evaluate(
    predict: PredictCrops, annotations: Annotations, spec: Spec, boxes: Floats | None = None, missed: int = 0
) -> Evaluation:
    """Measures a model on labelled faces.

    Args:
        predict: The model; see `PredictCrops`.
        annotations: Labelled faces; those that were given a box.
        spec: The model's description: how a box becomes its crop.
        boxes: (N, 4) to crop by; the labels' own by default.
        missed: How many further faces got no box; each counts as a failure.

    Raises:
        KpdetectError: The model's scheme is not the data's, or there is no face with a visible point.
    """
    check_scheme(spec, annotations)
    if not len(annotations):
        raise KpdetectError(f"'{annotations.name}': there is no face to measure")
    if not annotations.visible.any():
        raise KpdetectError(f"'{annotations.name}': none of its faces has a visible point to measure by")
    crops, relative, _ = evaluation_crops(annotations, spec.crop, spec.channels, boxes)
    looks = Looks(
        crops=crops,
        truth=to_pixels(relative, spec.crop.size_hw),
        predicted=to_pixels(predict_batches(predict, crops), spec.crop.size_hw),
        mirrored=mirrored_predictions(predict, crops, spec),
    )
    return evaluation_of(looks, annotations, spec, missed)


@dataclass(frozen=True)
class Looks:
    """What a model saw of N faces, and what it said; points in pixels of the crops.

    Attributes:
        crops: (N, H, W, C) uint8.
        truth: (N, K, 2), the labels.
        predicted: (N, K, 2).
        mirrored: (N, K, 2), what it said of the mirror image, turned back, NaN for faces that have none; None where
            the scheme has no mirror image.
    """

    crops: npt.NDArray[np.uint8]
    truth: Floats
    predicted: Floats
    mirrored: Floats | None


def evaluation_of(looks: Looks, annotations: Annotations, spec: Spec, missed: int = 0) -> Evaluation:
    """Sums up what a model said of faces; see `evaluate`."""
    measure, truth, predicted, mirrored = Measure(annotations, spec), looks.truth, looks.predicted, looks.mirrored
    errors = measure.per_face(truth, predicted)
    return Evaluation(
        crops=looks.crops,
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


def as_model_sees(spec: Spec, annotations: Annotations) -> Annotations:
    """The faces with what the model was trained on: its points alone, where these are some of theirs, and its boxes.

    Face boxes stay those of all points; a model of whole pictures gets these.

    Raises:
        KpdetectError: The model marks other points.
    """
    names = spec.schema.point_names
    if names != annotations.schema.point_names and set(names) <= set(annotations.schema.point_names):
        annotations = annotations.select(names)
    check_scheme(spec, annotations)
    if spec.crop.around == "image" and annotations.boxes_around != "image":
        annotations = with_image_boxes(annotations)
    return annotations


def check_scheme(spec: Spec, annotations: Annotations) -> None:
    """Makes sure that a model's points are those of the data.

    Raises:
        KpdetectError: They differ.
    """
    if spec.schema.point_names != annotations.schema.point_names:
        raise KpdetectError(
            f"the model marks the {spec.schema.num_keypoints} points of scheme '{spec.schema.name}', but "
            f"'{annotations.name}' is labelled with {annotations.schema.num_keypoints} points of scheme "
            f"'{annotations.schema.name}': name a model or data whose scheme fits"
        )


@dataclass(frozen=True)
class Measure:
    """The errors of one set of faces, in one scheme and crop."""

    annotations: Annotations
    spec: Spec

    def per_face(self, truth: Floats, predicted: Floats) -> npt.NDArray[np.float64]:
        """(N,) plain error of each face."""
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
        """(N, 1, 1), what each face's residuals are divided by."""
        width = float(self.spec.crop.size_hw[1])
        return self.annotations.schema.normalizers(truth, width)[:, None, None].astype(np.float64)

    def residuals(self, truth: Floats, predicted: Floats) -> npt.NDArray[np.float64]:
        """(N, K, 2), predicted less true over the normaliser; NaN where a point is not visible."""
        residual = (predicted.astype(np.float64) - truth) / self.normalizers(truth)
        residual[~self.annotations.visible] = np.nan
        return residual

    def mean_after_offset(self, truth: Floats, predicted: Floats, offset: npt.NDArray[np.float64]) -> float:
        """The mean error once `offset` (in normalisers; (2,) or (K, 2)) is taken out of the predictions."""
        moved = (predicted - offset * self.normalizers(truth)).astype(np.float32)
        return float(np.nanmean(self.per_face(truth, moved)))

    def point_centred(self, truth: Floats, predicted: Floats) -> float:
        """Each point's mean residual fitted on every other face and taken out of the rest; both ways, averaged."""
        residual = self.residuals(truth, predicted)
        half = np.arange(len(truth)) % 2 == 0
        corrected = predicted.astype(np.float64)
        for fit, report in ((half, ~half), (~half, half)):
            if fit.any() and report.any():
                offset = np.nan_to_num(_mean_over_faces(residual[fit]))
                corrected[report] -= offset * self.normalizers(truth)[report]
        return float(np.nanmean(self.per_face(truth, corrected.astype(np.float32))))

    def label_shift(self, truth: Floats, predicted: Floats, mirrored: Floats) -> tuple[float, float]:
        """Half the sum of the mean residuals plain and mirrored (turned back): what the labels are off by.

        A model trained with flips errs alike on a picture and on its mirror image; what differs in the direction
        of the picture is the labels'. In x the model's own part changes its sign with the mirror, in y it does not,
        so that the y figure is the model's and the labels' together.
        """
        plain = np.nanmean(self.residuals(truth, predicted), axis=(0, 1))
        turned_back = np.nanmean(self.residuals(truth, mirrored), axis=(0, 1))
        shift = -(plain + turned_back) / 2
        return float(shift[0]), float(shift[1])

    def regions(self, truth: Floats, predicted: Floats) -> dict[str, float]:
        """The mean error of each group of points."""
        width = float(self.spec.crop.size_hw[1])
        errors = nme_per_point(truth, predicted, self.annotations.visible, self.annotations.schema, width)
        groups = self.annotations.schema.regions
        return {name: float(np.nanmean(errors[:, list(part)])) for name, part in groups.items()}


def _mean_over_faces(residual: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(N, K, 2) to (K, 2); NaN, without a warning, for a point that no face shows."""
    seen = ~np.isnan(residual)
    total = np.where(seen, residual, 0.0).sum(axis=0)
    count = seen.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mirrored_predictions(predict: PredictCrops, crops: npt.NDArray[np.uint8], spec: Spec) -> Floats | None:
    """Predictions of the mirrored crops, mirrored back: (N, K, 2) in pixels of the crop, or None without a swap."""
    swap = spec.schema.flip_permutation
    if swap is None:
        return None
    relative = predict_batches(predict, crops[:, :, ::-1])  # a view: each batch is turned by itself
    return to_pixels(mirrored_relative(relative, swap), spec.crop.size_hw)


def box_jitter_curve(
    predict: PredictCrops, annotations: Annotations, spec: Spec, seed: int = 0
) -> dict[str, list[tuple[float, float]]]:
    """The mean error as the box is off: shifted in a random direction, or too small and too large.

    Args:
        predict: The model.
        annotations: Labelled faces; at most 500 of them, drawn by `seed`, are used.
        spec: How a box becomes a crop.
        seed: Draws the sample and the directions.

    Returns:
        ``shift`` and ``scale``: pairs of (how far off, as a fraction of the box; mean error as a fraction).
    """
    random = np.random.default_rng(seed)
    rows = random.permutation(len(annotations))[:JITTER_FACES]
    sample = annotations.take(rows)
    angle = random.uniform(0, 2 * np.pi, len(sample))
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def error(boxes: Floats) -> float:
        crops, relative, _ = evaluation_crops(sample, spec.crop, spec.channels, boxes)
        predicted = to_pixels(predict_batches(predict, crops), spec.crop.size_hw)
        return float(np.nanmean(Measure(sample, spec).per_face(to_pixels(relative, spec.crop.size_hw), predicted)))

    exact = error(sample.boxes)
    shifts = [(level, error(jitter_boxes(sample.boxes, level * direction, 1.0))) for level in JITTER_LEVELS]
    scales = [level for size in JITTER_LEVELS for level in (-size, size)]
    scaled = [(level, error(jitter_boxes(sample.boxes, (0.0, 0.0), 1.0 + level))) for level in scales]
    return {"shift": [(0.0, exact), *shifts], "scale": sorted([(0.0, exact), *scaled])}
