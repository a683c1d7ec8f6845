"""Owns the optimizers: Keras' own, with Adam's update as one op where TensorFlow has it."""

from typing import Any

import keras
from keras import ops

Tensor = Any  # a keras tensor of whichever backend runs


class Adam(keras.optimizers.Adam):  # type: ignore[misc]  # keras tells no types
    """Keras' Adam (arXiv:1412.6980), of the same state and the same numbers up to the last digits.

    As ops of their own, the update's dozen steps each read and write all weights: of the 150 million of `batchnorm`
    that takes as long as all else in a step. TensorFlow's op goes through memory once.
    """

    def update_step(self, gradient: Tensor, variable: Tensor, learning_rate: Tensor) -> None:
        """Moves one variable."""
        if keras.backend.backend() == "tensorflow":
            apply_adam(self, gradient, variable, learning_rate)
        else:
            super().update_step(gradient, variable, learning_rate)


class AdamW(keras.optimizers.AdamW):  # type: ignore[misc]  # keras tells no types
    """Keras' AdamW (arXiv:1711.05101), updated as `Adam` is; the decay is Keras'."""

    def update_step(self, gradient: Tensor, variable: Tensor, learning_rate: Tensor) -> None:
        """Moves one variable."""
        if keras.backend.backend() == "tensorflow":
            apply_adam(self, gradient, variable, learning_rate)
        else:
            super().update_step(gradient, variable, learning_rate)


def apply_adam(optimizer: Any, gradient: Tensor, variable: Tensor, learning_rate: Tensor) -> None:
    """One variable's update, and that of its running means."""
    import tensorflow as tf  # the backend: it is there

    index = optimizer._get_variable_index(variable)
    step = ops.cast(optimizer.iterations + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=optimizer._momentums[index].value.handle,
        v=optimizer._velocities[index].value.handle,
        beta1_power=ops.power(ops.cast(optimizer.beta_1, variable.dtype), step),
        beta2_power=ops.power(ops.cast(optimizer.beta_2, variable.dtype), step),
        lr=ops.cast(learning_rate, variable.dtype),
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
        grad=ops.cast(gradient, variable.dtype),
    )
