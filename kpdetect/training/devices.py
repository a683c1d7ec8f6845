"""Owns where a training computes: on which processors, how exactly, and whether to the last digit again."""

import contextlib
import os
import sys
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

DETERMINISTIC_OPS = "--xla_gpu_deterministic_ops=true"

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
BFLOAT16_RECIPES = {"compact"}
"""Whose validation error was measured to be the same in bfloat16; see ``docs/development/training.md``."""


@dataclass(frozen=True)
class Devices:
    """Where a training computes.

    Attributes:
        count: How many processors a batch is split over, those of all processes together.
        scope: A context in which the network is built, compiled and fitted.
        whole_batch: Whether the step is one program that sees all of the batch wherever it lies, compiled by XLA, as
            JAX has it. With TensorFlow each processor runs a program of its own on its part.
    """

    count: int
    scope: Callable[[], contextlib.AbstractContextManager[Any]]
    whole_batch: bool


def prepare_devices(options: TrainOptions, place: Place = ALONE) -> Devices:
    """Every GPU or TPU there is, or the processor; says which, and how exactly.

    Args:
        options: The command's.
        place: Which of several processes this is.

    Raises:
        KpdetectError: Keras runs on a backend that cannot train here.
    """
    if running_backend() not in BACKENDS:
        raise KpdetectError(f"Keras runs on {running_backend()}; training needs {' or '.join(BACKENDS)}: --backend")
    with quietly("looking for GPUs"):
        kind, count = _accelerators()
    where = f"{count} {kind}{'s' * (count > 1)}" if count else f"the processor, {os.cpu_count()} cores"
    print(f"training on {where}, {_manner(options, place)}", file=sys.stderr)
    return _spread_by_jax() if running_backend() == JAX else _spread_by_tensorflow(count)


def demand_determinism(options: TrainOptions) -> None:
    """Asks for the same numbers to the last digit again; before anything is computed.

    It cost 1.6 % more processor time a step of `compact` (505 to 497 ms, batch 64, medians of 16 steps, both at once on
    a busy machine of two cores); on GPUs it is not measured.
    """
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
        flags = os.environ.get("XLA_FLAGS", "")
        if running_backend() == JAX and DETERMINISTIC_OPS not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC_OPS}".strip()


def _manner(options: TrainOptions, place: Place) -> str:
    parts = [precision_of(options), *["deterministic"] * options.deterministic]
    parts += ["JAX"] * (running_backend() == JAX) + [f"{place.count} processes"] * (place.count > 1)
    return ", ".join(parts)


def _accelerators() -> tuple[str, int]:
    """What Keras computes on besides processors, GPU or TPU, and how many there are over all processes."""
    if running_backend() != JAX:
        return "GPU", len(tf.config.list_physical_devices("GPU"))
    import jax

    kind = jax.default_backend().upper()
    return kind, 0 if kind == "CPU" else jax.device_count()


def _spread_by_tensorflow(gpus: int) -> Devices:
    strategy = tf.distribute.MirroredStrategy() if gpus > 1 else tf.distribute.get_strategy()
    return Devices(strategy.num_replicas_in_sync, strategy.scope, whole_batch=False)


def _spread_by_jax() -> Devices:
    """The weights on every device, and of each batch a part; the processes feed parts of their own already."""
    import jax

    tf.config.set_visible_devices([], "GPU")  # TensorFlow only feeds, and would take their memory
    count = jax.device_count()
    spread = keras.distribution.DataParallel(auto_shard_dataset=False) if count > 1 else None
    return Devices(count, spread.scope if spread else contextlib.nullcontext, whole_batch=True)


def precision_of(options: TrainOptions) -> str:
    """What a training computes in, as Keras calls it; weights are kept in float32 in any case.

    Where nothing is asked for it is bfloat16 for `BFLOAT16_RECIPES`, with TensorFlow on a processor that multiplies
    such numbers. On GPUs and on JAX it is float32, for nothing else is measured there.
    """
    kind, count = _accelerators()
    wanted = options.mixed_precision
    if wanted is None:
        suits = options.recipe in BFLOAT16_RECIPES and multiplies_bfloat16()
        wanted = suits and not count and running_backend() != JAX
    return ("mixed_float16" if kind == "GPU" and count else "mixed_bfloat16") if wanted else "float32"


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for bfloat16; without them it is slower than float32. Linux tells."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return bool(BFLOAT16_FLAGS & set(flags))


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers that are built within compute so; what is built afterwards does as before."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def check_batch_size(size: int, devices: Devices) -> None:
    """Makes sure that JAX can split a batch evenly; TensorFlow splits any.

    Raises:
        KpdetectError: It cannot.
    """
    if devices.whole_batch and size % devices.count:
        raise KpdetectError(
            f"--batch-size: expected a multiple of {devices.count}, the number of devices of all processes together, "
            f"received {size}"
        )


def with_weights_of(network: keras.Model, copy: keras.Model) -> keras.Model:
    """The weights in another build of the network: in float32, and not on several devices.

    One that TensorFlow mirrors answers once a replica; one that JAX spread over processes answers if all of them ask.
    """
    copy.set_weights(network.get_weights())
    return copy


def share_statistics(model: keras.Model, devices: Devices) -> None:
    """Lets batch normalisation see the whole batch where it is split over several processors.

    Else each would normalise by its own share, and the number of GPUs would change what is learned.
    """
    if devices.count > 1 and not devices.whole_batch:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
