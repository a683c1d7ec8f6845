"""Runs one trial of a search: a training in its own folder, resumed if it was interrupted."""

import contextlib
import csv
import dataclasses
import math
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import keras

from kpdetect.core.atomic_write import is_disk_full
from kpdetect.core.errors import KpdetectError
from kpdetect.evaluation.results import read_rows
from kpdetect.models import losses
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training import RESULT_FILE, RUN_FILE, train
from kpdetect.training.checkpoints import MONITORED
from kpdetect.training.tuning.study import Draw
from kpdetect.training.tuning.trials import DONE, FAILED, PRUNED, SearchLog, Trial


def check_losses(trial_options: Sequence[TrainOptions]) -> None:
    """Checks that the loss of every trial exists, before the first one starts.

    Raises:
        KpdetectError: A loss does not exist.
    """
    for options in trial_options:
        recipe = choose_recipe(options)
        losses.build(recipe.loss, recipe.loss_unit)


class ReportEpochs(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Reports the validation error of each epoch to a search, which may stop the training.

    Args:
        draw: The settings of the trial, see `kpdetect.training.tuning.study.Draw`.
    """

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.draw = draw

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Reports the error of an epoch."""
        error = (logs or {}).get(MONITORED)
        if error is not None and math.isfinite(error) and self.draw.report(epoch, error):
            self.model.stop_training = True


def run_trial(log: SearchLog, trial: Trial, options: TrainOptions, draw: Draw | None = None) -> Trial:
    """Trains or resumes a trial and records its result in the log.

    A training that fails after it has started is recorded as failed, and the search continues: its loss became
    non-finite, its network cannot be built, or the batch does not fit in memory.

    Args:
        log: The log of the search.
        trial: The trial.
        options: Its training options; ``out`` and ``resume`` are set here.
        draw: Where its errors are reported, in a search by Optuna.

    Returns:
        The trial with its result.

    Raises:
        KpdetectError: The training could not start, because of wrong data, for example, which concerns every trial; or
            the disk is full, and the trial can be resumed.
    """
    folder, started = log.folder / trial.name, time.perf_counter()
    options = dataclasses.replace(options, out=str(folder), resume=(folder / RUN_FILE).exists())
    log.record(trial)
    keras.utils.clear_session()  # frees memory and resets the dtype policy
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the results of the search
            train(options, [ReportEpochs(draw)] if draw is not None else [])
        trial = _measured(trial, folder)
        if draw is not None and draw.pruned:
            trial = dataclasses.replace(trial, status=PRUNED)
    except Exception as error:
        if is_disk_full(error):  # concerns every trial, and this one can be resumed
            raise
        if not (folder / RUN_FILE).exists():
            log.discard(trial)
            raise
        trial = dataclasses.replace(trial, status=FAILED, message=_error_line(error))
    finally:
        if (folder / RUN_FILE).exists():  # also after an interruption
            trial = dataclasses.replace(trial, seconds=trial.seconds + time.perf_counter() - started)
            log.record(trial)
    return trial


def _error_line(error: Exception) -> str:
    """An error as one line; prints the traceback of an unexpected error."""
    line = next(iter(str(error).splitlines()), "")
    if isinstance(error, KpdetectError):
        return line
    traceback.print_exception(error)
    return f"{type(error).__name__}: {line}"


def _measured(trial: Trial, folder: Path) -> Trial:
    """The trial with the results that its run wrote."""
    row = read_rows(folder / RESULT_FILE)[0]
    protocol = {
        "dataset": row.dataset,
        "split": row.split,
        "boxes": row.boxes,
        "faces": str(row.n),
        "normaliser": row.normaliser,
    }
    with (folder / "history.csv").open(encoding="utf-8") as file:
        errors = [float(record["val_nme"]) for record in csv.DictReader(file)]
    best = errors.index(min(errors)) + 1
    return dataclasses.replace(
        trial, status=DONE, val_nme=row.nme, epochs=len(errors), best_epoch=best, protocol=protocol
    )
