"""Owns the head pose: a mean face in space, and how it is turned to look like a face's points."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import cv2
from kpdetect.detection import Face
from kpdetect.measures.points import Doubles, points_of

# x to the picture's right, y down, z towards the camera, in distances of the outer eye corners: the mean face of the
# synthetic faces (derived from the labels of 300-W) and their depths. Lids and lips are left out, since they move with
# the expression, and cheeks, which slide over the head as it turns. The left half follows from the right one.
_RIGHT_HALF = {
    "right_eyebrow_1": (-0.666, -0.563, -0.14),
    "right_eyebrow_5": (-0.138, -0.612, 0.10),
    "right_eye_outer": (-0.500, -0.423, -0.14),
    "right_eye_inner": (-0.216, -0.404, -0.04),
    "nostril_right_2": (-0.163, 0.059, 0.10),
    "nostril_right_1": (-0.084, 0.085, 0.17),
    "mouth_right": (-0.317, 0.314, 0.00),
}
_MIDDLE = {
    "nose_bridge_1": (0.0, -0.448, 0.06),
    "nose_bridge_2": (0.0, -0.308, 0.14),
    "nose_bridge_3": (0.0, -0.171, 0.24),
    "nose_tip": (0.0, -0.030, 0.34),
    "nose_base": (0.0, 0.110, 0.20),
    "chin": (0.0, 0.849, -0.03),
}
_LEFT_HALF = {name.replace("right", "left"): (-x, y, z) for name, (x, y, z) in _RIGHT_HALF.items()}
MEAN_FACE = MappingProxyType({**_RIGHT_HALF, **_MIDDLE, **_LEFT_HALF})
"""The points that `head_pose` needs, by name, and where they are on the mean face in space."""

CAMERA_DISTANCE = 9.0  # in eye distances, some 80 cm: a mild perspective, as no photograph tells its own


@dataclass(frozen=True)
class HeadPose:
    """How a head is turned away from the line between it and the camera, in degrees.

    The head is first turned by the yaw, then by the pitch, then by the roll; a mirrored picture has the yaw and the
    roll negated and the same pitch. The signs are those of `kpdetect.data.synthetic`.

    Attributes:
        yaw_deg: Positive turns the nose to the right of the picture, the person's own left; -180 to 180.
        pitch_deg: Positive looks down; -90 to 90.
        roll_deg: Positive turns the face clockwise as it is seen; -180 to 180.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


def head_pose(face: Face) -> HeadPose:
    """How the head is turned, by fitting a mean face in space to the points (``cv2.solvePnP``).

    No photograph tells its camera, so the face is taken to be in the middle of the picture and 9 eye distances (80 cm)
    away. The fit begins from the linear one of a face far away (DeMenthon and Dementhon, IJCV 1995, POS), so that it
    does not land in a mirrored solution.

    A mean face is nobody's own: features that sit higher, lower or aside pass for a turn. On drawn faces the yaw is
    off by 4.7 degrees in the mean, the pitch by 7.9, the roll by 1.0 (``benchmarks/measures.py``). How far one person
    turns, between the frames of a video say, is more exact: 2.7, 2.6 and 1.1 degrees for turns of 15 to 20.

    Args:
        face: A face with the points of `MEAN_FACE`.

    Raises:
        KpdetectError: The scheme has not these points, or they fall together.
    """
    seen = points_of(face, tuple(MEAN_FACE), "the head pose")
    model = np.array(list(MEAN_FACE.values())) * (1, 1, -1)  # OpenCV's z points away from the camera
    turn, scale = _linear_fit(model, seen)
    center = seen.mean(axis=0)
    focal = CAMERA_DISTANCE * scale  # the distance then comes out as CAMERA_DISTANCE
    camera = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    place = np.array([0, 0, CAMERA_DISTANCE]) - turn @ model.mean(axis=0)
    start = cv2.Rodrigues(turn)[0]
    _, rotation, _ = cv2.solvePnP(model, seen, camera, None, start, place.reshape(3, 1), useExtrinsicGuess=True)
    return _angles(np.asarray(cv2.Rodrigues(rotation)[0], np.float64))


def _linear_fit(model: Doubles, seen: Doubles) -> tuple[Doubles, float]:
    """The rotation (3, 3) and the pixels a unit that a face far away would have.

    Args:
        model: (n, 3) in OpenCV's axes.
        seen: (n, 2) in pixels.
    """
    centered = model - model.mean(axis=0)
    affine = np.linalg.lstsq(centered, seen - seen.mean(axis=0), rcond=None)[0].T
    left, scales, right = np.linalg.svd(affine, full_matrices=False)
    if not scales[1] > 1e-3 * scales[0]:
        raise KpdetectError("head pose: the points lie on a line or fall together; expected those of a face")
    rows = left @ right  # the nearest two rows that are orthonormal
    return np.vstack([rows, np.cross(rows[0], rows[1])]), float(scales.mean())


def _angles(rotation: Doubles) -> HeadPose:
    """Yaw, pitch and roll of a rotation in OpenCV's axes (x right, y down, z away): roll after pitch after yaw."""
    yaw = np.arctan2(rotation[2, 0], rotation[2, 2])
    pitch = np.arcsin(np.clip(rotation[2, 1], -1, 1))
    roll = np.arctan2(-rotation[0, 1], rotation[1, 1])
    return HeadPose(*(float(angle) for angle in np.rad2deg([yaw, pitch, roll])))
