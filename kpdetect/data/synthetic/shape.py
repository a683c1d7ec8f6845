"""Keypoints of synthetic faces: identity and expression from the shape model, then head pose and position."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, tight_box
from kpdetect.data.synthetic.face_shape import face_shape

Doubles = npt.NDArray[np.float64]

LARGEST_DEVIATION = 2.2  # standard deviations; larger ones give implausible shapes
BLINK_PROBABILITY = 0.06
TURN_CENTER_DEPTH = -0.5  # eye distances; heads rotate about the spine, half a face behind the eyes
CAMERA_DISTANCE = 9.0  # eye distances, about 80 cm: a weak perspective

# Depth of the points towards the camera, in eye distances (about 9 cm), estimated from the proportions of a head.
_JAW_DEPTH = (-0.66, -0.64, -0.6, -0.54, -0.45, -0.33, -0.2, -0.08, -0.03)
_BROW_DEPTH = (-0.14, -0.02, 0.06, 0.1, 0.1)
_BRIDGE_DEPTH = (0.06, 0.14, 0.24, 0.34)
_NOSTRIL_DEPTH = (0.1, 0.17, 0.2, 0.17, 0.1)
_EYE_DEPTH = (-0.14, -0.05, -0.03, -0.04, -0.03, -0.05)
_UPPER_LIP_DEPTH = (0.0, 0.08, 0.14, 0.15, 0.14, 0.08, 0.0)
_LOWER_LIP_DEPTH = (0.07, 0.12, 0.13, 0.12, 0.07)
_INNER_LIP_DEPTH = (0.01, 0.11, 0.12, 0.11, 0.01, 0.1, 0.11, 0.1)
POINT_DEPTH = (
    *(*_JAW_DEPTH, *_JAW_DEPTH[-2::-1]),
    *(*_BROW_DEPTH, *_BROW_DEPTH[::-1]),
    *(*_BRIDGE_DEPTH, *_NOSTRIL_DEPTH),
    *(*_EYE_DEPTH, *(_EYE_DEPTH[i] for i in (3, 2, 1, 0, 5, 4))),
    *(*_UPPER_LIP_DEPTH, *_LOWER_LIP_DEPTH, *_INNER_LIP_DEPTH),
)

# Points from top to bottom that must not cross for any combination of modes, and their minimum gaps in eye distances.
_EYELIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
_LIPS = ((50, 61, 67, 58), (51, 62, 66, 57), (52, 63, 65, 56))
_EYE_GAP, _LIP_GAP, _MOUTH_GAP = 0.03, 0.05, 0.008


@dataclass(frozen=True)
class Pose:
    """Head pose and position in the picture.

    Attributes:
        yaw_deg: Positive angles move the nose to the right of the picture.
        pitch_deg: Positive angles move the nose down.
        roll_deg: Positive angles rotate the face clockwise in the picture.
        extent: Longer side of the face box, relative to the picture.
        center_xy: Centre of the face box, relative to the picture.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    extent: float
    center_xy: tuple[float, float]


@dataclass(frozen=True)
class PlacedFace:
    """The keypoints of one face in its picture.

    Attributes:
        points: (68, 2) float64, relative to the picture, in [0, 1].
        unit: One eye distance relative to the picture: the distance of the outer eye corners of the same face without
            rotation.
        pose: Head pose and position.
    """

    points: Doubles
    unit: float
    pose: Pose


def place_face(seed: int, index: int) -> PlacedFace:
    """Samples the shape, expression, pose and position of one face. The result depends on the arguments alone.

    Example:
        >>> place_face(seed=0, index=41).points.shape
        (68, 2)
    """
    random = np.random.default_rng((seed, index, 0))
    shape = _sample_shape(random)
    pose = _sample_pose(random)
    posed, unit = turn_head(shape, pose)
    box = tight_box(posed).astype(np.float64)
    scale = pose.extent / (box[2:] - box[:2]).max()
    points = (posed - (box[:2] + box[2:]) / 2) * scale + pose.center_xy
    return PlacedFace(points, unit * scale, pose)


def turn_head(shape: npt.ArrayLike, pose: Pose) -> tuple[Doubles, float]:
    """Rotates a frontal face in 3-D and projects it with a perspective camera.

    Args:
        shape: (68, 2) frontal face in eye distances.
        pose: Angles of the head; the position is ignored.

    Returns:
        The projected points (68, 2) in eye distances, and the mean magnification of the face by the projection.

    Example:
        >>> projected, unit = turn_head(face_shape().mean, Pose(25.0, 0.0, 0.0, 0.5, (0.5, 0.5)))
        >>> projected.shape
        (68, 2)
    """
    flat = np.asarray(shape, np.float64)
    yaw, pitch, roll = np.deg2rad([pose.yaw_deg, pose.pitch_deg, pose.roll_deg])
    depth = _visible_depth(yaw) - TURN_CENTER_DEPTH
    x = flat[:, 0] * np.cos(yaw) + depth * np.sin(yaw)
    z = -flat[:, 0] * np.sin(yaw) + depth * np.cos(yaw)
    y = flat[:, 1] * np.cos(pitch) + z * np.sin(pitch)
    z = -flat[:, 1] * np.sin(pitch) + z * np.cos(pitch)
    nearness = CAMERA_DISTANCE / (CAMERA_DISTANCE - z)
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return np.stack([x, y], axis=-1) * nearness[:, None] @ turn, float(nearness[27:60].mean())


def _visible_depth(yaw: float) -> Doubles:
    """Depth (68,) of the points. On the averted side, jaw points mark the contour of the cheek, which is nearer."""
    depth = np.array(POINT_DEPTH)
    away = slice(9, 17) if yaw > 0 else slice(0, 8)
    depth[away] *= max(1 - 1.7 * abs(np.sin(yaw)), 0.1)
    return depth


def _sample_shape(random: np.random.Generator) -> Floats:
    """A random frontal face (68, 2) in eye distances; some have closed eyes."""
    model = face_shape()
    coefficients = random.standard_normal(len(model.deviations))
    shape = model.shape(np.clip(coefficients, -LARGEST_DEVIATION, LARGEST_DEVIATION))
    if random.random() < BLINK_PROBABILITY:
        for upper, lower in _EYELIDS:
            shape[upper, 1] = shape[lower, 1]
    return uncross(shape)


def uncross(shape: Floats) -> Floats:
    """Moves eyelids and lips of an upright face (68, 2) apart vertically, so that they do not cross; returns a copy."""
    shape = shape.copy()
    for upper, lower in _EYELIDS:
        shape[[upper, lower], 1] = _spread(shape[[upper, lower], 1], (_EYE_GAP,))
    for row in _LIPS:
        shape[list(row), 1] = _spread(shape[list(row), 1], (_LIP_GAP, _MOUTH_GAP, _LIP_GAP))
    return shape


def _spread(heights: Floats, gaps: tuple[float, ...]) -> Floats:
    """Moves heights, from top to bottom, apart to the minimum gaps and keeps their mean."""
    steps = np.maximum(np.diff(heights), gaps)
    spread = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(spread - spread.mean() + heights.mean(), np.float32)


def _sample_pose(random: np.random.Generator) -> Pose:
    """A random pose: the angles are normally distributed around the frontal view, and clipped."""
    yaw, pitch, roll = random.normal(0, (16, 8, 10))
    center = np.array([0.5, 0.54]) + random.uniform(-0.09, 0.09, 2)
    return Pose(
        yaw_deg=float(np.clip(yaw, -40, 40)),
        pitch_deg=float(np.clip(pitch, -20, 20)),
        roll_deg=float(np.clip(roll, -35, 35)),
        extent=float(random.uniform(0.42, 0.6)),
        center_xy=(float(center[0]), float(center[1])),
    )
