"""Owns one trial of a search: an ordinary training in a folder of its own, gone on with if it was cut off."""

import contextlib
import csv
import dataclasses
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import keras

from kpdetect.core.errors import KpdetectError
from kpdetect.evaluation.results import read_rows
from kpdetect.models import losses
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training import RESULT_FILE, RUN_FILE, train
from kpdetect.training.tuning.trials import DONE, FAILED, Log, Trial


def check_losses(tried: Sequence[TrainOptions]) -> None:
    """Makes sure that each trial's loss exists, before the first of them is trained.

    Raises:
        KpdetectError: One does not.
    """
    for options in tried:
        recipe = choose_recipe(options)
        losses.build(recipe.loss, recipe.loss_unit)


def run_trial(log: Log, trial: Trial, options: TrainOptions) -> None:
    """Trains a trial, or goes on with it, and notes in the log how it ended.

    A training that fails once it has begun (its loss is not finite, no network of such options can be built, the
    memory does not hold the batch) is noted as failed, so that the others go on.

    Raises:
        KpdetectError: The training could not begin: the data is not right, which would hold for every trial.
    """
    folder, started = log.folder / trial.name, time.perf_counter()
    options = dataclasses.replace(options, out=str(folder), resume=(folder / RUN_FILE).exists())
    log.keep(trial)
    keras.utils.clear_session()  # the last trial's memory and precision
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a training tells is the log of this command
            train(options)
        trial = _measured(trial, folder)
    except Exception as error:
        if not (folder / RUN_FILE).exists():
            log.forget(trial)
            raise
        trial = dataclasses.replace(trial, status=FAILED, message=_told(error))
    finally:
        if (folder / RUN_FILE).exists():  # also when it is interrupted
            log.keep(dataclasses.replace(trial, seconds=trial.seconds + time.perf_counter() - started))


def _told(error: Exception) -> str:
    """An error as one line; one that no check of ours foresaw is shown whole, too."""
    line = next(iter(str(error).splitlines()), "")
    if isinstance(error, KpdetectError):
        return line
    traceback.print_exception(error)
    return f"{type(error).__name__}: {line}"


def _measured(trial: Trial, folder: Path) -> Trial:
    """The trial with what its run left behind."""
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
