"""Owns the layout of the competition's CSV: the points of an unlabelled set, one coordinate a row."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError

HEADER = "Id,Predicted"


def competition_csv(keypoints: npt.ArrayLike) -> str:
    """The text of the CSV that the competition on iBUG 300-W large takes for its unlabelled faces.

    ``Id`` is the running number of the coordinate, from 0: faces in the order of the set (for dlib XML that of the
    ``box`` elements), in each face point by point, in each point x then y. So ``Id = (face * K + point) * 2 + axis``,
    which for 68 points is ``face * 136 + point * 2 + axis``. This is how public solutions of the competition (the
    Kaggle one of Berkeley's CS 194-26) number them; the organisers' own page says no more than the two column names.

    ``Predicted`` is in pixels of the original image, 0-based, the pixel's centre on the integer, as the parts of the
    labelled XML are; with as many digits as give back the same float32.

    Args:
        keypoints: (N, K, 2), all finite.

    Raises:
        KpdetectError: Another shape, or a coordinate is missing: without it all later numbers would be wrong.

    >>> print(competition_csv([[[10.0, 20.5], [-3.25, 4.0]]]), end="")
    Id,Predicted
    0,10.0
    1,20.5
    2,-3.25
    3,4.0
    """
    points = np.asarray(keypoints, np.float32)
    if points.ndim != 3 or points.shape[2] != 2:
        raise KpdetectError(f"competition CSV: expected points of shape (N, K, 2), received {points.shape}")
    missing = ~np.isfinite(points).all(axis=(1, 2))
    if missing.any():
        raise KpdetectError(
            f"competition CSV: expected the points of all {len(points)} faces, {missing.sum()} have none "
            f"(the first is face {missing.argmax()}, counted from 0); the numbers of all faces after it would be wrong"
        )
    rows = [f"{number},{_shortest(value)}" for number, value in enumerate(points.ravel())]
    return "\n".join([HEADER, *rows]) + "\n"


def _shortest(value: np.float32) -> str:
    """The fewest digits that give back the same float32, never with an exponent."""
    return np.format_float_positional(value, unique=True, trim="0")
