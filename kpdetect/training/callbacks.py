"""Owns what watches a training while it runs: keeps its states, stops it when asked to, and when it goes wrong."""

import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import keras

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import Interrupted
from kpdetect.training.checkpoints import MONITORED, Arrays, Checkpoints, Progress, add_to_metrics, not_finite

EVERY = 100
"""Steps between two states amid an epoch, where nobody says how many: some tens of seconds of work."""


class EpochCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]  # keras tells no types
    """At each epoch's end: the log, the last and the best state on disk, and early stopping that survives a resume.

    Args:
        checkpoints: Where to.
        progress: How far the training has come; taken further here.
        history_file: The CSV log.
        patience: Stop after so many epochs without a new best; 0 never stops early.
        patient_from: Epochs that do not count for it: while layers are frozen, the best is yet to come.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        progress: Progress,
        history_file: Path,
        patience: int = 0,
        patient_from: int = 0,
    ) -> None:
        super().__init__()
        self.checkpoints, self.progress, self.history_file = checkpoints, progress, history_file
        self.patience, self.patient_from = patience, patient_from

    @property
    def out_of_patience(self) -> bool:
        """Whether the training is to stop early."""
        waited = self.progress.epoch - max(self.progress.best_epoch, self.patient_from)
        return bool(self.patience) and waited >= self.patience

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keeps what the epoch gave."""
        improved = self.progress.add(logs or {})
        self.checkpoints.keep(self.model, self.progress, is_best=improved)
        self.write_history()
        if self.out_of_patience:
            print(f"no better validation NME for {self.patience} epochs: stopping early", file=sys.stderr)
            self.model.stop_training = True

    def write_history(self) -> None:
        """Writes the log anew."""
        if self.checkpoints.writes:
            write_history(self.history_file, self.progress.history)


class StepCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]  # keras tells no types
    """Amid an epoch: a state every so many steps, and one before the end that a signal asks for.

    Comes after `EpochCheckpoint` among the callbacks: a signal while an epoch is validated ends the training after that
    epoch.

    Args:
        checkpoints: Where to.
        progress: How far the training has come; where it is amid an epoch, the first epoch here is the rest of that.
        every: Steps between two states, counted from the epoch's begin; 0 keeps none amid an epoch. None: `EVERY`, or
            more while a state is not `Checkpoints.affordable`.
        stopped: Tells which signal asks for an end; 0 for none.
        metrics: The metrics' variables at that step, as `Checkpoints.restore` gives them.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        progress: Progress,
        every: int | None,
        stopped: Callable[[], int],
        metrics: Arrays,
    ) -> None:
        super().__init__()
        self.checkpoints, self.progress, self.stopped = checkpoints, progress, stopped
        self.every, self.sparing = EVERY if every is None else every, every is None
        self.metrics, self.first_step = metrics, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes how much of the epoch an interrupted training has done."""
        self.first_step = self.progress.step

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves a state when one is due or a stop was requested; `EpochCheckpoint` saves at the end of an epoch."""
        before, done = self.progress.step, self.first_step + batch + 1
        if self.first_step and before == self.first_step:  # Keras has cleared them, and they are built only now
            add_to_metrics(self.model, self.metrics)
        self.progress.step = done
        due = bool(self.every) and done // self.every > before // self.every
        due = due and (self.checkpoints.affordable or not self.sparing)
        if batch + 1 < self.params["steps"] and (due or self.stopped()):
            self.checkpoints.keep(self.model, self.progress)
            self._end_if_asked()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ends the training where a signal asked for it; `EpochCheckpoint` has kept the state."""
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        if number := self.stopped():
            name = signal.Signals(number).name
            raise Interrupted(
                f"stopped by {name} after {self.progress}, and saved: --resume goes on from there", number
            )


class StopWhenNotFinite(keras.callbacks.Callback):  # type: ignore[misc]  # keras tells no types
    """Ends a training whose loss is no number any more, with what to try; the states on disk stay as they are.

    Args:
        steps_done: Of the first epoch here, which may be the rest of an interrupted one.
    """

    def __init__(self, steps_done: int = 0) -> None:
        super().__init__()
        self.steps_done = steps_done

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the running loss."""
        step = self.steps_done + batch + 1
        _check_finite("the loss", (logs or {}).get("loss"), f"at step {step} of the epoch")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the validation error: no loss of the epoch tells what its last step did to the weights."""
        _check_finite("the validation NME", (logs or {}).get(MONITORED), f"after epoch {epoch + 1}")


def _check_finite(what: str, value: float | None, when: str) -> None:
    if value is not None and not math.isfinite(value):
        raise not_finite(f"{what} is {value}", when)


def write_history(file: Path, history: dict[str, list[float]]) -> None:
    """Writes the log as CSV: a row an epoch, counted from 1."""
    names = list(history)
    lines = [",".join(["epoch", *names])]
    for index in range(len(history[names[0]]) if names else 0):
        lines.append(",".join([str(index + 1), *(f"{history[name][index]:.8g}" for name in names)]))
    with atomic_file(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
