"""Owns where the points of a drawn face are: identity and expression from the shape model, then pose and place."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, tight_box
from kpdetect.data.synthetic.face_shape import face_shape

Doubles = npt.NDArray[np.float64]

LARGEST_DEVIATION = 2.2  # beyond it shapes stop looking human
BLINK_CHANCE = 0.06
TURN_CENTER_DEPTH = -0.5  # heads turn about the spine, half a face behind the eyes; in eye distances
CAMERA_DISTANCE = 9.0  # about 80 cm, in eye distances: a mild perspective

# Depth towards the camera, in eye distances (some 9 cm), set by eye from the proportions of a head.
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

# Rows from top to bottom that must not cross, whatever the modes add up to, with the least gap in eye distances.
_EYELIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
_LIPS = ((50, 61, 67, 58), (51, 62, 66, 57), (52, 63, 65, 56))
_EYE_GAP, _LIP_GAP, _MOUTH_GAP = 0.03, 0.05, 0.008


@dataclass(frozen=True)
class Pose:
    """How a head is held and where it is in the picture.

    Attributes:
        yaw_deg: Positive turns the nose to the right of the picture.
        pitch_deg: Positive looks down.
        roll_deg: Positive turns the picture clockwise.
        extent: The longer side of the face box, as a share of the picture.
        center_xy: The middle of the face box, relative to the picture.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    extent: float
    center_xy: tuple[float, float]


@dataclass(frozen=True)
class PlacedFace:
    """The points of one face in its picture.

    Attributes:
        points: (68, 2) float64, relative to the picture, in [0, 1].
        unit: The distance between the outer eye corners were the head not turned, relative to the picture.
        pose: How the head is held.
    """

    points: Doubles
    unit: float
    pose: Pose


def place_face(seed: int, index: int) -> PlacedFace:
    """Draws a face: who, with what expression, how held, and where. The same for the same seed and index."""
    random = np.random.default_rng((seed, index, 0))
    shape = _draw_shape(random)
    pose = _draw_pose(random)
    posed, unit = turn_head(shape, pose)
    box = tight_box(posed).astype(np.float64)
    scale = pose.extent / (box[2:] - box[:2]).max()
    points = (posed - (box[:2] + box[2:]) / 2) * scale + pose.center_xy
    return PlacedFace(points, unit * scale, pose)


def turn_head(shape: npt.ArrayLike, pose: Pose) -> tuple[Doubles, float]:
    """Turns a frontal face in space and looks at it through a camera.

    Args:
        shape: (68, 2) in eye distances.
        pose: The angles; its place does not count.

    Returns:
        (68, 2) in eye distances, and the length that one eye distance has in them.
    """
    flat = np.asarray(shape, np.float64)
    yaw, pitch, roll = np.deg2rad([pose.yaw_deg, pose.pitch_deg, pose.roll_deg])
    depth = _seen_depth(yaw) - TURN_CENTER_DEPTH
    x = flat[:, 0] * np.cos(yaw) + depth * np.sin(yaw)
    z = -flat[:, 0] * np.sin(yaw) + depth * np.cos(yaw)
    y = flat[:, 1] * np.cos(pitch) + z * np.sin(pitch)
    z = -flat[:, 1] * np.sin(pitch) + z * np.cos(pitch)
    nearness = CAMERA_DISTANCE / (CAMERA_DISTANCE - z)
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return np.stack([x, y], axis=-1) * nearness[:, None] @ turn, float(nearness[27:60].mean())


def _seen_depth(yaw: float) -> Doubles:
    """Depth of the points; on the side that turns away the labelled jaw is the cheek's outline, further forward."""
    depth = np.array(POINT_DEPTH)
    away = slice(9, 17) if yaw > 0 else slice(0, 8)
    depth[away] *= max(1 - 1.7 * abs(np.sin(yaw)), 0.1)
    return depth


def _draw_shape(random: np.random.Generator) -> Floats:
    model = face_shape()
    coefficients = random.standard_normal(len(model.deviations))
    shape = model.shape(np.clip(coefficients, -LARGEST_DEVIATION, LARGEST_DEVIATION))
    if random.random() < BLINK_CHANCE:
        for upper, lower in _EYELIDS:
            shape[upper, 1] = shape[lower, 1]
    return uncross(shape)


def uncross(shape: Floats) -> Floats:
    """The same upright face with lids and lips that do not cross."""
    shape = shape.copy()
    for upper, lower in _EYELIDS:
        shape[[upper, lower], 1] = _spread(shape[[upper, lower], 1], (_EYE_GAP,))
    for row in _LIPS:
        shape[list(row), 1] = _spread(shape[list(row), 1], (_LIP_GAP, _MOUTH_GAP, _LIP_GAP))
    return shape


def _spread(heights: Floats, gaps: tuple[float, ...]) -> Floats:
    """Heights from top to bottom, moved apart where a gap is too small, their mean kept."""
    steps = np.maximum(np.diff(heights), gaps)
    spread = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(spread - spread.mean() + heights.mean(), np.float32)


def _draw_pose(random: np.random.Generator) -> Pose:
    """Spreads as in snapshots: most faces look about at the camera, a few far off."""
    yaw, pitch, roll = random.normal(0, (16, 8, 10))
    center = np.array([0.5, 0.54]) + random.uniform(-0.09, 0.09, 2)
    return Pose(
        yaw_deg=float(np.clip(yaw, -40, 40)),
        pitch_deg=float(np.clip(pitch, -20, 20)),
        roll_deg=float(np.clip(roll, -35, 35)),
        extent=float(random.uniform(0.42, 0.6)),
        center_xy=(float(center[0]), float(center[1])),
    )
