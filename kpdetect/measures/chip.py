"""Aligned face chips: crops with the eyes level and always in the same place."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Matrix, to_pixels
from kpdetect.core.images import Pixels, as_rgb, warp_crop
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face
from kpdetect.measures.points import check_points, distance, points_of

CANONICAL_EYES = ((0.276, 0.189), (0.724, 0.189))
"""Centres of the right and left eye in a chip without margin, relative to its side: those of the mean face in the
square around its 68 points."""

_EYE_CORNERS = ("right_eye_outer", "right_eye_inner", "left_eye_inner", "left_eye_outer")


def chip_matrix(face: Face, size: int = 112, margin: float = 1.5) -> Matrix:
    """The matrix that `face_chip` uses; `apply_matrix` moves keypoints with it.

    Args:
        face: A face with the corners of both eyes.
        size: Side of the chip in pixels, at least 1.
        margin: Side of the chip, relative to a chip without margin; above 0.

    Returns:
        (3, 3), a similarity from pixels of the photograph to pixels of the chip.

    Raises:
        KpdetectError: The scheme lacks these points, the eyes are in one place, or an argument is out of its range.

    Example:
        ```python
        points_in_chip = apply_matrix(chip_matrix(face), face.keypoints)
        ```
    """
    if size < 1 or not margin > 0:
        raise KpdetectError(f"face chip: expected a positive size and margin, received {size} and {margin}")
    corners = points_of(face, _EYE_CORNERS, "the face chip")
    right, left = corners[:2].mean(axis=0), corners[2:].mean(axis=0)
    distance(left, right, "the eyes")
    wanted = to_pixels((np.array(CANONICAL_EYES) - 0.5) / margin + 0.5, (size, size)).astype(np.float64)
    # With complex numbers, a similarity is a factor and a shift.
    source, target = np.array([right, left]) @ (1, 1j), wanted @ (1, 1j)
    factor = (target[1] - target[0]) / (source[1] - source[0])
    shift = target[0] - factor * source[0]
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag], [0, 0, 1]])


def face_chip(image: npt.ArrayLike, face: Face, size: int = 112, margin: float = 1.5) -> Pixels:
    """Cuts an aligned face out of its photograph, for recognition.

    The face is rotated, moved and scaled so that the eyes are level and at `CANONICAL_EYES`. A face in profile is too
    large, because its eyes are close together in the picture.

    Args:
        image: The photograph, uint8: (H, W, 3) RGB, grey, or RGBA.
        face: A face with the corners of both eyes.
        size: Side of the chip in pixels, at least 1.
        margin: Side of the chip, relative to a chip without margin (brow to chin, ear to ear); above 0. At the default
            the eyes are 0.35 of the side from left and right and 0.29 from the top.

    Returns:
        (size, size, 3) uint8, RGB; black outside the photograph.

    Raises:
        KpdetectError: The scheme lacks these points, the eyes are in one place, or an argument is out of its range.

    Example:
        ```python
        chips = [face_chip(image, face, size=112) for face in Predictor()(image)]
        ```
    """
    return warp_crop(as_rgb(image), chip_matrix(face, size, margin), (size, size))


def check_chips(schema: KeypointSchema) -> None:
    """Checks that a scheme has the points that `face_chip` needs.

    Raises:
        KpdetectError: It lacks some.

    Example:
        ``check_chips(IBUG68)`` raises nothing.
    """
    check_points(schema, _EYE_CORNERS, "the face chip")
