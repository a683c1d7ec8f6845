"""Owns where a model errs: its error by head pose, by the sharpness of the picture and by the size of the face."""

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

YAW_LIMITS = (10.0, 25.0, 40.0)  # degrees; 40 is where the far eye begins to hide
SIZE_LIMITS = (64.0, 128.0, 256.0)  # pixels of the face box's longer side


@dataclass(frozen=True)
class Part:
    """Some of the faces.

    Attributes:
        name: Which, in words.
        n: How many.
        nme: Their mean error, as a fraction of the normaliser; NaN where there are none.
    """

    name: str
    n: int
    nme: float


def breakdown(annotations: Annotations, measured: Evaluation) -> dict[str, list[Part]]:
    """The plain error by what the faces are like; yaw where the scheme has the points that tell it.

    Args:
        annotations: The faces that were measured.
        measured: What measuring gave, in the same order.

    Returns:
        ``yaw`` (degrees to either side, of the labelled points), ``sharpness`` (thirds of the set) and ``face``
        (pixels of the box's longer side); parts without faces are left out.
    """
    errors = measured.errors
    parts: dict[str, list[Part]] = {}
    if not missing_points(annotations.schema, list(MEAN_FACE)):
        parts["yaw"] = _by_limits(np.abs(yaws(annotations)), errors, YAW_LIMITS, "{} degrees".format)
    sharp = sharpness(measured.crops)
    thirds = tuple(np.quantile(sharp, (1 / 3, 2 / 3)).tolist())
    parts["sharpness"] = _by_limits(sharp, errors, thirds, lambda words: words, ("blurred", "middle", "sharp"))
    sides = (annotations.boxes[:, 2:] - annotations.boxes[:, :2]).max(axis=1).astype(np.float64)
    parts["face"] = _by_limits(sides, errors, SIZE_LIMITS, "{} pixels".format)
    return {name: [part for part in group if part.n] for name, group in parts.items()}


def yaws(annotations: Annotations) -> Doubles:
    """How far each face is turned to the side, in degrees, by its labelled points; NaN where they tell no pose."""

    def yaw(row: int) -> float:
        face = Face(annotations.keypoints[row], annotations.schema)
        try:
            return head_pose(face).yaw_deg
        except KpdetectError:
            return float("nan")

    return np.array([yaw(row) for row in range(len(annotations))])


def sharpness(crops: Pixels) -> Doubles:
    """The deviation of each crop's Laplacian over that of its grey levels: detail, whatever the contrast.

    Args:
        crops: (N, H, W, C) uint8.

    Returns:
        (N,), 0 for a crop of one grey.
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
) -> list[Part]:
    """The errors of faces whose values lie below, between and above limits."""
    edges = [-np.inf, *limits, np.inf]
    parts = []
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = (values >= low) & (values < high)
        span = f"{low:g} to {high:g}" if np.isfinite([low, high]).all() else f"below {high:g}"
        span = span if np.isfinite(high) else f"{low:g} and more"
        mean = float(np.nanmean(errors[inside])) if inside.any() else float("nan")
        parts.append(Part(words(span) if names is None else names[index], int(inside.sum()), mean))
    return parts


def breakdown_table(parts: dict[str, list[Part]]) -> str:
    """For people: a line per attribute."""
    lines = []
    for attribute, group in parts.items():
        told = ", ".join(f"{part.name}: {100 * part.nme:.2f} % ({part.n})" for part in group)
        lines.append(f"  by {attribute}  {told}")
    return "\n".join(lines)
