"""Owns the aligned face chip: a face cut out with its eyes level and always at the same place."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Matrix, to_pixels
from kpdetect.core.images import Pixels, as_rgb, warp_crop
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face
from kpdetect.measures.points import check_points, distance, points_of

CANONICAL_EYES = ((0.276, 0.189), (0.724, 0.189))
"""Where the middles of the right and of the left eye lie in a tight chip, relative to it: those of the mean face in the
square about its 68 points."""

_EYE_CORNERS = ("right_eye_outer", "right_eye_inner", "left_eye_inner", "left_eye_outer")


def chip_matrix(face: Face, size: int = 112, margin: float = 1.5) -> Matrix:
    """The photograph-to-chip matrix of `face_chip`; `apply_matrix` takes the points along.

    Args:
        face: See `face_chip`, as the others.
        size: The chip's side in pixels.
        margin: The chip's side over that of a tight chip.

    Returns:
        (3, 3), a similarity.

    Raises:
        KpdetectError: See `face_chip`.
    """
    if size < 1 or not margin > 0:
        raise KpdetectError(f"face chip: expected a positive size and margin, received {size} and {margin}")
    corners = points_of(face, _EYE_CORNERS, "the face chip")
    right, left = corners[:2].mean(axis=0), corners[2:].mean(axis=0)
    distance(left, right, "the eyes")
    wanted = to_pixels((np.array(CANONICAL_EYES) - 0.5) / margin + 0.5, (size, size)).astype(np.float64)
    # In the plane of complex numbers a similarity is a factor and a shift.
    source, target = np.array([right, left]) @ (1, 1j), wanted @ (1, 1j)
    factor = (target[1] - target[0]) / (source[1] - source[0])
    shift = target[0] - factor * source[0]
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag], [0, 0, 1]])


def face_chip(image: npt.ArrayLike, face: Face, size: int = 112, margin: float = 1.5) -> Pixels:
    """Cuts an aligned face out of its photograph, for recognition: turned, moved and scaled so that the eyes are level
    and always at the same place (`CANONICAL_EYES`).

    A face in profile, whose eyes are close together, comes out too large.

    Args:
        image: The photograph, uint8: (H, W, 3) RGB, grey, or RGBA.
        face: A face with the corners of both eyes.
        size: The chip's side in pixels.
        margin: The chip's side over that of a tight chip (brow to chin, ear to ear), as in `CropRule`. At the default
            the eyes lie 0.35 from the sides and 0.29 from the top.

    Returns:
        (size, size, 3) uint8, RGB; black outside the photograph.

    Raises:
        KpdetectError: The scheme has not these points, the eyes fall together, or an argument is out of its range.
    """
    return warp_crop(as_rgb(image), chip_matrix(face, size, margin), (size, size))


def check_chips(schema: KeypointSchema) -> None:
    """Refuses a scheme without the points that `face_chip` needs.

    Raises:
        KpdetectError: They are not there.
    """
    check_points(schema, _EYE_CORNERS, "the face chip")
