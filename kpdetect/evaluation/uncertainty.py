"""Reliability of a model's uncertainty, its calibration, and the face score.

A model's ``uncertainty`` is the expected error of each point (see `kpdetect.models.losses.error_likelihood`). On faces
held out of training it should equal the measured error in the mean, and it should be large on crops without a face.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.progress import progress
from kpdetect.data import Annotations
from kpdetect.data.crops import evaluation_crops
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec, face_scores

PredictUncertainty = Callable[[npt.NDArray[np.uint8]], Prediction]
"""Predicts crops (B, H, W, C) uint8 with uncertainty, such as `kpdetect.modelfile.runtime.Runtime.predict`."""

BATCH_SIZE = 64
BINS = 5
OVERALL_FACES = 20  # weight of the overall factor in a point's own factor, as a number of faces
BACKGROUND_SIDES = (0.25, 1.0)  # of the face's longer side; false detections are rarely larger
BACKGROUND_TRIES = 4  # random boxes per face
BACKGROUND_FACES = 1000  # enough for a score, and bounds the memory
MOST_OVERLAP = 0.1  # of the smaller area; above it, a box shows part of a face or contains a small one
MOST_BLACK = 0.3  # share of a crop's pixels; black lies outside the photograph
USUAL_LOGIT = 6.9  # the logit of 0.999, the score of a median face
NORMAL_WIDTH = 4.65  # standard deviations from the first to the last percentile of a normal distribution


@dataclass(frozen=True)
class Reliability:
    """Expected and measured error of points with similar uncertainty.

    Attributes:
        expected: Mean uncertainty, as a fraction of the normaliser.
        measured: Mean distance from the labels, as a fraction of the normaliser.
        n: Number of points.
    """

    expected: float
    measured: float
    n: int


@dataclass(frozen=True)
class UncertaintyErrors:
    """Expected and measured errors of labelled faces, relative to the crop.

    Attributes:
        distance: (N, K), distance from the labels; NaN where a point is not visible.
        uncertainty: (N, K), the model's output.
        normalizer: (N,), the divisor of each face's error.
    """

    distance: npt.NDArray[np.float64]
    uncertainty: npt.NDArray[np.float64]
    normalizer: npt.NDArray[np.float64]

    def reliability(self, bins: int = BINS) -> list[Reliability]:
        """Returns expected and measured errors of the points, in `bins` equal parts sorted by uncertainty."""
        known = self._known
        normalizer = np.broadcast_to(self.normalizer[:, None], known.shape)[known]
        expected, measured = self.uncertainty[known] / normalizer, self.distance[known] / normalizer
        parts = np.array_split(np.argsort(expected, kind="stable"), bins)
        return [
            Reliability(float(expected[part].mean()), float(measured[part].mean()), len(part))
            for part in parts
            if len(part)
        ]

    def factors(self) -> npt.NDArray[np.float64]:
        """Returns calibration factors (K,).

        Each point's uncertainty times its factor equals the measured error in the mean. A point's factor is averaged
        with that of all points; the fewer faces, the more the latter counts.
        """
        known = self._known
        overall = self.distance[known].mean() / self.uncertainty[known].mean()
        count = known.sum(axis=0)
        measured = np.where(known, self.distance, 0.0).sum(axis=0) / np.maximum(count, 1)
        expected = np.where(known, self.uncertainty, 0.0).sum(axis=0) / np.maximum(count, 1)
        own = np.where(count > 0, measured / np.maximum(expected, 1e-9), overall)
        return np.asarray((count * own + OVERALL_FACES * overall) / (count + OVERALL_FACES), np.float64)

    @property
    def _known(self) -> npt.NDArray[np.bool_]:
        return np.isfinite(self.distance) & (self.normalizer[:, None] > 0)


def measure_uncertainty(predict: PredictUncertainty, annotations: Annotations, spec: Spec) -> UncertaintyErrors:
    """Compares a model's uncertainty with its errors on labelled faces.

    Raises:
        KpdetectError: The model has no output ``uncertainty``.
    """
    crops, truth, _ = evaluation_crops(annotations, spec.crop, spec.channels)
    return uncertainty_errors(predict_with_uncertainty(predict, crops), truth, annotations, spec)


def uncertainty_errors(
    prediction: Prediction, truth: Floats, annotations: Annotations, spec: Spec
) -> UncertaintyErrors:
    """Compares the uncertainty of predictions with their errors.

    Args:
        prediction: Predictions for the crops of N faces.
        truth: (N, K, 2), the labels, relative to the crops.
        annotations: The faces.
        spec: The model's description.

    Raises:
        KpdetectError: The predictions have no uncertainty.
    """
    if prediction.uncertainty is None:
        raise KpdetectError(f"model '{spec.recipe}': has no output 'uncertainty'")
    height, width = spec.crop.size_hw
    units = np.array([width, height], np.float64) / max(height, width)
    distance = np.linalg.norm((prediction.keypoints - truth) * units, axis=-1)
    normalizer = annotations.schema.normalizers((truth * units).astype(np.float32), float(units[0]))
    return UncertaintyErrors(
        distance=np.where(annotations.visible, distance, np.nan),
        uncertainty=prediction.uncertainty.astype(np.float64),
        normalizer=normalizer.astype(np.float64),
    )


def predict_with_uncertainty(predict: PredictUncertainty, crops: npt.NDArray[np.uint8]) -> Prediction:
    """Runs a model over many crops in batches."""
    starts = range(0, len(crops), BATCH_SIZE)
    parts = [predict(crops[start : start + BATCH_SIZE]) for start in progress(starts, "predicting", unit="batch")]

    def joined(name: str) -> npt.NDArray[np.float32] | None:
        arrays = [getattr(part, name) for part in parts]
        return None if any(array is None for array in arrays) else np.concatenate(arrays)

    keypoints = np.concatenate([part.keypoints for part in parts])
    return Prediction(keypoints, joined("uncertainty"), joined("score"), joined("visibility"))


def background_crops(annotations: Annotations, spec: Spec, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Returns crops of the same photographs without a face: (M, H, W, C) uint8, possibly empty.

    Boxes are drawn at random around each face, from a quarter of its size to its size. Boxes that overlap a labelled
    face and crops that lie mostly outside the photograph are dropped. At most `BACKGROUND_FACES` faces are used, spread
    evenly.
    """
    random = np.random.default_rng(seed)
    rows, boxes = [], []
    sample = np.linspace(0, len(annotations) - 1, min(len(annotations), BACKGROUND_FACES)).astype(int)
    shown: dict[str, list[int]] = {}
    for row, path in enumerate(annotations.paths.tolist()):
        shown.setdefault(path, []).append(row)
    for row in sample.tolist():
        others = annotations.boxes[shown[str(annotations.paths[row])]]
        for box in _drawn_boxes(others, annotations.boxes[row], random):
            rows.append(row)
            boxes.append(box)
    crops = evaluation_crops(annotations.take(rows), spec.crop, spec.channels, np.reshape(boxes, (-1, 4)))[0]
    black = np.array([1 - np.count_nonzero(crop) / crop.size for crop in crops])
    return np.asarray(crops[black < MOST_BLACK])


def _drawn_boxes(faces: Floats, about: Floats, random: np.random.Generator) -> list[Floats]:
    """Draws square boxes within 1.5 face sizes of a face that overlap none of the faces."""
    side = float(max(about[2] - about[0], about[3] - about[1]))
    center = (about[:2] + about[2:]) / 2
    sizes = side * random.uniform(*BACKGROUND_SIDES, BACKGROUND_TRIES)
    middles = center + side * random.uniform(-1.5, 1.5, (BACKGROUND_TRIES, 2))
    boxes = np.concatenate([middles - sizes[:, None] / 2, middles + sizes[:, None] / 2], axis=1).astype(np.float32)
    return list(boxes[_overlap(boxes, faces).max(axis=1) < MOST_OVERLAP])


def _overlap(boxes: Floats, faces: Floats) -> npt.NDArray[np.float64]:
    """Returns the intersection of boxes (N, 4) and faces (M, 4) over the smaller area: (N, M).

    Over the union, a small box in the middle of a face would count as background.
    """
    low, high = np.maximum(boxes[:, None, :2], faces[None, :, :2]), np.minimum(boxes[:, None, 2:], faces[None, :, 2:])
    areas = [np.prod(part[:, 2:] - part[:, :2], axis=1, dtype=np.float64) for part in (boxes, faces)]
    common = np.prod(np.clip(high - low, 0, None), axis=-1, dtype=np.float64)
    return np.asarray(common / np.minimum(areas[0][:, None], areas[1][None]))


def fit_face_score(faces: npt.NDArray[np.float32], background: npt.NDArray[np.float32]) -> dict[str, float]:
    """Fits the face score: a logistic function of the mean uncertainty of a crop.

    The threshold has the same distance, in standard deviations of the logarithm, from faces and from background.
    Background varies more, and false detections of a detector more than random crops: with the threshold half-way, a
    fifth of the false detections of OpenCV's cascades would pass, with this one a twentieth. A median face scores
    0.999.

    Args:
        faces: (N, K), uncertainties of crops with a face.
        background: (M, K), uncertainties of crops without a face.

    Returns:
        ``middle`` and ``slope`` of `kpdetect.modelfile.spec.face_scores`.
    """
    levels = [np.log(part.mean(axis=1, dtype=np.float64)) for part in (faces, background)]
    face, other = (float(np.median(level)) for level in levels)
    widths = [float(np.subtract(*np.percentile(level, (99, 1)))) / NORMAL_WIDTH for level in levels]
    face_width, other_width = np.maximum(widths, 1e-2)
    middle = float((face * other_width + other * face_width) / (face_width + other_width))
    return {"middle": middle, "slope": USUAL_LOGIT / max(middle - face, 1e-2) if other > face else 0.0}


@dataclass(frozen=True)
class FaceScoreRates:
    """How often the face score accepts crops.

    Attributes:
        faces: Share of the labelled faces with a score of 0.5 or more, in [0, 1].
        background: The same share of crops without a face; None if no such crop could be drawn.
        num_background: Number of crops without a face.
    """

    faces: float
    background: float | None
    num_background: int


def face_score_rates(predict: PredictUncertainty, annotations: Annotations, spec: Spec) -> FaceScoreRates:
    """Measures the face score on labelled faces and on background crops of the same photographs.

    Args:
        predict: The model; see `PredictUncertainty`.
        annotations: Labelled faces; at least one.
        spec: The description of a model with a face score.

    Raises:
        KpdetectError: The model has no face score.
    """
    if not spec.judges_faces:
        raise KpdetectError(f"model '{spec.recipe}': has neither an output 'score' nor a face_score in spec.json")
    faces, background = evaluation_crops(annotations, spec.crop, spec.channels)[0], background_crops(annotations, spec)
    return FaceScoreRates(
        faces=_share_above(predict, faces, spec),
        background=_share_above(predict, background, spec) if len(background) else None,
        num_background=len(background),
    )


def _share_above(predict: PredictUncertainty, crops: npt.NDArray[np.uint8], spec: Spec) -> float:
    prediction = predict_with_uncertainty(predict, crops)
    score = prediction.score
    if score is None and prediction.uncertainty is not None and spec.face_score is not None:
        score = face_scores(prediction.uncertainty, spec.face_score)
    return 0.0 if score is None else float((score >= 0.5).mean())


def reliability_table(rows: list[Reliability], normaliser: str) -> str:
    """Returns the reliability as text: one line per fifth of the points."""
    lines = [f"  expected error, measured error ({normaliser}), each for a fifth of the points:"]
    lines += [f"    {100 * row.expected:6.2f} %  {100 * row.measured:6.2f} %  ({row.n} points)" for row in rows]
    return "\n".join(lines)
