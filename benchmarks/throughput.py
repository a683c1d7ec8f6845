"""Photographs per second of `Predictor`, one call after another and in a batch of threads.

    python benchmarks/throughput.py FOLDER [--photographs N] [--rounds N]

The photographs are the first of the folder and of its subfolders, by name. Both ways take turns, and read the files
each time. Results are medians of the rounds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kpdetect import Predictor
from kpdetect.core.images import IMAGE_SUFFIXES, image_size
from kpdetect.core.processors import available_processors

BATCH = 32


def seconds_of(run: Callable[[], Any]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def one_by_one(predictor: Predictor, files: Sequence[Path]) -> None:
    """Predicts each file in a call of its own."""
    for file in files:
        predictor(file)


def in_batches(predictor: Predictor, files: Sequence[Path]) -> None:
    """Predicts batches of files."""
    for start in range(0, len(files), BATCH):
        predictor.batch(files[start : start + BATCH])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photographs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = [file for file in sorted(options.folder.rglob("*")) if file.suffix.lower() in IMAGE_SUFFIXES]
    files = files[: options.photographs]
    if not files:
        parser.error(f"no photographs in {options.folder}")
    sizes = [image_size(file) or (0, 0) for file in files]
    megapixels = sum(height * width for height, width in sizes) / 1e6
    predictor = Predictor()
    in_batches(predictor, files)  # makes the detectors, and reads the files into the cache of the system
    seconds: dict[str, list[float]] = {"one call after another": [], "batches": []}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        seconds["one call after another"].append(seconds_of(lambda: one_by_one(predictor, files)))
        seconds["batches"].append(seconds_of(lambda: in_batches(predictor, files)))
    print(f"{len(files)} photographs of {megapixels / len(files):.2f} megapixels, {available_processors()} processors")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        rate, cost = len(files) / median, 1000 * median / megapixels
        print(f"{name}: {rate:.1f} photographs/s, {cost:.0f} ms per megapixel")
    print(f"factor: {medians['one call after another'] / medians['batches']:.2f}")


if __name__ == "__main__":
    main()
