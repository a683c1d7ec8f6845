"""Owns batch normalisation as the networks train with it: Keras' own, in one op where TensorFlow has a fast one."""

from typing import Any

import keras
from keras import ops

Tensor = Any  # a keras tensor of whichever backend runs

VECTOR = 16
"""Channels that oneDNN's kernels take at once; with a number that it does not divide they are slower than Keras."""


@keras.saving.register_keras_serializable(package="kpdetect")
class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # keras tells no types
    """Keras' layer, of the same weights and the same numbers up to the last digits.

    In training, Keras goes over a batch a dozen times, forth and back; TensorFlow's op once or twice. So pictures are
    normalised by that op where TensorFlow is the backend. All else is Keras': other backends, inference and what is
    exported, vectors, and batches that are split over several processors.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        """(…, C) -> (…, C)."""
        if training and self.trainable and mask is None and self._suits(inputs):
            return self._in_one_op(inputs)
        return super().call(inputs, training=training, mask=mask)

    def _suits(self, inputs: Tensor) -> bool:
        plain = self.scale and self.center and not self.renorm and not self.synchronized
        pictures = len(inputs.shape) == 4 and self.axis in (-1, 3) and inputs.shape[-1] % VECTOR == 0
        return bool(plain and pictures and keras.backend.backend() == "tensorflow")

    def _in_one_op(self, inputs: Tensor) -> Tensor:
        import tensorflow as tf  # the backend: it is there

        nothing = tf.zeros([0])  # the running statistics are Keras' to keep
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma),
            offset=ops.convert_to_tensor(self.beta),
            mean=nothing,
            variance=nothing,
            epsilon=self.epsilon,
            exponential_avg_factor=1.0,
            is_training=True,
        )
        count = ops.cast(ops.prod(ops.shape(inputs)[:-1]), variance.dtype)
        variance = variance * (ops.maximum(count - 1, 1) / count)  # the op tells N - 1's, Keras keeps N's
        for running, latest in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(running * self.momentum + latest * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)
