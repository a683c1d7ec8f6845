"""Keras callbacks for tests of training on workers, named on the command line; each runs inside of a worker."""

import os
import signal
import time
from pathlib import Path

import jax
import keras

FOLDER = "KPDETECT_TEST_FOLDER"
"""Environment variable with the folder of the files that these callbacks leave."""


def _first_time(name: str) -> bool:
    file = Path(os.environ[FOLDER], name)
    if file.exists():
        return False
    file.touch()
    return True


class KillSecondWorkerOnce(keras.callbacks.Callback):
    """Kills the worker of process 1 after a step within the second epoch, like the out-of-memory killer."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if (self.epoch, batch, jax.process_index()) == (1, 0, 1) and _first_time("killed"):
            os.kill(os.getpid(), signal.SIGKILL)


class WaitAfterFirstStep(keras.callbacks.Callback):
    """Leaves the file ``ready`` after the first step of process 0 and gives the test time to send a signal."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if jax.process_index() == 0 and _first_time("ready"):
            time.sleep(3)
