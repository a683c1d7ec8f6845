"""Owns crops by whole pixels: where a warp is no more than that, copying gives the same numbers several times as fast.

Matrices are (B, 3, 3), from pixels of the result to pixels of the pictures.
"""

from typing import Any

import tensorflow as tf

Tensor = Any  # TensorFlow ships no types that mypy can use; shapes are in the docstrings


def is_cut_out(to_source: Tensor, source_hw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Whether every result is a part of its picture, pixel by pixel, or the mirror image of one."""
    mirror = to_source[:, 0, 0]
    whole = tf.abs(mirror[:, tf.newaxis, tf.newaxis]) * tf.eye(2) == tf.abs(to_source[:, :2, :2])
    first = _first_pixel(to_source, size_hw)
    inside = (first >= 0) & (first + tf.constant(size_hw, tf.float32) <= tf.cast(source_hw, tf.float32))
    upright = (tf.abs(mirror) == 1) & (to_source[:, 1, 1] == 1)
    return tf.reduce_all([tf.reduce_all(part) for part in (whole, upright, inside, first == tf.floor(first))])


def _first_pixel(to_source: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(B, 2), the row and the column in the picture where the part begins."""
    last_column = to_source[:, 0, 2] + tf.minimum(to_source[:, 0, 0], 0.0) * (size_hw[1] - 1)
    return tf.stack([to_source[:, 1, 2], last_column], axis=1)


def cut_out(images: Tensor, to_source: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """What `interpolated` would give there, to the last digit, and several times as fast: rows of bytes are copied."""
    first = _first_pixel(to_source, size_hw)
    rows = first[:, :1] + tf.range(size_hw[0], dtype=tf.float32)
    columns = to_source[:, :1, 2] + to_source[:, :1, 0] * tf.range(size_hw[1], dtype=tf.float32)
    parts = tf.gather(images, tf.cast(rows, tf.int32), batch_dims=1)
    # Columns are taken as rows of the transposed pictures: one by one they would be single bytes.
    parts = tf.gather(tf.transpose(parts, [0, 2, 1, 3]), tf.cast(columns, tf.int32), batch_dims=1)
    return tf.transpose(tf.cast(parts, tf.float32), [0, 2, 1, 3])
