"""Errors by head pose, sharpness of the picture and size of the face."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels, cv2, to_channels
from kpdetect.data import Annotations
from kpdetect.detection import Face
from kpdetect.evaluation.evaluator import Evaluation
from kpdetect.measures import MEAN_FACE, head_pose
from kpdetect.measures.points import missing_points

Doubles = npt.NDArray[np.float64]

YAW_LIMITS = (10.0, 25.0, 40.0)  # degrees; from 40 on the far eye is partly hidden
SIZE_LIMITS = (64.0, 128.0, 256.0)  # pixels of the face box's longer side


@dataclass(frozen=True)
class Slice:
    """A part of the faces.

    Attributes:
        name: Its description.
        n: Number of faces.
        nme: Mean error as a fraction of the normaliser; NaN for an empty slice.
    """

    name: str
    n: int
    nme: float


def slice_errors(annotations: Annotations, measured: Evaluation) -> dict[str, list[Slice]]:
    """Returns the plain error by properties of the faces.

    Args:
        annotations: The evaluated faces.
        measured: Their errors, in the same order.

    Returns:
        ``yaw`` (absolute degrees, from the labelled points, if the scheme has the required ones), ``sharpness`` (thirds
        of the set) and ``face`` (pixels of the box's longer side). Empty slices are left out.
    """
    errors = measured.errors
    parts: dict[str, list[Slice]] = {}
    if not missing_points(annotations.schema, list(MEAN_FACE)):
        parts["yaw"] = _by_limits(np.abs(yaws(annotations)), errors, YAW_LIMITS, "{} degrees".format)
    sharp = sharpness(measured.crops)
    thirds = tuple(np.quantile(sharp, (1 / 3, 2 / 3)).tolist())
    parts["sharpness"] = _by_limits(sharp, errors, thirds, lambda words: words, ("blurred", "middle", "sharp"))
    sides = (annotations.boxes[:, 2:] - annotations.boxes[:, :2]).max(axis=1).astype(np.float64)
    parts["face"] = _by_limits(sides, errors, SIZE_LIMITS, "{} pixels".format)
    return {name: [part for part in group if part.n] for name, group in parts.items()}


def yaws(annotations: Annotations) -> Doubles:
    """Returns the yaw of each face in degrees, from its labelled points; NaN where the pose cannot be computed."""

    def yaw(row: int) -> float:
        face = Face(annotations.keypoints[row], annotations.schema)
        try:
            return head_pose(face).yaw_deg
        except KpdetectError:
            return float("nan")

    return np.array([yaw(row) for row in range(len(annotations))])


def sharpness(crops: Pixels) -> Doubles:
    """Returns the sharpness of each crop: the standard deviation of its Laplacian over that of its grey levels.

    Args:
        crops: (N, H, W, C) uint8.

    Returns:
        (N,); 0 for a crop of one grey level.
    """

    def of(crop: Pixels) -> float:
        grey = (to_channels(crop, 1) if crop.shape[2] == 3 else crop)[..., 0].astype(np.float64)
        return float(cv2.Laplacian(grey, cv2.CV_64F).std() / max(float(grey.std()), 1e-9))

    return np.array([of(crop) for crop in crops])


def _by_limits(
    values: Doubles,
    errors: Doubles,
    limits: Sequence[float],
    words: Callable[[str], str],
    names: Sequence[str] | None = None,
) -> list[Slice]:
    """Returns the errors of the faces in each interval between limits."""
    edges = [-np.inf, *limits, np.inf]
    parts = []
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = (values >= low) & (values < high)
        span = f"{low:g} to {high:g}" if np.isfinite([low, high]).all() else f"below {high:g}"
        span = span if np.isfinite(high) else f"{low:g} and more"
        mean = float(np.nanmean(errors[inside])) if inside.any() else float("nan")
        parts.append(Slice(words(span) if names is None else names[index], int(inside.sum()), mean))
    return parts


def slices_table(parts: dict[str, list[Slice]]) -> str:
    """Returns the slices as text, one line per property."""
    lines = []
    for attribute, group in parts.items():
        text = ", ".join(f"{part.name}: {100 * part.nme:.2f} % ({part.n})" for part in group)
        lines.append(f"  by {attribute}  {text}")
    return "\n".join(lines)
