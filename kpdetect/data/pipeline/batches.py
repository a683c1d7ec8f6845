"""Owns training batches: an endless stream in which every batch is a function of the seed and of its number alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema
from kpdetect.data.augmentation import Batch, Tensor, Transform, check_transforms, draw, vary
from kpdetect.data.pipeline.cache import ALIGNMENT, FaceCache

SHUFFLE_ROUNDS = 4  # TensorFlow's own default; an even number, 4 at least


@dataclass(frozen=True)
class Share:
    """Which rows of each batch are made here, where several processes share the work.

    One row in `count`, and not a block of them: `Blur` takes the first rows of a batch, which would all be one
    process's.

    Attributes:
        number: The process's, from 0.
        count: How many processes there are.
    """

    number: int = 0
    count: int = 1

    def of(self, rows: Any) -> Any:
        """Its part of what has a row per face."""
        return rows[self.number :: self.count]


ALL_ROWS = Share()


@dataclass(frozen=True)
class BatchOptions:
    """What batches look like, and where the stream begins.

    Attributes:
        size_hw: The model's (height, width).
        batch_size: Faces a batch, over all processes; more than there are faces is fine, they then come up more than
            once.
        seed: Another seed gives another order and another augmentation.
        start_step: The number of the first batch, so that training resumes where it stopped.
        share: What of each batch is made here.
    """

    size_hw: tuple[int, int]
    batch_size: int
    seed: int = 0
    start_step: int = 0
    share: Share = ALL_ROWS

    def __post_init__(self) -> None:
        if self.batch_size % self.share.count:
            raise KpdetectError(
                f"batches: expected a size that {self.share.count} processes can share evenly, "
                f"received {self.batch_size}"
            )
        if self.batch_size < 1 or self.start_step < 0 or min(self.size_hw) < 1:
            raise KpdetectError(f"batches: expected a positive size and number, received {self}")


def training_batches(
    cache: FaceCache, transforms: Sequence[Transform], schema: KeypointSchema, options: BatchOptions
) -> tf.data.Dataset:
    """Endless augmented batches of a cache, every face once an epoch in an order of the epoch's own.

    Batch number n is the same whatever came before it: a stream from `start_step=n` goes on exactly as one from 0.
    Epochs follow without a gap, so that no face is left over where the batch size does not divide their number.

    Args:
        cache: What `build_cache` made.
        transforms: What varies; see `kpdetect.data.augmentation`. None of them takes the crop in the canvas's middle.
        schema: The scheme of the points.
        options: Sizes, seed and start.

    Of a batch that several processes share, each gathers and warps its own rows alone, and they are to the last digit
    those that one process makes: chance is drawn for the whole batch, which takes a few numbers a face.

    Returns:
        Triples: images (B, H, W, C) float32 in 0-255, keypoints (B, K, 2) float32 relative to the crop, and visible
        (B, K) float32, 1 or 0, which Keras takes as the weight of each point.

    Raises:
        KpdetectError: The transforms do not go with the scheme, or no face has a visible point.
    """
    check_transforms(transforms, schema)
    if not cache.visible.any():
        raise KpdetectError("batches: expected faces with visible points to learn from, received boxes alone")
    data, share = as_tensors(cache), options.share

    def make(step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = shuffled_rows(step, len(cache), options)
        seed = tf.stack([tf.constant(options.seed, tf.int64), step])
        extent_hw, boxes = tf.gather(data.extent_hw, rows), tf.gather(data.boxes, rows)
        drawn = draw(transforms, extent_hw, boxes, options.size_hw, seed).part(share.number, share.count)
        batch = gather(data, share.of(rows))
        images, keypoints, visible = vary(batch, transforms, schema, options.size_hw, drawn)
        return images, (keypoints + 0.5) / options.size_hw[::-1], visible

    steps = tf.data.Dataset.counter(start=options.start_step)
    # Nothing here is Python that depends on tensors; rewriting it as if it were takes seconds.
    make = tf.autograph.experimental.do_not_convert(make)
    batches = steps.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
    return batches.with_options(without_rewriting())


def without_rewriting() -> tf.data.Options:
    """tf.data rewrites a pipeline by writing it out, and would copy the whole cache; there is nothing to rewrite.

    (With several GPUs, distribution rewrites nevertheless, and the cache lies in memory once more.)
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return options


def shuffled_rows(step: Tensor, count: int, options: BatchOptions) -> Tensor:
    """Which rows batch number `step` holds: (B,) int64 in 0 … count - 1.

    `tf.random.experimental.index_shuffle` is a permutation that needs no memory. Its op takes a seed per element,
    which a batch that spans two epochs needs; the Python function around it does not (TensorFlow 2.21).
    """
    position = step * options.batch_size + tf.range(options.batch_size, dtype=tf.int64)
    epoch = position // count
    seed = tf.stack(
        [tf.fill([options.batch_size], tf.constant(options.seed, tf.int64)), epoch, tf.zeros_like(epoch)], 1
    )
    return tf.raw_ops.RandomIndexShuffle(
        index=position % count, seed=seed, max_index=tf.constant(count - 1, tf.int64), rounds=SHUFFLE_ROUNDS
    )


def gather(data: Batch, rows: Tensor) -> Batch:
    """Takes rows (B,) out of a whole data set that is held as one `Batch`."""
    fields = (data.images, data.keypoints, data.visible, data.extent_hw, data.boxes)
    return Batch(*(tf.gather(field, rows) for field in fields))


def as_tensors(cache: FaceCache) -> Batch:
    """A cache as TensorFlow sees it; the pictures are not copied.

    `tf.gather` on them takes half as long as a Python function that indexes the array, and no Python runs in
    TensorFlow's threads, which can hang when the program ends.
    """
    small = (cache.keypoints, cache.visible.astype(np.float32), cache.extents_hw, cache.boxes)
    return Batch(_shared(cache.images), *(tf.constant(array) for array in small))


def _shared(images: npt.NDArray[np.uint8]) -> Tensor:
    """The array's own memory, or the mapped file's, as a tensor; a copy where TensorFlow cannot take it as it is."""
    flags = images.flags
    if images.ctypes.data % ALIGNMENT == 0 and flags.c_contiguous and flags.writeable:
        return tf.experimental.dlpack.from_dlpack(images.__dlpack__())
    return tf.constant(images)
