"""The optimizers give Keras' own numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kpdetect.training import optimizers


def trained(optimizer: keras.optimizers.Optimizer, steps: int = 5) -> list[np.ndarray]:
    """Two variables, and the optimizer's state, after some steps down a slope that changes."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=shape).astype(np.float32)) for shape in ((7, 5), (3,))]
    for step in range(steps):
        gradients = [tf.constant(random.normal(step, 1, variable.shape).astype(np.float32)) for variable in variables]
        optimizer.apply(gradients, variables)
    return [np.asarray(variable) for variable in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_one_op_does_what_keras_does(name: str) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    ours, theirs = (trained(getattr(module, name)(schedule)) for module in (optimizers, keras.optimizers))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-5)  # a weight moves by 0.1 a step
    assert not np.allclose(ours[0], trained(getattr(optimizers, name)(schedule), steps=4)[0])
