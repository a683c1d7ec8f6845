"""Crops by whole pixels, optionally mirrored: copies pixels, which is several times as fast as a bilinear warp.

All matrices are (B, 3, 3), from pixels of the result to pixels of the images.
"""

from typing import Any

import tensorflow as tf

Tensor = Any  # TensorFlow ships no types that mypy can use; shapes are in the docstrings


def is_integer_crop(to_source: Tensor, source_hw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Whether every result is a crop of its image by whole pixels, or the mirror image of such a crop.

    Args:
        to_source: (B, 3, 3).
        source_hw: (2,), height and width of the images.
        size_hw: (H, W) of the result.

    Returns:
        A scalar bool tensor.
    """
    mirror = to_source[:, 0, 0]
    whole = tf.abs(mirror[:, tf.newaxis, tf.newaxis]) * tf.eye(2) == tf.abs(to_source[:, :2, :2])
    first = _first_pixel(to_source, size_hw)
    inside = (first >= 0) & (first + tf.constant(size_hw, tf.float32) <= tf.cast(source_hw, tf.float32))
    upright = (tf.abs(mirror) == 1) & (to_source[:, 1, 1] == 1)
    return tf.reduce_all([tf.reduce_all(part) for part in (whole, upright, inside, first == tf.floor(first))])


def _first_pixel(to_source: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(B, 2), first row and first column of each crop."""
    last_column = to_source[:, 0, 2] + tf.minimum(to_source[:, 0, 0], 0.0) * (size_hw[1] - 1)
    return tf.stack([to_source[:, 1, 2], last_column], axis=1)


def integer_crop(images: Tensor, to_source: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Crops images by whole pixels; bit-identical to `warp_bilinear` for matrices that `is_integer_crop` accepts.

    Args:
        images: (B, h, w, C), uint8 or float32.
        to_source: (B, 3, 3).
        size_hw: (H, W) of the result.

    Returns:
        (B, H, W, C) float32.
    """
    first = _first_pixel(to_source, size_hw)
    rows = first[:, :1] + tf.range(size_hw[0], dtype=tf.float32)
    columns = to_source[:, :1, 2] + to_source[:, :1, 0] * tf.range(size_hw[1], dtype=tf.float32)
    parts = tf.gather(images, tf.cast(rows, tf.int32), batch_dims=1)
    # Columns are gathered as rows of the transposed images: a gather along the last axes would copy single bytes.
    parts = tf.gather(tf.transpose(parts, [0, 2, 1, 3]), tf.cast(columns, tf.int32), batch_dims=1)
    return tf.transpose(tf.cast(parts, tf.float32), [0, 2, 1, 3])
