"""The competition's CSV: the keypoints of an unlabelled data set, one coordinate per row."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError

HEADER = "Id,Predicted"


def competition_csv(keypoints: npt.ArrayLike) -> str:
    """The text of the CSV that the competition on iBUG 300-W large accepts for its unlabelled faces.

    ``Id`` is the running number of a coordinate, from 0: faces in the order of the data set (for dlib XML that of the
    ``box`` elements), the points of each face in their order, and x before y. For K points,
    ``Id = (face * K + point) * 2 + axis``. Public solutions of the competition (the Kaggle one of Berkeley's CS 194-26)
    number the rows so; the organisers' page only states the two column names.

    ``Predicted`` is in pixels of the original image, 0-based with pixel centres on integers, like the parts of the
    labelled XML, with the fewest digits that restore the float32.

    Args:
        keypoints: (N, K, 2) in pixels, all finite.

    Raises:
        KpdetectError: The shape is another one, or a coordinate is missing, which would shift all later numbers.

    Example:
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
            f"competition CSV: expected the points of all {len(points)} faces, {missing.sum()} are missing "
            f"(the first is face {missing.argmax()}, counted from 0); all later numbers would be wrong"
        )
    # The fewest digits that restore the same float32, without an exponent.
    values = (np.format_float_positional(value, unique=True, trim="0") for value in points.ravel())
    return "\n".join([HEADER, *(f"{number},{value}" for number, value in enumerate(values))]) + "\n"
