"""Owns the outlines of a drawn head that no point marks: skull, hair, ears, neck and shoulders."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.data.synthetic.brush import Doubles, curve, ellipse_polygon
from kpdetect.data.synthetic.shape import PlacedFace

SKULL_HEIGHT = 1.08  # from the ears to the top, in eye distances


@dataclass(frozen=True)
class Head:
    """A placed face on a canvas.

    Attributes:
        points: (68, 2), in pixels of the canvas.
        face: (68, 2), the same points upright, in eye distances from their mean.
        to_image: (3, 3), from that frame to pixels.
        unit: One eye distance in pixels.
        roll_deg, yaw_sin: How the head is turned; the sine is positive where the nose points right.
        side: The canvas' side in pixels.
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
        """One eye distance to the right of the upright face, (2,) in pixels."""
        return np.asarray(self.to_image[:2, 0])

    @property
    def down(self) -> Doubles:
        """One eye distance down the face, (2,) in pixels."""
        return np.asarray(self.to_image[:2, 1])

    def place(self, face_points: npt.ArrayLike) -> Doubles:
        """Points (K, 2) of the upright frame in pixels."""
        return np.asarray(np.asarray(face_points, np.float64) @ self.to_image[:2, :2].T + self.to_image[:2, 2])


def head_on_canvas(placed: PlacedFace, side: int) -> Head:
    """Puts a face on a square canvas; pixel centres are integers, so relative r is pixel ``r side - 0.5``."""
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
    """From the left ear (at the picture's right) over the top to the right ear, in pixels.

    Args:
        head: The head.
        volume: How far outside the skull, in eye distances.
    """
    return head.place(_skull(head, volume))


def _skull(head: Head, volume: float) -> Doubles:
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
    """Where the hair begins: from ear to ear across the forehead, (17, 2) in pixels, the way `skull` runs.

    Args:
        head: The head.
        height: Above the eyes, in eye distances.
        parting: -1 to 1; the hairline is higher on that side.
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
    """The skin of the face: the jaw through its points, and the skull."""
    return np.vstack([curve(head.points[:17], steps=4), skull(head)[1:-1]])


def ears(head: Head) -> list[Doubles]:
    """The ears that one sees; a turned head hides one."""
    outlines = []
    for top, low, side in ((0, 2, -1.0), (16, 14, 1.0)):
        seen = 1 + side * head.yaw_sin * -2.2
        if seen > 0.35:
            center = head.face[top] * 0.55 + head.face[low] * 0.45 + (side * 0.03, -0.02)
            radii = (0.12 * min(seen, 1.4) * head.unit, 0.25 * head.unit)
            outlines.append(ellipse_polygon(head.place(center), radii, head.roll_deg + side * 12))
    return outlines


def neck(head: Head, width: float) -> Doubles:
    """The neck down to the canvas' lower edge, in pixels; it stays nearer to upright than the head."""
    right, left = head.points[4], head.points[12]
    middle, half = (right + left) / 2, (left - right) / 2 * width
    middle = middle - np.array([head.yaw_sin * 0.25 * head.unit, 0])
    bottom = head.points[8] * 0.35 + middle * 0.65 + (0, head.unit * 2.2)
    broad = np.array([head.unit * 0.62 * width, 0])
    middle = middle - (0, 0.1 * head.unit)
    return np.array([middle - half, middle + half, bottom + broad * 1.25, bottom - broad * 1.25])


def shoulders(head: Head) -> Doubles:
    """The clothes, from the collar down, in pixels."""
    center = (head.points[4] + head.points[12]) / 2 - (head.yaw_sin * 0.25 * head.unit, 0)
    chin_y = head.points[8, 1]
    collar_y = max(chin_y + 0.22 * head.unit, center[1] + 0.6 * head.unit)
    x = np.array([-2.1, -1.75, -0.85, -0.52, 0.0, 0.52, 0.85, 1.75, 2.1])
    y = np.array([1.5, 0.45, 0.1, -0.06, 0.32, -0.06, 0.1, 0.45, 1.5])
    line = np.stack([center[0] + x * head.unit, collar_y + y * head.unit], axis=-1)
    bottom = head.side + 2.0 * head.unit
    return np.vstack([curve(line, steps=3), [[line[-1, 0], bottom], [line[0, 0], bottom]]])
