"""Where the time of a training step goes, by TensorFlow operation, and what the package's own operations save.

    python benchmarks/step_profile.py [--recipe compact-112] [--data SPEC] [--steps 10]

It compiles the recipe's network as ``kpdetect train`` does, times its steps on one batch, and then profiles some. With
``--variants`` it also times the network with Keras' Adam, with Keras' batch normalisation, and with both; the variants
take turns. A step runs operations side by side, so the shares are those of the sum of their times.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kpdetect import models
from kpdetect.data import load
from kpdetect.data.pipeline import BatchOptions, build_cache, training_batches
from kpdetect.models.normalization import BatchNormalization
from kpdetect.recipes import Recipe, TrainOptions, choose_recipe
from kpdetect.training import compile as compiling
from kpdetect.training.devices import dtype_policy, plain_graphs, precision_of
from kpdetect.training.feeding import framing_of, transforms_of

WARM_UP = 4
SHOWN = 16


@contextlib.contextmanager
def replaced(adam: bool, normalization: bool) -> Iterator[None]:
    """Uses Keras' Adam and AdamW, or Keras' batch normalisation, instead of this package's."""
    optimizers, can_fuse = dict(compiling.OPTIMIZERS), BatchNormalization._can_fuse
    if adam:
        compiling.OPTIMIZERS.update(adam=keras.optimizers.Adam, adamw=keras.optimizers.AdamW)
    if normalization:
        BatchNormalization._can_fuse = lambda self, inputs: False  # type: ignore[method-assign]
    try:
        yield
    finally:
        compiling.OPTIMIZERS.update(optimizers)
        BatchNormalization._can_fuse = can_fuse  # type: ignore[method-assign]


def make_step(recipe: Recipe, options: TrainOptions, faces: Any, batch: Any) -> Callable[[], Any]:
    """A function that runs one step on a batch; traced within the caller's `replaced`."""
    keras.utils.set_random_seed(0)
    with dtype_policy(precision_of(options)):
        shape = (*recipe.crop.size_hw, recipe.channels)
        model = models.for_training(models.build(recipe.architecture, faces.schema.num_keypoints, shape))
    compiling.compile_model(model, recipe, faces.schema, total_steps=10_000)
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())

    def step() -> Any:
        return float(model.train_function(batches)["loss"])

    for _ in range(WARM_UP):
        step()
    return step


def times_by_operation(step: Callable[[], Any], steps: int) -> Counter[str]:
    """Milliseconds per step of each kind of operation, from TensorFlow's profiler."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    spent: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step()
        for file in Path(folder).rglob("*.xplane.pb"):
            space = xplane_pb2.XSpace.FromString(file.read_bytes())
            for plane in space.planes:
                names = {number: meta.name for number, meta in plane.event_metadata.items()}
                for line in plane.lines:
                    for event in line.events:
                        name, _, kind = names[event.metadata_id].rpartition(":")
                        # An operation is "path/name:Kind"; "ExecutorState::Process" is not one.
                        if name and not name.endswith(":") and kind.isidentifier():
                            spent[kind] += event.duration_ps / 1e9 / steps
    return spent


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="compact-112")
    parser.add_argument("--data", default="synthetic:64", help="as for kpdetect train")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", action="store_true", help="also time the parts of Keras")
    parser.add_argument("--mixed-precision", action=argparse.BooleanOptionalAction, default=None)
    arguments = parser.parse_args()
    options = TrainOptions(arguments.recipe, data=arguments.data, mixed_precision=arguments.mixed_precision)
    recipe, faces = choose_recipe(options), load(arguments.data)
    cache = build_cache(faces, framing_of(recipe), recipe.channels)
    transforms = transforms_of(recipe, faces.schema)
    stream = training_batches(cache, transforms, faces.schema, BatchOptions(recipe.crop.size_hw, recipe.batch_size))
    batch = next(iter(stream))
    variants = {"ours": (False, False)}
    if arguments.variants:
        variants |= {"Adam of Keras": (True, False), "normalisation of Keras": (False, True), "both": (True, True)}
    steps = {}
    with plain_graphs():
        for name, parts in variants.items():
            with replaced(*parts):
                steps[name] = make_step(recipe, options, faces, batch)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(arguments.rounds):
            for name, step in steps.items():
                for _ in range(arguments.steps):
                    start = time.perf_counter()
                    step()
                    seconds[name].append(time.perf_counter() - start)
        spent = times_by_operation(steps["ours"], arguments.steps)
    print(f"{recipe.name}, batch {recipe.batch_size}, {precision_of(options)}")
    for name, times in seconds.items():
        print(f"{name}: {1000 * statistics.median(times):.0f} ms per step (median of {len(times)})")
    total = sum(spent.values()) or 1.0
    for kind, ms in spent.most_common(SHOWN):
        print(f"{kind:36} {ms:8.1f} ms {ms / total:6.1%}")
    print(f"{'others':36} {np.sum([ms for _, ms in spent.most_common()[SHOWN:]]):8.1f} ms")


if __name__ == "__main__":
    main()
