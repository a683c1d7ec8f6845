"""Trains in processes that are forked from one which has TensorFlow imported: a kill costs no import of seconds."""

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
    """Begins ``kpdetect train`` with these arguments; its exit code is the command's status."""
    process = FORKS.Process(target=train, args=(arguments, environment, str(log)))
    process.start()
    return process


def finish(process: ForkServerProcess, log: Path) -> None:
    """Waits for an end that is to be good."""
    process.join(120)
    assert process.exitcode == 0, log.read_text()[-2000:]


def wait_for(path: Path, process: ForkServerProcess) -> None:
    """Waits until a file is there, or the process is at its end."""
    while not path.exists() and process.is_alive():
        time.sleep(0.002)


def train(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """What the child does: TensorFlow reads the environment when it computes first."""
    from kpdetect.core.options import run_command
    from kpdetect.train import main

    os.environ.update(environment)
    with open(log, "a") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        os.dup2(file.fileno(), 2)
        status = run_command(main, arguments)
    os._exit(status)  # as SIGKILL would have it: nothing of Python is left to end TensorFlow's threads
