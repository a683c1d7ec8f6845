"""The drawing of the moustache: a handlebar of single hairs."""

import numpy as np

from tools.filter_drawings.canvas import Canvas, Doubles, mirrored, smooth

BOX = (-0.71, 0.40, 0.71, 0.95)

HAIRS = 700  # per side
_SPINE = ((-0.008, 0.600), (0.09, 0.592), (0.20, 0.620), (0.31, 0.680), (0.42, 0.720), (0.525, 0.700),
          (0.595, 0.625), (0.608, 0.535), (0.566, 0.482), (0.518, 0.506))  # fmt: skip
_HALF_WIDTH = (0.048, 0.084, 0.104, 0.100, 0.080, 0.058, 0.038, 0.025, 0.016, 0.005)


def draw() -> Canvas:
    """Draws the moustache under the mean face's nose. The hairs are random, from a fixed seed."""
    canvas = Canvas.over(BOX)
    spine = smooth(list(_SPINE))
    steps = np.linspace(0, len(_HALF_WIDTH) - 1, len(spine))
    half = np.interp(steps, np.arange(len(_HALF_WIDTH)), _HALF_WIDTH)
    outline = np.vstack([_beside(spine, half, -1.0), _beside(spine, half, 1.0)[::-1]])
    for side in (outline, mirrored(outline)):
        canvas.paint(canvas.shape(side + np.array([0.0, 0.022]), softness=0.018), (24, 8, 4), 0.38)
    for side in (outline, mirrored(outline)):
        canvas.paint(canvas.shape(side, softness=0.004), (44, 24, 12))
    _hairs(canvas, spine, half)
    return canvas


def _beside(spine: Doubles, half: Doubles, place: Doubles | float) -> Doubles:
    """A line along the spine; `place` is -1 for the upper edge and 1 for the lower one."""
    along = np.gradient(spine, axis=0)
    normal = np.column_stack([-along[:, 1], along[:, 0]]) / np.linalg.norm(along, axis=1, keepdims=True)
    return np.asarray(spine + normal * (half * place)[:, None])


def _hairs(canvas: Canvas, spine: Doubles, half: Doubles) -> None:
    """Paints the hairs, from dark ones below to light ones above."""
    rng = np.random.default_rng(4)
    last = len(spine) - 1
    for number in range(HAIRS):
        start = int(last * rng.uniform(-0.12, 0.86) * (number % 7 != 0))
        start, end = max(start, 0), min(start + int(last * rng.uniform(0.18, 0.42)), last)
        if end - start < 8:
            continue
        begin, drift = rng.uniform(-0.96, 0.96), rng.normal(0, 0.22)
        place = np.clip(begin + drift * np.linspace(0, 1, end - start + 1), -1.06, 1.06)
        hair = _beside(spine[start : end + 1], half[start : end + 1], place)
        light = np.exp(-(((begin + 0.42) / 0.30) ** 2)) * number / HAIRS
        tone = 0.55 + 0.45 * rng.random() + 1.25 * light
        color = np.clip(np.array([74, 42, 22]) * tone, 0, 255)
        for side in (hair, mirrored(hair)):
            canvas.paint_line(side, rng.uniform(0.003, 0.0065), color, 0.8)
