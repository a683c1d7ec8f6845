"""Runs trainings in processes forked from one that has imported TensorFlow, which saves seconds per start."""

import contextlib
import multiprocessing
import os
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
SMALL = ["--set", "architecture_options.widths=8:8:12:16", "architecture_options.blocks=1:1:1"]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["kpdetect.training"])


def start(arguments: list[str], environment: dict[str, str], log: Path) -> ForkServerProcess:
    """Starts ``kpdetect train`` with arguments; the exit code is the status of the command."""
    process = FORKS.Process(target=train, args=(arguments, environment, str(log)))
    process.start()
    return process


def finish(process: ForkServerProcess, log: Path) -> None:
    """Waits for the end and asserts status 0."""
    process.join(120)
    assert process.exitcode == 0, log.read_text()[-2000:]


def wait_for(path: Path, process: ForkServerProcess) -> None:
    """Waits until a file exists or the process has ended."""
    while not path.exists() and process.is_alive():
        time.sleep(0.002)


def train(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Main function of the child; TensorFlow reads the environment at its first computation."""
    from kpdetect.core.options import run_command
    from kpdetect.train import main

    os.environ.update(environment)
    with open(log, "a") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        os.dup2(file.fileno(), 2)
        status = run_command(main, arguments)
    os._exit(status)  # immediately, without ending TensorFlow's threads
