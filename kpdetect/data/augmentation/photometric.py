"""Photometric transforms: brightness, contrast, gamma, colour, blur, noise, cutout, normalisation.

TensorFlow ops on float32 batches (B, H, W, C) in [0, 255]; results are clipped to that range. Small classes draw random
parameters, and the functions below apply them. Each image has its own parameters, so they can be drawn for a whole
batch and applied to some of its images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from kpdetect.core.images import GREY_OF_RGB
from kpdetect.data.augmentation.spatial import Tensor, check_fraction

Parameters = Any
"""A tensor or a tuple of tensors, each with one row per image."""

_NOISE_ROWS = 4093  # prime, so that every stride visits all rows
_NOISE_SEED = 0
_GREY_WEIGHTS = np.array(GREY_OF_RGB, np.float32)


@runtime_checkable
class PhotometricTransform(Protocol):
    """Changes pixel values and leaves keypoints as they are.

    A class of your own needs these two methods::

        @dataclass(frozen=True)
        class Invert:
            probability: float

            def draw_parameters(self, count, seed):
                return tf.random.stateless_uniform([count, 1, 1, 1], seed) < self.probability

            def apply(self, images, parameters):
                return tf.where(parameters, 255 - images, images)

    Example:
        `Gamma` and `Blur` are photometric transforms.
    """

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """Draws random parameters for `count` images; they depend on `seed`, a (2,) int tensor, alone."""

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Applies the parameters of B images: (B, H, W, C) float32 -> (B, H, W, C) float32."""


@dataclass(frozen=True)
class Brightness:
    """Adds a random value to all pixels of an image.

    Attributes:
        amount: The value is uniform in [-amount, amount], in grey levels of 255.

    Example:
        ``Brightness(40.0)`` adds -40 to 40.
    """

    amount: float

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """See `PhotometricTransform`."""
        return self.amount * _symmetric_uniform(seed, count)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """See `PhotometricTransform`."""
        return adjust_brightness(images, parameters)


@dataclass(frozen=True)
class Contrast:
    """Scales the difference of each pixel from the mean of the image by a random factor.

    Attributes:
        amount: The factor is uniform in [1 - amount, 1 + amount].

    Example:
        ``Contrast(0.3)`` multiplies by a factor around 1.
    """

    amount: float

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """See `PhotometricTransform`."""
        return 1 + self.amount * _symmetric_uniform(seed, count)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """See `PhotometricTransform`."""
        return adjust_contrast(images, parameters)


@dataclass(frozen=True)
class Gamma:
    """Gamma correction ``255 * (pixel / 255) ** exponent`` with a random exponent.

    Attributes:
        amount: The exponent is log-uniform in [1 / (1 + amount), 1 + amount].

    Example:
        ``Gamma(0.5)``
    """

    amount: float

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """See `PhotometricTransform`."""
        return (1 + self.amount) ** _symmetric_uniform(seed, count)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """See `PhotometricTransform`."""
        return adjust_gamma(images, parameters)


@dataclass(frozen=True)
class Color:
    """Random saturation and tint of RGB images. Images with one channel are unchanged.

    Attributes:
        saturation: In [0, 1]. The difference of each colour from grey is multiplied by a factor that is uniform in
            [1 - saturation, 1 + saturation]; a factor of 0 gives a grey image.
        tint: In [0, 1]. Red, green and blue are each multiplied by a factor that is uniform in [1 - tint, 1 + tint].

    Example:
        ``Color(saturation=0.3, tint=10.0)``
    """

    saturation: float = 0.0
    tint: float = 0.0

    def __post_init__(self) -> None:
        check_fraction("Color", self.saturation)
        check_fraction("Color", self.tint)

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """See `PhotometricTransform`. Returns saturation factors (count,) and channel factors (count, 3)."""
        uniform = 2 * tf.random.stateless_uniform([count, 4], seed) - 1
        return 1 + self.saturation * uniform[:, 0], 1 + self.tint * uniform[:, 1:]

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """See `PhotometricTransform`."""
        return images if images.shape[-1] == 1 else adjust_color(images, *parameters)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of a share of the images.

    It blurs the first images of a batch, because the order of a batch is random and the other images need no
    computation.

    Attributes:
        probability: Expected share of blurred images, in [0, 1].
        max_sigma: The standard deviation is uniform in [max_sigma / 4, max_sigma], in pixels.

    Example:
        ``Blur(0.25, max_sigma=2.0)`` blurs a quarter of the images.
    """

    probability: float
    max_sigma: float = 2.0

    def __post_init__(self) -> None:
        check_fraction("Blur", self.probability)

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """See `PhotometricTransform`. Returns standard deviations (count,), 0 for images that are not blurred."""
        uniform = tf.random.stateless_uniform([count + 1], seed)
        most = tf.floor(self.probability * tf.cast(count, tf.float32) + uniform[-1])
        blurred = tf.cast(tf.range(count), tf.float32) < most
        return tf.where(blurred, self.max_sigma * (0.25 + 0.75 * uniform[:-1]), 0.0)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """See `PhotometricTransform`."""
        count = tf.math.count_nonzero(parameters, dtype=tf.int32)
        blurred = tf.concat([gaussian_blur(images[:count], parameters[:count]), images[count:]], axis=0)
        return tf.ensure_shape(blurred, images.shape)


@dataclass(frozen=True)
class Noise:
    """Adds Gaussian noise of a random strength.

    Attributes:
        max_std: The standard deviation is uniform in [0, max_std], in grey levels of 255.

    Example:
        ``Noise(8.0)``
    """

    max_std: float

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """See `PhotometricTransform`. Returns standard deviations (count,) and positions (count, 2) for `add_noise`."""
        places = tf.random.stateless_uniform([count, 2], _second_seed(seed), 1, _NOISE_ROWS, tf.int32)
        return self.max_std * _uniform(seed, count), places

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """See `PhotometricTransform`."""
        return add_noise(images, *parameters)


@dataclass(frozen=True)
class CutOut:
    """Cutout (DeVries and Taylor, arXiv:1708.04552): fills a random rectangle with a random grey.

    Keypoints inside the rectangle keep their labels.

    Attributes:
        probability: Share of images with a rectangle, in [0, 1].
        max_side: Height and width of the rectangle are each uniform in [max_side / 4, max_side], relative to the
            image.

    Example:
        ``CutOut(0.3, max_side=0.4)`` covers a part of 30 % of the images.
    """

    probability: float
    max_side: float = 0.4

    def __post_init__(self) -> None:
        check_fraction("CutOut", self.probability)

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """See `PhotometricTransform`. Returns rectangles (count, 4), empty for unchanged images, and greys (count,)."""
        uniform = tf.random.stateless_uniform([count, 6], seed)
        hit = tf.cast(uniform[:, :1] < self.probability, tf.float32)
        half = hit * self.max_side * (0.25 + 0.75 * uniform[:, 1:3]) / 2
        center = uniform[:, 3:5]
        return tf.concat([center - half, center + half], axis=1), 255 * uniform[:, 5]

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """See `PhotometricTransform`."""
        return cut_out(images, *parameters)


@dataclass(frozen=True)
class Normalize:
    """``(pixel - mean) / std`` without clipping, for networks of other projects. Models of kpdetect take raw pixels.

    Attributes:
        mean: One number for all channels, or one per channel, in grey levels of 255.
        std: As `mean`.

    Example:
        ``Normalize(127.5, 127.5)`` maps pixels to [-1, 1].
    """

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def draw_parameters(self, count: int, seed: Tensor) -> Parameters:
        """See `PhotometricTransform`. There are no random parameters."""
        return ()

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """See `PhotometricTransform`."""
        return (images - tf.constant(self.mean, tf.float32)) / tf.constant(self.std, tf.float32)


def draw_all_parameters(transforms: Sequence[PhotometricTransform], count: int, seed: Tensor) -> list[Parameters]:
    """Draws the parameters of `count` images for each transform, each with its own seed derived from `seed`."""
    seeds = [tf.random.experimental.stateless_fold_in(seed, number) for number in range(len(transforms))]
    return [transform.draw_parameters(count, own_seed) for transform, own_seed in zip(transforms, seeds, strict=True)]


def apply_all(transforms: Sequence[PhotometricTransform], images: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Applies the transforms in order, each with its own parameters."""
    for transform, own in zip(transforms, parameters, strict=True):
        images = transform.apply(images, own)
    return images


def adjust_brightness(images: Tensor, delta: Tensor) -> Tensor:
    """Adds `delta` (B,), in grey levels, to images (B, H, W, C)."""
    return _clip(images + _per_image(delta))


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scales the difference of each pixel from the mean of its image by `factor` (B,)."""
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    factor = _per_image(factor)
    return _clip(images * factor + mean * (1 - factor))


def adjust_gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """``255 * (pixel / 255) ** exponent`` with positive exponents (B,).

    It is computed with exp and log, which on a CPU is six times as fast as `tf.pow`. A pixel of 0 stays 0, because
    log(0) is minus infinity.
    """
    exponent = _per_image(exponent)
    return tf.exp(tf.math.log(images) * exponent + (1 - exponent) * np.log(255.0).astype(np.float32))


def adjust_color(images: Tensor, saturation: Tensor, gains: Tensor) -> Tensor:
    """Multiplies the distance from grey by `saturation` (B,), then the RGB channels by `gains` (B, 3)."""
    off_grey = saturation[:, tf.newaxis, tf.newaxis] * (tf.eye(3) - _GREY_WEIGHTS[:, tf.newaxis])
    mixed = (off_grey + _GREY_WEIGHTS[:, tf.newaxis]) * gains[:, tf.newaxis]
    return _clip(tf.reshape(tf.reshape(images, [-1, images.shape[1] * images.shape[2], 3]) @ mixed, tf.shape(images)))


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blurs each image with its own standard deviation `sigma` (B,), in pixels.

    It multiplies rows and columns by matrices of weights, because a convolution cannot use another kernel for each
    image. The weights inside the image sum to 1, so that borders do not darken.
    """
    _, height, width, channels = images.shape
    rows = tf.matmul(_blur_matrix(sigma, height), tf.reshape(images, [-1, height, width * channels]))
    return tf.einsum("bvw,bhwc->bhvc", _blur_matrix(sigma, width), tf.reshape(rows, [-1, height, width, channels]))


def add_noise(images: Tensor, std: Tensor, places: Tensor) -> Tensor:
    """Adds Gaussian noise with standard deviations `std`.

    New random numbers for every pixel would take as long as all other transforms together. The noise is therefore read
    from a fixed bank of rows: each image starts at its own row and advances by its own stride, which gives 16 million
    different patterns.

    Args:
        images: (B, H, W, C).
        std: (B,), in grey levels.
        places: (B, 2) int, start and stride, each from 1 to 4092.
    """
    _, height, width, channels = images.shape
    steps = tf.range(height)[tf.newaxis]
    rows = (places[:, :1] + places[:, 1:] * steps) % _NOISE_ROWS
    noise = tf.gather(tf.constant(_noise_bank(width * channels)), rows)
    return _clip(images + _per_image(std) * tf.reshape(noise, [-1, height, width, channels]))


def cut_out(images: Tensor, boxes: Tensor, grey: Tensor) -> Tensor:
    """Fills `boxes` (B, 4), given as (y0, x0, y1, x1) relative to the image, with `grey` (B,), in grey levels."""
    _, height, width, _ = images.shape
    inside_y = _inside_interval(height, boxes[:, 0], boxes[:, 2])
    inside_x = _inside_interval(width, boxes[:, 1], boxes[:, 3])
    inside = inside_y[:, :, tf.newaxis, tf.newaxis] & inside_x[:, tf.newaxis, :, tf.newaxis]
    return tf.where(inside, _per_image(grey), images)


def _inside_interval(length: int, low: Tensor, high: Tensor) -> Tensor:
    """(B, length) bool: whether each pixel centre, relative to the length, lies in [low, high)."""
    centers = (tf.range(length, dtype=tf.float32) + 0.5) / length
    return (centers >= low[:, tf.newaxis]) & (centers < high[:, tf.newaxis])


def _blur_matrix(sigma: Tensor, length: int) -> Tensor:
    """(B, length, length): each row holds the weights of one output pixel."""
    place = tf.range(length, dtype=tf.float32)
    distance = tf.square(place[:, tf.newaxis] - place)
    return tf.nn.softmax(-distance / (2 * tf.square(sigma) + 1e-12)[:, tf.newaxis, tf.newaxis])


def _noise_bank(row_length: int) -> Any:
    """(4093, row_length) float32, standard normal, always the same."""
    return np.random.default_rng(_NOISE_SEED).standard_normal((_NOISE_ROWS, row_length), np.float32)


def _clip(images: Tensor) -> Tensor:
    return tf.clip_by_value(images, 0.0, 255.0)


def _per_image(values: Tensor) -> Tensor:
    return tf.reshape(values, [-1, 1, 1, 1])


def _uniform(seed: Tensor, count: int) -> Tensor:
    """(count,) in [0, 1)."""
    return tf.random.stateless_uniform([count], seed)


def _symmetric_uniform(seed: Tensor, count: int) -> Tensor:
    """(count,) in [-1, 1)."""
    return 2 * _uniform(seed, count) - 1


def _second_seed(seed: Tensor) -> Tensor:
    """A second seed derived from the first, for independent random numbers."""
    return tf.random.experimental.stateless_fold_in(seed, 1)
