"""The parts of a training with kpdetect; ``benchmarks/training.py`` runs it in a separate process.

It uses the same parts as ``kpdetect train``: the recipe's cache, batches, network, loss and optimizer, and Keras' `fit`
with its callbacks.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kpdetect.core.fast_imports import UNUSED_BY_TRAINING, fast_imports

with fast_imports(*UNUSED_BY_TRAINING):  # as the command does
    import keras
    import tensorflow as tf

import numpy as np

from kpdetect import models
from kpdetect.data.crops import visit_photographs
from kpdetect.data.pipeline import BatchOptions, build_cache, training_batches
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training.callbacks import StepCheckpoint, StopWhenNotFinite
from kpdetect.training.checkpoints import Checkpoints, Progress
from kpdetect.training.compile import compile_model
from kpdetect.training.devices import dtype_policy, plain_graphs, precision_of, prepare_devices
from kpdetect.training.faces import load_faces
from kpdetect.training.feeding import framing_of, transforms_of
from kpdetect.training.run import make_spec

PEAK_REPEATS = 7


class Clock(keras.callbacks.Callback):
    """Records the end of each training step."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Called by Keras."""
        self.ends.append(time.perf_counter())


class Training:
    """A training with one recipe, its cache and its network as in the command."""

    def __init__(self, options: TrainOptions) -> None:
        self.options, self.recipe = options, choose_recipe(options)
        self.faces = load_faces(options, self.recipe)
        prepare_devices(options)
        keras.utils.set_random_seed(options.seed)
        spec = make_spec(options, self.recipe, self.faces)
        with dtype_policy(precision_of(options)):
            self.model = models.for_training(
                models.build(self.recipe.architecture, spec.num_keypoints, spec.input_shape)
            )
        compile_model(self.model, self.recipe, spec.schema, total_steps=10_000, jit_compile=options.jit_compile)
        self.stream: Iterator[Any] | None = None
        self.batch: tuple[np.ndarray, ...] = ()

    def decode(self, _: int, __: int) -> tuple[int, float]:
        """Decodes every training photograph."""
        start = time.perf_counter()
        visit_photographs(self.faces.train, lambda row, photograph: None, "decoding")
        return len(self.faces.train), time.perf_counter() - start

    def pipeline(self, before: int, _: int) -> tuple[int, float]:
        """Draws one epoch of batches; the first call builds the cache."""
        start = time.perf_counter()
        if self.stream is None:
            self._cache()
        elif before:
            self._draw(before)
            start = time.perf_counter()
        count = len(self.cache) // self.recipe.batch_size
        self._draw(count)
        return count * self.recipe.batch_size, time.perf_counter() - start

    def _cache(self) -> None:
        recipe, schema = self.recipe, self.faces.train.schema
        self.cache = build_cache(self.faces.train, framing_of(recipe), recipe.channels)
        options = BatchOptions(recipe.crop.size_hw, recipe.batch_size, self.options.seed)
        self.batches = training_batches(self.cache, transforms_of(recipe, schema), schema, options)
        self.stream = iter(self.batches)
        self.batch = next(self.stream)

    def _draw(self, count: int) -> None:
        assert self.stream is not None
        for _ in range(count):
            next(self.stream)

    def steps(self, before: int, count: int) -> tuple[int, float]:
        """Runs steps on one batch."""
        return self._fit(tf.data.Dataset.from_tensors(self.batch).repeat(), before, count)

    def both(self, before: int, count: int) -> tuple[int, float]:
        """Runs steps on new batches."""
        return self._fit(self.batches, before, count)

    def _fit(self, batches: tf.data.Dataset, before: int, count: int) -> tuple[int, float]:
        """Times the last `count` steps of a `fit`, called as in the command."""
        clock, progress = Clock(), Progress()
        amid = StepCheckpoint(Checkpoints(Path("unused"), {}), progress, 0, lambda: 0, [])
        callbacks = [StopWhenNotFinite(), amid, clock]
        self.model.fit(
            batches, steps_per_epoch=before + count + 1, shuffle=False, callbacks=callbacks, verbose=0
        )  # one more than is measured: `StepCheckpoint` ignores the last step of an epoch
        return count * self.recipe.batch_size, clock.ends[before + count - 1] - clock.ends[before - 1]

    def description(self) -> dict[str, Any]:
        """Size, cost and precision of the network."""
        return {
            "parameters": models.count_parameters(self.model),
            "macs": models.count_macs(self.model),
            "precision": precision_of(self.options),
        }


def machine_peaks() -> dict[str, float]:
    """Multiply-accumulates per second of a large matrix product and a large convolution, in each precision."""
    peaks = {}
    for precision in ("float32", "bfloat16"):
        random = tf.random.normal
        matrix, images = random((3072, 3072), dtype=tf.float32), random((16, 56, 56, 256), dtype=tf.float32)
        kernels = random((3, 3, 256, 256), dtype=tf.float32)
        matrix, images, kernels = (tf.cast(tensor, precision) for tensor in (matrix, images, kernels))
        product = tf.function(lambda a=matrix: tf.matmul(a, a))
        convolution = tf.function(lambda a=images, b=kernels: tf.nn.conv2d(a, b, 1, "SAME"))
        peaks[f"product, {precision}"] = 3072**3 / _least_seconds(product)
        peaks[f"convolution, {precision}"] = 16 * 56 * 56 * 9 * 256 * 256 / _least_seconds(convolution)
    return peaks


def _least_seconds(run: Callable[[], tf.Tensor]) -> float:
    seconds = []
    for _ in range(PEAK_REPEATS):
        start = time.perf_counter()
        run().numpy()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Reads one request per line of stdin: the operation, its repeats before the measurement, and those measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("data", help="as for kpdetect train")
    parser.add_argument("--mixed-precision", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--jit-compile", action="store_true")
    parser.add_argument("--peaks", action="store_true", help="measure the machine only")
    options = parser.parse_args()
    chosen = TrainOptions(
        options.network,
        data=options.data,
        mixed_precision=options.mixed_precision,
        jit_compile=options.jit_compile,
    )
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        if options.peaks:
            print(json.dumps(machine_peaks()), file=answers, flush=True)
        else:
            with plain_graphs():
                answer(Training(chosen), answers)


def answer(training: Training, answers: Any) -> None:
    """Answers the requests of stdin."""
    print(json.dumps(training.description()), file=answers, flush=True)
    for line in sys.stdin:
        name, before, count = json.loads(line)
        images, seconds = getattr(training, name)(before, count)
        print(json.dumps({"images": images, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
