"""Runs processes that train together on JAX, ends some of them, and prints their exit statuses and output as JSON.

Must run with ``KERAS_BACKEND=jax`` in a separate process: the backend is fixed when Keras is imported, and the training
processes are forked from one that has imported Keras.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
from forked_training import FORKS, ONE_THREAD, train, wait_for
from small_models import tiny

from kpdetect import models
from kpdetect.core.errors import Interrupted, KpdetectError
from kpdetect.core.options import run_command
from kpdetect.core.signals import stop_on_signals
from kpdetect.recipes import TrainOptions
from kpdetect.training.distributed import coordination
from kpdetect.training.distributed.join import joined
from kpdetect.training.distributed.processes import Processes

HEARTBEAT_SECONDS = 5  # short for tests
PLAIN = [f"augmentation.{name}=0" for name in ("rotation_deg", "blur", "noise", "gamma", "contrast")]
TRAINING = ["--data", "synthetic:20", "--val-fraction", "0.5", "--batch-size", "6", "--epochs", "3", "--backend", "jax"]
COMMAND = [*TRAINING, "--checkpoint-every", "1", "--set", *PLAIN]
Ended = dict[str, Any]


def address() -> str:
    """A free local address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def ended(processes: list[ForkServerProcess], logs: list[Path]) -> list[Ended]:
    """Waits for the processes; returns exit status and output of each. Kills one that does not end: status -9."""
    results = []
    for process, log in zip(processes, logs, strict=True):
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
        time.sleep(0.2)  # for output of the child process after the end
        results.append({"status": process.exitcode, "output": log.read_text()})
    return results


def start(arguments: list[str], log: Path) -> ForkServerProcess:
    """Starts a training of `tiny` under the name of the architecture `compact`."""
    process = FORKS.Process(target=_train_tiny, args=(arguments, str(log)))
    process.start()
    return process


def _train_tiny(arguments: list[str], log: str) -> None:
    models.ARCHITECTURES["compact"] = tiny
    coordination.HEARTBEAT_SECONDS = HEARTBEAT_SECONDS
    train(arguments, ONE_THREAD, log)


def trained(folder: Path, resume: bool, during: Callable[[list[ForkServerProcess]], None]) -> list[Ended]:
    """Two processes that train into one folder."""
    where, logs = address(), [folder.with_suffix(f".{resume}.{number}") for number in range(2)]
    more = ["--out", str(folder), "--coordinator", where, "--num-processes", "2", *["--resume"] * resume]
    processes = [start([*COMMAND, *more, "--process-id", str(number)], log) for number, log in enumerate(logs)]
    during(processes)
    return ended(processes, logs)


def connected(
    folder: Path, task: str, during: Callable[[list[ForkServerProcess]], None], numbers: tuple[int, ...] = (0, 1)
) -> list[Ended]:
    """Processes that connect and run one of the `TASKS`."""
    folder.mkdir()
    where, logs = address(), [folder / f"log{number}" for number in numbers]
    processes = [
        FORKS.Process(target=_connect, args=(task, where, number, str(log)))
        for number, log in zip(numbers, logs, strict=True)
    ]
    for process in processes:
        process.start()
    during(processes)
    return ended(processes, logs)


def _connect(task: str, where: str, number: int, log: str) -> None:
    coordination.HEARTBEAT_SECONDS, coordination.JOIN_SECONDS = HEARTBEAT_SECONDS, 30.0 if task != "wait" else 2.0
    options = TrainOptions(coordinator=where, num_processes=2, process_id=number)

    def main(_: Any) -> int:
        with joined(options) as processes:
            TASKS[task](processes, Path(log))
        return 0

    with open(log, "w") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        os.dup2(file.fileno(), 2)
        status = run_command(main)
        file.flush()
        ctypes.pythonapi.Py_Exit(status)  # ends like a command; a forked child would skip the end of Python's threads


def _steps(processes: Processes, log: Path) -> None:
    """Sums over both processes, like a training step, until stopped."""
    from jax.experimental.multihost_utils import process_allgather

    done = 0
    with stop_on_signals() as came:
        stopped = processes.agreed(came, lambda: done)
        while done < 10_000:
            process_allgather(np.array(done))
            done += 1
            log.with_name(f"step{processes.place.number}").write_text(str(done))
            if number := stopped():
                raise Interrupted(f"stopped after {done}", number)
            if done == 3:
                log.with_name("ready").touch()


def _fail(processes: Processes, log: Path) -> None:
    if not processes.place.first:
        raise KpdetectError("faces.csv is not there")
    _steps(processes, log)


def _differ(processes: Processes, log: Path) -> None:
    processes.check_same({"seed": processes.place.number, "epochs": 3})


TASKS: dict[str, Callable[[Processes, Path], None]] = {
    "steps": _steps,
    "fail": _fail,
    "differ": _differ,
    "wait": _steps,
}


def main(folder: Path) -> dict[str, list[Ended]]:
    """All ways in which processes can end."""

    def when(file: Path, number: int, signal_number: int) -> Callable[[list[ForkServerProcess]], None]:
        def send(processes: list[ForkServerProcess]) -> None:
            wait_for(file, processes[number])
            os.kill(processes[number].pid or 0, signal_number)

        return send

    def no_event(_: list[ForkServerProcess]) -> None:
        pass

    one, log = folder / "one", folder / "one.log"
    alone = start([*COMMAND, "--out", str(one)], log)
    results = {
        "killed": connected(folder / "killed", "steps", when(folder / "killed/ready", 1, signal.SIGKILL)),
        "first killed": connected(folder / "first", "steps", when(folder / "first/ready", 0, signal.SIGKILL)),
        "stopped": connected(folder / "stopped", "steps", when(folder / "stopped/ready", 1, signal.SIGTERM)),
        "failed": connected(folder / "failed", "fail", no_event),
        "differed": connected(folder / "differed", "differ", no_event),
        "not met": connected(folder / "unmet", "wait", no_event, (1,)),
        "alone": ended([alone], [log]),
    }
    state = folder / "two/checkpoints/epoch000001_step0000001.npz"
    results["cut"] = trained(folder / "two", False, when(state, 1, signal.SIGKILL))
    results["resumed"] = trained(folder / "two", True, no_event)
    return results


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
