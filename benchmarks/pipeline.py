"""Measures the throughput of the training pipeline, from the cache to the batch, in crops per second.

    python benchmarks/pipeline.py [--each]

Rates by processor time are printed too, because other programs do not change them.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from kpdetect.core.geometry import CropRule
from kpdetect.core.schema import IBUG68
from kpdetect.data.augmentation import Transform
from kpdetect.data.pipeline import BatchOptions, FaceCache, training_batches
from kpdetect.recipes.own import compact_112
from kpdetect.training.feeding import transforms_of


def random_cache(faces: int, side: int, channels: int) -> FaceCache:
    """A cache of noise; the content of the pictures does not change the time."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0.2 * side, 0.8 * side, (faces, IBUG68.num_keypoints, 2)).astype(np.float32)
    return FaceCache(
        images=rng.integers(0, 256, (faces, side, side, channels), dtype=np.uint8),
        keypoints=points,
        visible=np.ones(points.shape[:2], bool),
        extents_hw=np.full((faces, 2), side, np.float32),
        boxes=np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1),
        rows=np.arange(faces),
    )


def images_per_second(batches: Iterator[Any], count: int, batch_size: int) -> tuple[float, float]:
    """Images per second of wall-clock time, and of processor time."""
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(batches)
    images = count * batch_size
    return images / (time.perf_counter() - clock), images / (time.process_time() - processor)


def measure(name: str, cache: FaceCache, transforms: tuple[Transform, ...], arguments: argparse.Namespace) -> None:
    """Prints the median and the best of several repeats."""
    options = BatchOptions((arguments.side, arguments.side), arguments.batch_size)
    batches = iter(training_batches(cache, transforms, IBUG68, options))
    images_per_second(batches, 10, arguments.batch_size)  # the first batches build the graph
    repeats = [images_per_second(batches, arguments.batches, arguments.batch_size) for _ in range(arguments.repeats)]
    clock, processor = zip(*repeats, strict=True)
    print(
        f"{name:24} {statistics.median(clock):7.0f} images/s (best {max(clock):.0f}); "
        f"{statistics.median(processor):7.0f} per processor second"
    )


def main() -> None:
    """Measures each transform alone, if requested, then all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=112, help="side of the crop in pixels (default: %(default)s)")
    parser.add_argument("--channels", type=int, default=1, help="1 grey, 3 RGB (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="faces per batch (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=40, help="batches per repeat (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="repeats (default: %(default)s)")
    parser.add_argument("--each", action="store_true", help="also measure each transform alone")
    arguments = parser.parse_args()
    canvas = round(arguments.side * 1.4)
    cache = random_cache(512, canvas, arguments.channels)
    recipe = dataclasses.replace(compact_112(), crop=CropRule((arguments.side, arguments.side), 1.35))
    everything = transforms_of(recipe, IBUG68)
    if arguments.each:
        measure("warp alone", cache, (), arguments)
        for transform in everything:
            measure(type(transform).__name__, cache, (transform,), arguments)
    print(f"{arguments.side}x{arguments.side}x{arguments.channels}, batch {arguments.batch_size}:")
    measure("full augmentation", cache, everything, arguments)


if __name__ == "__main__":
    main()
