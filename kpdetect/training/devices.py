"""Owns where a training computes: on which processors, how exactly, and whether to the last digit again."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from kpdetect import cli
from kpdetect.recipes import TrainOptions

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def prepare_devices(options: TrainOptions) -> tf.distribute.Strategy:
    """Every GPU there is, or the processor; says which and how exactly, and sets determinism for this process.

    Determinism cost 1.6 % more processor time a step of `compact` (505 to 497 ms, batch 64, medians of 16 steps, both
    at once on a busy machine of two cores); on GPUs it is not measured.
    """
    with cli.quietly("looking for GPUs"):
        gpus = tf.config.list_physical_devices("GPU")
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    where = f"{len(gpus)} GPU{'s' * (len(gpus) > 1)}" if gpus else f"the processor, {os.cpu_count()} cores"
    print(f"training on {where}, {precision_of(options)}{', deterministic' * options.deterministic}", file=sys.stderr)
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def precision_of(options: TrainOptions) -> str:
    """What a training computes in, as Keras calls it; weights are kept in float32 in any case.

    Where nothing is asked for it is bfloat16 on a processor that multiplies such numbers: twice as many a step, for no
    loss (``benchmarks/training.md``). On GPUs it is float32, for nothing else is measured there.
    """
    gpus = tf.config.list_physical_devices("GPU")
    wanted = options.mixed_precision
    if wanted is None:
        wanted = not gpus and multiplies_bfloat16()
    return ("mixed_float16" if gpus else "mixed_bfloat16") if wanted else "float32"


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for bfloat16; without them it is slower than float32. Linux tells."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return bool(BFLOAT16_FLAGS & set(flags))


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers that are built within compute so; what is built afterwards does as before."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def with_weights_of(network: keras.Model, copy: keras.Model) -> keras.Model:
    """The weights in another build of the network: in float32, and not one that answers once a replica."""
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
