"""Owns the command that tries settings: each trial an ordinary run in its own folder, then one table and one picture.

Enumeration is `itertools` and `random`, for no library that we tried is worth its cost here: a grid search of
keras-tuner 1.4.8 ends in a KeyError when it is resumed (its issue 1055), Optuna 5.0 (41 MB) counts an interrupted
trial as failed and draws the same settings again, and scikit-learn 1.9 brings 200 MB for a product and a sample.
"""

import dataclasses
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kpdetect import visualization
from kpdetect.core.errors import KpdetectError
from kpdetect.core.keras_backend import choose_backend
from kpdetect.core.options import command_line, option, parse_options, quietly, run_command
from kpdetect.recipes import TrainOptions
from kpdetect.training.tuning.grid import plan, read_grid, with_settings
from kpdetect.training.tuning.trials import (
    DONE,
    FAILED,
    LOG_FILE,
    PLOT_FILE,
    TABLE_FILE,
    Log,
    Trial,
    printed_table,
    setting_names,
)

VALIDATION_ALONE = (
    "These are validation errors, of the faces by which the settings and the checkpoints were chosen: the best of\n"
    "them is no test result. Measure it with `kpdetect evaluate` on faces that no trial has seen."
)


@dataclass(frozen=True, kw_only=True)
class TuneOptions(TrainOptions):
    """Tries settings: trains a recipe once for each, and tells which gave the lowest validation error.

    A name is an option of `train` (learning_rate) or a field of the recipe (augmentation.rotation_deg,
    optimization.weight_decay, architecture_options.blocks); a colon joins the values of a sequence (blocks=1:2:4).
    Every option of `train` may be given, and holds for all trials.
    """

    grid: tuple[str, ...] = option(
        dataclasses.MISSING,
        "what to try: NAME=V1,V2,… or, with --random, NAME=LOW..HIGH (in the logarithm where HIGH is ten times LOW)",
        metavar="NAME=VALUES",
        words=True,
    )
    random: int | None = option(None, "try N random draws, seeded by --seed; left out, every combination", metavar="N")
    out: str | None = option(None, "folder of the search (default: runs/tune-RECIPE)", metavar="DIR")
    resume: bool = option(False, "go on with the search that DIR holds; --grid may name more, --random be greater")
    overwrite: bool = option(False, "remove the search that DIR holds, and start anew")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``tune``."""
    example = "python -m kpdetect.tune --grid learning_rate=1e-3,3e-4 batch_size=16,64 --epochs 5 --out runs/rates"
    options = parse_options(TuneOptions, argv, "tune", example)
    if options.coordinator is not None:
        raise KpdetectError("--coordinator: a search trains in one process; train its best setting in several")
    base = shared_options(options)
    settings = plan(read_grid(options.grid, base), options.random, options.seed)
    choose_backend(options.backend)
    log = open_log(Path(options.out or f"runs/tune-{options.recipe}"), base, options)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    with quietly("starting TensorFlow"):
        from kpdetect.training.tuning.attempts import check_losses, run_trial

    tried = [with_settings(base, each) for each in settings]
    check_losses(tried)
    if options.random is not None and len(settings) < options.random:
        print(f"kpdetect: there are only {len(settings)} different settings", file=sys.stderr)
    for number, (each, trained) in enumerate(zip(settings, tried, strict=True), 1):
        trial = log.trial_of(each)
        told = " ".join(f"{name}={value}" for name, value in each.items())
        known = f": {trial.status}" if trial.status in (DONE, FAILED) else ""
        print(f"kpdetect: trial {number} of {len(settings)}, {told}{known}", file=sys.stderr)
        if not known:
            run_trial(log, trial, trained)
            draw_trials(log)
    report(log, base)
    return 0 if any(trial.status == DONE for trial in log.ranked()) else 1


def shared_options(options: TuneOptions) -> TrainOptions:
    """What all trials share."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(TrainOptions)}
    return TrainOptions(**{**values, "out": None, "resume": False, "overwrite": False})


def open_log(folder: Path, base: TrainOptions, options: TuneOptions) -> Log:
    """The log of a new search, or of the one to go on with.

    Raises:
        KpdetectError: The folder holds another search or other files, or none to go on with.
    """
    if options.resume and options.overwrite:
        raise KpdetectError("--resume goes on with a search, --overwrite removes it: choose one")
    log, holds_search = Log(folder, base), (folder / LOG_FILE).exists()
    if options.resume and not holds_search:
        raise KpdetectError(f"{folder}: --resume found no search there; leave --resume out to start one")
    if options.resume:
        log.reload()
    elif holds_search and options.overwrite:
        shutil.rmtree(folder)
    elif holds_search:
        raise KpdetectError(f"{folder}: holds another search; --resume goes on with it, --overwrite removes it")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KpdetectError(f"{folder}: holds files that are no search; choose another --out")
    return log


def draw_trials(log: Log) -> None:
    """Draws which value of which setting gave which error."""
    trials = [trial for trial in log.ranked() if trial.status in (DONE, FAILED)]
    names = setting_names(trials)
    columns = {name: [trial.settings.get(name, "recipe's own") for trial in trials] for name in names}
    errors = [float("nan") if trial.val_nme is None else trial.val_nme for trial in trials]
    visualization.setting_panels(columns, errors, _protocol(trials), log.folder / PLOT_FILE)


def report(log: Log, base: TrainOptions) -> None:
    """Prints the table, what its errors are, and the best trial with the command that trains it."""
    ranked = log.ranked()
    print(f"{printed_table(ranked)}\n\nNME: {_protocol(ranked)}\n{VALIDATION_ALONE}")
    best = ranked[0]
    if best.val_nme is None:
        print("\nno trial came to an end")
    else:
        told = " ".join(f"{name}={value}" for name, value in best.settings.items())
        command = command_line(with_settings(base, best.settings), "train")
        print(f"\nbest on validation: {log.folder / best.name}, {told}\n  {command}")
    for failed in [trial for trial in ranked if trial.status == FAILED]:
        print(
            f"failed: {log.folder / failed.name}: {failed.message}\n  (not tried again unless that folder is removed)"
        )
    for name in (TABLE_FILE, PLOT_FILE):
        print(f"  {log.folder / name}")


def _protocol(trials: Sequence[Trial]) -> str:
    """What the errors were measured on, in words."""
    for trial in trials:
        if trial.protocol:
            told = trial.protocol
            where = f"{told['dataset']}, {told['split']}, {told['faces']} faces, boxes: {told['boxes']}"
            return f"% {told['normaliser']}, {where}"
    return "nothing was measured"


if __name__ == "__main__":
    sys.exit(run_command(main))
