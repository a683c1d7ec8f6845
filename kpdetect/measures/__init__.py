"""Measures of a face: head pose, eye and mouth openness, blinks, smile, and aligned face chips.

All take a `Face` of any scheme that has the points they name; for points of your own, ``Face(points, schema)``. *Right*
and *left* are those of the pictured person.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face
from kpdetect.measures.chip import CANONICAL_EYES, check_chips, chip_matrix, face_chip
from kpdetect.measures.expression import (
    CLOSED_EYE,
    EYE_POINTS,
    MOUTH_POINTS,
    SMILE_POINTS,
    EyeOpenness,
    eye_openness,
    eyes_closed,
    find_blinks,
    mouth_openness,
    smile,
)
from kpdetect.measures.points import missing_points
from kpdetect.measures.pose import MEAN_FACE, HeadPose, HeadTransform, head_axes, head_pose, head_transform

__all__ = [
    "CANONICAL_EYES",
    "CLOSED_EYE",
    "MEAN_FACE",
    "EyeOpenness",
    "HeadPose",
    "HeadTransform",
    "check_chips",
    "check_measurable",
    "chip_matrix",
    "eye_openness",
    "eyes_closed",
    "face_chip",
    "find_blinks",
    "head_axes",
    "head_pose",
    "head_transform",
    "measure",
    "mouth_openness",
    "smile",
]

_MEASURES: dict[str, tuple[tuple[str, ...], Callable[[Face], Any]]] = {
    "head_pose": (tuple(MEAN_FACE), head_pose),
    "eye_openness": (EYE_POINTS, eye_openness),
    "eyes_closed": (EYE_POINTS, eyes_closed),
    "mouth_openness": (MOUTH_POINTS, mouth_openness),
    "smile": (SMILE_POINTS, smile),
}


def measure(face: Face) -> dict[str, Any]:
    """All measures of a face, ready for JSON, rounded to four decimals.

    Returns:
        ``head_pose`` and ``eye_openness`` as dicts by attribute, ``eyes_closed``, ``mouth_openness`` and ``smile``;
        None for a measure whose points the scheme lacks.

    Raises:
        KpdetectError: Points of a measure are in one place.

    Example:
        ```python
        from kpdetect import Predictor, measure
        print(measure(Predictor()("photo.jpg")[0])["head_pose"]["yaw_deg"])
        ```
    """
    return {
        name: _rounded(function(face)) if not missing_points(face.schema, needed) else None
        for name, (needed, function) in _MEASURES.items()
    }


def check_measurable(schema: KeypointSchema) -> None:
    """Checks that a scheme has the points of at least one measure.

    Raises:
        KpdetectError: It has not.

    Example:
        ``check_measurable(IBUG68)`` raises nothing.
    """
    if all(missing_points(schema, needed) for needed, _ in _MEASURES.values()):
        raise KpdetectError(
            f"scheme '{schema.name}' lacks points for every measure ({', '.join(_MEASURES)}); "
            "expected points named as in scheme 'ibug68'"
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return round(value, 4)
    return {name: round(part, 4) for name, part in asdict(value).items()}
