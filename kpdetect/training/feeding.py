"""Owns what a recipe means for the pipeline: what is cached of a photograph, how it varies, what is validated on."""

import sys

import numpy as np
import tensorflow as tf

from kpdetect.core.geometry import Floats, mirrored_relative, to_relative
from kpdetect.core.schema import KeypointSchema
from kpdetect.data import Annotations
from kpdetect.data.augmentation import (
    Blur,
    Brightness,
    CenterCrop,
    Color,
    Contrast,
    CutOut,
    Gamma,
    Noise,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomScale,
    RandomShift,
    RandomStretch,
    Tensor,
    Transform,
)
from kpdetect.data.crops import evaluation_crops
from kpdetect.data.pipeline import ALL_ROWS, FaceCache, FaceFraming, Framing, ImageFraming, Share
from kpdetect.data.pipeline.batches import without_rewriting
from kpdetect.recipes import Recipe


def framing_of(recipe: Recipe) -> Framing:
    """What the cache keeps of each photograph: the face's surroundings, or all of it, rescaled."""
    if recipe.image_side is None:
        return FaceFraming(recipe.crop)
    return ImageFraming(recipe.image_side, recipe.crop.size_hw)


def transforms_of(recipe: Recipe, schema: KeypointSchema) -> tuple[Transform, ...]:
    """The recipe's augmentation as transforms; those whose amount is zero are left out."""
    vary, size_hw = recipe.augmentation, recipe.crop.size_hw
    flip = vary.flip and schema.flip_permutation is not None
    if vary.flip and not flip:
        print(f"no mirrored pictures: scheme '{schema.name}' tells no left and right", file=sys.stderr)
    choices: list[tuple[float, Transform]] = [
        (1.0, CenterCrop(size_hw) if recipe.image_side is None else RandomCrop(size_hw)),
        (vary.scale, RandomScale(vary.scale)),
        (vary.stretch, RandomStretch(vary.stretch)),
        (vary.rotation_deg, RandomRotation(vary.rotation_deg)),
        (vary.shift, RandomShift(vary.shift)),
        (flip, RandomFlip()),
        (vary.gamma, Gamma(vary.gamma)),
        (vary.contrast, Contrast(vary.contrast)),
        (vary.brightness, Brightness(vary.brightness)),
        (vary.saturation + vary.tint, Color(vary.saturation, vary.tint)),
        (vary.blur, Blur(vary.blur)),
        (vary.noise, Noise(vary.noise)),
        (vary.cut_out, CutOut(vary.cut_out)),
    ]
    return tuple(transform for amount, transform in choices if amount)


def validation_batches(val: Annotations, recipe: Recipe, share: Share = ALL_ROWS, devices: int = 1) -> tf.data.Dataset:
    """Faces as prediction sees them, with their labels relative to the crop, and with their visibility as weight.

    Where the scheme has a mirror image, every face comes plain and mirrored: labels stand off to one side of what one
    sees, and of all epochs plain pictures alone would choose the one whose chance bias to that side is greatest.

    Args:
        val: Labelled faces.
        recipe: Tells the crop and the size of a batch.
        share: The part of each batch that is wanted.
        devices: Every batch is to be split evenly over so many: the last face comes up more often, with weights of
            zero, until the last batch can be.
    """
    crops, relative, _ = evaluation_crops(val, recipe.crop, recipe.channels)
    weights = val.visible.astype(np.float32)
    swap = val.schema.flip_permutation
    if swap is not None:
        relative = np.concatenate([relative, mirrored_relative(relative, swap)])
        weights = np.concatenate([weights, weights[:, list(swap)]])
    count, pictures, labels, seen = len(crops), tf.constant(crops), tf.constant(relative), tf.constant(weights)
    last = len(relative) - 1

    def take(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = tf.minimum(numbers, last)
        plain = tf.gather(pictures, rows % count)  # mirrored batch by batch, so that each picture is held once
        images = tf.where((rows < count)[:, None, None, None], plain, plain[:, :, ::-1])
        return images, tf.gather(labels, rows), tf.where((numbers <= last)[:, None], tf.gather(seen, rows), 0.0)

    own = share.of(np.arange(len(relative) + -len(relative) % devices))
    batches = tf.data.Dataset.from_tensor_slices(own).batch(recipe.batch_size // share.count).map(take)
    return batches.with_options(without_rewriting())


def mean_target(cache: FaceCache, recipe: Recipe, schema: KeypointSchema) -> Floats:
    """The mean label over the crops that a recipe trains on: of constant predictions, the one of least squared error.

    Of random crops of whole frames it is the mean over all places, of mirrored crops the mean of both kinds. Turns,
    scales and shifts are symmetric about the crop and are left out.

    Args:
        cache: The training faces.
        recipe: Tells the crop, and whether crops are mirrored.
        schema: The scheme of the points.

    Returns:
        (K, 2) relative to the crop; the middle of the crop for a point that no face shows.
    """
    room_hw = cache.extents_hw - np.array(recipe.crop.size_hw, np.float32)
    corner_hw = np.where(room_hw > 0, np.floor(room_hw), room_hw) / 2  # as RandomCrop and CenterCrop place it
    relative = to_relative(cache.keypoints - corner_hw[:, None, ::-1], recipe.crop.size_hw)
    visible, swap = cache.visible, schema.flip_permutation
    if recipe.augmentation.flip and swap is not None:
        relative = np.concatenate([relative, mirrored_relative(relative, swap)])
        visible = np.concatenate([visible, visible[:, list(swap)]])
    count = visible.sum(axis=0)[:, None]
    total = np.where(visible[..., None], relative, 0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), 0.5).astype(np.float32)
