"""Owns whether a model's uncertainty is to be believed: reliability, calibration factors, and the score of a face.

A model tells of each point how far off it expects it to be (see `kpdetect.models.losses.error_likelihood`). On faces
that it was not trained on, the said and the real error are to agree; a crop without a face is to say that it knows
nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.data import Annotations
from kpdetect.data.crops import evaluation_crops
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec, face_scores

PredictWithUncertainty = Callable[[npt.NDArray[np.uint8]], Prediction]
"""Crops (B, H, W, C) uint8 to what a model says of them."""

BATCH_SIZE = 64
BINS = 5
OVERALL_FACES = 20  # so many faces weigh as much as what all points have in common, in a point's own factor
BACKGROUND_SIDES = (0.25, 1.0)  # of the face's longer side: what a detector takes for a face is seldom larger
BACKGROUND_TRIES = 4  # boxes drawn for each face
BACKGROUND_FACES = 1000  # their surroundings tell a score, and take no more memory however many faces there are
MOST_OVERLAP = 0.1  # of the smaller one's area; with more, a box shows part of a face, or a small face within it
MOST_BLACK = 0.3  # share of a crop's pixels: outside the photograph it is black
USUAL_LOGIT = 6.9  # of 0.999
NORMAL_WIDTH = 4.65  # standard deviations from the first to the last percentile of a normal distribution


@dataclass(frozen=True)
class Reliability:
    """Points that were said to be about as far off, and how far off they are.

    Attributes:
        said: Their mean uncertainty, as a share of the normaliser.
        real: Their mean distance from the labels, as a share of the normaliser.
        n: How many there are.
    """

    said: float
    real: float
    n: int


@dataclass(frozen=True)
class Judged:
    """What a model said of labelled faces, and how far off it was; relative to the crop.

    Attributes:
        distance: (N, K), from the labels; NaN where a point is not visible.
        uncertainty: (N, K), as it was said.
        normalizer: (N,), what the error of a face is divided by.
    """

    distance: npt.NDArray[np.float64]
    uncertainty: npt.NDArray[np.float64]
    normalizer: npt.NDArray[np.float64]

    def reliability(self, bins: int = BINS) -> list[Reliability]:
        """Said and real errors, from the surest fifth of the points to the least sure."""
        known = self._known
        normalizer = np.broadcast_to(self.normalizer[:, None], known.shape)[known]
        said, real = self.uncertainty[known] / normalizer, self.distance[known] / normalizer
        parts = np.array_split(np.argsort(said, kind="stable"), bins)
        return [
            Reliability(float(said[part].mean()), float(real[part].mean()), len(part)) for part in parts if len(part)
        ]

    def factors(self) -> npt.NDArray[np.float64]:
        """(K,), what each point's uncertainty is to be multiplied by, so that its mean is that of the real errors.

        The fewer faces there are, the nearer a point's factor is to that of all points.
        """
        known = self._known
        overall = self.distance[known].mean() / self.uncertainty[known].mean()
        count = known.sum(axis=0)
        real = np.where(known, self.distance, 0.0).sum(axis=0) / np.maximum(count, 1)
        said = np.where(known, self.uncertainty, 0.0).sum(axis=0) / np.maximum(count, 1)
        own = np.where(count > 0, real / np.maximum(said, 1e-9), overall)
        return np.asarray((count * own + OVERALL_FACES * overall) / (count + OVERALL_FACES), np.float64)

    @property
    def _known(self) -> npt.NDArray[np.bool_]:
        return np.isfinite(self.distance) & (self.normalizer[:, None] > 0)


def judge(mark: PredictWithUncertainty, annotations: Annotations, spec: Spec) -> Judged:
    """Compares what a model says of its errors with its errors on labelled faces.

    Raises:
        KpdetectError: The model tells no uncertainty.
    """
    crops, truth, _ = evaluation_crops(annotations, spec.crop, spec.channels)
    return judge_predictions(predict_with_uncertainty(mark, crops), truth, annotations, spec)


def judge_predictions(marks: Prediction, truth: Floats, annotations: Annotations, spec: Spec) -> Judged:
    """What `judge` tells of marks that are there already.

    Args:
        marks: Of the faces' crops.
        truth: (N, K, 2), the labels, relative to the crops.
        annotations: The faces.
        spec: Of the model.

    Raises:
        KpdetectError: They tell no uncertainty.
    """
    if marks.uncertainty is None:
        raise KpdetectError(f"model '{spec.recipe}' tells no uncertainty")
    height, width = spec.crop.size_hw
    units = np.array([width, height], np.float64) / max(height, width)
    distance = np.linalg.norm((marks.keypoints - truth) * units, axis=-1)
    normalizer = annotations.schema.normalizers((truth * units).astype(np.float32), float(units[0]))
    return Judged(
        distance=np.where(annotations.visible, distance, np.nan),
        uncertainty=marks.uncertainty.astype(np.float64),
        normalizer=normalizer.astype(np.float64),
    )


def predict_with_uncertainty(mark: PredictWithUncertainty, crops: npt.NDArray[np.uint8]) -> Prediction:
    """Runs a model over many crops in batches."""
    parts = [mark(crops[start : start + BATCH_SIZE]) for start in range(0, len(crops), BATCH_SIZE)]
    uncertainty = [part.uncertainty for part in parts if part.uncertainty is not None]
    return Prediction(
        np.concatenate([part.keypoints for part in parts]),
        np.concatenate(uncertainty) if len(uncertainty) == len(parts) else None,
    )


def background_crops(annotations: Annotations, spec: Spec, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Crops of the same photographs that show no face, or no more than a rim of one: (M, H, W, C) uint8, maybe none.

    Boxes are drawn by chance, from a quarter of the face's size to all of it; those that overlap a labelled face, or
    lie mostly outside the photograph, are left out. Of many faces, `BACKGROUND_FACES` all over the set are enough.
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
    """Square boxes around a face, up to twice its size away, that overlap none of the faces."""
    side = float(max(about[2] - about[0], about[3] - about[1]))
    center = (about[:2] + about[2:]) / 2
    sizes = side * random.uniform(*BACKGROUND_SIDES, BACKGROUND_TRIES)
    middles = center + side * random.uniform(-1.5, 1.5, (BACKGROUND_TRIES, 2))
    boxes = np.concatenate([middles - sizes[:, None] / 2, middles + sizes[:, None] / 2], axis=1).astype(np.float32)
    return list(boxes[_overlap(boxes, faces).max(axis=1) < MOST_OVERLAP])


def _overlap(boxes: Floats, faces: Floats) -> npt.NDArray[np.float64]:
    """What boxes (N, 4) and faces (M, 4) have in common, as a share of the smaller one's area: (N, M).

    Over the union, a box of a quarter of a face's size would count as free in the very middle of the face.
    """
    low, high = np.maximum(boxes[:, None, :2], faces[None, :, :2]), np.minimum(boxes[:, None, 2:], faces[None, :, 2:])
    areas = [np.prod(part[:, 2:] - part[:, :2], axis=1, dtype=np.float64) for part in (boxes, faces)]
    common = np.prod(np.clip(high - low, 0, None), axis=-1, dtype=np.float64)
    return np.asarray(common / np.minimum(areas[0][:, None], areas[1][None]))


def fit_face_score(faces: npt.NDArray[np.float32], background: npt.NDArray[np.float32]) -> dict[str, float]:
    """Where the mean uncertainty of a crop tells a face from none.

    The middle is as many standard deviations from what faces have as from what background has, in the logarithm.
    Background varies more, and what a detector takes for a face more than any drawn by chance: half-way between the
    two, a fifth of the mistakes of OpenCV's cascades would pass, and here a twentieth. A usual face scores 0.999.

    Args:
        faces: (N, K), uncertainties of crops with a face.
        background: (M, K), of crops without.

    Returns:
        ``middle`` and ``slope`` of `kpdetect.modelfile.spec.face_scores`.
    """
    levels = [np.log(part.mean(axis=1, dtype=np.float64)) for part in (faces, background)]
    face, other = (float(np.median(level)) for level in levels)
    widths = [float(np.subtract(*np.percentile(level, (99, 1)))) / NORMAL_WIDTH for level in levels]
    face_width, other_width = np.maximum(widths, 1e-2)
    middle = float((face * other_width + other * face_width) / (face_width + other_width))
    return {"middle": middle, "slope": USUAL_LOGIT / max(middle - face, 1e-2) if other > face else 0.0}


def shares_taken_for_faces(
    mark: PredictWithUncertainty, annotations: Annotations, spec: Spec
) -> tuple[float, float | None, int]:
    """Of labelled faces and of crops beside them, which share has a score of 0.5 and more; and how many were beside.

    Returns:
        The share of the faces, that of the crops beside them (None where there are none), and their number.

    Raises:
        KpdetectError: The model tells no score.
    """
    if spec.face_score is None:
        raise KpdetectError(f"model '{spec.recipe}' tells no score of a face")
    faces, beside = evaluation_crops(annotations, spec.crop, spec.channels)[0], background_crops(annotations, spec)
    shares = [_share_taken(mark, crops, spec.face_score) if len(crops) else None for crops in (faces, beside)]
    return float(shares[0] or 0.0), shares[1], len(beside)


def _share_taken(mark: PredictWithUncertainty, crops: npt.NDArray[np.uint8], face_score: Mapping[str, float]) -> float:
    uncertainty = predict_with_uncertainty(mark, crops).uncertainty
    return 0.0 if uncertainty is None else float((face_scores(uncertainty, face_score) >= 0.5).mean())


def reliability_table(rows: list[Reliability], normaliser: str) -> str:
    """The reliability for people: a line per fifth of the points."""
    lines = [f"  said to be off by, really off by ({normaliser}), a fifth of the points each:"]
    lines += [f"    {100 * row.said:6.2f} %  {100 * row.real:6.2f} %  ({row.n} points)" for row in rows]
    return "\n".join(lines)
