"""Measures a training step with TensorFlow, with JAX, and with JAX on two workers of Ray, in turns.

    python benchmarks/backends.py --rounds 3

Needs an idle machine with two cores. Every run is a command of its own, in float32. The time of a step is from the
request for the batch to the loss, without compilation and validation.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CASES = {
    "TensorFlow, one process, two cores": (["--backend", "tensorflow"], {0, 1}),
    "JAX, one process, two cores": (["--backend", "jax"], {0, 1}),
    "JAX, two workers, two cores": (["--workers", "2"], {0, 1}),
    "JAX, one process, one core": (["--backend", "jax"], {0}),
}
FIRST_STEPS = 4  # compile and fill caches; not measured
STEPS, RESULT = "KPDETECT_BENCHMARK_STEPS", "KPDETECT_BENCHMARK_RESULT"  # environment variables for `step_times`


def main() -> None:
    """Prints the median of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--recipe", default="compact-112")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(arguments.rounds):
        for name, (words, cores) in CASES.items():
            times[name].append(measure(words, cores, arguments))
            print(f"{name}: {1000 * times[name][-1]:.0f} ms per step", file=sys.stderr, flush=True)
    for name, seconds in times.items():
        rates = sorted(arguments.batch_size / each for each in seconds)
        print(f"{name:36} {statistics.median(rates):6.1f} images/s ({rates[0]:.1f} to {rates[-1]:.1f})")


def measure(words: list[str], cores: set[int], arguments: argparse.Namespace) -> float:
    """Seconds per step of one training on certain cores."""
    before = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        faces = 300  # the content does not change the time
        command = [sys.executable, "-m", "kpdetect.train", "--recipe", arguments.recipe, "--data", f"synthetic:{faces}"]
        command += ["--batch-size", str(arguments.batch_size), "--epochs", "1000", "--no-mixed-precision"]
        command += ["--out", f"{folder}/run", "--callbacks", "backends:step_times", *words]
        result = Path(folder, "seconds")
        root = Path(__file__).resolve().parents[1]
        settings = {"PYTHONPATH": f"{root}:{root / 'benchmarks'}", STEPS: str(arguments.steps), RESULT: str(result)}
        os.sched_setaffinity(0, cores & before)  # children inherit it
        try:
            subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True)
        finally:
            os.sched_setaffinity(0, before)
        return float(result.read_text())


def step_times() -> Any:
    """A Keras callback that writes the median seconds of a step to a file and stops the training."""
    import keras

    class StepTimes(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
        """Measures steps."""

        def __init__(self) -> None:
            super().__init__()
            self.began = 0.0
            self.seconds: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.began)
            if len(self.seconds) == FIRST_STEPS + int(os.environ[STEPS]):
                Path(os.environ[RESULT]).write_text(f"{statistics.median(self.seconds[FIRST_STEPS:])}\n")
                self.model.stop_training = True  # in all workers after the same step

    return StepTimes()


if __name__ == "__main__":
    main()
