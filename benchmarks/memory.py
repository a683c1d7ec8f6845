"""Measures memory and time of training with a cache in a file, for data sets of different sizes.

    python benchmarks/memory.py [YOUTUBE_FACES_FOLDER] [--faces 3000,30000] [--rounds N]

``python -m kpdetect.train --cache DIR`` trains `compact` on the photographs of YouTube Faces, linked under new names
until there are enough, in one process per size. Linux reports the memory of a process as anonymous pages and as pages
of files, such as libraries and the cache; the system can drop the latter when memory is short. Both are read 20 times
per second. Each process is limited to ``--limit-gb`` of anonymous memory. The processes train in turns of 20 steps
while the others are stopped, so that other programs affect all alike; the time per image is that of the median turn. A
second training then starts with the cache of the first. Finally, caching is compared with decoding alone, in turns.
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
from kpdetect.recipes.own import compact_112
from kpdetect.training.feeding import framing_of

LIST, PHOTOGRAPHS = "training_frames_keypoints.csv", "training"
TURN = 20  # steps; a checkpoint after each turn marks its end
EPOCHS = 4  # of the smaller sets, so that they have enough turns
DECODED = 1500
"""Photographs per round of caching and decoding."""


def repeat(source: Path, folder: Path, count: int) -> None:
    """Creates a data set of `count` faces from links to the photographs of another one, with new names."""
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
    """A training in a separate process.

    Attributes:
        faces: The size of its data set.
        folder: The folder of its data, cache and run.
        process: The process of the command.
        own, mapped, total: The largest number of bytes of anonymous pages, of pages of files, and of both.
        began: The times at which its cache was started and complete.
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
        """Reads the memory of the process until it ends."""
        while self.process.poll() is None:
            held = resident_memory(self.process.pid)
            if held is not None:
                self.own, self.mapped = max(self.own, held.anonymous), max(self.mapped, held.mapped)
                self.total = max(self.total, held.anonymous + held.mapped)
            self._watch_cache()
            time.sleep(0.05)

    def _watch_cache(self) -> None:
        names = [".cache.*/images.npy", "cache/images.npy"]
        if len(self.began) < 2 and any(self.folder.glob(names[len(self.began)])):
            self.began.append(time.perf_counter())

    def turn(self) -> None:
        """Lets the process run until its next checkpoint."""
        before, start = self._newest(), time.perf_counter()
        self.process.send_signal(signal.SIGCONT)
        while self._newest() == before and self.process.poll() is None:
            time.sleep(0.005)
        seconds, after = time.perf_counter() - start, self._newest()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
        if before[0] == after[0] and after[1] - before[1] == TURN and before != (0, 0):
            self.turns.append(seconds)  # neither the first turn nor one with the end of an epoch

    def _newest(self) -> tuple[int, int]:
        states = self.folder.glob("run/checkpoints/epoch*.npz")
        return max(((int(file.stem[5:11]), int(file.stem[16:])) for file in states), default=(0, 0))

    def row(self, batch_size: int) -> str:
        """A line of the table."""
        cache = self.folder / "cache" / "images.npy"
        megabytes = [f"{size / 1e6:,.0f}" for size in (self.total, self.own, self.mapped, cache.stat().st_size)]
        caching = 1000 * (self.began[1] - self.began[0]) / len(np.load(cache, mmap_mode="r"))
        step = 1000 * statistics.median(self.turns) / TURN / batch_size
        return f"| {self.faces:,} | {' | '.join(megabytes)} | {caching:.2f} | {step:.2f} ({len(self.turns)} turns) |"


def command(folder: Path, epochs: int) -> list[str]:
    """The command that trains `compact` on the faces of a folder."""
    options = ["--data", f"youtube-faces:{folder / 'data'}", "--cache", str(folder / "cache")]
    options += ["--out", str(folder / "run"), "--epochs", str(epochs), "--checkpoint-every", str(TURN)]
    return [sys.executable, "-m", "kpdetect.train", *options]


@contextmanager
def training(faces: int, folder: Path, epochs: int, limit_gb: float) -> Iterator[Training]:
    """Starts a training, and ends it after the block."""

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
    """Trains on sets of several sizes in turns, the largest for one epoch, and measures them.

    Args:
        source: The YouTube Faces frames.
        work: A folder for temporary files.
        counts: The sizes of the sets.
        limit_gb: The limit of anonymous memory of each process.
        turns: The number of turns after which trainings are stopped; None trains to the end.
    """
    with ExitStack() as stack:
        runs = []
        for count in counts:
            repeat(source, work / str(count) / "data", count)
            runs.append(
                stack.enter_context(training(count, work / str(count), 1 if count == max(counts) else EPOCHS, limit_gb))
            )
            runs[-1].turn()  # caches and trains to its first checkpoint, while the others are stopped
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
    """Seconds from the command to the start of its first epoch."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    start = time.perf_counter()
    with subprocess.Popen(command(folder, 2), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Epoch 1/"):  # Keras prints it if there are several epochs
                break
        seconds = time.perf_counter() - start
        process.kill()
    return seconds


def compare_with_decoding(faces: Annotations, file: Path, rounds: int) -> None:
    """Prints the photographs per second that are decoded, and that are decoded and cached."""
    recipe, seconds = compact_112(), dict[tuple[str, int], list[float]]()
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
    """Measures and prints."""
    data = Path(os.environ.get("KPDETECT_DATA", "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=str(data / "youtube_faces"), help="the YouTube Faces frames")
    parser.add_argument("--faces", default="3000,30000", help="sizes of the sets (default: %(default)s)")
    parser.add_argument("--turns", type=int, help="end each training after this many turns, to measure time only")
    parser.add_argument("--limit-gb", type=float, default=3, help="limit of anonymous memory (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of caching and decoding (default: %(default)s)")
    options = parser.parse_args()
    counts = sorted(int(count) for count in options.faces.split(","))
    with tempfile.TemporaryDirectory() as folder:
        runs = train_in_turns(Path(options.data), Path(folder), counts, options.limit_gb, options.turns)
        print("| faces | peak memory, MB | anonymous | of files | on disk | caching, ms/image | training, ms/image |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(run.row(compact_112().batch_size) for run in runs))
        for run in runs:
            print(f"{run.faces:,} faces, with a cache: {seconds_to_first_epoch(run.folder):.1f} s to the first epoch")
        faces = load(f"youtube-faces:{options.data}")
        compare_with_decoding(
            faces.take(np.arange(min(DECODED, len(faces)))), Path(folder) / "some.npy", options.rounds
        )


if __name__ == "__main__":
    main()
