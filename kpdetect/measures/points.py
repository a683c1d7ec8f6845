"""Access of measures to the points of a face, by their names."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face

Doubles = npt.NDArray[np.float64]


def points_of(face: Face, names: Sequence[str], purpose: str) -> Doubles:
    """Points by their names.

    Args:
        face: The face.
        names: n names of points.
        purpose: The measure that needs them, for the error.

    Returns:
        (n, 2) in pixels of the photograph.

    Raises:
        KpdetectError: The scheme lacks one of them, or a coordinate is not finite.
    """
    check_points(face.schema, names, purpose)
    points = np.asarray(face.keypoints[[face.schema.index(name) for name in names]], np.float64)
    if not np.isfinite(points).all():
        bad = names[int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])]
        raise KpdetectError(f"{purpose}: expected finite points, received {face.point(bad).tolist()} for '{bad}'")
    return points


def check_points(schema: KeypointSchema, names: Sequence[str], purpose: str) -> None:
    """Checks that a scheme has certain points.

    Raises:
        KpdetectError: It lacks some; the message names them.
    """
    missing = missing_points(schema, names)
    if missing:
        raise KpdetectError(
            f"{purpose} needs {len(names)} points, of which scheme '{schema.name}' lacks {', '.join(missing)}; "
            "expected a model of scheme 'ibug68', or of points with its names"
        )


def missing_points(schema: KeypointSchema, names: Sequence[str]) -> tuple[str, ...]:
    """The names that a scheme lacks."""
    return tuple(name for name in names if name not in schema.point_names)


def distance(first: Doubles, second: Doubles, what: str) -> float:
    """The distance of two points (2,).

    Raises:
        KpdetectError: They are in one place.
    """
    length = float(np.linalg.norm(first - second))
    if length < 1e-6:
        raise KpdetectError(f"{what} fall together at {first.tolist()}; expected the points of a face")
    return length
