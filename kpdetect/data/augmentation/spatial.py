"""Owns moving image and points together: each transform draws a matrix, all become one matrix and one warp per image.

Pure TensorFlow ops on whole batches. The tiny classes draw the chance; the functions at the end do it. A matrix is a
forward one, from source pixels to target pixels, with pixel centres on integers (`kpdetect.core.geometry`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import tensorflow as tf

from kpdetect.core.errors import KpdetectError
from kpdetect.data.augmentation.cutout import cut_out, is_cut_out

Tensor = Any  # TensorFlow ships no types that mypy can use; shapes are in the docstrings


@dataclass(frozen=True)
class Frame:
    """Where a batch stands while matrices are drawn; nothing has been warped yet.

    Attributes:
        matrix: (B, 3, 3) float32, from the pictures as they came to here.
        extent_hw: (B, 2) float32, each picture's height and width here.
        boxes: (B, 4) float32, the face boxes (x0, y0, x1, y1) in the pictures as they came.
    """

    matrix: Tensor
    extent_hw: Tensor
    boxes: Tensor

    def then(self, matrix: Tensor, extent_hw: Tensor | None = None) -> "Frame":
        """The frame after one more matrix (B, 3, 3); the extent stays unless another is given."""
        extent = self.extent_hw if extent_hw is None else tf.broadcast_to(extent_hw, tf.shape(self.extent_hw))
        return replace(self, matrix=matrix @ self.matrix, extent_hw=tf.cast(extent, tf.float32))

    @property
    def center_xy(self) -> Tensor:
        """(B, 2): relative 0.5, which is pixel W / 2 - 0.5."""
        return self.extent_hw[:, ::-1] / 2 - 0.5


@runtime_checkable
class SpatialTransform(Protocol):
    """Draws one (B, 3, 3) matrix."""

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """Where the batch stands after it; `seed` is a (2,) tensor, and the same seed draws the same."""


def start_frame(extent_hw: Tensor, boxes: Tensor) -> Frame:
    """Pictures as they came, nothing drawn yet."""
    return Frame(tf.eye(3, batch_shape=tf.shape(extent_hw)[:1]), tf.cast(extent_hw, tf.float32), boxes)


def draw_matrix(transforms: Sequence[SpatialTransform], frame: Frame, size_hw: tuple[int, int], seed: Tensor) -> Tensor:
    """Composes all that is drawn into one (B, 3, 3) matrix, from the pictures as they came to pictures of `size_hw`.

    What the transforms leave stands in the middle of `size_hw`: a list that ends on a crop of that size fills it.
    """
    for number, transform in enumerate(transforms):
        frame = transform.draw(frame, tf.random.experimental.stateless_fold_in(seed, number))
    return CenterCrop(size_hw).draw(frame, seed).matrix


@dataclass(frozen=True)
class Rescale:
    """Resizes the picture. It does not antialias: shrink big photographs when they are cached.

    Attributes:
        size: A number is the shorter side and keeps the aspect ratio; a pair is (height, width).
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
    """Cuts `size_hw` out of the middle; what reaches over the border is black."""

    size_hw: tuple[int, int]

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        size_hw = tf.constant(self.size_hw, tf.float32)
        return frame.then(translation((size_hw - frame.extent_hw)[:, ::-1] / 2), size_hw)


@dataclass(frozen=True)
class RandomCrop:
    """Cuts `size_hw` out of a random place, by whole pixels; a picture that is too small stands in the middle."""

    size_hw: tuple[int, int]

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        size_hw = tf.constant(self.size_hw, tf.float32)
        room_hw = frame.extent_hw - size_hw
        places = tf.floor(_uniform(seed, frame, 2) * (tf.floor(room_hw) + 1))
        return frame.then(translation(-tf.where(room_hw > 0, places, room_hw / 2)[:, ::-1]), size_hw)


@dataclass(frozen=True)
class CropToBox:
    """Crops to the face box, off by chance as a detector's box is: `CropRule` for whole batches.

    Attributes:
        size_hw: The crop's (height, width).
        margin: The crop's side over the box's longer side.
        shift: Greatest shift, as a share of the box's width and height.
        scale: Greatest relative change of the box's size.
    """

    size_hw: tuple[int, int]
    margin: float
    shift: float = 0.0
    scale: float = 0.0

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`; the box is where the frame's matrix brings it, so put this before any turn."""
        corners = apply_matrix(frame.matrix, tf.reshape(frame.boxes, [-1, 2, 2]))
        low, high = tf.reduce_min(corners, axis=1), tf.reduce_max(corners, axis=1)
        chance = 2 * _uniform(seed, frame, 3) - 1
        center = (low + high) / 2 + self.shift * chance[:, :2] * (high - low)
        size_xy = tf.constant(self.size_hw[::-1], tf.float32)
        cells = tf.reduce_max((high - low) / size_xy, axis=1, keepdims=True) * (1 + self.scale * chance[:, 2:])
        scale = tf.repeat(1 / (self.margin * tf.maximum(cells, 1e-6)), 2, axis=1)
        return frame.then(affine(_diagonal(scale), size_xy / 2 - 0.5 - scale * center), self.size_hw)


@dataclass(frozen=True)
class RandomRotation:
    """Turns about the middle by a normally distributed angle of this standard deviation, in degrees."""

    std_deg: float

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        angle = tf.random.stateless_normal(tf.shape(frame.extent_hw)[:1], seed) * math.radians(self.std_deg)
        return frame.then(about(rotation(angle), frame.center_xy))


@dataclass(frozen=True)
class RandomScale:
    """Zooms about the middle by a factor between 1 - amount and 1 + amount; the picture keeps its extent."""

    amount: float

    def __post_init__(self) -> None:
        check_share("RandomScale", self.amount)

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        factor = 1 + self.amount * (2 * _uniform(seed, frame, 1) - 1)
        return frame.then(about(_diagonal(tf.repeat(factor, 2, axis=1)), frame.center_xy))


@dataclass(frozen=True)
class RandomStretch:
    """Stretches along a direction by a factor of up to 1 + amount, and shrinks across it by the same.

    Areas stay as they are. Directions are drawn like angles: upright ones make faces longer or wider, slanting ones
    shear them, and the ratio between the two sides of a square changes by up to (1 + amount) squared.
    """

    amount: float

    def __post_init__(self) -> None:
        check_share("RandomStretch", self.amount)

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        chance = _uniform(seed, frame, 2)
        factor, turn = (1 + self.amount) ** chance[:, :1], rotation(math.pi * chance[:, 1])
        stretch = _diagonal(tf.concat([factor, 1 / factor], axis=1))
        return frame.then(about(turn @ stretch @ tf.linalg.matrix_transpose(turn), frame.center_xy))


@dataclass(frozen=True)
class RandomShift:
    """Shifts by up to this share of the picture's height and width, either way; the picture keeps its extent."""

    amount: float

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        chance = 2 * _uniform(seed, frame, 2) - 1
        return frame.then(translation(self.amount * chance * frame.extent_hw[:, ::-1]))


@dataclass(frozen=True)
class RandomFlip:
    """Mirrors left and right by chance: ``W - 1 - x``, and `swap_sides` renames the points."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_share("RandomFlip", self.probability)

    def draw(self, frame: Frame, seed: Tensor) -> Frame:
        """See `SpatialTransform`."""
        mirrored = tf.cast(_uniform(seed, frame, 1) < self.probability, tf.float32)
        width = frame.extent_hw[:, 1:]
        scale = tf.concat([1 - 2 * mirrored, tf.ones_like(mirrored)], axis=1)
        shift = tf.concat([mirrored * (width - 1), tf.zeros_like(mirrored)], axis=1)
        return frame.then(affine(_diagonal(scale), shift))


def warp(images: Tensor, matrix: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Moves pictures by matrices: bilinear, black outside, no antialiasing.

    Args:
        images: (B, h, w, C), uint8 or float32.
        matrix: (B, 3, 3), from pixels of the pictures to pixels of the result.
        size_hw: (H, W) of the result.

    Returns:
        (B, H, W, C) float32. (Bytes would be cut off and not rounded by the op.)
    """
    to_source = invert(matrix)
    moved = tf.cond(
        is_cut_out(to_source, tf.shape(images)[1:3], size_hw),
        lambda: cut_out(images, to_source, size_hw),
        lambda: interpolated(images, to_source, size_hw),
    )
    return tf.ensure_shape(moved, [images.shape[0], *size_hw, images.shape[-1]])


def interpolated(images: Tensor, to_source: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """What `warp` gives, by matrices from pixels of the result to those of the pictures."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.pad(tf.reshape(to_source[:, :2], [-1, 6]), [[0, 0], [0, 2]]),
        output_shape=size_hw,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """Moves points (B, K, 2) by matrices (B, 3, 3)."""
    return tf.matmul(points, matrix[:, :2, :2], transpose_b=True) + matrix[:, tf.newaxis, :2, 2]


def swap_sides(values: Tensor, matrix: Tensor, flip_permutation: Sequence[int] | None) -> Tensor:
    """Renames left and right in mirrored pictures, so that ``left_eye`` is the pictured person's left eye again.

    A mirror is a matrix of negative determinant, so that two flips are none.

    Args:
        values: (B, K, …), the points or what else there is one of per point.
        matrix: (B, 3, 3), how the pictures were moved.
        flip_permutation: The scheme's; None where nothing can be mirrored.
    """
    if flip_permutation is None:
        return values
    determinant = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
    mirrored = tf.reshape(determinant < 0, [-1] + [1] * (values.shape.rank - 1))
    return tf.where(mirrored, tf.gather(values, flip_permutation, axis=1), values)


def affine(linear: Tensor, shift_xy: Tensor) -> Tensor:
    """(B, 2, 2) and (B, 2) as (B, 3, 3)."""
    top = tf.concat([linear, shift_xy[..., tf.newaxis]], axis=2)
    bottom = tf.broadcast_to(tf.constant([0.0, 0.0, 1.0]), [tf.shape(top)[0], 1, 3])
    return tf.concat([top, bottom], axis=1)


def about(linear: Tensor, center_xy: Tensor) -> Tensor:
    """A (B, 2, 2) map that leaves the points (B, 2) where they are, as (B, 3, 3)."""
    return affine(linear, center_xy - tf.linalg.matvec(linear, center_xy))


def translation(shift_xy: Tensor) -> Tensor:
    """A shift (B, 2) as (B, 3, 3)."""
    return affine(tf.eye(2, batch_shape=tf.shape(shift_xy)[:1]), shift_xy)


def rotation(angle_rad: Tensor) -> Tensor:
    """Turns by (B,) angles, clockwise as it is seen (y points down): (B, 2, 2)."""
    cos, sin = tf.cos(angle_rad), tf.sin(angle_rad)
    return tf.stack([tf.stack([cos, -sin], axis=1), tf.stack([sin, cos], axis=1)], axis=1)


def invert(matrix: Tensor) -> Tensor:
    """The inverse of affine matrices (B, 3, 3), written out: `tf.linalg.inv` takes longer than all the rest here."""
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    rows = [tf.stack([d, -b], axis=1), tf.stack([-c, a], axis=1)]
    linear = tf.stack(rows, axis=1) / (a * d - b * c)[:, tf.newaxis, tf.newaxis]
    return affine(linear, -tf.linalg.matvec(linear, matrix[:, :2, 2]))


def check_share(name: str, value: float) -> None:
    """Raises a KpdetectError where a transform's chance or amount is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise KpdetectError(f"{name}: expected a number in [0, 1], received {value}")


def _diagonal(scale_xy: Tensor) -> Tensor:
    return tf.linalg.diag(scale_xy)


def _uniform(seed: Tensor, frame: Frame, count: int) -> Tensor:
    """(B, count) in [0, 1)."""
    return tf.random.stateless_uniform([tf.shape(frame.extent_hw)[0], count], seed)
