"""The drawing of the sunglasses: a glossy black frame, dark lenses with reflections, and an arm."""

import numpy as np

from tools.filter_drawings.canvas import Canvas, Mask, ellipse, gradient, mirrored, ring, smooth

BOX = (-0.92, -0.40, 0.92, 0.46)

HINGE = (0.775, -0.205)
"""The start of the arm on the person's left side; the other arm mirrors it."""

ARM_HEIGHT = 0.1
_ARM_BOX = (0.0, -ARM_HEIGHT / 2, 0.8, ARM_HEIGHT / 2)

_LENS = (
    (0.095, -0.135), (0.36, -0.185), (0.660, -0.190), (0.698, -0.095),
    (0.668, 0.075), (0.575, 0.210), (0.37, 0.262), (0.19, 0.205), (0.102, 0.04),
)  # fmt: skip
_FRAME = (
    (0.035, -0.165), (0.20, -0.225), (0.45, -0.255), (0.70, -0.275), (0.80, -0.275), (0.812, -0.235),
    (0.770, -0.160), (0.747, -0.03), (0.712, 0.11), (0.605, 0.258), (0.37, 0.318), (0.155, 0.255), (0.046, 0.06),
)  # fmt: skip
_BRIDGE = (
    (-0.12, -0.20), (-0.06, -0.178), (0.0, -0.172), (0.06, -0.178), (0.12, -0.20),
    (0.10, -0.03), (0.055, -0.075), (0.0, -0.10), (-0.055, -0.075), (-0.10, -0.03),
)  # fmt: skip


def draw() -> Canvas:
    """Draws the sunglasses on the mean face."""
    canvas = Canvas.over(BOX)
    lens, frame = _both(canvas, ring(_LENS)), _both(canvas, ring(_FRAME))
    frame = np.maximum(frame, canvas.shape(ring(_BRIDGE)))
    _shadow(canvas)
    _lenses(canvas, lens)
    _rim(canvas, np.clip(frame - lens, 0, 1))
    return canvas


def draw_arm() -> Canvas:
    """Draws an arm from the hinge (left) to the ear (right)."""
    canvas = Canvas.over(_ARM_BOX)
    outline = smooth([(0.0, -0.040), (0.3, -0.032), (0.6, -0.026), (0.79, -0.024)])
    lower = smooth([(0.0, 0.040), (0.3, 0.030), (0.6, 0.026), (0.79, 0.026)])
    _, y = canvas.coordinates()
    below = np.vstack([outline, lower[::-1] + np.array([0.0, 0.012])])
    canvas.paint(canvas.shape(below, softness=0.010), (20, 8, 4), 0.35)
    mask = canvas.shape(np.vstack([outline, lower[::-1]]))
    canvas.paint(mask, gradient(y, [(-0.04, (58, 58, 66)), (-0.015, (24, 24, 28)), (0.04, (10, 10, 13))]))
    canvas.paint(canvas.line(outline + np.array([0.0, 0.014]), 0.009, softness=0.004) * mask, (255, 255, 255), 0.5)
    return canvas


def _both(canvas: Canvas, outline: object, softness: float = 0.0) -> Mask:
    polygon = np.asarray(outline, np.float64)
    return np.maximum(canvas.shape(polygon, softness), canvas.shape(mirrored(polygon), softness))


def _shadow(canvas: Canvas) -> None:
    """A soft shadow on the cheeks below the frame."""
    below = ring(_FRAME) * (0.97, 1.0) + (0.0, 0.03)
    canvas.paint(_both(canvas, below, softness=0.022), (20, 8, 4), 0.42)


def _lenses(canvas: Canvas, lens: Mask) -> None:
    _, y = canvas.coordinates()
    canvas.paint(lens, gradient(y, [(-0.2, (8, 9, 14)), (0.02, (22, 26, 40)), (0.26, (66, 74, 104))]), 0.90)
    # A reflection that fades out upwards from the lower edge.
    canvas.paint(lens * np.asarray(np.clip((y - 0.02) / 0.3, 0, 1) ** 2, np.float32), (150, 170, 215), 0.35)
    for shift in (-0.36, 0.36):
        for start, width, opacity in ((-0.115, 0.085, 0.34), (0.015, 0.030, 0.24)):
            slant = [(start, -0.4), (start + width, -0.4), (start + width - 0.36, 0.45), (start - 0.36, 0.45)]
            streak = canvas.shape(np.array(slant) + np.array([shift + 0.14, 0.0]), softness=0.004)
            fade = np.asarray(np.clip(1.0 - (y + 0.2) / 0.44, 0, 1), np.float32)
            canvas.paint(streak * lens * fade, (255, 255, 255), opacity)


def _rim(canvas: Canvas, rim: Mask) -> None:
    _, y = canvas.coordinates()
    canvas.paint(rim, gradient(y, [(-0.28, (58, 58, 66)), (-0.16, (22, 22, 26)), (0.3, (10, 10, 13))]))
    light = smooth([(0.10, -0.184), (0.28, -0.224), (0.5, -0.242), (0.70, -0.252), (0.775, -0.254)])
    lower = smooth([(0.19, 0.247), (0.37, 0.296), (0.57, 0.246), (0.67, 0.13)])
    for line, thickness, opacity in ((light, 0.014, 0.75), (lower, 0.010, 0.28)):
        for glint in (line, mirrored(line)):
            canvas.paint(canvas.line(glint, thickness, softness=0.006) * rim, (255, 255, 255), opacity)
    for x in (-0.755, -0.712, 0.712, 0.755):  # rivets
        canvas.paint(canvas.shape(ellipse((x, -0.222), (0.017, 0.011))), (205, 208, 215))
        canvas.paint(canvas.shape(ellipse((x - 0.004, -0.225), (0.006, 0.004))), (255, 255, 255))
