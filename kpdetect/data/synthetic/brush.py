"""Drawing primitives of synthetic faces: smooth curves through points, polygons and lines at subpixel precision."""

import functools

import numpy as np
import numpy.typing as npt

from kpdetect.core.images import Pixels, cv2

Doubles = npt.NDArray[np.float64]
Color = tuple[float, float, float]  # red, green, blue, 0 to 255

FRACTION_BITS = 4  # OpenCV's fixed-point coordinates: sixteenths of a pixel
OVERSHOOT = 0.66  # pixels by which OpenCV enlarges a filled polygon, because it also paints the border; measured


def curve(points: npt.ArrayLike, steps: int = 6) -> Doubles:
    """A smooth open curve through points: a Catmull-Rom spline (Catmull and Rom, 1974).

    Args:
        points: (K, 2).
        steps: Number of segments between two points.

    Returns:
        ((K - 1) * steps + 1, 2); every `steps`-th row is one of the points.

    Example:
        >>> curve([[0, 0], [2, 4], [4, 0]], steps=2)[:, 1].tolist()
        [0.0, 2.5, 4.0, 2.5, 0.0]
    """
    knots = np.asarray(points, np.float64)
    return _curve_matrix(len(knots), steps) @ knots


@functools.lru_cache(maxsize=64)
def _curve_matrix(count: int, steps: int) -> Doubles:
    """The matrix that maps control points to the curve. Beyond its ends, points are extrapolated linearly."""
    padded = np.zeros((count + 2, count))
    padded[1:-1] = np.eye(count)
    padded[0, :2] = (2, -1)
    padded[-1, -2:] = (-1, 2)
    t = np.arange(steps)[:, None] / steps
    weights = 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])
    pieces = [weights @ padded[i : i + 4] for i in range(count - 1)]
    return np.vstack([*pieces, np.eye(count)[-1:]])


def outline(points: npt.ArrayLike, corners: tuple[int, ...]) -> Doubles:
    """A closed outline through points, smooth except at its corners.

    Args:
        points: (K, 2), in order around the outline.
        corners: Ascending indices of the corners; the first is 0.

    Returns:
        (6 K, 2), without a repeated first point.
    """
    ring = np.asarray(points, np.float64)
    ring = np.vstack([ring, ring[:1]])
    ends = (*corners[1:], len(ring) - 1)
    return np.vstack([curve(ring[a : b + 1])[:-1] for a, b in zip(corners, ends, strict=True)])


def fill(image: Pixels, polygon: npt.ArrayLike, color: Color | float) -> None:
    """Fills a polygon (K, 2), in pixels, in place and antialiased."""
    cv2.fillPoly(
        image,
        [_fixed_point(_inset(np.asarray(polygon, np.float64), OVERSHOOT))],
        _scalar(color),
        cv2.LINE_AA,
        FRACTION_BITS,
    )


def _inset(polygon: Doubles, distance: float) -> Doubles:
    """The polygon with its edges moved inwards by `distance` pixels."""
    edges = polygon[np.arange(1, len(polygon) + 1) % len(polygon)] - polygon
    outwards = np.stack([edges[:, 1], -edges[:, 0]], axis=-1) / (np.hypot(edges[:, :1], edges[:, 1:]) + 1e-9)
    outwards = outwards + outwards[np.arange(-1, len(polygon) - 1)]  # the normal of a corner is the mean of both edges
    outwards /= np.hypot(outwards[:, :1], outwards[:, 1:]) + 1e-9
    clockwise = np.sign(np.sum(polygon[:, 0] * edges[:, 1] - polygon[:, 1] * edges[:, 0]))
    return np.asarray(polygon - outwards * clockwise * distance)


def stroke(image: Pixels, line: npt.ArrayLike, color: Color | float, width: float, closed: bool = False) -> None:
    """Draws a line (K, 2), in pixels, in place. The width is rounded to whole pixels, at least one."""
    cv2.polylines(image, [_fixed_point(line)], closed, _scalar(color), max(round(width), 1), cv2.LINE_AA, FRACTION_BITS)


def disc(image: Pixels, center: npt.ArrayLike, radius: float, color: Color | float) -> None:
    """Fills a circle in place; centre (2,) and radius are in pixels."""
    x, y = _fixed_point(center).tolist()
    cv2.circle(image, (x, y), round(radius * 2**FRACTION_BITS), _scalar(color), cv2.FILLED, cv2.LINE_AA, FRACTION_BITS)


def ellipse_polygon(center: npt.ArrayLike, radii: tuple[float, float], angle_deg: float = 0.0) -> Doubles:
    """An ellipse as a polygon (24, 2), rotated clockwise by `angle_deg`."""
    turn = np.deg2rad(angle_deg)
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x, y = radii[0] * np.cos(around), radii[1] * np.sin(around)
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=-1)
    return np.asarray(turned + np.asarray(center))


def tint(image: Pixels, polygon: npt.ArrayLike, color: Color, opacity: float, softness: float = 0.0) -> None:
    """Paints a translucent polygon with soft edges, in place.

    Args:
        image: (H, W, 3) uint8.
        polygon: (K, 2) in pixels.
        color: Red, green and blue, 0 to 255.
        opacity: In [0, 1].
        softness: Standard deviation of the blurred edge in pixels.
    """
    window = window_of(image, polygon, 3 * softness + 2)
    part = image[window]
    if part.size == 0:
        return
    mask = np.zeros(part.shape[:2], np.uint8)
    fill(mask, np.asarray(polygon) - (window[1].start, window[0].start), 255)
    if softness > 0.3:
        cv2.GaussianBlur(mask, (0, 0), softness, dst=mask)
    blend(part, mask, color, opacity)


def blend(part: Pixels, mask: Pixels, paint: Pixels | Color, opacity: float = 1.0) -> None:
    """Blends a colour or a picture into an image (H, W, 3) in place, weighted by a mask (H, W) in [0, 255]."""
    weight = mask[..., None] * np.float32(opacity / 255)
    below = part.astype(np.float32)
    part[...] = below + (np.asarray(paint, np.float32) - below) * weight + 0.5


def window_of(image: Pixels, polygon: npt.ArrayLike, margin: float) -> tuple[slice, slice]:
    """The bounding box of a polygon with a margin in pixels, clipped to the image, as slices (rows, columns)."""
    points = np.asarray(polygon)
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(points.min(axis=0) - margin), 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil(points.max(axis=0) + margin) + 1, 0, (width, height)).astype(int)
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def shade(color: Color, factor: float) -> Color:
    """A colour multiplied by a factor and limited to 255."""
    red, green, blue = (min(value * factor, 255.0) for value in color)
    return (red, green, blue)


def _fixed_point(points: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Coordinates in pixels as OpenCV's fixed-point integers."""
    fixed: npt.NDArray[np.int32] = np.rint(np.asarray(points, np.float64) * 2**FRACTION_BITS).astype(np.int32)
    return fixed


def _scalar(color: Color | float) -> tuple[float, ...]:
    return color if isinstance(color, tuple) else (float(color),)
