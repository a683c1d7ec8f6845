"""The canvas that filters are drawn on: transparent, over the mean face, at four times the size of the result.

The unit is the distance between the outer eye corners of the mean face; x points right, y down, and the origin is
midway between the corners. A drawing uses places on the face, and the anchors follow from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.images import Pixels, cv2
from kpdetect.data.synthetic.brush import curve

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.float32]  # (H, W) coverage in [0, 1]
Paint = npt.ArrayLike  # a colour (3,), or one for each pixel (H, W, 3), 0 to 255

WIDTH = 512  # pixels of the result; sharp on faces up to about half the width of a full-HD picture
FINER = 4  # pixels drawn per pixel of the result, in each direction
_SHIFT = 4  # OpenCV takes coordinates in sixteenths of a pixel


@dataclass(frozen=True, eq=False)
class Canvas:
    """A sheet or a part of one, painted in place.

    Attributes:
        origin_xy: (2,), the place of its top left corner, in units.
        scale: Its pixels per unit.
        rgba: (H, W, 4) float32, colours 0 to 255, multiplied by alpha, which is in [0, 1].
    """

    origin_xy: Doubles
    scale: float
    rgba: npt.NDArray[np.float32]

    @classmethod
    def over(cls, box: tuple[float, float, float, float]) -> "Canvas":
        """A transparent sheet over a part (x0, y0, x1, y1) of the face's plane, in units."""
        x0, y0, x1, y1 = box
        height = round((y1 - y0) * WIDTH / (x1 - x0))
        sheet = np.zeros((height * FINER, WIDTH * FINER, 4), np.float32)
        return cls(np.array([x0, y0]), WIDTH * FINER / (x1 - x0), sheet)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Its (height, width) in pixels."""
        return (self.rgba.shape[0], self.rgba.shape[1])

    def anchors(self, points: npt.ArrayLike) -> Doubles:
        """Points (n, 2) in units as pixels of the result, centres on integers."""
        return np.asarray((np.asarray(points, np.float64) - self.origin_xy) * (self.scale / FINER) - 0.5)

    def coordinates(self) -> tuple[Doubles, Doubles]:
        """The coordinates x (1, W) and y (H, 1) of the pixels, in units."""
        height, width = self.size_hw
        x = (np.arange(width) + 0.5) / self.scale + self.origin_xy[0]
        y = (np.arange(height) + 0.5) / self.scale + self.origin_xy[1]
        return x[None], y[:, None]

    def shape(self, polygon: npt.ArrayLike, softness: float = 0.0) -> Mask:
        """The mask of a filled polygon (n, 2), its edge blurred by `softness`, all in units."""
        mask = np.zeros(self.size_hw, np.uint8)
        cv2.fillPoly(mask, [self._fixed(polygon)], (255,), cv2.LINE_AA, _SHIFT)
        return self._soft(mask, softness)

    def line(self, points: npt.ArrayLike, width: float, softness: float = 0.0) -> Mask:
        """The mask of a stroke along points (n, 2)."""
        mask = np.zeros(self.size_hw, np.uint8)
        thickness = max(round(width * self.scale), 1)
        cv2.polylines(mask, [self._fixed(points)], False, (255,), thickness, cv2.LINE_AA, _SHIFT)
        return self._soft(mask, softness)

    def paint(self, mask: Mask, color: Paint, opacity: float = 1.0) -> None:
        """Paints with the operator *over* (Porter and Duff, "Compositing digital images", SIGGRAPH 1984)."""
        alpha = (mask * np.float32(opacity))[..., None]
        self.rgba[..., :3] = self.rgba[..., :3] * (1 - alpha) + np.asarray(color, np.float32) * alpha
        self.rgba[..., 3:] = self.rgba[..., 3:] * (1 - alpha) + alpha

    def paint_line(self, points: npt.ArrayLike, width: float, color: Paint, opacity: float = 1.0) -> None:
        """Paints a stroke, working only on the part that it covers."""
        pixels = (np.asarray(points, np.float64) - self.origin_xy) * self.scale
        margin = width * self.scale + 4
        x0, y0 = np.clip(np.floor(pixels.min(axis=0) - margin), 0, self.size_hw[::-1]).astype(int)
        x1, y1 = np.clip(np.ceil(pixels.max(axis=0) + margin), 0, self.size_hw[::-1]).astype(int)
        corner_xy = self.origin_xy + np.array([x0, y0]) / self.scale
        part = Canvas(corner_xy, self.scale, self.rgba[y0:y1, x0:x1])
        part.paint(part.line(points, width), color, opacity)

    def picture(self) -> Pixels:
        """The result: (h, 512, 4) uint8 RGBA, the means of the canvas' pixels."""
        size_xy = (self.size_hw[1] // FINER, self.size_hw[0] // FINER)
        small = np.asarray(cv2.resize(self.rgba, size_xy, interpolation=cv2.INTER_AREA), np.float32)
        small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
        small[..., 3] *= 255
        small[small[..., 3] < 0.5] = 0  # colours of transparent pixels would enlarge the file
        return np.asarray(np.rint(np.clip(small, 0, 255)), np.uint8)

    def _fixed(self, points: npt.ArrayLike) -> npt.NDArray[np.int32]:
        pixels = (np.asarray(points, np.float64) - self.origin_xy) * self.scale - 0.5
        return np.asarray(np.rint(pixels * (1 << _SHIFT)), np.int32)

    def _soft(self, mask: Pixels, softness: float) -> Mask:
        blurred = cv2.GaussianBlur(mask, (0, 0), softness * self.scale) if softness else mask
        return np.asarray(np.asarray(blurred) / np.float32(255), np.float32)


def smooth(points: Sequence[tuple[float, float]], steps: int = 24) -> Doubles:
    """A smooth open line through points."""
    return np.asarray(curve(points, steps), np.float64)


def ring(points: Sequence[tuple[float, float]], steps: int = 24) -> Doubles:
    """A smooth closed outline through points."""
    around = [*points[-2:], *points, *points[:3]]
    return np.asarray(curve(around, steps)[2 * steps : -2 * steps - 1])


def mirrored(points: npt.ArrayLike) -> Doubles:
    """The points mirrored to the other side of the face."""
    return np.asarray(np.asarray(points, np.float64) * (-1, 1))


def ellipse(center: tuple[float, float], radii: tuple[float, float]) -> Doubles:
    """The outline of an ellipse."""
    around = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    return np.column_stack([center[0] + radii[0] * np.cos(around), center[1] + radii[1] * np.sin(around)])


def gradient(along: Doubles, stops: Sequence[tuple[float, tuple[float, float, float]]]) -> npt.NDArray[np.float32]:
    """Colours interpolated between given places.

    Args:
        along: (H, W), (1, W) or (H, 1), the coordinate of each pixel.
        stops: (coordinate, RGB), in rising order.
    """
    places = [place for place, _ in stops]
    channels = [np.interp(along, places, [color[channel] for _, color in stops]) for channel in range(3)]
    return np.asarray(np.stack(channels, axis=-1), np.float32)
