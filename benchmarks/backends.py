"""Measures a training step with TensorFlow, with JAX, and with JAX in two processes, in turns.

    python benchmarks/backends.py --rounds 3

Needs an idle machine with two cores. Every run is a process of its own, in float32. The time of a step is from the
request for the batch to the loss, without compilation and validation.
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
FIRST_STEPS = 4  # compile and fill caches; not measured


def main() -> None:
    """Prints the median of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--recipe", default="compact-112")
    parser.add_argument("--train", help="internal: arguments of kpdetect train")
    arguments = parser.parse_args()
    if arguments.train is not None:
        train(json.loads(arguments.train), arguments.steps)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(arguments.rounds):
        for name, (backend, cores) in CASES.items():
            times[name].append(measure(backend, cores, arguments))
            print(f"{name}: {1000 * times[name][-1]:.0f} ms per step", file=sys.stderr, flush=True)
    for name, seconds in times.items():
        rates = sorted(arguments.batch_size / each for each in seconds)
        print(f"{name:36} {statistics.median(rates):6.1f} images/s ({rates[0]:.1f} to {rates[-1]:.1f})")


def measure(backend: str, cores: list[set[int]], arguments: argparse.Namespace) -> float:
    """Seconds per step, with one process for each set of cores."""
    address = free_address()
    with tempfile.TemporaryDirectory() as folder:
        data = "synthetic:300"  # the content does not change the time
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
        outputs = [process.communicate()[0] for process in processes]
    return float(outputs[0].splitlines()[-1])


def start(command: list[str], cores: set[int]) -> "subprocess.Popen[str]":
    """Starts a process on certain cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # children inherit it
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    finally:
        os.sched_setaffinity(0, before)


def free_address() -> str:
    """An address with a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def train(words: list[str], steps: int) -> None:
    """Trains for a number of steps, prints the median of their seconds, and ends the process."""
    from kpdetect.core.keras_backend import choose_backend

    choose_backend(words[words.index("--backend") + 1])
    from kpdetect.train import main as train_command
    from kpdetect.training import fit
    from kpdetect.training.callbacks import StopWhenNotFinite

    class Timed(StopWhenNotFinite):
        """Replaces a callback that every training has, and measures steps."""

        def __init__(self, steps_done: int = 0) -> None:
            super().__init__(steps_done)
            self.began = 0.0
            self.seconds: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            self.seconds.append(time.perf_counter() - self.began)
            if len(self.seconds) == FIRST_STEPS + steps:
                os.write(voice, f"{statistics.median(self.seconds[FIRST_STEPS:])}\n".encode())
                time.sleep(1)  # for the other process
                os._exit(0)

    vars(fit)["StopWhenNotFinite"] = Timed
    voice = os.dup(1)
    sys.exit(train_command(words))


if __name__ == "__main__":
    main()
