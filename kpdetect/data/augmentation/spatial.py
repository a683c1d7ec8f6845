"""Spatial transforms: crop, scale, rotation, stretch, shift and flip of images with their keypoints.

Each transform draws a matrix. The matrices are composed, so that each image is resampled once. TensorFlow ops on whole
batches. Matrices map source pixels to target pixels, with pixel centres on integers (`kpdetect.core.geometry`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import tensorflow as tf

from kpdetect.core.errors import KpdetectError
from kpdetect.data.augmentation.integer_crop import integer_crop, is_integer_crop

Tensor = Any  # TensorFlow ships no types that mypy can use; shapes are in the docstrings


@dataclass(frozen=True)
class Frame:
    """The coordinate frame of a batch after some transforms. No image has been warped yet.

    Attributes:
        matrix: (B, 3, 3) float32, from pixels of the original images to pixels of this frame.
        extent_hw: (B, 2) float32, height and width of each image in this frame.
        boxes: (B, 4) float32, face boxes (x0, y0, x1, y1) in pixels of the original images.

    Example:
        ``RandomRotation(10.0)`` multiplies ``Frame.matrix`` by a rotation.
    """

    matrix: Tensor
    extent_hw: Tensor
    boxes: Tensor

    def then(self, matrix: Tensor, extent_hw: Tensor | None = None) -> "Frame":
        """The frame after another matrix (B, 3, 3). `extent_hw` (2,) or (B, 2) replaces the extent if given."""
        extent = self.extent_hw if extent_hw is None else tf.broadcast_to(extent_hw, tf.shape(self.extent_hw))
        return replace(self, matrix=matrix @ self.matrix, extent_hw=tf.cast(extent, tf.float32))

    @property
    def center_xy(self) -> Tensor:
        """(B, 2), the centres ``(W / 2 - 0.5, H / 2 - 0.5)`` in pixels."""
        return self.extent_hw[:, ::-1] / 2 - 0.5


@runtime_checkable
class SpatialTransform(Protocol):
    """Moves images and keypoints by a random matrix.

    A class of your own needs this method::

        @dataclass(frozen=True)
        class FixedShift:
            pixels: float

            def draw(self, frame, seed):
                return frame.then(translation(tf.fill(tf.shape(frame.extent_hw), self.pixels)))

    Example:
        `RandomRotation` and `RandomFlip` are spatial transforms.
    """

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """Returns the frame after the transform; it depends on `frame` and `seed`, a (2,) int tensor, alone."""


def start_frame(extent_hw: Tensor, boxes: Tensor) -> Frame:
    """The frame of the original images, with the identity as its matrix; see `Frame` for the shapes."""
    return Frame(tf.eye(3, batch_shape=tf.shape(extent_hw)[:1]), tf.cast(extent_hw, tf.float32), boxes)


def draw_matrix(transforms: Sequence[SpatialTransform], frame: Frame, size_hw: tuple[int, int], seed: Tensor) -> Tensor:
    """Draws all transforms and composes them into one matrix.

    The last frame is centred on the result: it is padded or cropped if its extent differs from `size_hw`.

    Args:
        transforms: The transforms in their order.
        frame: The first frame; see `start_frame`.
        size_hw: (height, width) of the result.
        seed: (2,) int tensor.

    Returns:
        (B, 3, 3) float32, from pixels of the original images to pixels of the result.
    """
    for number, transform in enumerate(transforms):
        frame = transform.draw(frame, tf.random.experimental.stateless_fold_in(seed, number))
    return CenterCrop(size_hw).draw(frame, seed).matrix


@dataclass(frozen=True)
class Rescale:
    """Resizes images without antialiasing. Reduce large photographs when they are cached.

    Attributes:
        size: The length of the shorter side in pixels, which keeps the aspect ratio, or (height, width).

    Example:
        ``Rescale(250)`` makes the shorter side 250 pixels.
    """

    size: int | tuple[int, int]

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        if isinstance(self.size, int):
            scale_hw = self.size / tf.reduce_min(frame.extent_hw, axis=1, keepdims=True) * tf.ones([1, 2])
        else:
            scale_hw = tf.constant(self.size, tf.float32) / frame.extent_hw
        scale_xy = scale_hw[:, ::-1]
        return frame.then(affine(_diagonal(scale_xy), 0.5 * scale_xy - 0.5), frame.extent_hw * scale_hw)


@dataclass(frozen=True)
class CenterCrop:
    """Crops the centre of an image; pixels outside the image are black.

    Attributes:
        size_hw: (height, width) of the crop in pixels.

    Example:
        ``CenterCrop((112, 112))``
    """

    size_hw: tuple[int, int]

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        size_hw = tf.constant(self.size_hw, tf.float32)
        return frame.then(translation((size_hw - frame.extent_hw)[:, ::-1] / 2), size_hw)


@dataclass(frozen=True)
class RandomCrop:
    """Crops at a random position, by whole pixels. Along a side that is too short, the image is centred.

    Attributes:
        size_hw: (height, width) of the crop in pixels.

    Example:
        ``RandomCrop((224, 224))``
    """

    size_hw: tuple[int, int]

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        size_hw = tf.constant(self.size_hw, tf.float32)
        room_hw = frame.extent_hw - size_hw
        places = tf.floor(_uniform(seed, frame, 2) * (tf.floor(room_hw) + 1))
        return frame.then(translation(-tf.where(room_hw > 0, places, room_hw / 2)[:, ::-1]), size_hw)


@dataclass(frozen=True)
class CropToBox:
    """Crops to the face box with random errors, as a detector makes them. See `kpdetect.core.geometry.CropRule`.

    Attributes:
        size_hw: (height, width) of the crop in pixels.
        margin: Side of the crop over the longer side of the box.
        shift: Shifts are uniform in [-shift, shift], relative to the width and the height of the box.
        scale: The size of the box is multiplied by a factor that is uniform in [1 - scale, 1 + scale].

    Example:
        ``CropToBox((112, 112), margin=1.2, shift=0.05, scale=0.1)``
    """

    size_hw: tuple[int, int]
    margin: float
    shift: float = 0.0
    scale: float = 0.0

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`. It uses the bounding box of the transformed face box: apply it before rotations."""
        corners = apply_matrix(frame.matrix, tf.reshape(frame.boxes, [-1, 2, 2]))
        low, high = tf.reduce_min(corners, axis=1), tf.reduce_max(corners, axis=1)
        uniform = 2 * _uniform(seed, frame, 3) - 1
        center = (low + high) / 2 + self.shift * uniform[:, :2] * (high - low)
        size_xy = tf.constant(self.size_hw[::-1], tf.float32)
        cells = tf.reduce_max((high - low) / size_xy, axis=1, keepdims=True) * (1 + self.scale * uniform[:, 2:])
        scale = tf.repeat(1 / (self.margin * tf.maximum(cells, 1e-6)), 2, axis=1)
        return frame.then(affine(_diagonal(scale), size_xy / 2 - 0.5 - scale * center), self.size_hw)


@dataclass(frozen=True)
class RandomRotation:
    """Rotates about the centre of the image.

    Attributes:
        std_deg: Standard deviation of the angle, which is normally distributed around 0, in degrees.

    Example:
        ``RandomRotation(15.0)`` has a standard deviation of 15 degrees.
    """

    std_deg: float

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        angle = tf.random.stateless_normal(tf.shape(frame.extent_hw)[:1], seed) * math.radians(self.std_deg)
        return frame.then(linear_about(rotation(angle), frame.center_xy))


@dataclass(frozen=True)
class RandomScale:
    """Scales about the centre of the image, which keeps its extent.

    Attributes:
        amount: In [0, 1]. The factor is uniform in [1 - amount, 1 + amount].

    Example:
        ``RandomScale(0.2)``
    """

    amount: float

    def __post_init__(self) -> None:
        check_fraction("RandomScale", self.amount)

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        factor = 1 + self.amount * (2 * _uniform(seed, frame, 1) - 1)
        return frame.then(linear_about(_diagonal(tf.repeat(factor, 2, axis=1)), frame.center_xy))


@dataclass(frozen=True)
class RandomStretch:
    """Stretches an image along a random direction and shrinks it across, so that areas are kept.

    Horizontal and vertical directions change the aspect ratio of faces, by up to ``(1 + amount) ** 2``; oblique
    directions also shear them. The direction is uniform.

    Attributes:
        amount: In [0, 1]. The factor is log-uniform in [1, 1 + amount].

    Example:
        ``RandomStretch(0.1)``
    """

    amount: float

    def __post_init__(self) -> None:
        check_fraction("RandomStretch", self.amount)

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        uniform = _uniform(seed, frame, 2)
        factor, turn = (1 + self.amount) ** uniform[:, :1], rotation(math.pi * uniform[:, 1])
        stretch = _diagonal(tf.concat([factor, 1 / factor], axis=1))
        return frame.then(linear_about(turn @ stretch @ tf.linalg.matrix_transpose(turn), frame.center_xy))


@dataclass(frozen=True)
class RandomShift:
    """Shifts the image, which keeps its extent.

    Attributes:
        amount: Shifts are uniform in [-amount, amount], relative to the width and the height of the image.

    Example:
        ``RandomShift(0.05)``
    """

    amount: float

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        uniform = 2 * _uniform(seed, frame, 2) - 1
        return frame.then(translation(self.amount * uniform * frame.extent_hw[:, ::-1]))


@dataclass(frozen=True)
class RandomFlip:
    """Mirrors images at random: ``x -> W - 1 - x``. `swap_left_right` exchanges left and right keypoints.

    Attributes:
        probability: Share of mirrored images, in [0, 1].

    Example:
        ``RandomFlip(probability=0.5)`` mirrors half of the images.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_fraction("RandomFlip", self.probability)

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        mirrored = tf.cast(_uniform(seed, frame, 1) < self.probability, tf.float32)
        width = frame.extent_hw[:, 1:]
        scale = tf.concat([1 - 2 * mirrored, tf.ones_like(mirrored)], axis=1)
        shift = tf.concat([mirrored * (width - 1), tf.zeros_like(mirrored)], axis=1)
        return frame.then(affine(_diagonal(scale), shift))


def warp(images: Tensor, matrix: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Warps images by affine matrices: bilinear, black outside the image, without antialiasing.

    Args:
        images: (B, h, w, C), uint8 or float32.
        matrix: (B, 3, 3), from pixels of the images to pixels of the result.
        size_hw: (H, W) of the result.

    Returns:
        (B, H, W, C) float32. (The op would truncate uint8 results instead of rounding them.)
    """
    to_source = invert(matrix)
    moved = tf.cond(
        is_integer_crop(to_source, tf.shape(images)[1:3], size_hw),
        lambda: integer_crop(images, to_source, size_hw),
        lambda: warp_bilinear(images, to_source, size_hw),
    )
    return tf.ensure_shape(moved, [images.shape[0], *size_hw, images.shape[-1]])


def warp_bilinear(images: Tensor, to_source: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """As `warp`, by matrices (B, 3, 3) from pixels of the result to pixels of the images, always bilinear."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.pad(tf.reshape(to_source[:, :2], [-1, 6]), [[0, 0], [0, 2]]),
        output_shape=size_hw,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """Transforms points (B, K, 2) by matrices (B, 3, 3): (B, K, 2)."""
    return tf.matmul(points, matrix[:, :2, :2], transpose_b=True) + matrix[:, tf.newaxis, :2, 2]


def swap_left_right(values: Tensor, matrix: Tensor, flip_permutation: Sequence[int] | None) -> Tensor:
    """Exchanges left and right keypoints of mirrored images, so that ``left_eye`` is the person's left eye again.

    An image is mirrored if the determinant of its matrix is negative; two flips cancel.

    Args:
        values: (B, K, …), keypoints or other values per keypoint.
        matrix: (B, 3, 3), the transforms of the images.
        flip_permutation: The permutation of the schema; without one, the values are returned unchanged.

    Returns:
        (B, K, …), the permuted values.
    """
    if flip_permutation is None:
        return values
    determinant = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
    mirrored = tf.reshape(determinant < 0, [-1] + [1] * (values.shape.rank - 1))
    return tf.where(mirrored, tf.gather(values, flip_permutation, axis=1), values)


def affine(linear: Tensor, shift_xy: Tensor) -> Tensor:
    """Linear maps (B, 2, 2) and shifts (B, 2) as matrices (B, 3, 3)."""
    top = tf.concat([linear, shift_xy[..., tf.newaxis]], axis=2)
    bottom = tf.broadcast_to(tf.constant([0.0, 0.0, 1.0]), [tf.shape(top)[0], 1, 3])
    return tf.concat([top, bottom], axis=1)


def linear_about(linear: Tensor, center_xy: Tensor) -> Tensor:
    """Linear maps (B, 2, 2) about fixed points `center_xy` (B, 2), as matrices (B, 3, 3)."""
    return affine(linear, center_xy - tf.linalg.matvec(linear, center_xy))


def translation(shift_xy: Tensor) -> Tensor:
    """Shifts (B, 2) as matrices (B, 3, 3)."""
    return affine(tf.eye(2, batch_shape=tf.shape(shift_xy)[:1]), shift_xy)


def rotation(angle_rad: Tensor) -> Tensor:
    """Rotations by angles (B,) in radians, clockwise in the image (y points down): (B, 2, 2)."""
    cos, sin = tf.cos(angle_rad), tf.sin(angle_rad)
    return tf.stack([tf.stack([cos, -sin], axis=1), tf.stack([sin, cos], axis=1)], axis=1)


def invert(matrix: Tensor) -> Tensor:
    """Inverts affine matrices (B, 3, 3) in closed form; `tf.linalg.inv` is slower than all other steps together."""
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    rows = [tf.stack([d, -b], axis=1), tf.stack([-c, a], axis=1)]
    linear = tf.stack(rows, axis=1) / (a * d - b * c)[:, tf.newaxis, tf.newaxis]
    return affine(linear, -tf.linalg.matvec(linear, matrix[:, :2, 2]))


def check_fraction(name: str, value: float) -> None:
    """Raises a KpdetectError if `value`, an attribute of the transform `name`, is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise KpdetectError(f"{name}: expected a number in [0, 1], received {value}")


def _diagonal(scale_xy: Tensor) -> Tensor:
    return tf.linalg.diag(scale_xy)


def _uniform(seed: Tensor, frame: Frame, count: int) -> Tensor:
    """(B, count) in [0, 1)."""
    return tf.random.stateless_uniform([tf.shape(frame.extent_hw)[0], count], seed)
