"""Keras callbacks of a training: checkpoints, history, early stopping, and a stop at non-finite losses."""

import logging
import math
import signal
from collections.abc import Callable
from pathlib import Path

import keras

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import Interrupted
from kpdetect.core.progress import TenthLines
from kpdetect.training.checkpoints import MONITORED, Arrays, Checkpoints, Progress, add_to_metrics, not_finite

_LOG = logging.getLogger(__name__)

DEFAULT_STEPS = 100
"""Default number of steps between two checkpoints within an epoch: some tens of seconds of work."""


class EpochCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """After each epoch: writes the history and the latest and best checkpoint, and stops early.

    Unlike `keras.callbacks.EarlyStopping`, its patience continues across a resume.

    Args:
        checkpoints: Where checkpoints are written.
        progress: The training's progress, updated here.
        history_file: The CSV file of the history, rewritten after each epoch.
        patience: Stop after this many epochs without a better validation NME; 0 never stops early.
        patience_start: First epoch that counts for `patience`. Epochs with frozen layers do not count.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        progress: Progress,
        history_file: Path,
        patience: int = 0,
        patience_start: int = 0,
    ) -> None:
        super().__init__()
        self.checkpoints, self.progress, self.history_file = checkpoints, progress, history_file
        self.patience, self.patience_start = patience, patience_start

    @property
    def out_of_patience(self) -> bool:
        """Whether training should stop early."""
        waited = self.progress.epoch - max(self.progress.best_epoch, self.patience_start)
        return bool(self.patience) and waited >= self.patience

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the epoch's state and figures."""
        improved = self.progress.add(logs or {})
        self.checkpoints.save(self.model, self.progress, is_best=improved)
        self.write_history()
        if self.out_of_patience:
            _LOG.info(f"no better validation NME for {self.patience} epochs: stopping early")
            self.model.stop_training = True

    def write_history(self) -> None:
        """Rewrites the history file."""
        if self.checkpoints.writes:
            write_history(self.history_file, self.progress.history)


class StepCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Within an epoch: saves a checkpoint every few steps, and one before stopping at a signal.

    Must come after `EpochCheckpoint` in the list of callbacks. A signal during validation stops the training after that
    epoch.

    Args:
        checkpoints: Where checkpoints are written.
        progress: The training's progress, updated here. If it is within an epoch, the first epoch here is the rest of
            that one.
        every: Steps between two checkpoints, counted from the start of the epoch; 0 saves none within an epoch. None
            uses `DEFAULT_STEPS`, or more while a checkpoint is not `Checkpoints.affordable`.
        signal_number: Returns the signal that requests a stop, 0 if there is none.
        metrics: The metric variables at that step, as returned by `Checkpoints.restore`.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        progress: Progress,
        every: int | None,
        signal_number: Callable[[], int],
        metrics: Arrays,
    ) -> None:
        super().__init__()
        self.checkpoints, self.progress, self.signal_number = checkpoints, progress, signal_number
        self.every, self.limit_time = DEFAULT_STEPS if every is None else every, every is None
        self.metrics, self.first_step = metrics, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Records how many steps of the epoch an interrupted training has done."""
        self.first_step = self.progress.step

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves a checkpoint when one is due or a stop was requested; `EpochCheckpoint` saves after the last step."""
        before, done = self.progress.step, self.first_step + batch + 1
        if self.first_step and before == self.first_step:  # Keras has reset the metrics and builds them only now
            add_to_metrics(self.model, self.metrics)
        self.progress.step = done
        due = bool(self.every) and done // self.every > before // self.every
        due = due and (self.checkpoints.affordable or not self.limit_time)
        if batch + 1 < self.params["steps"] and (due or self.signal_number()):
            self.checkpoints.save(self.model, self.progress)
            self._stop_if_requested()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stops if a signal arrived; `EpochCheckpoint` has saved the state."""
        self._stop_if_requested()

    def _stop_if_requested(self) -> None:
        if number := self.signal_number():
            name = signal.Signals(number).name
            raise Interrupted(f"stopped by {name} after {self.progress}, state saved: --resume continues", number)


class StopWhenNotFinite(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Stops a training with an error if the loss or the validation NME is not finite; checkpoints stay unchanged.

    Args:
        steps_done: Steps of the first epoch that are already done; non-zero after an interruption.

    Example:
        >>> model.fit(batches, callbacks=[StopWhenNotFinite()])  # doctest: +SKIP
    """

    def __init__(self, steps_done: int = 0) -> None:
        super().__init__()
        self.steps_done = steps_done

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Checks the running loss."""
        step = self.steps_done + batch + 1
        _check_finite("the loss", (logs or {}).get("loss"), f"at step {step} of the epoch")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Checks the validation NME: the epoch's last step may have broken the weights after its loss was computed."""
        _check_finite("the validation NME", (logs or {}).get(MONITORED), f"after epoch {epoch + 1}")


class ProgressLines(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Logs a line after each tenth of an epoch, for logs; terminals show Keras' progress bar instead.

    Args:
        epoch_steps: Steps of a whole epoch.
        epochs: Number of epochs of the training.
        steps_done: Steps of the first epoch that are already done; non-zero after an interruption.

    Example:
        >>> model.fit(batches, steps_per_epoch=100, callbacks=[ProgressLines(100, epochs=1)])  # doctest: +SKIP
        epoch 1/1: 10 %, loss 12.3, 1:48 left
    """

    def __init__(self, epoch_steps: int, epochs: int, steps_done: int = 0) -> None:
        super().__init__()
        self.epoch_steps, self.epochs, self.first_step = epoch_steps, epochs, steps_done
        self.lines = TenthLines("", epoch_steps)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the count of an epoch."""
        self.lines = TenthLines(f"epoch {epoch + 1}/{self.epochs}", self.epoch_steps, self.first_step)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Prints a line if another tenth of the epoch is done."""
        self.lines.update(self.first_step + batch + 1, f"loss {(logs or {}).get('loss', math.nan):.4g}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """The next epoch starts at step 0."""
        self.first_step = 0


def _check_finite(name: str, value: float | None, when: str) -> None:
    if value is not None and not math.isfinite(value):
        raise not_finite(f"{name} is {value}", when)


def write_history(file: Path, history: dict[str, list[float]]) -> None:
    """Writes the history as CSV, one row per epoch, counted from 1."""
    names = list(history)
    lines = [",".join(["epoch", *names])]
    for index in range(len(history[names[0]]) if names else 0):
        lines.append(",".join([str(index + 1), *(f"{history[name][index]:.8g}" for name in names)]))
    with atomic_file(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
