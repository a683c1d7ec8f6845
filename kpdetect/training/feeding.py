"""Turns a recipe into pipeline settings: how photographs are cached, augmented and validated on."""

import logging

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

_LOG = logging.getLogger(__name__)


def framing_of(recipe: Recipe) -> Framing:
    """What the cache stores of each photograph: the face with its surroundings, or the whole picture, rescaled."""
    if recipe.image_side is None:
        return FaceFraming(recipe.crop)
    return ImageFraming(recipe.image_side, recipe.crop.size_hw)


def transforms_of(recipe: Recipe, schema: KeypointSchema) -> tuple[Transform, ...]:
    """The recipe's augmentation as transforms, without those of amount zero.

    Example:
        >>> recipe = choose_recipe(TrainOptions("compact-112"))  # doctest: +SKIP
        >>> transforms_of(recipe, IBUG68)[0]  # doctest: +SKIP
        CenterCrop(size_hw=(112, 112))
    """
    vary, size_hw = recipe.augmentation, recipe.crop.size_hw
    flip = vary.flip and schema.flip_permutation is not None
    if vary.flip and not flip:
        _LOG.info(f"flips are off: scheme '{schema.name}' has no left-right pairs")
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
    """Validation batches: crops as in prediction, labels relative to the crop, and visibility as weights.

    If the scheme has a flip permutation, every face appears plain and mirrored. Labels are biased to one side, so that
    plain pictures alone would select the epoch whose random bias to that side is largest.

    Args:
        val: N labelled faces.
        recipe: Crop, colour and batch size.
        share: The part of each batch that this process computes.
        devices: Each batch is divisible by this number: the last face is repeated with zero weights to fill up.

    Returns:
        A dataset of ``(images (B, H, W, C) uint8, labels (B, K, 2) float32, weights (B, K) float32)``.
    """
    crops, relative, _ = evaluation_crops(val, recipe.crop, recipe.channels)
    weights = val.visible.astype(np.float32)
    swap = val.schema.flip_permutation
    if swap is not None:
        relative = np.concatenate([relative, mirrored_relative(relative, swap)])
        weights = np.concatenate([weights, weights[:, list(swap)]])
    count, pictures, labels, visible = len(crops), tf.constant(crops), tf.constant(relative), tf.constant(weights)
    last = len(relative) - 1

    def take(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = tf.minimum(numbers, last)
        plain = tf.gather(pictures, rows % count)  # mirrored per batch, so that each picture is stored once
        images = tf.where((rows < count)[:, None, None, None], plain, plain[:, :, ::-1])
        return images, tf.gather(labels, rows), tf.where((numbers <= last)[:, None], tf.gather(visible, rows), 0.0)

    take = tf.autograph.experimental.do_not_convert(take)
    # Every batch of all processes has the faces of the batch of one process.
    own = np.arange(len(relative) + -len(relative) % devices)[share.number :: share.count]
    batches = tf.data.Dataset.from_tensor_slices(own).batch(recipe.batch_size // share.count).map(take)
    return batches.with_options(without_rewriting())


def mean_target(cache: FaceCache, recipe: Recipe, schema: KeypointSchema) -> Floats:
    """The mean label over the crops that a recipe trains on: the constant prediction of least squared error.

    For random crops of whole frames it is the mean over all crop positions, with flips the mean of plain and mirrored
    crops. Rotation, scale and shift are symmetric about the crop and are ignored.

    Args:
        cache: The training faces.
        recipe: Crop and flip.
        schema: The points.

    Returns:
        (K, 2) relative to the crop; the centre of the crop for a point that is visible in no face.
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
