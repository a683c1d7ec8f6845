"""Owns augmentation: what a training batch goes through between the cache and the model, in pure TensorFlow ops."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema
from kpdetect.data.augmentation.photometric import (
    Blur,
    Brightness,
    Color,
    Contrast,
    CutOut,
    Gamma,
    Noise,
    Normalize,
    Numbers,
    PhotometricTransform,
    apply_all,
    draw_all,
)
from kpdetect.data.augmentation.spatial import (
    CenterCrop,
    CropToBox,
    Frame,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomScale,
    RandomShift,
    RandomStretch,
    Rescale,
    SpatialTransform,
    Tensor,
    apply_matrix,
    draw_matrix,
    start_frame,
    swap_sides,
    warp,
)

__all__ = [
    "Batch",
    "Blur",
    "Brightness",
    "CenterCrop",
    "Color",
    "Contrast",
    "CropToBox",
    "CutOut",
    "Drawn",
    "Frame",
    "Gamma",
    "Noise",
    "Normalize",
    "PhotometricTransform",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomScale",
    "RandomShift",
    "RandomStretch",
    "Rescale",
    "SpatialTransform",
    "Tensor",
    "Transform",
    "augment",
    "check_transforms",
    "draw",
    "vary",
]

Transform = SpatialTransform | PhotometricTransform


@dataclass(frozen=True)
class Batch:
    """Pictures and points that move together.

    Attributes:
        images: (B, H, W, C), uint8 or float32, 0-255.
        keypoints: (B, K, 2) float32, in the pictures' pixels.
        visible: (B, K) float32, 1 or 0.
        extent_hw: (B, 2), each picture's own height and width; the rest of the array is black.
        boxes: (B, 4) float32, the face boxes (x0, y0, x1, y1) in the pictures' pixels.
    """

    images: Tensor
    keypoints: Tensor
    visible: Tensor
    extent_hw: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Drawn:
    """What chance says of a batch, before anything is done to its pictures.

    Attributes:
        matrix: (B, 3, 3) float32, from the pictures' pixels to those of the result.
        numbers: For each of the other transforms.
    """

    matrix: Tensor
    numbers: tuple[Numbers, ...]

    def part(self, first: int, every: int) -> "Drawn":
        """What it says of one picture in `every`, from number `first` on."""
        matrix, numbers = tf.nest.map_structure(lambda rows: rows[first::every], (self.matrix, self.numbers))
        return Drawn(matrix, numbers)


def augment(
    batch: Batch, transforms: Sequence[Transform], schema: KeypointSchema, size_hw: tuple[int, int], seed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws and applies transforms: the spatial ones as one warp first, then the others, each kind in its order.

    Chance is drawn for the batch as a whole, from `seed` alone.

    Args:
        batch: The pictures as they were cached.
        transforms: Any of this package, or your own with `draw` or `draw_numbers` and `apply`.
        schema: The scheme of the points; its left-right swap renames points of mirrored pictures.
        size_hw: The result's (height, width).
        seed: (2,) int tensor.

    Returns:
        images (B, height, width, C) float32 in 0-255, keypoints (B, K, 2) in their pixels, visible (B, K).

    Raises:
        KpdetectError: See `check_transforms`.
    """
    check_transforms(transforms, schema)
    drawn = draw(transforms, batch.extent_hw, batch.boxes, size_hw, seed)
    return vary(batch, transforms, schema, size_hw, drawn)


def draw(
    transforms: Sequence[Transform], extent_hw: Tensor, boxes: Tensor, size_hw: tuple[int, int], seed: Tensor
) -> Drawn:
    """The first half of `augment`, which needs no pictures.

    Args:
        transforms: As `augment` takes them.
        extent_hw: (B, 2), as in `Batch`.
        boxes: (B, 4), as in `Batch`.
        size_hw: The result's (height, width).
        seed: (2,) int tensor.
    """
    places_seed, pixels_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2), num=2)
    matrix = draw_matrix(_spatial(transforms), start_frame(extent_hw, boxes), size_hw, places_seed)
    count = extent_hw.shape[0] or tf.shape(extent_hw)[0]
    return Drawn(matrix, tuple(draw_all(_photometric(transforms), count, pixels_seed)))


def vary(
    batch: Batch, transforms: Sequence[Transform], schema: KeypointSchema, size_hw: tuple[int, int], drawn: Drawn
) -> tuple[Tensor, Tensor, Tensor]:
    """The second half of `augment`, by what was drawn for these very pictures."""
    matrix, swap = drawn.matrix, schema.flip_permutation
    images = apply_all(_photometric(transforms), warp(batch.images, matrix, size_hw), drawn.numbers)
    keypoints = swap_sides(apply_matrix(matrix, batch.keypoints), matrix, swap)
    return images, keypoints, swap_sides(batch.visible, matrix, swap)


def _spatial(transforms: Sequence[Transform]) -> list[SpatialTransform]:
    return [transform for transform in transforms if isinstance(transform, SpatialTransform)]


def _photometric(transforms: Sequence[Transform]) -> list[PhotometricTransform]:
    return [transform for transform in transforms if isinstance(transform, PhotometricTransform)]


def check_transforms(transforms: Sequence[Transform], schema: KeypointSchema) -> None:
    """Checks that these transforms can be applied to points of this scheme.

    Raises:
        KpdetectError: One is no transform, or would mirror points whose left-right swap is not known.
    """
    for transform in transforms:
        if not isinstance(transform, SpatialTransform | PhotometricTransform):
            raise KpdetectError(
                f"transforms: expected an object with draw, or draw_numbers and apply, received {transform!r}"
            )
        if isinstance(transform, RandomFlip) and schema.flip_permutation is None:
            raise KpdetectError(
                f"RandomFlip: scheme '{schema.name}' has no left-right permutation, so its points cannot be mirrored; "
                "name its points with left and right, or leave the flip out"
            )
