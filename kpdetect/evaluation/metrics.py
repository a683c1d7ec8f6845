"""Errors of keypoints: per face, per point, their summary and cumulative curve. Needs NumPy alone.

The normalised mean error (NME) of a face is the mean distance over its visible points, divided by the scheme's
normaliser: the distance of the outer eye corners for 68 points, the size of the points' box for schemes without such a
pair, the crop's width for a single point. Errors are fractions: 0.05 is 5 %.

Points that are not visible are ignored, in the mean and in the normaliser. A face without a visible point, or whose
normaliser is not visible, has the error NaN. Summaries ignore such faces and count the others.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema

Errors = npt.NDArray[np.float64]

LIMIT = 0.08  # the usual end of the curve, and the threshold of a failure


@dataclass(frozen=True)
class Summary:
    """Summary of the errors of a data set. All but `n` are fractions, and NaN if `n` is 0.

    Attributes:
        mean: The mean NME.
        median: The median NME.
        auc8: Area under the cumulative error curve up to 8 %, divided by 8 %; 1 is perfect.
        fr8: Failure rate, the share of faces with an NME above 8 %.
        n: Number of faces with an error.
    """

    mean: float
    median: float
    auc8: float
    fr8: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the five values by name."""
        return dataclasses.asdict(self)


def nme_per_point(
    true: npt.ArrayLike,
    predicted: npt.ArrayLike,
    visible: npt.ArrayLike,
    schema: KeypointSchema,
    crop_width: float | None = None,
) -> Errors:
    """Returns the distance of each point from its label, divided by the face's normaliser.

    Args:
        true: (N, K, 2), in any unit that is equal in x and y, such as pixels.
        predicted: (N, K, 2), in the same unit.
        visible: (N, K), bool or 0 and 1.
        schema: The scheme of the points.
        crop_width: The crop's width in the same unit; required for a scheme of one point.

    Returns:
        (N, K) fractions; NaN for a point that is not visible, and for a face without a normaliser.

    Raises:
        KpdetectError: The shapes do not match, or a scheme of one point is given without a crop width.

    >>> from kpdetect.core.schema import user_schema
    >>> nme_per_point([[[10.0, 10.0]]], [[[13.0, 14.0]]], [[True]], user_schema(["nose"]), crop_width=100)
    array([[0.05]])
    """
    truth, guess, seen = _checked(true, predicted, visible, schema)
    normalizers = _normalizers(truth, seen, schema, crop_width)
    distances = np.linalg.norm(guess - truth, axis=-1)
    return np.asarray(np.where(seen, distances, np.nan) / normalizers[:, None], np.float64)


def nme_per_face(
    true: npt.ArrayLike,
    predicted: npt.ArrayLike,
    visible: npt.ArrayLike,
    schema: KeypointSchema,
    crop_width: float | None = None,
) -> Errors:
    """Returns the NME of each face: the mean over its visible points.

    Arguments and errors are those of `nme_per_point`.

    Returns:
        (N,) fractions; NaN for a face without an error.
    """
    errors = nme_per_point(true, predicted, visible, schema, crop_width)
    seen = np.asarray(visible, bool)
    total, count = np.where(seen, errors, 0.0).sum(axis=1), seen.sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), np.float64)


def summary(errors: npt.ArrayLike) -> Summary:
    """Summarises the errors of a data set.

    Args:
        errors: (N,) NME per face as fractions; NaN for a face that is not counted.

    >>> result = summary([0.01, 0.03, 0.11])
    >>> round(result.mean, 6), result.median, round(result.auc8, 6), round(result.fr8, 6), result.n
    (0.05, 0.03, 0.5, 0.333333, 3)
    """
    measured = _measured(errors)
    if len(measured) == 0:
        return Summary(np.nan, np.nan, np.nan, np.nan, 0)
    return Summary(
        mean=float(measured.mean()),
        median=float(np.median(measured)),
        # The curve is a step function, so its area is the mean distance from each error to the limit.
        auc8=float(np.clip(LIMIT - measured, 0, None).mean() / LIMIT),
        fr8=float((measured > LIMIT).mean()),
        n=len(measured),
    )


def cumulative_error_curve(errors: npt.ArrayLike, limit: float = LIMIT) -> tuple[Errors, Errors]:
    """Returns the share of faces whose error is at most a threshold, as corners of the step function.

    Straight lines between the corners draw the curve; their area divided by the limit is the AUC.

    Args:
        errors: (N,) NME per face as fractions; NaN for a face that is not counted.
        limit: Upper end of the curve; positive.

    Returns:
        Thresholds from 0 to the limit, and fractions in [0, 1], of equal length. Each step has two corners.

    Raises:
        KpdetectError: No face has an error, or the limit is not positive.

    >>> thresholds, fractions = cumulative_error_curve([0.02, 0.12])
    >>> thresholds.tolist(), fractions.tolist()
    ([0.0, 0.02, 0.02, 0.08], [0.0, 0.0, 0.5, 0.5])
    """
    measured = np.sort(_measured(errors))
    if len(measured) == 0 or not limit > 0:
        raise KpdetectError(f"cumulative error curve: expected errors and a limit, received {len(measured)}, {limit}")
    steps = measured[measured <= limit]
    shares = np.arange(len(steps) + 1) / len(measured)
    thresholds = np.concatenate([[0.0], np.repeat(steps, 2), [limit]])
    return thresholds, np.repeat(shares, 2)


def _measured(errors: npt.ArrayLike) -> Errors:
    values = np.asarray(errors, np.float64).reshape(-1)
    return np.asarray(values[~np.isnan(values)])


def _checked(
    true: npt.ArrayLike, predicted: npt.ArrayLike, visible: npt.ArrayLike, schema: KeypointSchema
) -> tuple[Errors, Errors, npt.NDArray[np.bool_]]:
    """Returns the arrays after checking their shapes."""
    truth, guess, seen = np.asarray(true, np.float64), np.asarray(predicted, np.float64), np.asarray(visible, bool)
    shape = (len(truth), schema.num_keypoints, 2)
    if truth.shape != shape or guess.shape != shape or seen.shape != shape[:2]:
        raise KpdetectError(
            f"errors of scheme '{schema.name}': expected points of shape {shape} and visible of {shape[:2]}, "
            f"received {truth.shape}, {guess.shape} and {seen.shape}"
        )
    return truth, guess, seen


def _normalizers(true: Errors, seen: npt.NDArray[np.bool_], schema: KeypointSchema, crop_width: float | None) -> Errors:
    """Returns (N,), the divisor of each face's error; NaN if the visible points do not define it."""
    # Hidden points may have placeholder coordinates. Replace them by a visible point, which keeps the box unchanged.
    stand_in = np.take_along_axis(true, seen.argmax(axis=1)[:, None, None], axis=1)
    known = np.asarray(schema.normalizers(np.where(seen[..., None], true, stand_in), crop_width), np.float64)
    valid = known > 0
    if schema.normalizer_points is not None:
        valid &= seen[:, schema.normalizer_points[0]] & seen[:, schema.normalizer_points[1]]
    return np.asarray(np.where(valid, known, np.nan), np.float64)
