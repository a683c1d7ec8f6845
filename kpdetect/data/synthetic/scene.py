"""Paints the surroundings of a synthetic face (background, hair, neck, clothes, glasses) and simulates the camera."""

import numpy as np

from kpdetect.core.images import Pixels, cv2
from kpdetect.data.synthetic.appearance import Appearance
from kpdetect.data.synthetic.brush import Doubles, curve, disc, ellipse_polygon, fill, shade, stroke, tint
from kpdetect.data.synthetic.head import Head, hairline, neck, shoulders, skull

STRANDS = 70  # lines per head; enough to resemble hair


def paint_background(side: int, appearance: Appearance, random: np.random.Generator) -> Pixels:
    """A canvas (side, side, 3) uint8 with a random, blurred background."""
    first, second = np.array(appearance.background_colors)
    cells = {"plain": 2, "blobs": 7}.get(appearance.background, 3)
    mixture = random.random((cells, cells, 1))
    small = (first + (second - first) * mixture + random.normal(0, 8, (cells, cells, 3))).clip(0, 255)
    canvas = np.asarray(cv2.resize(small.astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    if appearance.background == "stripes":
        _paint_stripes(canvas, appearance, random)
    elif appearance.background == "shapes":
        _paint_shapes(canvas, random)
    return canvas


def _paint_stripes(canvas: Pixels, appearance: Appearance, random: np.random.Generator) -> None:
    """Parallel lines, as of shelves, fences or bricks, in place."""
    side = len(canvas)
    pitch = side * random.uniform(0.05, 0.2)
    slant = random.normal(0, 0.1)
    upright = random.random() < 0.5
    for place in np.arange(-0.3 * side, 1.3 * side, pitch):
        ends = np.array([[place, -2], [place + slant * side, side + 2]])
        color = shade(appearance.background_colors[0], float(random.uniform(0.5, 1.3)))
        stroke(canvas, ends if upright else ends[:, ::-1], color, pitch * random.uniform(0.15, 0.8))


def _paint_shapes(canvas: Pixels, random: np.random.Generator) -> None:
    """Blurred boxes and discs of random colours, in place."""
    side = len(canvas)
    for _ in range(random.integers(4, 12)):
        center = random.uniform(0, side, 2)
        size = side * random.uniform(0.03, 0.22, 2)
        color = tuple(random.uniform(0, 255, 3).tolist())
        if random.random() < 0.5:
            disc(canvas, center, float(size[0]), color)
        else:
            fill(canvas, center + size * [[-1, -1], [1, -1], [1, 1], [-1, 1]], color)
    cv2.GaussianBlur(canvas, (0, 0), side * random.uniform(0.003, 0.02), dst=canvas)


def paint_back_hair(canvas: Pixels, head: Head, appearance: Appearance) -> None:
    """Paints the hair behind neck and face, in place."""
    if appearance.hair_style == "bald":
        return
    outline = skull(head, appearance.hair_volume)
    if appearance.hair_style == "long":
        locks = np.array([[0.02, 0.4], [0.12, 0.9], [0.06, 1.35], [-0.15, 1.7], [-0.5, 1.8]])
        locks = locks * (0.8 + appearance.hair_volume, 0.8 + 2 * appearance.hair_volume) * head.unit
        outline = np.vstack([outline, curve(np.vstack([outline[-1] + locks * (-1, 1), (outline[0] + locks)[::-1]]), 4)])
    fill(canvas, outline, shade(appearance.hair, 0.82 if appearance.hair_style == "long" else 0.72))


def paint_body(canvas: Pixels, head: Head, appearance: Appearance) -> None:
    """Paints the neck with the shadow of the chin, and the clothes, in place."""
    red, green, blue = np.multiply(appearance.skin, appearance.light_color) * (0.72 * appearance.ambient + 0.28)
    fill(canvas, neck(head, appearance.neck_width), (float(red), float(green), float(blue)))
    shadow = curve(head.points[3:14], steps=3) + np.array([0, 0.16 * head.unit])
    tint(canvas, shadow, shade(appearance.skin, 0.4), 0.5, softness=0.07 * head.unit)
    collar = shoulders(head)
    fill(canvas, collar, appearance.clothes)
    stroke(canvas, collar[:-2], shade(appearance.clothes, 0.7), 0.05 * head.unit)


def paint_hair(canvas: Pixels, lit: Pixels, head: Head, appearance: Appearance, random: np.random.Generator) -> None:
    """Paints the hair from the hairline to the crown, in place, and adds it to the shading mask `lit` (H, W)."""
    if appearance.hair_style == "bald":
        return
    outer = skull(head, appearance.hair_volume)
    inner = hairline(head, appearance.hairline, appearance.parting)
    if appearance.hair_style == "curly":
        outer = _wavy(outer, 0.05 * head.unit, random)
        inner = _wavy(inner, 0.03 * head.unit, random)
    outer, inner = curve(outer, steps=3), curve(inner, steps=3)
    tint(canvas, inner[6:-6] + head.down * 0.1, shade(appearance.skin, 0.3), 0.25, 0.06 * head.unit)
    fill(canvas, np.vstack([outer, inner[::-1]]), appearance.hair)
    fill(lit, np.vstack([outer, inner[::-1]]), 190)
    _paint_strands(canvas, outer, inner, appearance, random)


def _wavy(line: Doubles, height: float, random: np.random.Generator) -> Doubles:
    """A line (K, 2) with random offsets of standard deviation `height` in pixels; its ends stay fixed."""
    waved = line.copy()
    waved[1:-1] += random.normal(0, height, (len(line) - 2, 2))
    return waved


def _paint_strands(
    canvas: Pixels, outer: Doubles, inner: Doubles, appearance: Appearance, random: np.random.Generator
) -> None:
    """Draws lines from the hairline to the outer edge, away from the parting, and lighter on top of the head."""
    count = len(outer)
    starts = random.integers(1, count - 1, STRANDS)
    lean = (random.normal(0, 1.2, STRANDS) + appearance.parting * 4).astype(int)
    ends = np.clip(starts + lean, 1, count - 2)
    gloss = 0.75 + 0.55 * random.random(STRANDS) * np.sin(np.pi * starts / count)
    span = random.uniform((0.0, 0.6), (0.35, 1.0), (STRANDS, 2))
    for start, end, light, (near, far) in zip(starts, ends, gloss.tolist(), span, strict=True):
        way = outer[end] - inner[start]
        stroke(canvas, [inner[start] + way * near, inner[start] + way * far], shade(appearance.hair, light), 1)


def paint_glasses(canvas: Pixels, head: Head, appearance: Appearance) -> None:
    """Paints glasses in place: lenses, frames, a bridge, and temples towards the ears."""
    if not appearance.glasses:
        return
    frame = shade(appearance.hair, 0.5) if appearance.glasses != 1 else (95.0, 92.0, 90.0)
    width = (0.0, 0.03, 0.065, 0.05)[appearance.glasses] * head.unit
    lens = ((25.0, 24.0, 28.0), 0.9) if appearance.glasses == 3 else ((235.0, 240.0, 245.0), 0.06)
    rims = []
    for eye in (slice(36, 42), slice(42, 48)):
        center = head.points[eye].mean(axis=0) + head.down * 0.03
        reach = np.ptp(head.face[eye, 0]) * 0.78
        rims.append(ellipse_polygon(center, (reach * head.unit, 0.2 * head.unit), head.roll_deg))
    for rim, ear in zip(rims, (0, 16), strict=True):
        tint(canvas, rim, *lens)
        stroke(canvas, rim, frame, width, closed=True)
        stroke(canvas, [rim[12 if ear == 0 else 0], head.points[ear]], frame, width)
    stroke(canvas, [rims[0][0], rims[1][12]], frame, width)


def simulate_camera(canvas: Pixels, appearance: Appearance, random: np.random.Generator) -> Pixels:
    """Simulates a camera: halves the size, then applies exposure, blur, saturation and noise.

    Args:
        canvas: (2 n, 2 n, 3) uint8.
        appearance: Parameters of the camera.
        random: Generator of the noise.

    Returns:
        (n, n, 3) uint8.
    """
    side = len(canvas) // 2
    # Means of 2x2 pixels: pixel i covers pixels 2i and 2i + 1 of the canvas, consistent with (x + 0.5) / 2 - 0.5.
    picture = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    picture = cv2.LUT(picture, _tone_curve(appearance))
    if appearance.blur * side > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), appearance.blur * side)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    vivid = cv2.addWeighted(picture, appearance.saturation, grey, 1 - appearance.saturation, 0, dtype=cv2.CV_32F)
    grain = random.standard_normal((side, side, 3), np.float32) * np.float32(appearance.noise)
    return np.clip(vivid + grain + 0.5, 0, 255).astype(np.uint8)


def _tone_curve(appearance: Appearance) -> Pixels:
    """(256,) uint8 lookup table of gamma and exposure."""
    levels = np.arange(256) / 255
    return np.clip(255 * (levels**appearance.gamma) * appearance.exposure, 0, 255).astype(np.uint8)
