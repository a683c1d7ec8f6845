"""The fused optimizers equal those of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kpdetect.models import optimizers
from kpdetect.recipes import Optimization
from kpdetect.training.compile import build_optimizer


def trained(optimizer: keras.optimizers.Optimizer, steps: int = 5) -> list[np.ndarray]:
    """Two variables and the optimizer state after some steps with random gradients."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=shape).astype(np.float32)) for shape in ((7, 5), (3,))]
    for step in range(steps):
        gradients = [tf.constant(random.normal(step, 1, variable.shape).astype(np.float32)) for variable in variables]
        optimizer.apply(gradients, variables)
    return [np.asarray(variable) for variable in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_the_fused_update_equals_keras(name: str) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    ours, theirs = (trained(getattr(module, name)(schedule)) for module in (optimizers, keras.optimizers))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-5)  # a weight changes by 0.1 per step
    assert not np.allclose(ours[0], trained(getattr(optimizers, name)(schedule), steps=4)[0])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_epsilon_is_that_of_the_recipe(name: str) -> None:
    assert build_optimizer(Optimization(name), 10).epsilon == 1e-7
    assert build_optimizer(Optimization(name, epsilon=1e-3), 10).epsilon == 1e-3
    few, many = (build_optimizer(Optimization(name, 0.1, epsilon=epsilon), 10) for epsilon in (1e-8, 1.0))
    assert np.abs(trained(few)[0] - trained(many)[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_the_schedule_is_evaluated_once_per_step(name: str) -> None:
    calls = []

    class Counted(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # keras has no types
        def __call__(self, step: tf.Tensor) -> tf.Tensor:
            calls.append(step)
            return tf.constant(0.1)

    optimizer = getattr(optimizers, name)(Counted())
    trained(optimizer, steps=3)
    assert len(calls) == 3
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
