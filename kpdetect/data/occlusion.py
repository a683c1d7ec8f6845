"""Draws objects over faces: medical masks, scarves, sunglasses, hands, rectangles. Each hides a known set of keypoints.

Few labelled photographs show covered faces, and fewer say which points are covered. Objects that are drawn over
labelled faces have a known shape, so the visibility of each point is known too.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, cv2

Bools = npt.NDArray[np.bool_]
Draw = Callable[[Pixels, Floats, Sequence[Pixels], np.random.Generator], Floats]
"""Draws an object on a picture (H, W), in place, and returns its opacity (H, W)."""

SUBPIXEL_BITS = 3  # of the coordinates that OpenCV draws with
COVERED = 0.5  # share of an object's opacity from which a point under it counts as hidden


def draw_object(
    picture: Pixels,
    keypoints: Floats,
    rng: np.random.Generator,
    textures: Sequence[Pixels] = (),
    kinds: Sequence[str] | None = None,
) -> Bools:
    """Draws a random object over a face, in place.

    Args:
        picture: (H, W) uint8 grey.
        keypoints: (68, 2) float32, the iBUG points in pixels of the picture.
        rng: Random generator.
        textures: Grey pictures whose parts may fill an object; plain and striped fills otherwise.
        kinds: Names of `OBJECTS` to choose from; all by default.

    Returns:
        (68,) bool, the points that the object hides.

    Example:
        >>> picture = np.zeros((160, 160), np.uint8)
        >>> hidden = draw_object(picture, keypoints, np.random.default_rng(0), kinds=["mask"])  # doctest: +SKIP
    """
    names = list(OBJECTS) if kinds is None else list(kinds)
    shape = OBJECTS[names[int(rng.integers(len(names)))]](picture, keypoints, textures, rng)
    return hidden_points(shape, keypoints)


def hidden_points(opacity: Floats, keypoints: Floats) -> Bools:
    """Which points (K,) lie under an object of the given opacity (H, W); points outside the picture do not.

    Example:
        >>> hidden_points(np.eye(3, dtype=np.float32), np.array([[1, 1], [2, 1]], np.float32))
        array([ True, False])
    """
    height, width = opacity.shape
    columns, rows = np.rint(keypoints).astype(int).T
    within = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    found = opacity[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)] >= COVERED
    return np.asarray(found & within)


def polygon_mask(outline: npt.ArrayLike, size_hw: tuple[int, int]) -> Pixels:
    """Draws a filled polygon with smooth edges.

    Args:
        outline: (n, 2) in pixels.
        size_hw: Height and width of the mask.

    Returns:
        (H, W) uint8, 255 inside.

    Example:
        >>> polygon_mask(np.array([[1, 1], [5, 1], [5, 5], [1, 5]]), (9, 9))[3, [3, 8]].tolist()
        [255, 0]
    """
    mask = np.zeros(size_hw, np.uint8)
    cv2.fillPoly(mask, [in_subpixels(outline)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return mask


def in_subpixels(points: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Points in pixels as OpenCV's integers with `SUBPIXEL_BITS`.

    Example:
        >>> in_subpixels(np.array([[1.5, 2]], np.float32)).tolist()
        [[12, 16]]
    """
    return np.asarray(np.rint(np.asarray(points) * (1 << SUBPIXEL_BITS)), np.int32)


def blend(picture: Pixels, opacity: Floats, fill: npt.ArrayLike) -> None:
    """Paints on a picture, in place.

    Args:
        picture: (H, W) uint8.
        opacity: (H, W) in [0, 1].
        fill: (H, W) grey levels, or one for all.

    Example:
        >>> picture = np.zeros((1, 2), np.uint8)
        >>> blend(picture, np.array([[0.5, 1]], np.float32), 100)
        >>> picture.tolist()
        [[50, 100]]
    """
    painted = picture * (1 - opacity) + np.asarray(fill) * opacity
    picture[...] = np.clip(np.rint(painted), 0, 255).astype(np.uint8)


def _mask(picture: Pixels, points: Floats, textures: Sequence[Pixels], rng: np.random.Generator) -> Floats:
    """A medical mask: along the jaw and over the nose, at a random height, with folds or a seam."""
    top = points[28] + (points[29] - points[28]) * rng.uniform(-0.6, 2.6)
    if rng.random() < 0.08:  # worn below the nose
        top = points[33] * 0.6 + points[51] * 0.4
    first = int(rng.integers(1, 4))
    jaw = points[first : 17 - first].copy()
    center = points[30:31]
    jaw = center + (jaw - center) * rng.uniform(0.97, 1.1)
    bulge = rng.uniform(0.0, 0.5)
    side_left = jaw[0] * (1 - bulge) + (jaw[0] + top) / 2 * bulge
    side_right = jaw[-1] * (1 - bulge) + (jaw[-1] + top) / 2 * bulge
    cheeks = [jaw[-1], (side_right * 0.5 + top * 0.5), top, (side_left * 0.5 + top * 0.5)]
    outline = np.concatenate([jaw, np.array(cheeks, np.float32)])
    opacity = _filled(picture, outline, _fill(picture, textures, rng), rng)
    down = points[8] - points[27]
    if rng.random() < 0.6:  # folds of a surgical mask, or the seam of a respirator
        for share in rng.uniform(0.35, 0.95, int(rng.integers(1, 4))):
            start, end = jaw[0] + down * share * 0.25, jaw[-1] + down * share * 0.25
            _line(picture, opacity, start, (start + end) / 2 + down * 0.06, end, rng)
    if rng.random() < 0.7:  # ribbons to the ears
        for tip, ear in ((jaw[1], points[0]), (jaw[-2], points[16])):
            colour = int(rng.integers(120, 256))
            cv2.line(picture, _pixel(tip), _pixel(ear), colour, 1, cv2.LINE_AA)
    return opacity


def _scarf(picture: Pixels, points: Floats, textures: Sequence[Pixels], rng: np.random.Generator) -> Floats:
    """A scarf or a collar: everything below a line through the mouth, nose or chin, beyond the face's sides."""
    across = points[16] - points[0]
    down = points[8] - points[27]
    height = points[27] + down * rng.uniform(0.35, 0.85)
    left, right = height - across * rng.uniform(0.5, 0.9), height + across * rng.uniform(0.5, 0.9)
    tilt = down * rng.normal(0, 0.06)
    outline = np.array([left + tilt, height, right - tilt, right + down * 1.5, left + down * 1.5], np.float32)
    return _filled(picture, outline, _fill(picture, textures, rng), rng)


def _sunglasses(picture: Pixels, points: Floats, textures: Sequence[Pixels], rng: np.random.Generator) -> Floats:
    """Dark glasses: a polygon or an ellipse over each eye, with a bridge and arms."""
    opacity: Floats = np.zeros(picture.shape, np.float32)
    width = float(np.linalg.norm(points[45] - points[36]))
    shade, strength = int(rng.integers(0, 70)), float(rng.uniform(0.85, 1.0))
    angle = float(np.degrees(np.arctan2(*(points[45] - points[36])[::-1])))
    axes = (width * rng.uniform(0.24, 0.34), width * rng.uniform(0.16, 0.28))
    for eye in (points[36:42], points[42:48]):
        shape = np.zeros(picture.shape, np.uint8)
        cv2.ellipse(shape, _pixel(eye.mean(axis=0)), _size(axes), angle, 0, 360, 255, -1, cv2.LINE_AA)
        opacity = np.asarray(np.maximum(opacity, shape / np.float32(255) * np.float32(strength)), np.float32)
    blend(picture, opacity, np.full(picture.shape, shade, np.uint8))
    for ends in ((points[39], points[42]), (points[36], points[0]), (points[45], points[16])):
        cv2.line(picture, _pixel(ends[0]), _pixel(ends[1]), shade, max(round(width * 0.04), 1), cv2.LINE_AA)
    return opacity


def _hand(picture: Pixels, points: Floats, textures: Sequence[Pixels], rng: np.random.Generator) -> Floats:
    """A hand: three or four fingers of skin, as thick lines from beside the face, on the palm's ellipse."""
    side = float(np.linalg.norm(points[16] - points[0]))
    target = points[int(rng.integers(len(points)))] + rng.normal(0, 0.1, 2) * side
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    beside = np.array([-along[1], along[0]])
    thick = side * rng.uniform(0.09, 0.15)
    skin = int(np.clip(np.median(picture[_inside(picture, points)]) + rng.normal(0, 25), 10, 245))
    shape = np.zeros(picture.shape, np.uint8)
    shades: Floats = np.full(picture.shape, skin, np.float32)
    for finger in range(int(rng.integers(3, 5))):
        start = target + beside * thick * 1.02 * (finger - 1.5)
        end = start + along * side * rng.uniform(0.5, 0.9)
        own = np.zeros(picture.shape, np.uint8)
        cv2.line(own, _pixel(start), _pixel(end), 255, max(round(thick), 1), cv2.LINE_AA)
        edge = cv2.GaussianBlur(own, (0, 0), max(thick * 0.2, 0.5)).astype(np.float32) / 255
        shades = np.asarray(np.where(own > 0, skin * (0.55 + 0.45 * edge), shades), np.float32)
        shape = np.maximum(shape, own)
    palm = target + along * side * 0.95
    cv2.ellipse(shape, _pixel(palm), _size((thick * 2.6, thick * 2.4)), np.degrees(angle), 0, 360, 255, -1, cv2.LINE_AA)
    opacity = np.asarray(shape / np.float32(255), np.float32)
    shades += rng.normal(0, 3, picture.shape).astype(np.float32)
    blend(picture, opacity, np.clip(shades, 0, 255).astype(np.uint8))
    return opacity


def _piece(picture: Pixels, points: Floats, textures: Sequence[Pixels], rng: np.random.Generator) -> Floats:
    """A random convex piece of another picture, or a plain one, anywhere on the face."""
    side = float(np.ptp(points, axis=0).max())
    center = points[int(rng.integers(len(points)))] + rng.normal(0, 0.15, 2) * side
    count = int(rng.integers(4, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    radius = side * rng.uniform(0.1, 0.38) * rng.uniform(0.7, 1.2, count)
    outline = center + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    return _filled(picture, np.asarray(outline, np.float32), _fill(picture, textures, rng), rng)


def _rectangle(picture: Pixels, points: Floats, textures: Sequence[Pixels], rng: np.random.Generator) -> Floats:
    """A rectangle, as a phone or a sign held before the face, or the edge of another object."""
    side = float(np.ptp(points, axis=0).max())
    center = points[int(rng.integers(len(points)))] + rng.normal(0, 0.2, 2) * side
    half, angle = side * rng.uniform(0.08, 0.4, 2), rng.normal(0, 0.4)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return _filled(picture, np.asarray(center + corners @ turn, np.float32), _fill(picture, textures, rng), rng)


OBJECTS: dict[str, Draw] = {
    "mask": _mask,
    "scarf": _scarf,
    "sunglasses": _sunglasses,
    "hand": _hand,
    "piece": _piece,
    "rectangle": _rectangle,
}
"""The kinds of objects by name."""


def _fill(picture: Pixels, textures: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    """A picture to fill an object with: plain with a gradient, striped, or a part of a texture."""
    height, width = picture.shape
    kind = rng.random()
    if len(textures) and kind < 0.3:
        texture = textures[int(rng.integers(len(textures)))]
        extent = rng.uniform(0.3, 1.0)
        rows, columns = (max(int(length * extent), 2) for length in texture.shape)
        y = int(rng.integers(texture.shape[0] - rows + 1))
        x = int(rng.integers(texture.shape[1] - columns + 1))
        return np.asarray(cv2.resize(texture[y : y + rows, x : x + columns], (width, height)), np.uint8)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    level, direction = rng.uniform(5, 250), rng.uniform(0, 2 * np.pi)
    ramp = np.cos(direction) * x + np.sin(direction) * y
    fill = level + rng.normal(0, 40) * (ramp - ramp.mean())
    if kind > 0.8:
        fill = fill + rng.uniform(10, 80) * np.sign(np.sin(ramp * rng.uniform(20, 120)))
    fill += rng.normal(0, rng.uniform(0, 6), fill.shape)
    return np.asarray(np.clip(fill, 0, 255), np.uint8)


def _filled(picture: Pixels, outline: Floats, fill: Pixels, rng: np.random.Generator) -> Floats:
    """Fills a polygon (n, 2), half of the time with soft edges; returns its opacity (H, W)."""
    shape = polygon_mask(outline, (picture.shape[0], picture.shape[1]))
    if rng.random() < 0.5:
        shape = np.asarray(cv2.GaussianBlur(shape, (0, 0), rng.uniform(0.4, 1.5)), np.uint8)
    opacity = np.asarray(shape / np.float32(255), np.float32)
    blend(picture, opacity, fill)
    return opacity


def _line(
    picture: Pixels, opacity: Floats, start: Floats, middle: Floats, end: Floats, rng: np.random.Generator
) -> None:
    """A curved line inside an object, darker or brighter than it."""
    share = np.linspace(0, 1, 12)[:, None]
    curve = (1 - share) ** 2 * start + 2 * share * (1 - share) * middle + share**2 * end
    lines = np.zeros(picture.shape, np.uint8)
    cv2.polylines(lines, [in_subpixels(curve)], False, 255, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    strength = lines.astype(np.float32) / 255 * opacity * rng.uniform(-45, 30)
    picture[...] = np.clip(picture + strength, 0, 255).astype(np.uint8)


def _inside(picture: Pixels, points: Floats) -> Bools:
    hull = np.zeros(picture.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    return hull.astype(bool) if hull.any() else np.ones(picture.shape, bool)


def _pixel(point: Floats) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _size(axes: tuple[float, float]) -> tuple[int, int]:
    return max(round(axes[0]), 1), max(round(axes[1]), 1)
