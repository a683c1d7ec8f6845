"""Measures a training step on TensorFlow, on JAX, and on JAX shared by two processes, in turns.

Run it from the repository, on a quiet machine of two cores: ``python benchmarks/backends.py --rounds 3``. Every run is
a process of its own, in float32. A step's time is from asking for the batch to having the loss; compiling and
validating are not in it.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

CASES = {
    "TensorFlow, one process, two cores": ("tensorflow", [{0, 1}]),
    "JAX, one process, two cores": ("jax", [{0, 1}]),
    "JAX, two processes, a core each": ("jax", [{0}, {1}]),
    "JAX, one process, one core": ("jax", [{0}]),
}
FIRST_STEPS = 4  # they compile, and fill caches


def main() -> None:
    """Prints the median of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--recipe", default="compact")
    parser.add_argument("--train", help="for the processes that this one starts: arguments of kpdetect train")
    arguments = parser.parse_args()
    if arguments.train is not None:
        train(json.loads(arguments.train), arguments.steps)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(arguments.rounds):
        for name, (backend, cores) in CASES.items():
            times[name].append(measure(backend, cores, arguments))
            print(f"{name}: {1000 * times[name][-1]:.0f} ms a step", file=sys.stderr, flush=True)
    for name, seconds in times.items():
        rates = sorted(arguments.batch_size / each for each in seconds)
        print(f"{name:36} {statistics.median(rates):6.1f} images/s ({rates[0]:.1f} to {rates[-1]:.1f})")


def measure(backend: str, cores: list[set[int]], arguments: argparse.Namespace) -> float:
    """Seconds a step, with a process for each set of cores."""
    address = free_address()
    with tempfile.TemporaryDirectory() as folder:
        data = "synthetic:300"  # what they show does not change how long they take
        words = ["--recipe", arguments.recipe, "--data", data, "--out", f"{folder}/run"]
        words += [
            "--backend",
            backend,
            "--batch-size",
            str(arguments.batch_size),
            "--epochs",
            "1000",
            "--no-mixed-precision",
        ]
        processes = []
        for number, own in enumerate(cores):
            place = ["--coordinator", address, "--num-processes", str(len(cores)), "--process-id", str(number)]
            given = json.dumps([*words, *(place if len(cores) > 1 else [])])
            command = [sys.executable, __file__, "--steps", str(arguments.steps), "--train", given]
            processes.append(start(command, own))
        said = [process.communicate()[0] for process in processes]
    return float(said[0].splitlines()[-1])


def start(command: list[str], cores: set[int]) -> "subprocess.Popen[str]":
    """A process that these cores alone compute for."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # children inherit it
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    finally:
        os.sched_setaffinity(0, before)


def free_address() -> str:
    """Where nobody listens yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def train(words: list[str], steps: int) -> None:
    """Trains for so many steps, prints the median of their seconds, and ends."""
    from kpdetect.core.keras_backend import choose_backend

    choose_backend(words[words.index("--backend") + 1])
    from kpdetect.train import main as train_command
    from kpdetect.training import callbacks, fit

    class Timed(callbacks.StopWhenNotFinite):
        """Stands in for a callback that every training has."""

        def __init__(self, steps_done: int = 0) -> None:
            super().__init__(steps_done)
            self.began, self.seconds = 0.0, []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            self.seconds.append(time.perf_counter() - self.began)
            if len(self.seconds) == FIRST_STEPS + steps:
                os.write(voice, f"{statistics.median(self.seconds[FIRST_STEPS:])}\n".encode())
                time.sleep(1)  # for the other process to get here
                os._exit(0)

    fit.StopWhenNotFinite = Timed
    voice = os.dup(1)
    sys.exit(train_command(words))


if __name__ == "__main__":
    main()
