"""Fused batch normalisation equals Keras: outputs, gradients and running statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kpdetect.models.normalization import BatchNormalization


def everything(kind: type[keras.layers.BatchNormalization], images: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs, gradients and weights of a layer after two training batches."""
    random, channels = np.random.default_rng(1), images.shape[-1]
    layer = kind(momentum=0.9, epsilon=1e-5)
    layer.build(images.shape)
    layer.set_weights([random.uniform(0.5, 1.5, channels) for _ in range(4)])
    layer(images[::-1] * 2, training=True)
    seen = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(seen)
        given = layer(seen, training=True)
        loss = tf.reduce_sum(tf.cast(given, tf.float32) ** 3)
    gradients = tape.gradient(loss, [seen, *[variable.value for variable in layer.trainable_variables]])
    parts = {"given": given, "images": gradients[0], "gamma": gradients[1], "beta": gradients[2]}
    parts |= {"mean": layer.moving_mean, "variance": layer.moving_variance, "inference": layer(images)}
    return {name: np.asarray(part, np.float32) for name, part in parts.items()}


@pytest.mark.parametrize("shape", [(4, 6, 5, 32), (2, 2, 2, 16), (4, 6, 5, 24), (5, 48)])
def test_fused_batch_normalisation_equals_keras(shape: tuple[int, ...]) -> None:
    """The last two shapes use Keras' implementation: an odd number of channels, and no image axes."""
    images = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    ours, theirs = everything(BatchNormalization, images), everything(keras.layers.BatchNormalization, images)
    for name, part in ours.items():
        np.testing.assert_allclose(part, theirs[name], rtol=1e-4, atol=1e-4 * np.abs(theirs[name]).max(), err_msg=name)


def test_images_are_normalised_by_one_op() -> None:
    """Otherwise the comparison above would not test the fused op."""
    layer = BatchNormalization()
    graph = tf.function(lambda images: layer(images, training=True)).get_concrete_function(
        tf.TensorSpec((None, 4, 4, 16))
    )
    assert "FusedBatchNormV3" in {op.type for op in graph.graph.get_operations()}


def test_half_precision_is_kept() -> None:
    images = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 32)).astype(np.float32)
    layers = [kind(dtype="mixed_bfloat16") for kind in (BatchNormalization, keras.layers.BatchNormalization)]
    ours, theirs = (layer(images, training=True) for layer in layers)
    assert ours.dtype == theirs.dtype == tf.bfloat16
    np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), atol=0.03)
    np.testing.assert_allclose(layers[0].moving_variance, layers[1].moving_variance, rtol=1e-3)
