"""Outlines of a synthetic head beyond its keypoints: skull, hairline, ears, neck and shoulders."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.data.synthetic.brush import Doubles, curve, ellipse_polygon
from kpdetect.data.synthetic.shape import PlacedFace

SKULL_HEIGHT = 1.08  # height of the crown above the ears, in eye distances


@dataclass(frozen=True)
class Head:
    """A placed face on a canvas.

    Attributes:
        points: (68, 2), keypoints in pixels of the canvas.
        face: (68, 2), the same points in the upright frame: without roll, in eye distances from their mean.
        to_image: (3, 3), from the upright frame to pixels.
        unit: One eye distance in pixels.
        roll_deg: Roll of the head, clockwise.
        yaw_sin: Sine of the yaw, positive if the nose points to the right of the picture.
        side: Side of the canvas in pixels.
    """

    points: Doubles
    face: Doubles
    to_image: Doubles
    unit: float
    roll_deg: float
    yaw_sin: float
    side: int

    @property
    def right(self) -> Doubles:
        """One eye distance to the right in the upright frame, as a vector (2,) in pixels."""
        return np.asarray(self.to_image[:2, 0])

    @property
    def down(self) -> Doubles:
        """One eye distance down in the upright frame, as a vector (2,) in pixels."""
        return np.asarray(self.to_image[:2, 1])

    def place(self, face_points: npt.ArrayLike) -> Doubles:
        """Transforms points (K, 2) from the upright frame to pixels."""
        return np.asarray(np.asarray(face_points, np.float64) @ self.to_image[:2, :2].T + self.to_image[:2, 2])


def head_on_canvas(placed: PlacedFace, side: int) -> Head:
    """Scales a face to a square canvas. Pixel centres are integers, so a relative r is pixel ``r * side - 0.5``."""
    points = placed.points * side - 0.5
    unit = placed.unit * side
    roll = np.deg2rad(placed.pose.roll_deg)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    center = points.mean(axis=0)
    to_image = np.eye(3)
    to_image[:2, :2], to_image[:2, 2] = turn * unit, center
    face = (points - center) @ turn / unit
    yaw_sin = float(np.sin(np.deg2rad(placed.pose.yaw_deg)))
    return Head(points, face, to_image, unit, placed.pose.roll_deg, yaw_sin, side)


def skull(head: Head, volume: float = 0.0) -> Doubles:
    """The outline of the skull from the left ear (right in the picture) over the crown to the right ear.

    Args:
        head: The head.
        volume: Distance outside the skull, for hair, in eye distances.

    Returns:
        (17, 2) in pixels.
    """
    return head.place(_skull(head, volume))


def _skull(head: Head, volume: float) -> Doubles:
    """(17, 2) in the upright frame."""
    around = np.linspace(0, np.pi, 17)
    left, right = head.face[16], head.face[0]
    width = (left[0] - right[0]) / 2
    back = 1 - np.sign(head.yaw_sin) * np.cos(around) * abs(head.yaw_sin) * 0.45 * np.sin(around)
    outward = np.maximum(volume * np.clip(np.sin(around) + 0.35, 0, 1), 0)
    x = (left[0] + right[0]) / 2 + (width * back + outward) * np.cos(around)
    base = left[1] + (right[1] - left[1]) * around / np.pi
    y = base - (SKULL_HEIGHT + volume) * np.sin(around) ** 0.85
    return np.stack([x, y], axis=-1)


def hairline(head: Head, height: float, parting: float) -> Doubles:
    """The hairline across the forehead from the left ear to the right ear, in the direction of `skull`.

    Args:
        head: The head.
        height: Height above the eyes, in eye distances.
        parting: Side on which the hairline is higher, -1 to 1.

    Returns:
        (17, 2) in pixels.
    """
    around = np.linspace(0, np.pi, 17)
    left, right = head.face[16] + (-0.06, 0.06), head.face[0] + (0.06, 0.06)
    eyes_y = head.face[36:48, 1].mean()
    middle = (left[0] + right[0]) / 2 * 0.6 + head.face[27, 0] * 0.4
    sides = np.where(around < np.pi / 2, left[0] - middle, middle - right[0])
    x = middle + sides * np.sign(np.cos(around)) * np.abs(np.cos(around)) ** 0.75
    rise = np.sin(around) ** 0.5 * (1 + 0.12 * parting * np.cos(around))
    base = left[1] + (right[1] - left[1]) * around / np.pi
    return head.place(np.stack([x, base + (eyes_y - height - base) * rise], axis=-1))


def face_outline(head: Head) -> Doubles:
    """The outline of the skin, (N, 2) in pixels: the jaw through its points, and the skull."""
    return np.vstack([curve(head.points[:17], steps=4), skull(head)[1:-1]])


def ears(head: Head) -> list[Doubles]:
    """The outlines of the visible ears, each (24, 2) in pixels. A large yaw hides one ear."""
    outlines = []
    for top, low, side in ((0, 2, -1.0), (16, 14, 1.0)):
        visible_width = 1 + side * head.yaw_sin * -2.2
        if visible_width > 0.35:
            center = head.face[top] * 0.55 + head.face[low] * 0.45 + (side * 0.03, -0.02)
            radii = (0.12 * min(visible_width, 1.4) * head.unit, 0.25 * head.unit)
            outlines.append(ellipse_polygon(head.place(center), radii, head.roll_deg + side * 12))
    return outlines


def neck(head: Head, width: float) -> Doubles:
    """The neck as a polygon (4, 2) in pixels. It is tilted less than the head."""
    right, left = head.points[4], head.points[12]
    middle, half = (right + left) / 2, (left - right) / 2 * width
    middle = middle - np.array([head.yaw_sin * 0.25 * head.unit, 0])
    bottom = head.points[8] * 0.35 + middle * 0.65 + (0, head.unit * 2.2)
    broad = np.array([head.unit * 0.62 * width, 0])
    middle = middle - (0, 0.1 * head.unit)
    return np.array([middle - half, middle + half, bottom + broad * 1.25, bottom - broad * 1.25])


def shoulders(head: Head) -> Doubles:
    """The clothes from the collar to below the canvas, as a polygon (N, 2) in pixels."""
    center = (head.points[4] + head.points[12]) / 2 - (head.yaw_sin * 0.25 * head.unit, 0)
    chin_y = head.points[8, 1]
    collar_y = max(chin_y + 0.22 * head.unit, center[1] + 0.6 * head.unit)
    x = np.array([-2.1, -1.75, -0.85, -0.52, 0.0, 0.52, 0.85, 1.75, 2.1])
    y = np.array([1.5, 0.45, 0.1, -0.06, 0.32, -0.06, 0.1, 0.45, 1.5])
    line = np.stack([center[0] + x * head.unit, collar_y + y * head.unit], axis=-1)
    bottom = head.side + 2.0 * head.unit
    return np.vstack([curve(line, steps=3), [[line[-1, 0], bottom], [line[0, 0], bottom]]])
