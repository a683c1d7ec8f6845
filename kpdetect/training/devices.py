"""Owns where a training computes: on which processors, how exactly, and whether to the last digit again."""

import os
import sys

import keras
import tensorflow as tf

from kpdetect import cli
from kpdetect.recipes import TrainOptions


def prepare_devices(options: TrainOptions) -> tf.distribute.Strategy:
    """Every GPU there is, or the processor; says which, and sets precision and determinism for this process.

    Determinism cost 1.6 % more processor time a step of `compact` (505 to 497 ms, batch 64, medians of 16 steps, both
    at once on a busy machine of two cores); on GPUs it is not measured.
    """
    with cli.quietly("looking for GPUs"):
        gpus = tf.config.list_physical_devices("GPU")
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    if options.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16" if gpus else "mixed_bfloat16")
    precision = keras.mixed_precision.dtype_policy().name
    where = f"{len(gpus)} GPU{'s' * (len(gpus) > 1)}" if gpus else f"the processor, {os.cpu_count()} cores"
    print(f"training on {where}, {precision}{', deterministic' * options.deterministic}", file=sys.stderr)
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def off_the_replicas(network: keras.Model, copy: keras.Model) -> keras.Model:
    """The weights in a network that was built outside the strategy: one that it mirrors answers once a replica."""
    copy.set_weights(network.get_weights())
    return copy


def share_statistics(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Lets batch normalisation see the whole batch where it is split over several processors.

    Else each would normalise by its own share, and the number of GPUs would change what is learned.
    """
    if strategy.num_replicas_in_sync > 1:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
