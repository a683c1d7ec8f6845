"""Owns what changes the pixels and not their places: light, blur, noise, cut-outs, normalising.

Pure TensorFlow ops on float32 batches (B, H, W, C) in 0-255, clipped to that range. The tiny classes draw the chance;
the functions at the end do it, with numbers of its own for each picture. So the chance of a whole batch can be drawn,
and be done to some of its pictures alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from kpdetect.core.images import GREY_OF_RGB
from kpdetect.data.augmentation.spatial import Tensor, check_share

Numbers = Any
"""A tensor, or a tuple of several, each with a row per picture."""

_NOISE_ROWS = 4093  # prime, so that every stride walks through all rows
_NOISE_SEED = 0
_TO_GREY = np.array(GREY_OF_RGB, np.float32)


@runtime_checkable
class PhotometricTransform(Protocol):
    """Changes pixels, each picture by numbers of its own."""

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """What chance says of `count` pictures; `seed` is a (2,) tensor, and the same seed draws the same."""

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """(B, H, W, C) float32 to the same, by the numbers of these B pictures."""


@dataclass(frozen=True)
class Brightness:
    """Adds up to `amount` grey levels of 255, either way."""

    amount: float

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """See `PhotometricTransform`."""
        return self.amount * _either_way(seed, count)

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """See `PhotometricTransform`."""
        return adjust_brightness(images, numbers)


@dataclass(frozen=True)
class Contrast:
    """Stretches about the picture's mean by a factor between 1 - amount and 1 + amount."""

    amount: float

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """See `PhotometricTransform`."""
        return 1 + self.amount * _either_way(seed, count)

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """See `PhotometricTransform`."""
        return adjust_contrast(images, numbers)


@dataclass(frozen=True)
class Gamma:
    """Bends the tone curve, by an exponent between 1 / (1 + amount) and 1 + amount."""

    amount: float

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """See `PhotometricTransform`."""
        return (1 + self.amount) ** _either_way(seed, count)

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """See `PhotometricTransform`."""
        return adjust_gamma(images, numbers)


@dataclass(frozen=True)
class Color:
    """Changes how colourful RGB pictures are, and the colour of their light; what is grey already knows no colours.

    Attributes:
        saturation: Colours stand off grey by a factor between 1 - saturation and 1 + saturation; with 1, some pictures
            become black and white.
        tint: Red, green and blue are each multiplied by a factor of their own, between 1 - tint and 1 + tint.
    """

    saturation: float = 0.0
    tint: float = 0.0

    def __post_init__(self) -> None:
        check_share("Color", self.saturation)
        check_share("Color", self.tint)

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """See `PhotometricTransform`: factors of saturation (B,), and of each channel (B, 3)."""
        chance = 2 * tf.random.stateless_uniform([count, 4], seed) - 1
        return 1 + self.saturation * chance[:, 0], 1 + self.tint * chance[:, 1:]

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """See `PhotometricTransform`."""
        return images if images.shape[-1] == 1 else adjust_color(images, *numbers)


@dataclass(frozen=True)
class Blur:
    """Blurs a share of the pictures by a Gaussian of up to `max_sigma` pixels.

    It takes the first ones of the batch, since the order is chance already and the others then cost nothing.

    Attributes:
        probability: The share of pictures, on average.
        max_sigma: The greatest standard deviation, in pixels; the least is a quarter of it.
    """

    probability: float
    max_sigma: float = 2.0

    def __post_init__(self) -> None:
        check_share("Blur", self.probability)

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """See `PhotometricTransform`: sigmas, zero for those that stay sharp."""
        chance = tf.random.stateless_uniform([count + 1], seed)
        most = tf.floor(self.probability * tf.cast(count, tf.float32) + chance[-1])
        blurred = tf.cast(tf.range(count), tf.float32) < most
        return tf.where(blurred, self.max_sigma * (0.25 + 0.75 * chance[:-1]), 0.0)

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """See `PhotometricTransform`."""
        count = tf.math.count_nonzero(numbers, dtype=tf.int32)
        blurred = tf.concat([gaussian_blur(images[:count], numbers[:count]), images[count:]], axis=0)
        return tf.ensure_shape(blurred, images.shape)


@dataclass(frozen=True)
class Noise:
    """Adds Gaussian noise of up to `max_std` grey levels of 255."""

    max_std: float

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """See `PhotometricTransform`: standard deviations, and where in the bank each picture's noise is."""
        places = tf.random.stateless_uniform([count, 2], _other(seed), 1, _NOISE_ROWS, tf.int32)
        return self.max_std * _uniform(seed, count), places

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """See `PhotometricTransform`."""
        return add_noise(images, *numbers)


@dataclass(frozen=True)
class CutOut:
    """Blots out a rectangle of a random grey in a share of the pictures (arXiv:1708.04552). The points stay labelled.

    Attributes:
        probability: The share of pictures.
        max_side: The rectangle's greatest height and width, as a share of the picture's; the least is a quarter of it.
    """

    probability: float
    max_side: float = 0.4

    def __post_init__(self) -> None:
        check_share("CutOut", self.probability)

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """See `PhotometricTransform`: rectangles, without an area for those that stay whole, and their greys."""
        chance = tf.random.stateless_uniform([count, 6], seed)
        hit = tf.cast(chance[:, :1] < self.probability, tf.float32)
        half = hit * self.max_side * (0.25 + 0.75 * chance[:, 1:3]) / 2
        center = chance[:, 3:5]
        return tf.concat([center - half, center + half], axis=1), 255 * chance[:, 5]

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """See `PhotometricTransform`."""
        return cut_out(images, *numbers)


@dataclass(frozen=True)
class Normalize:
    """``(pixel - mean) / std``, and nothing is clipped; for networks outside kpdetect, whose own take raw pixels.

    Attributes:
        mean: One number for all channels, or one per channel.
        std: Likewise.
    """

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def draw_numbers(self, count: int, seed: Tensor) -> Numbers:
        """See `PhotometricTransform`: none."""
        return ()

    def apply(self, images: Tensor, numbers: Numbers) -> Tensor:
        """See `PhotometricTransform`."""
        return (images - tf.constant(self.mean, tf.float32)) / tf.constant(self.std, tf.float32)


def draw_all(transforms: Sequence[PhotometricTransform], count: int, seed: Tensor) -> list[Numbers]:
    """What chance says of `count` pictures, for each transform, with its own seed."""
    seeds = [tf.random.experimental.stateless_fold_in(seed, number) for number in range(len(transforms))]
    return [transform.draw_numbers(count, own) for transform, own in zip(transforms, seeds, strict=True)]


def apply_all(transforms: Sequence[PhotometricTransform], images: Tensor, numbers: Sequence[Numbers]) -> Tensor:
    """Applies one after the other, each with its own numbers."""
    for transform, own in zip(transforms, numbers, strict=True):
        images = transform.apply(images, own)
    return images


def adjust_brightness(images: Tensor, delta: Tensor) -> Tensor:
    """Adds (B,) grey levels."""
    return _clip(images + _per_picture(delta))


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretches by (B,) about each picture's mean."""
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    factor = _per_picture(factor)
    return _clip(images * factor + mean * (1 - factor))


def adjust_gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """``255 * (pixel / 255) ** exponent`` with (B,) positive exponents.

    Written as exp and log, which is six times as fast as `tf.pow` on a processor; log(0) is minus infinity, whose
    exp is 0 again.
    """
    exponent = _per_picture(exponent)
    return tf.exp(tf.math.log(images) * exponent + (1 - exponent) * np.log(255.0).astype(np.float32))


def adjust_color(images: Tensor, saturation: Tensor, gains: Tensor) -> Tensor:
    """Moves colours off grey, or towards it, by factors (B,), and multiplies the channels of RGB by (B, 3)."""
    off_grey = saturation[:, tf.newaxis, tf.newaxis] * (tf.eye(3) - _TO_GREY[:, tf.newaxis])
    mixed = (off_grey + _TO_GREY[:, tf.newaxis]) * gains[:, tf.newaxis]
    return _clip(tf.reshape(tf.reshape(images, [-1, images.shape[1] * images.shape[2], 3]) @ mixed, tf.shape(images)))


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blurs each picture by its own sigma (B,), in pixels.

    Rows and columns are multiplied by band matrices: convolutions cannot take a kernel per picture. Weights that fall
    outside go to those inside, so that borders do not darken.
    """
    _, height, width, channels = images.shape
    rows = tf.matmul(_blur_matrix(sigma, height), tf.reshape(images, [-1, height, width * channels]))
    return tf.einsum("bvw,bhwc->bhvc", _blur_matrix(sigma, width), tf.reshape(rows, [-1, height, width, channels]))


def add_noise(images: Tensor, std: Tensor, places: Tensor) -> Tensor:
    """Adds normal noise of (B,) standard deviations.

    Fresh normal numbers for every pixel would take as long as the warp and everything else together; these are rows
    of a bank drawn once, and each picture walks through it from its own start with its own stride, which makes
    sixteen million different pictures of noise.

    Args:
        images: (B, H, W, C).
        std: (B,).
        places: (B, 2) int, start and stride, from 1 to the number of rows less one.
    """
    _, height, width, channels = images.shape
    steps = tf.range(height)[tf.newaxis]
    rows = (places[:, :1] + places[:, 1:] * steps) % _NOISE_ROWS
    noise = tf.gather(tf.constant(_noise_bank(width * channels)), rows)
    return _clip(images + _per_picture(std) * tf.reshape(noise, [-1, height, width, channels]))


def cut_out(images: Tensor, boxes: Tensor, grey: Tensor) -> Tensor:
    """Paints rectangles: (B, 4) as (y0, x0, y1, x1) relative to the picture, in (B,) grey levels."""
    _, height, width, _ = images.shape
    inside_y = _between(height, boxes[:, 0], boxes[:, 2])
    inside_x = _between(width, boxes[:, 1], boxes[:, 3])
    inside = inside_y[:, :, tf.newaxis, tf.newaxis] & inside_x[:, tf.newaxis, :, tf.newaxis]
    return tf.where(inside, _per_picture(grey), images)


def _between(length: int, low: Tensor, high: Tensor) -> Tensor:
    """Which of `length` pixel centres lie in [low, high): (B, length) bool."""
    centers = (tf.range(length, dtype=tf.float32) + 0.5) / length
    return (centers >= low[:, tf.newaxis]) & (centers < high[:, tf.newaxis])


def _blur_matrix(sigma: Tensor, length: int) -> Tensor:
    """(B, length, length), each row the weights of one pixel."""
    place = tf.range(length, dtype=tf.float32)
    distance = tf.square(place[:, tf.newaxis] - place)
    return tf.nn.softmax(-distance / (2 * tf.square(sigma) + 1e-12)[:, tf.newaxis, tf.newaxis])


def _noise_bank(row_length: int) -> Any:
    return np.random.default_rng(_NOISE_SEED).standard_normal((_NOISE_ROWS, row_length), np.float32)


def _clip(images: Tensor) -> Tensor:
    return tf.clip_by_value(images, 0.0, 255.0)


def _per_picture(values: Tensor) -> Tensor:
    return tf.reshape(values, [-1, 1, 1, 1])


def _uniform(seed: Tensor, count: int) -> Tensor:
    """(count,) in [0, 1)."""
    return tf.random.stateless_uniform([count], seed)


def _either_way(seed: Tensor, count: int) -> Tensor:
    """(count,) in [-1, 1)."""
    return 2 * _uniform(seed, count) - 1


def _other(seed: Tensor) -> Tensor:
    """A second seed, for a second draw that must not follow the first."""
    return tf.random.experimental.stateless_fold_in(seed, 1)
