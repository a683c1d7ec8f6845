"""Measures that ten times the faces train in the same memory, and cost the same each.

    python benchmarks/memory.py [YOUTUBE_FACES_FOLDER] [--faces 3000,30000] [--rounds N]

The photographs of YouTube Faces, under new names until there are enough of them, train `compact` with a cache in a
file: ``python -m kpdetect.train --cache FILE``, a process for each size. Linux tells what a process holds in memory as
its own (anonymous pages) and as pages of files, such as libraries and the cache; the latter are taken away where memory
is short. Both are read 20 times a second, to the very end. As a hard limit, each process may ask for no more than
``--limit-gb`` of its own. The processes train in turns of 20 steps, the others being stopped, so that what disturbs the
machine disturbs all alike; an image's cost is the median turn's. A second training then starts with the cache of the
first. At last caching is compared with decoding alone, in turns too.
"""

import argparse
import csv
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kpdetect.data import Annotations, load
from kpdetect.data.crops import visit_photographs
from kpdetect.data.pipeline import build_cache
from kpdetect.evaluation.latency.memory import resident_memory
from kpdetect.recipes.own import compact
from kpdetect.training.feeding import framing_of

LIST, PHOTOGRAPHS = "training_frames_keypoints.csv", "training"
TURN = 20  # steps; a state is kept after each turn, which is how its end is seen
EPOCHS = 4  # of the smaller sets, whose turns are to be enough for a median
DECODED = 1500
"""Photographs a round of caching and decoding."""


def repeat(source: Path, folder: Path, count: int) -> None:
    """A data set of `count` faces: links to the photographs of another, named anew when they come up again."""
    (folder / PHOTOGRAPHS).mkdir(parents=True)
    with open(source / LIST, newline="") as stream:
        header, *rows = csv.reader(stream)
    with open(folder / LIST, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        for number in range(count):
            name, *points = rows[number % len(rows)]
            stem, suffix = os.path.splitext(name)
            again = f"{stem}{number // len(rows):02}{suffix}"  # the same person, another frame
            (folder / PHOTOGRAPHS / again).symlink_to((source / PHOTOGRAPHS / name).absolute())
            table.writerow([again, *points])


@dataclass
class Training:
    """A training that is under way in a process of its own.

    Attributes:
        faces: How many there are.
        folder: Where its data, cache and run are.
        process: Of the command.
        own, mapped, total: The most bytes of each kind that it held.
        began: When its cache was begun, and when that was whole.
        turns: Seconds of each turn.
    """

    faces: int
    folder: Path
    process: subprocess.Popen[bytes]
    own: int = 0
    mapped: int = 0
    total: int = 0
    began: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)

    def watch(self) -> None:
        """Reads what the process holds until it ends."""
        while self.process.poll() is None:
            held = resident_memory(self.process.pid)
            if held is not None:
                self.own, self.mapped = max(self.own, held.anonymous), max(self.mapped, held.mapped)
                self.total = max(self.total, held.anonymous + held.mapped)
            self._watch_cache()
            time.sleep(0.05)

    def _watch_cache(self) -> None:
        names = [".cache.*.npy", "cache.npy"]
        if len(self.began) < 2 and any(self.folder.glob(names[len(self.began)])):
            self.began.append(time.perf_counter())

    def turn(self) -> None:
        """Lets the process go on until it has kept a state."""
        before, start = self._newest(), time.perf_counter()
        self.process.send_signal(signal.SIGCONT)
        while self._newest() == before and self.process.poll() is None:
            time.sleep(0.005)
        seconds, after = time.perf_counter() - start, self._newest()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
        if before[0] == after[0] and after[1] - before[1] == TURN and before != (0, 0):
            self.turns.append(seconds)  # neither the first one nor one with the end of an epoch in it

    def _newest(self) -> tuple[int, int]:
        states = self.folder.glob("run/checkpoints/epoch*.npz")
        return max(((int(file.stem[5:11]), int(file.stem[16:])) for file in states), default=(0, 0))

    def row(self, batch_size: int) -> str:
        """A line of the table."""
        cache = self.folder / "cache.npy"
        megabytes = [f"{size / 1e6:,.0f}" for size in (self.total, self.own, self.mapped, cache.stat().st_size)]
        caching = 1000 * (self.began[1] - self.began[0]) / len(np.load(cache, mmap_mode="r"))
        step = 1000 * statistics.median(self.turns) / TURN / batch_size
        return f"| {self.faces:,} | {' | '.join(megabytes)} | {caching:.2f} | {step:.2f} ({len(self.turns)} turns) |"


def command(folder: Path, epochs: int) -> list[str]:
    """What trains `compact` on a folder's faces."""
    options = ["--data", f"youtube-faces:{folder / 'data'}", "--cache", str(folder / "cache.npy")]
    options += ["--out", str(folder / "run"), "--epochs", str(epochs), "--checkpoint-every", str(TURN)]
    return [sys.executable, "-m", "kpdetect.train", *options]


@contextmanager
def training(faces: int, folder: Path, epochs: int, limit_gb: float) -> Iterator[Training]:
    """Begins a training."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gb * 1e9),) * 2)

    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(command(folder, epochs), stdout=log, stderr=log, preexec_fn=limit)
    under_way = Training(faces, folder, process)
    threading.Thread(target=under_way.watch, daemon=True).start()
    try:
        yield under_way
    finally:
        process.kill()
        process.wait()


def train_in_turns(source: Path, work: Path, counts: list[int], limit_gb: float, turns: int | None) -> list[Training]:
    """Trains sets of several sizes, the largest for an epoch and the others for some, and watches them.

    Args:
        source: The YouTube Faces frames.
        work: A folder to work in.
        counts: How many faces there are in each set.
        limit_gb: What each process may ask for.
        turns: End them after so many; None lets them come to their ends.
    """
    with ExitStack() as stack:
        runs = []
        for count in counts:
            repeat(source, work / str(count) / "data", count)
            runs.append(
                stack.enter_context(training(count, work / str(count), 1 if count == max(counts) else EPOCHS, limit_gb))
            )
            runs[-1].turn()  # caches, and comes to its first state, while the others are stopped
        taken = 0
        while any(run.process.poll() is None for run in runs) and taken != turns:
            for run in runs:
                run.turn()
            taken += 1
        for run in runs if turns is None else []:
            if run.process.wait():
                raise SystemExit((run.folder / "log.txt").read_text()[-2000:])
    return runs


def seconds_to_first_epoch(folder: Path) -> float:
    """From the command to the beginning of its first epoch."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    start = time.perf_counter()
    with subprocess.Popen(command(folder, 2), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Epoch 1/"):  # which Keras says where there are several
                break
        seconds = time.perf_counter() - start
        process.kill()
    return seconds


def compare_with_decoding(faces: Annotations, file: Path, rounds: int) -> None:
    """Prints how many photographs a second are decoded, and how many decoded and cached."""
    recipe, seconds = compact(), dict[tuple[str, int], list[float]]()
    for _ in range(rounds):
        for threads in (1, 2):
            start = time.perf_counter()
            visit_photographs(faces, lambda row, photograph: None, "decoding", threads)
            between = time.perf_counter()
            build_cache(faces, framing_of(recipe), recipe.channels, file, threads)
            seconds.setdefault(("decoding", threads), []).append(between - start)
            seconds.setdefault(("caching", threads), []).append(time.perf_counter() - between)
    for (what, threads), times in seconds.items():
        print(f"{what}, {threads} thread{'s' * (threads > 1)}: {len(faces) / statistics.median(times):,.0f} images/s")


def main() -> None:
    """Runs the benchmark."""
    data = Path(os.environ.get("KPDETECT_DATA", "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=str(data / "youtube_faces"), help="the YouTube Faces frames")
    parser.add_argument("--faces", default="3000,30000", help="sizes of the sets (default: %(default)s)")
    parser.add_argument("--turns", type=int, help="end each training after so many: for the cost, not for the memory")
    parser.add_argument(
        "--limit-gb", type=float, default=3, help="a process may ask for so much (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of caching and decoding (default: %(default)s)")
    options = parser.parse_args()
    counts = sorted(int(count) for count in options.faces.split(","))
    with tempfile.TemporaryDirectory() as folder:
        runs = train_in_turns(Path(options.data), Path(folder), counts, options.limit_gb, options.turns)
        print(
            "| faces | most in memory, MB | of its own | of files | cache on disk | caching, ms an image | training |"
        )
        print("|---|---|---|---|---|---|---|")
        print("\n".join(run.row(compact().batch_size) for run in runs))
        for run in runs:
            print(f"{run.faces:,} faces, cached before: {seconds_to_first_epoch(run.folder):.1f} s to the first epoch")
        faces = load(f"youtube-faces:{options.data}")
        compare_with_decoding(
            faces.take(np.arange(min(DECODED, len(faces)))), Path(folder) / "some.npy", options.rounds
        )


if __name__ == "__main__":
    main()
