"""The drawing of the hat: a top hat with a red band and a daisy, slightly tilted."""

import numpy as np

from tools.filter_drawings.canvas import Canvas, Doubles, Mask, ellipse, gradient, ring, smooth

BOX = (-1.55, -2.62, 1.55, -0.36)

DEPTH = 0.45
"""How far the middle of the head is behind its anchors, in distances between the outer eye corners."""

WALL = (-1.92, -1.36)
"""Heights between the lid and the flower; they may be left out."""

TILT_DEG = 4.0
"""The hat is drawn upright and placed tilted, so that rows of its wall can be removed."""

PIVOT = (0.0, -0.8)

_BRIM_BACK = ((-1.40, -1.02), (-1.22, -1.02), (-0.8, -1.06), (0.0, -1.08), (0.8, -1.06), (1.22, -1.02), (1.40, -1.02))
_BRIM_FRONT = ((1.43, -0.985), (1.34, -0.86), (1.08, -0.715), (0.6, -0.61), (0.0, -0.575))
_CROWN_SIDE = ((0.93, -0.84), (0.912, -1.15), (0.91, -1.5), (0.915, -1.88), (1.01, -2.23))
_TOP = (0.0, -2.23, 1.01, 0.135)  # centre and radii of the lid
_BLACK = ((-1.0, (14, 13, 19)), (-0.72, (30, 28, 39)), (-0.47, (118, 114, 138)),
          (-0.36, (128, 124, 148)), (-0.15, (44, 42, 56)), (0.35, (20, 19, 27)),
          (0.62, (58, 56, 72)), (0.72, (60, 58, 74)), (1.0, (10, 10, 15)))  # fmt: skip
_RED = ((-1.0, (74, 6, 18)), (-0.7, (128, 12, 30)), (-0.42, (226, 62, 76)), (-0.1, (170, 20, 42)),
        (0.35, (120, 10, 28)), (0.67, (160, 26, 44)), (1.0, (60, 4, 14)))  # fmt: skip
_LID_RIM = ((-1, (84, 82, 98)), (-0.3, (196, 194, 212)), (1, (60, 58, 74)))
_LID = ((-1, (62, 60, 76)), (-0.2, (132, 129, 152)), (1, (46, 44, 58)))


def draw() -> Canvas:
    """Draws the hat above the mean face."""
    canvas = Canvas.over(BOX)
    _shadow(canvas)
    _brim(canvas)
    crown = _crown(canvas)
    _band(canvas, crown)
    _daisy(canvas, (0.62, -1.03))
    return canvas


def _brim_front() -> Doubles:
    half = smooth(list(_BRIM_FRONT))
    return np.vstack([half, (half * (-1, 1))[::-1]])


def _shadow(canvas: Canvas) -> None:
    """The shadow on the forehead, below the brim."""
    front = ellipse((0.0, -0.72), (0.86, 0.20))
    canvas.paint(canvas.shape(front, softness=0.045), (18, 8, 4), 0.55)


def _brim(canvas: Canvas) -> None:
    back = smooth(list(_BRIM_BACK))
    outline = np.vstack([back, _brim_front()])
    mask = canvas.shape(outline)
    shades = [(-1.42, (22, 21, 28)), (-1.0, (66, 64, 80)), (-0.5, (92, 90, 108)), (0.1, (40, 38, 50)),
              (0.8, (30, 29, 38)), (1.1, (56, 54, 68)), (1.42, (16, 15, 21))]  # fmt: skip
    canvas.paint(mask, gradient(canvas.coordinates()[0], shades))
    # The shadow of the crown on the brim, and the rolled edge with its highlight.
    canvas.paint(canvas.shape(ellipse((0.06, -0.83), (1.02, 0.13)), softness=0.05) * mask, (4, 4, 8), 0.75)
    edge = _brim_front()
    canvas.paint(canvas.line(edge, 0.055) * mask, (16, 15, 21))
    canvas.paint(canvas.line(edge - (0, 0.024), 0.014, softness=0.007) * mask, (190, 188, 205), 0.75)
    canvas.paint(canvas.line(back, 0.03, softness=0.008) * mask, (8, 8, 12), 0.6)


def _crown(canvas: Canvas) -> Mask:
    right = smooth(list(_CROWN_SIDE))
    lid = ellipse(_TOP[:2], _TOP[2:])
    base = ellipse((0.0, -0.84), (0.93, 0.115))
    walls = np.vstack([right, (right * (-1, 1))[::-1]])
    mask = np.maximum(canvas.shape(walls), canvas.shape(base))
    mask = np.maximum(mask, canvas.shape(lid))
    canvas.paint(mask, gradient(canvas.coordinates()[0], _BLACK))
    darker = np.asarray(np.clip((canvas.coordinates()[1] + 1.9) / 1.3, 0, 1), np.float32)
    canvas.paint(mask * darker, (6, 5, 10), 0.45)
    _lid(canvas, lid)
    return mask


def _lid(canvas: Canvas, lid: Doubles) -> None:
    inner = ellipse((_TOP[0], _TOP[1] + 0.004), (_TOP[2] - 0.035, _TOP[3] - 0.018))
    canvas.paint(canvas.shape(lid), gradient(canvas.coordinates()[0], _LID_RIM))
    canvas.paint(canvas.shape(inner), gradient(canvas.coordinates()[0], _LID))


def _band(canvas: Canvas, crown: Mask) -> None:
    sag = smooth([(-1.1, -0.83), (-0.6, -0.76), (0.0, -0.735), (0.6, -0.76), (1.1, -0.83)])
    band = np.vstack([sag, (sag - (0, 0.31))[::-1]])
    mask = canvas.shape(band) * crown
    canvas.paint(mask, gradient(canvas.coordinates()[0], _RED))
    for height, color in ((0.0, (40, 2, 10)), (-0.31, (255, 170, 170))):
        canvas.paint(canvas.line(sag + np.array([0, height]), 0.018, softness=0.005) * mask, color, 0.5)


def _daisy(canvas: Canvas, center: tuple[float, float]) -> None:
    """A flower."""
    x, y = center
    canvas.paint(canvas.shape(ellipse((x + 0.02, y + 0.035), (0.25, 0.25)), softness=0.03), (0, 0, 0), 0.4)
    petal = ring([(0.05, 0.0), (0.12, -0.052), (0.22, -0.058), (0.27, 0.0), (0.22, 0.058), (0.12, 0.052)])
    for ray, color in ((0.5, (214, 216, 228)), (0.0, (255, 255, 255))):
        for number in range(11):
            angle = 2 * np.pi * (number + ray) / 11 + 0.2
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            here = petal @ turn + np.array(center)
            canvas.paint(canvas.shape(here), color)
            canvas.paint(canvas.line(np.vstack([here, here[:1]]), 0.006), (150, 150, 175), 0.55)
    canvas.paint(canvas.shape(ellipse((x, y), (0.095, 0.095))), (214, 130, 10))
    canvas.paint(canvas.shape(ellipse((x - 0.012, y - 0.014), (0.075, 0.075)), softness=0.012), (255, 206, 40))
