"""Head pose: the rotation and the position of a mean face in space that explain a face's keypoints."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import cv2
from kpdetect.detection import Face
from kpdetect.measures.points import Doubles, points_of

# The mean face of `kpdetect.data.synthetic`, which is derived from the labels of 300-W, with its depths. Eyelids and
# lips are left out because they move with the expression, and cheeks because they slide over the head as it turns.
# The left half mirrors the right one.
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
"""The points that `head_pose` uses, and their places on the mean face: x to the right of the picture, y down, z towards
the camera, in distances between the outer eye corners."""

CAMERA_DISTANCE = 9.0
"""Assumed distance of the camera, in distances between the outer eye corners: about 80 cm, a mild perspective."""

_TO_OPENCV = (1, 1, -1)  # OpenCV's z axis points away from the camera


@dataclass(frozen=True)
class HeadPose:
    """Rotation of a head relative to the line between it and the camera, in degrees.

    The rotations apply in the order yaw, pitch, roll. A mirrored picture has the negated yaw and roll and the same
    pitch. The signs are those of `kpdetect.data.synthetic`.

    Attributes:
        yaw_deg: Positive if the nose points to the right of the picture, the person's left; -180 to 180.
        pitch_deg: Positive if the face looks down; -90 to 90.
        roll_deg: Positive if the head leans clockwise in the picture; -180 to 180.

    Example:
        ```python
        if abs(head_pose(face).yaw_deg) < 20:
            print("looks at the camera")
        ```
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


@dataclass(frozen=True, eq=False)
class HeadTransform:
    """The pose of a head as a rigid transform, and the camera it holds for.

    Axes follow OpenCV: x to the right of the picture, y down, z away from the camera. The unit is the distance between
    the outer eye corners.

    Attributes:
        matrix: (4, 4) float64, from the coordinates of the head to those of the camera. The coordinates of the head
            are those of `MEAN_FACE` with the sign of z changed; a frontal head has the identity as its rotation.
        camera: (3, 3) float64, the assumed camera, from coordinates of the camera to homogeneous pixels.

    Example:
        ```python
        fit = head_transform(face)
        nose_ends = fit.project([[0, -0.03, -0.34], [0, -0.03, -1.34]])  # a line along the nose, in pixels
        ```
    """

    matrix: Doubles
    camera: Doubles

    def project(self, points: npt.ArrayLike) -> Doubles:
        """Projects points of the head into the picture.

        Args:
            points: (n, 3), in the coordinates of the head.

        Returns:
            (n, 2), in pixels of the photograph.
        """
        places = np.asarray(points, np.float64) @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        homogeneous = places @ self.camera.T
        return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])

    @property
    def pose(self) -> HeadPose:
        """The angles of the rotation."""
        rotation = self.matrix[:3, :3]
        yaw = np.arctan2(rotation[2, 0], rotation[2, 2])
        pitch = np.arcsin(np.clip(rotation[2, 1], -1, 1))
        roll = np.arctan2(-rotation[0, 1], rotation[1, 1])
        return HeadPose(*(float(angle) for angle in np.rad2deg([yaw, pitch, roll])))


def head_pose(face: Face) -> HeadPose:
    """Yaw, pitch and roll of a head; see `head_transform` for the method.

    A mean face is not the person's own: features that are higher, lower or farther aside than average are taken for a
    rotation. ``benchmarks/measures.py`` measures the errors on drawn faces: pitch has the largest one, and differences
    between frames of one person are more exact than absolute angles.

    Args:
        face: A face with the points of `MEAN_FACE`.

    Raises:
        KpdetectError: The scheme lacks some of these points, or they are on a line.

    Example:
        ```python
        face = Predictor()("photo.jpg")[0]
        print(head_pose(face).yaw_deg)
        ```
    """
    return head_transform(face).pose


def head_transform(face: Face) -> HeadTransform:
    """Fits a mean face in space to the keypoints (``cv2.solvePnP``).

    The camera of a photograph is unknown. It is assumed to look at the middle of the face from a distance of
    `CAMERA_DISTANCE`. The fit starts from the one for a distant face (POS: DeMenthon and Davis, "Model-based object
    pose in 25 lines of code", IJCV 1995), so that it does not end in a mirrored solution.

    Args:
        face: A face with the points of `MEAN_FACE`.

    Raises:
        KpdetectError: The scheme lacks some of these points, or they are on a line.

    Example:
        ```python
        matrix = head_transform(face).matrix  # (4, 4), as MediaPipe's facial transformation matrix
        ```
    """
    seen = points_of(face, tuple(MEAN_FACE), "head pose")
    model = np.array(list(MEAN_FACE.values())) * _TO_OPENCV
    turn, scale = _scaled_rotation(model, seen)
    center = seen.mean(axis=0)
    focal = CAMERA_DISTANCE * scale  # puts the face at CAMERA_DISTANCE
    camera = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    place = np.array([0, 0, CAMERA_DISTANCE]) - turn @ model.mean(axis=0)
    start = cv2.Rodrigues(turn)[0]
    _, rotation, shift = cv2.solvePnP(model, seen, camera, None, start, place.reshape(3, 1), useExtrinsicGuess=True)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = cv2.Rodrigues(rotation)[0], np.ravel(shift)
    return HeadTransform(matrix, camera)


def head_axes(face: Face) -> Doubles:
    """The axes of `MEAN_FACE` in the picture, for a distant camera: what a step along each moves a point by.

    Args:
        face: A face with the points of `MEAN_FACE`.

    Returns:
        (2, 3), pixels per distance between the outer eye corners; the columns are x, y and z (towards the camera).

    Raises:
        KpdetectError: The scheme lacks some of these points, or they are on a line.

    Example:
        ``head_axes(Predictor()("photo.jpg")[0])``
    """
    seen = points_of(face, tuple(MEAN_FACE), "head axes")
    turn, scale = _scaled_rotation(np.array(list(MEAN_FACE.values())) * _TO_OPENCV, seen)
    return np.asarray(scale * turn[:2] * _TO_OPENCV)


def _scaled_rotation(model: Doubles, seen: Doubles) -> tuple[Doubles, float]:
    """The rotation (3, 3) and the pixels per unit of a distant face, by linear least squares.

    Args:
        model: (n, 3) in OpenCV's axes.
        seen: (n, 2) in pixels.
    """
    centered = model - model.mean(axis=0)
    affine = np.linalg.lstsq(centered, seen - seen.mean(axis=0), rcond=None)[0].T
    left, scales, right = np.linalg.svd(affine, full_matrices=False)
    if not scales[1] > 1e-3 * scales[0]:
        raise KpdetectError("head pose: the points fall together or are on a line; expected the points of a face")
    rows = left @ right  # the nearest two orthonormal rows
    return np.vstack([rows, np.cross(rows[0], rows[1])]), float(scales.mean())
