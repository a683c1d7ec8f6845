"""Training batches: an endless stream in which each batch depends only on the seed and on its number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema
from kpdetect.data.augmentation import Batch, Tensor, Transform, apply_augmentation, check_transforms, draw_augmentation
from kpdetect.data.pipeline.cache import ALIGNMENT, FaceCache

SHUFFLE_ROUNDS = 4  # TensorFlow's own default; an even number, 4 at least


@dataclass(frozen=True)
class Share:
    """The rows of each batch that this process makes, if several processes share the work.

    A process takes a block of rows, so that the blocks of all processes are the batch of one process, in its order:
    dropout then drops the same values.

    >>> Share(1, 2).of(np.array([10, 11, 12, 13])).tolist()
    [12, 13]

    Attributes:
        number: The number of the process, from 0.
        count: The number of processes.
    """

    number: int = 0
    count: int = 1

    def of(self, rows: Any) -> Any:
        """The rows of this process, from an array or tensor with a row per face, of a length that `count` divides."""
        size = rows.shape[0] // self.count
        return rows[self.number * size : (self.number + 1) * size]


ALL_ROWS = Share()


@dataclass(frozen=True)
class BatchOptions:
    """Size, seed and start of a stream of batches.

    Attributes:
        size_hw: (height, width) of the model's input.
        batch_size: Faces per batch, over all processes. If it exceeds the number of faces, faces repeat within a batch.
        seed: Determines the order of the faces and the augmentation.
        start_step: The number of the first batch, so that training can resume where it stopped.
        share: The rows of each batch that this process makes.

    Example:
        ``BatchOptions((112, 112), batch_size=64, seed=1)``
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
    """Returns an endless stream of augmented batches, in which every face appears once per epoch in a new order.

    Batch number n does not depend on the batches before it: a stream with `start_step=n` continues exactly like one
    that started from 0. Epochs follow each other without a gap, so a batch may contain faces of two epochs.

    If several processes share a batch, each gathers and warps only its own rows. They are bit-identical to those of
    one process, because the random numbers are drawn for the whole batch.

    Example::

        batches = training_batches(cache, transforms, schema, BatchOptions((112, 112), 64, seed=1))
        images, keypoints, visible = next(iter(batches))

    Args:
        cache: The faces; see `build_cache`.
        transforms: The augmentation; see `kpdetect.data.augmentation`. Without any, the crop is the canvas' middle.
        schema: The keypoint schema.
        options: Sizes, seed and start.

    Returns:
        Triples: images (B, H, W, C) float32 in [0, 255], keypoints (B, K, 2) float32 relative to the crop, and visible
        (B, K) float32, 1 or 0, which Keras uses as the sample weight of each point.

    Raises:
        KpdetectError: The transforms do not fit the schema, or no face has a visible point.
    """
    check_transforms(transforms, schema)
    if not cache.visible.any():
        raise KpdetectError("batches: expected faces with visible points, received faces without any")
    data, share = as_tensors(cache), options.share

    def make(step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = shuffled_rows(step, len(cache), options)
        seed = tf.stack([tf.constant(options.seed, tf.int64), step])
        extent_hw, boxes = tf.gather(data.extent_hw, rows), tf.gather(data.boxes, rows)
        drawn = draw_augmentation(transforms, extent_hw, boxes, options.size_hw, seed).shard(share.number, share.count)
        batch = gather(data, share.of(rows))
        images, keypoints, visible = apply_augmentation(batch, transforms, schema, options.size_hw, drawn)
        return images, (keypoints + 0.5) / options.size_hw[::-1], visible

    steps = tf.data.Dataset.counter(start=options.start_step)
    # AutoGraph would take seconds to convert a function without tensor-dependent Python control flow.
    make = tf.autograph.experimental.do_not_convert(make)
    batches = steps.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
    return batches.with_options(without_rewriting())


def without_rewriting() -> tf.data.Options:
    """Options that switch off the graph rewriting of tf.data, which would copy the whole cache.

    With several GPUs, the distribution strategy rewrites the graph anyway, and the cache is copied once.
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return options


def shuffled_rows(step: Tensor, count: int, options: BatchOptions) -> Tensor:
    """The rows of batch number `step`: (B,) int64 in [0, count).

    `tf.random.experimental.index_shuffle` computes a permutation without memory. A batch that spans two epochs needs a
    seed per element, which the op accepts and its Python function does not (TensorFlow 2.21).
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
    """Gathers rows (B,) from a whole data set that is stored as one `Batch`."""
    fields = (data.images, data.keypoints, data.visible, data.extent_hw, data.boxes)
    return Batch(*(tf.gather(field, rows) for field in fields))


def as_tensors(cache: FaceCache) -> Batch:
    """The cache as TensorFlow tensors. The images share the memory of the cache.

    `tf.gather` on tensors takes half the time of a Python function that indexes an array. Also, Python functions in
    TensorFlow's threads can hang when the program ends.
    """
    small = (cache.keypoints, cache.visible.astype(np.float32), cache.extents_hw, cache.boxes)
    return Batch(_shared(cache.images), *(tf.constant(array) for array in small))


def _shared(images: npt.NDArray[np.uint8]) -> Tensor:
    """A tensor that shares the memory of the array or of its mapped file; a copy if the alignment does not allow it."""
    flags = images.flags
    if images.ctypes.data % ALIGNMENT == 0 and flags.c_contiguous and flags.writeable:
        return tf.experimental.dlpack.from_dlpack(images.__dlpack__())
    return tf.constant(images)
