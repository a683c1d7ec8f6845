"""Devices, number formats and determinism of a training."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kpdetect.core.errors import KpdetectError
from kpdetect.core.keras_backend import BACKENDS, JAX, running_backend
from kpdetect.core.options import quietly
from kpdetect.recipes import TrainOptions
from kpdetect.training.distributed.processes import ALONE, Place

_LOG = logging.getLogger(__name__)

DETERMINISTIC_OPS = "--xla_gpu_deterministic_ops=true"

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
BFLOAT16_RECIPES = {"compact", "compact-112"}
"""Recipes whose network reaches the same validation error in bfloat16; see ``docs/development/training.md``."""


@dataclass(frozen=True)
class Devices:
    """The devices of a training.

    Attributes:
        count: Number of devices that share a batch, over all processes.
        scope: Returns a context in which the network is built, compiled and fitted.
        whole_batch: Whether one program compiled by XLA computes the whole batch on all devices (JAX). With TensorFlow
            each device runs its own program on its part of the batch.
    """

    count: int
    scope: Callable[[], contextlib.AbstractContextManager[Any]]
    whole_batch: bool


def prepare_devices(options: TrainOptions, place: Place = ALONE) -> Devices:
    """Selects all GPUs or TPUs, or the CPU, and prints which.

    Args:
        options: The options of the command.
        place: The place of this process among several.

    Raises:
        KpdetectError: Keras runs on a backend other than TensorFlow or JAX.
    """
    if running_backend() not in BACKENDS:
        raise KpdetectError(f"Keras runs on {running_backend()}; training needs --backend {' or '.join(BACKENDS)}")
    with quietly("looking for GPUs"):
        kind, count = _accelerators()
    where = f"{count} {kind}{'s' * (count > 1)}" if count else f"the CPU, {os.cpu_count()} cores"
    _LOG.info(f"training on {where}, {_description(options, place)}")
    return _spread_by_jax() if running_backend() == JAX else _spread_by_tensorflow(count)


def enable_determinism(options: TrainOptions) -> None:
    """With ``--deterministic``, makes ops bit-reproducible. Must run before anything is computed."""
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
        flags = os.environ.get("XLA_FLAGS", "")
        if running_backend() == JAX and DETERMINISTIC_OPS not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC_OPS}".strip()


@contextlib.contextmanager
def plain_graphs() -> Iterator[None]:
    """Leaves out TensorFlow's rewriting of graphs where a training runs on the CPU.

    It takes 0.4 to 0.9 s before the first step of `compact`, `naimish` and `batchnorm`, whose steps are as fast without
    it. On GPUs it changes the layout of tensors, and is left on. The setting is that of the process, and is restored.
    """
    if running_backend() == JAX or _accelerators()[1]:
        yield
        return
    before = {"disable_meta_optimizer": False, **tf.config.optimizer.get_experimental_options()}
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options(before)


def _description(options: TrainOptions, place: Place) -> str:
    parts = [precision_of(options), *["deterministic"] * options.deterministic]
    parts += ["JAX"] * (running_backend() == JAX) + [f"{place.count} processes"] * (place.count > 1)
    return ", ".join(parts)


def _accelerators() -> tuple[str, int]:
    """Kind and number of GPUs or TPUs, over all processes."""
    if running_backend() != JAX:
        return "GPU", len(tf.config.list_physical_devices("GPU"))
    import jax

    kind = jax.default_backend().upper()
    return kind, 0 if kind == "CPU" else jax.device_count()


def _spread_by_tensorflow(gpus: int) -> Devices:
    strategy = tf.distribute.MirroredStrategy() if gpus > 1 else tf.distribute.get_strategy()
    return Devices(strategy.num_replicas_in_sync, strategy.scope, whole_batch=False)


def _spread_by_jax() -> Devices:
    """Data parallelism over all JAX devices. Each process feeds its own part of the batch."""
    import jax

    tf.config.set_visible_devices([], "GPU")  # TensorFlow only feeds batches here, and would reserve GPU memory
    count = jax.device_count()
    spread = keras.distribution.DataParallel(auto_shard_dataset=False) if count > 1 else None
    return Devices(count, spread.scope if spread else contextlib.nullcontext, whole_batch=True)


def precision_of(options: TrainOptions) -> str:
    """The Keras dtype policy of a training; weights are always float32.

    Without ``--mixed-precision`` it is ``mixed_bfloat16`` for `BFLOAT16_RECIPES` with TensorFlow on a CPU with bfloat16
    instructions, else ``float32``.

    Example:
        >>> precision_of(TrainOptions(mixed_precision=False))
        'float32'
    """
    kind, count = _accelerators()
    wanted = options.mixed_precision
    if wanted is None:
        suits = options.recipe in BFLOAT16_RECIPES and supports_bfloat16()
        wanted = suits and not count and running_backend() != JAX
    return ("mixed_float16" if kind == "GPU" and count else "mixed_bfloat16") if wanted else "float32"


def supports_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has bfloat16 instructions, as listed by Linux; without them bfloat16 is slower than float32."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return bool(BFLOAT16_FLAGS & set(flags))


@contextlib.contextmanager
def dtype_policy(precision: str) -> Iterator[None]:
    """Sets the Keras dtype policy for layers that are built within the context."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def check_batch_size(size: int, devices: Devices) -> None:
    """Checks that JAX can split a batch evenly over its devices; TensorFlow accepts any size.

    Raises:
        KpdetectError: `size` is not a multiple of the number of devices.
    """
    if devices.whole_batch and size % devices.count:
        raise KpdetectError(
            f"--batch-size: expected a multiple of {devices.count}, the number of devices of all processes, "
            f"received {size}"
        )


def copy_weights(source: keras.Model, target: keras.Model) -> keras.Model:
    """Copies weights into another build of the same network, and returns it.

    A network that was trained on several devices, or in 16 bits, is copied into a float32 one on a single device.
    """
    target.set_weights(source.get_weights())
    return target


def synchronize_batch_norm(model: keras.Model, devices: Devices) -> None:
    """Computes batch-norm statistics over the whole batch when several devices share it.

    Otherwise each device would normalise by its own part, and results would depend on the number of devices.
    """
    if devices.count > 1 and not devices.whole_batch:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
