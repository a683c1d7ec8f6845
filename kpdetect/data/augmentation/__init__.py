"""Augmentation of training batches: random spatial and photometric transforms in TensorFlow ops.

Random parameters are drawn for the whole batch before any image is touched, so several processes can each transform
their own rows of one batch (see `draw_augmentation`).
"""

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
    Parameters,
    PhotometricTransform,
    apply_all,
    draw_all_parameters,
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
    swap_left_right,
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
    "DrawnAugmentation",
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
    "apply_augmentation",
    "augment",
    "check_transforms",
    "draw_augmentation",
]

Transform = SpatialTransform | PhotometricTransform


@dataclass(frozen=True)
class Batch:
    """Images with their keypoints and face boxes.

    Attributes:
        images: (B, H, W, C), uint8 or float32 in [0, 255].
        keypoints: (B, K, 2) float32, in pixels of the images.
        visible: (B, K) float32, 1 or 0.
        extent_hw: (B, 2), height and width of each image; the array is black beyond them.
        boxes: (B, 4) float32, face boxes (x0, y0, x1, y1) in pixels of the images.

    Example:
        ``Batch(images, keypoints, visible, extent_hw, boxes)``, as `kpdetect.data.pipeline.batches.gather` makes it.
    """

    images: Tensor
    keypoints: Tensor
    visible: Tensor
    extent_hw: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class DrawnAugmentation:
    """The random parameters of an augmentation for one batch.

    Attributes:
        matrix: (B, 3, 3) float32, the composed spatial transforms, from pixels of the images to pixels of the result.
        parameters: The parameters of each photometric transform.

    Example:
        ``draw_augmentation(…).shard(0, 2)`` has the parameters of the first half of the rows.
    """

    matrix: Tensor
    parameters: tuple[Parameters, ...]

    def shard(self, index: int, count: int) -> "DrawnAugmentation":
        """The parameters of block number `index` of `count` blocks of rows, which all have the same size."""
        size = self.matrix.shape[0] // count
        matrix, parameters = tf.nest.map_structure(
            lambda rows: rows[index * size : (index + 1) * size], (self.matrix, self.parameters)
        )
        return DrawnAugmentation(matrix, parameters)


def augment(
    batch: Batch, transforms: Sequence[Transform], schema: KeypointSchema, size_hw: tuple[int, int], seed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws random parameters and applies the transforms: all spatial ones as one warp, then the photometric ones.

    Transforms of each kind are applied in the order of the sequence. The result depends on the arguments alone.

    Args:
        batch: Images with keypoints.
        transforms: Transforms of this package, or your own `SpatialTransform` or `PhotometricTransform`.
        schema: Keypoint schema; its flip permutation exchanges left and right keypoints of mirrored images.
        size_hw: (height, width) of the result.
        seed: (2,) int tensor.

    Returns:
        images (B, height, width, C) float32 in [0, 255], keypoints (B, K, 2) in their pixels, visible (B, K).

    Raises:
        KpdetectError: See `check_transforms`.

    Example::

        transforms = [RandomRotation(10.0), RandomFlip(), Brightness(30.0)]
        images, keypoints, visible = augment(batch, transforms, IBUG68, (112, 112), tf.constant([0, 1]))
    """
    check_transforms(transforms, schema)
    drawn = draw_augmentation(transforms, batch.extent_hw, batch.boxes, size_hw, seed)
    return apply_augmentation(batch, transforms, schema, size_hw, drawn)


def draw_augmentation(
    transforms: Sequence[Transform], extent_hw: Tensor, boxes: Tensor, size_hw: tuple[int, int], seed: Tensor
) -> DrawnAugmentation:
    """Draws the random parameters of `augment` without the images.

    Args:
        transforms: See `augment`.
        extent_hw: (B, 2), as in `Batch`.
        boxes: (B, 4), as in `Batch`.
        size_hw: (height, width) of the result.
        seed: (2,) int tensor.

    Returns:
        Parameters for all B images.

    Example::

        drawn = draw_augmentation(transforms, extent_hw, boxes, (112, 112), seed)
        images, keypoints, visible = apply_augmentation(batch, transforms, IBUG68, (112, 112), drawn)
    """
    places_seed, pixels_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2), num=2)
    matrix = draw_matrix(_spatial(transforms), start_frame(extent_hw, boxes), size_hw, places_seed)
    count = extent_hw.shape[0] or tf.shape(extent_hw)[0]
    return DrawnAugmentation(matrix, tuple(draw_all_parameters(_photometric(transforms), count, pixels_seed)))


def apply_augmentation(
    batch: Batch,
    transforms: Sequence[Transform],
    schema: KeypointSchema,
    size_hw: tuple[int, int],
    drawn: DrawnAugmentation,
) -> tuple[Tensor, Tensor, Tensor]:
    """Applies parameters from `draw_augmentation` to the images they were drawn for.

    Args:
        batch: Images with keypoints.
        transforms: The transforms that the parameters were drawn for.
        schema: Keypoint schema.
        size_hw: (height, width) of the result, as it was drawn.
        drawn: The parameters of these B images.

    Returns:
        images, keypoints and visible as from `augment`.

    Example:
        ``images, keypoints, visible = apply_augmentation(batch, transforms, IBUG68, (112, 112), drawn)``
    """
    matrix, swap = drawn.matrix, schema.flip_permutation
    images = apply_all(_photometric(transforms), warp(batch.images, matrix, size_hw), drawn.parameters)
    keypoints = swap_left_right(apply_matrix(matrix, batch.keypoints), matrix, swap)
    return images, keypoints, swap_left_right(batch.visible, matrix, swap)


def _spatial(transforms: Sequence[Transform]) -> list[SpatialTransform]:
    return [transform for transform in transforms if isinstance(transform, SpatialTransform)]


def _photometric(transforms: Sequence[Transform]) -> list[PhotometricTransform]:
    return [transform for transform in transforms if isinstance(transform, PhotometricTransform)]


def check_transforms(transforms: Sequence[Transform], schema: KeypointSchema) -> None:
    """Checks that the transforms can be applied to keypoints of a schema.

    Raises:
        KpdetectError: An object is not a transform, or a flip is given for a schema without a flip permutation.

    Example:
        ``check_transforms([CenterCrop((112, 112)), RandomFlip()], IBUG68)`` raises nothing.
    """
    for transform in transforms:
        if not isinstance(transform, SpatialTransform | PhotometricTransform):
            raise KpdetectError(
                f"transforms: expected an object with draw, or with draw_parameters and apply, received {transform!r}"
            )
        if isinstance(transform, RandomFlip) and schema.flip_permutation is None:
            raise KpdetectError(
                f"RandomFlip: scheme '{schema.name}' has no flip permutation, so its keypoints cannot be mirrored; "
                "include left and right in the point names, or remove the flip"
            )
