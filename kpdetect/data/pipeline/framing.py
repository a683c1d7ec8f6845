"""Framing: the part of a photograph that is cached, which is the face with a margin, or the whole photograph."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Matrix, translation


class Framing(Protocol):
    """Places a photograph on the canvas that is cached.

    Example:
        ``FaceFraming(CropRule((112, 112), 1.2))`` and ``ImageFraming(250, (224, 224))`` are framings.
    """

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """(height, width) of the canvas, or None if it depends on the photographs."""

    def extent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the part of the canvas that a photograph of this size covers."""

    def matrix(self, box_xyxy: npt.ArrayLike, image_hw: tuple[int, int]) -> Matrix:
        """The (3, 3) matrix from the photograph to the canvas, for one face."""


@dataclass(frozen=True)
class FaceFraming:
    """Keeps the model's crop with a margin around it, at the resolution of the crop.

    Augmentation moves, turns and scales within the margin. The crop is exactly the middle of the canvas, so training
    without augmentation uses the same pixels as evaluation and prediction.

    >>> FaceFraming(CropRule((112, 112), 1.2)).size_hw
    (158, 158)

    Attributes:
        crop: The crop rule of the model.
        context: Side of the canvas divided by the side of the crop, at least 1. A context of 1.4 contains a crop that
            is shifted by 9 % and scaled by 1.22 at once, apart from the corners of a rotated crop.
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
        """The margin in whole pixels, so that the crop can be cut out without interpolation."""
        height, width = (math.ceil(side * (self.context - 1) / 2 - 1e-9) for side in self.crop.size_hw)
        return height, width


@dataclass(frozen=True)
class ImageFraming:
    """Keeps the whole photograph, rescaled with antialiasing, for recipes that train on random crops of it.

    >>> ImageFraming(250, (224, 224)).extent_hw((500, 1000))
    (250, 500)

    Attributes:
        shorter_side: The shorter side in pixels, keeping the aspect ratio; or (height, width).
        crop_hw: (height, width) of the random crops.
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
        """See `Framing`. The box is not used."""
        scale_y, scale_x = (new / old for new, old in zip(self.extent_hw(image_hw), image_hw, strict=True))
        matrix = np.diag([scale_x, scale_y, 1.0])
        matrix[:2, 2] = 0.5 * scale_x - 0.5, 0.5 * scale_y - 0.5
        return matrix
