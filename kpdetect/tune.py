"""The command ``kpdetect tune``: trains a recipe with different settings, and writes one table and one picture."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpdetect import visualization
from kpdetect.core.errors import KpdetectError
from kpdetect.core.keras_backend import choose_backend
from kpdetect.core.options import command_line, option, parse_options, quietly, run_command
from kpdetect.recipes import TrainOptions
from kpdetect.training.checks import check_options
from kpdetect.training.tuning.grid import plan, read_grid, with_settings
from kpdetect.training.tuning.trials import (
    DONE,
    FAILED,
    LOG_FILE,
    PLOT_FILE,
    TABLE_FILE,
    SearchLog,
    Trial,
    printed_table,
    setting_names,
)

VALIDATION_NOTE = (
    "These are validation errors: settings and checkpoints were selected on the same faces, so the lowest one is\n"
    "not a test result. Measure the best model with `kpdetect evaluate` on faces that were used in no trial."
)


@dataclass(frozen=True, kw_only=True)
class TuneOptions(TrainOptions):
    """Trains a recipe once for each setting and prints the validation errors, lowest first.

    A name is an option of `train` (learning_rate) or a field of the recipe (augmentation.rotation_deg,
    optimization.weight_decay, architecture_options.blocks); sequences are separated by colons (blocks=1:2:4).
    All options of `train` are accepted and apply to every trial.
    """

    grid: tuple[str, ...] = option(
        dataclasses.MISSING,
        "settings to try: NAME=V1,V2,… or, with --random, NAME=LOW..HIGH (log-uniform if HIGH is 10 times LOW or more)",
        metavar="NAME=VALUES",
        words=True,
    )
    random: int | None = option(None, "try N random draws, seeded by --seed (default: all combinations)", metavar="N")
    out: str | None = option(None, "folder of the search (default: runs/tune-RECIPE)", metavar="DIR")
    resume: bool = option(False, "continue the search in --out; --grid may have more values, --random may be larger")
    overwrite: bool = option(False, "remove the search in --out and start a new one")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``tune``.

    Args:
        argv: The words after the command's name; None reads ``sys.argv``.

    Returns:
        The exit status: 0 if a trial was completed, else 1.

    Example:
        >>> main(["--grid", "learning_rate=1e-3,3e-4", "--epochs", "2"])  # doctest: +SKIP
        0
    """
    example = "python -m kpdetect.tune --grid learning_rate=1e-3,3e-4 batch_size=16,64 --epochs 5 --out runs/rates"
    options = parse_options(TuneOptions, argv, "tune", example)
    if options.coordinator is not None:
        raise KpdetectError(
            "--coordinator: a search trains in one process; train its best setting in several processes"
        )
    base = shared_options(options)
    check_options(base)
    settings = plan(read_grid(options.grid, base), options.random, options.seed)
    choose_backend(options.backend)
    log = open_log(Path(options.out or f"runs/tune-{options.recipe}"), base, options)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
    with quietly("starting TensorFlow"):
        from kpdetect.training.tuning.attempts import check_losses, run_trial

    trial_options = [with_settings(base, each) for each in settings]
    check_losses(trial_options)
    if options.random is not None and len(settings) < options.random:
        print(f"kpdetect: --random {options.random}: only {len(settings)} different settings exist", file=sys.stderr)
    for number, (each, one_options) in enumerate(zip(settings, trial_options, strict=True), 1):
        trial = log.trial_of(each)
        finished = trial.status in (DONE, FAILED)
        status = f": {trial.status}" if finished else ""
        print(f"kpdetect: trial {number} of {len(settings)}, {_words(each)}{status}", file=sys.stderr)
        if not finished:
            run_trial(log, trial, one_options)
            draw_trials(log)
    report(log, base)
    return 0 if any(trial.status == DONE for trial in log.ranked()) else 1


def shared_options(options: TuneOptions) -> TrainOptions:
    """The options that all trials share."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(TrainOptions)}
    return TrainOptions(**{**values, "out": None, "resume": False, "overwrite": False})


def open_log(folder: Path, base: TrainOptions, options: TuneOptions) -> SearchLog:
    """The log of a new search, or of the one to resume.

    Raises:
        KpdetectError: The folder holds another search or other files, or ``--resume`` has no search.
    """
    if options.resume and options.overwrite:
        raise KpdetectError("--resume continues a search and --overwrite removes it: use one of them")
    log, holds_search = SearchLog(folder, base), (folder / LOG_FILE).exists()
    if options.resume and not holds_search:
        raise KpdetectError(f"{folder}: --resume found no search here; omit --resume to start one")
    if options.resume:
        log.reload()
    elif holds_search and options.overwrite:
        shutil.rmtree(folder)
    elif holds_search:
        raise KpdetectError(f"{folder}: holds another search; --resume continues it, --overwrite removes it")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KpdetectError(f"{folder}: holds files that are not a search; choose another --out")
    return log


def draw_trials(log: SearchLog) -> None:
    """Draws the error against the value of each setting."""
    trials = [trial for trial in log.ranked() if trial.status in (DONE, FAILED)]
    names = setting_names(trials)
    columns = {name: [trial.settings.get(name, "default") for trial in trials] for name in names}
    errors = [float("nan") if trial.val_nme is None else trial.val_nme for trial in trials]
    visualization.setting_panels(columns, errors, _protocol(trials), log.folder / PLOT_FILE)


def report(log: SearchLog, base: TrainOptions) -> None:
    """Prints the table, how its errors were measured, and the best trial with the command that repeats it."""
    ranked = log.ranked()
    print(f"{printed_table(ranked)}\n\nNME: {_protocol(ranked)}\n{VALIDATION_NOTE}")
    best = ranked[0]
    if best.val_nme is None:
        print("\nno trial was completed")
    else:
        command = command_line(with_settings(base, best.settings), "train")
        print(f"\nbest on validation: {log.folder / best.name}, {_words(best.settings)}\n  {command}")
    for failed in [trial for trial in ranked if trial.status == FAILED]:
        print(
            f"failed: {log.folder / failed.name}: {failed.message}\n  (not trained again unless this folder is removed)"
        )
    for name in (TABLE_FILE, PLOT_FILE):
        print(f"  {log.folder / name}")


def _protocol(trials: Sequence[Trial]) -> str:
    """Unit, data set, split, number of faces and boxes of the errors."""
    measured = next((trial.protocol for trial in trials if trial.protocol), None)
    if measured is None:
        return "no trial was measured"
    where = f"{measured['dataset']}, {measured['split']}, {measured['faces']} faces, boxes: {measured['boxes']}"
    return f"% {measured['normaliser']}, {where}"


def _words(settings: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


if __name__ == "__main__":
    sys.exit(run_command(main))
