"""Owns what is cached of a photograph: the surroundings of the face, or all of it, rescaled."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Matrix, translation


class Framing(Protocol):
    """How a photograph comes onto the canvas that is cached."""

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """The canvas's (height, width) where it is the same for all photographs; None where it depends on them."""

    def extent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that a photograph of this size takes on the canvas."""

    def matrix(self, box_xyxy: npt.ArrayLike, image_hw: tuple[int, int]) -> Matrix:
        """The (3, 3) photograph-to-canvas matrix of one face."""


@dataclass(frozen=True)
class FaceFraming:
    """The model's crop and its surroundings, at the crop's resolution: augmentation moves about in it.

    The crop is the middle of the canvas to the pixel, so that training without augmentation feeds what evaluation and
    prediction feed.

    Attributes:
        crop: How a face box becomes the model's crop.
        context: The canvas's side over the crop's, 1 at least. 1.4 holds a shift of 9 % and a zoom-out by 22 %
            together, all but the corners of a turned crop.
    """

    crop: CropRule
    context: float = 1.4

    def __post_init__(self) -> None:
        if not self.context >= 1:
            raise KpdetectError(f"face framing: expected a context of 1 or more, received {self.context}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """See `Framing`."""
        height, width = self.crop.size_hw
        rim_y, rim_x = self._rim_hw
        return height + 2 * rim_y, width + 2 * rim_x

    def extent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """See `Framing`."""
        return self.size_hw

    def matrix(self, box_xyxy: npt.ArrayLike, image_hw: tuple[int, int]) -> Matrix:
        """See `Framing`."""
        rim_y, rim_x = self._rim_hw
        return np.asarray(translation(rim_x, rim_y) @ self.crop.matrix(box_xyxy))

    @property
    def _rim_hw(self) -> tuple[int, int]:
        """Whole pixels, so that taking the crop out again does not interpolate."""
        height, width = (math.ceil(side * (self.context - 1) / 2 - 1e-9) for side in self.crop.size_hw)
        return height, width


@dataclass(frozen=True)
class ImageFraming:
    """The whole photograph, rescaled with antialiasing: for recipes that take random crops of it.

    Attributes:
        shorter_side: A number is the shorter side in pixels and keeps the aspect ratio; a pair is (height, width).
        crop_hw: The (height, width) that will be cropped out of it.
    """

    shorter_side: int | tuple[int, int]
    crop_hw: tuple[int, int]

    def __post_init__(self) -> None:
        sides = (self.shorter_side,) * 2 if isinstance(self.shorter_side, int) else self.shorter_side
        if any(side < cropped for side, cropped in zip(sides, self.crop_hw, strict=True)):
            raise KpdetectError(f"image framing: expected a size of at least the crop's {self.crop_hw}, got {sides}")

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """See `Framing`."""
        return None if isinstance(self.shorter_side, int) else self.shorter_side

    def extent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """See `Framing`."""
        if not isinstance(self.shorter_side, int):
            return self.shorter_side
        height, width = (max(1, round(side * self.shorter_side / min(image_hw))) for side in image_hw)
        return height, width

    def matrix(self, box_xyxy: npt.ArrayLike, image_hw: tuple[int, int]) -> Matrix:
        """See `Framing`; the box plays no part."""
        scale_y, scale_x = (new / old for new, old in zip(self.extent_hw(image_hw), image_hw, strict=True))
        matrix = np.diag([scale_x, scale_y, 1.0])
        matrix[:2, 2] = 0.5 * scale_x - 0.5, 0.5 * scale_y - 0.5
        return matrix
