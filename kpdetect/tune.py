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
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training.checks import check_options
from kpdetect.training.tuning.grid import combinations, read_grid, with_settings
from kpdetect.training.tuning.study import RANDOM, TPE, Draw, Study, import_optuna
from kpdetect.training.tuning.trials import (
    DONE,
    FAILED,
    FINISHED,
    LOG_FILE,
    PLOT_FILE,
    PRUNED,
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
        "settings to try: NAME=V1,V2,… or, with --random or --search tpe, NAME=LOW..HIGH (log-uniform if HIGH is 10 "
        "times LOW or more)",
        metavar="NAME=VALUES",
        words=True,
    )
    search: str = option(
        "grid",
        "all combinations, random draws, or draws near the best so far (Tree-structured Parzen Estimator)",
        choices=("grid", RANDOM, TPE),
    )
    trials: int = option(20, "number of draws of --search random and tpe, seeded by --seed", metavar="N")
    random: int | None = option(None, "short for --search random --trials N", metavar="N")
    prune: bool = option(True, "with --search tpe: stop trials whose error is above the median of earlier ones")
    out: str | None = option(None, "folder of the search (default: runs/tune-RECIPE)", metavar="DIR")
    resume: bool = option(False, "continue the search in --out; a grid may have more values, --trials may be larger")
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
    if options.workers is not None:
        raise KpdetectError("--workers: a search trains in one process; train its best setting on several workers")
    base = shared_options(options)
    check_options(base)
    grid = read_grid(options.grid, base)
    search, number = (RANDOM, options.random) if options.random is not None else (options.search, options.trials)
    if number < 1:
        raise KpdetectError(
            f"--{'trials' if options.random is None else 'random'}: expected 1 or more, received {number}"
        )
    settings = combinations(grid) if search == "grid" else []
    if search != "grid":
        import_optuna()
    recipe = choose_recipe(base)
    choose_backend(options.backend)
    log = open_log(Path(options.out or f"runs/tune-{options.recipe}"), base, options)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
    with quietly("starting TensorFlow"):
        from kpdetect.training.tuning.attempts import check_losses

    if search == "grid":
        check_losses([with_settings(base, each) for each in settings])
        for count, each in enumerate(settings, 1):
            try_settings(log, each, base, f"{count} of {len(settings)}")
    else:
        losses = grid.get("loss", ())
        named = losses if isinstance(losses, tuple) else ()
        check_losses([base, *(with_settings(base, {"loss": loss}) for loss in named)])
        prunes = search == TPE and options.prune
        study = Study(log.folder, grid, search, options.seed, recipe.epochs // 4 if prunes else None)
        try:
            draw_settings(log, study, base, number)
        finally:
            if not log.trials:  # the first trial could not start
                study.remove()
    report(log, base)
    return 0 if any(trial.status == DONE for trial in log.ranked()) else 1


def try_settings(
    log: SearchLog, settings: Mapping[str, str], base: TrainOptions, place: str, draw: Draw | None = None
) -> Trial:
    """Trains a trial with some settings, unless the log has its result.

    Args:
        log: The log of the search.
        settings: Values by name, as text.
        base: Options that all trials share.
        place: The trial's number, for the message.
        draw: Where its errors are reported, in a search by Optuna.

    Returns:
        The trial with its result.
    """
    from kpdetect.training.tuning.attempts import run_trial  # which imports TensorFlow

    trial = log.trial_of(settings)
    status = f": {trial.status}" if trial.status in FINISHED else ""
    print(f"kpdetect: trial {place}, {_words(settings)}{status}", file=sys.stderr)
    if trial.status not in FINISHED:
        trial = run_trial(log, trial, with_settings(base, settings), draw)
        draw_trials(log)
    return trial


def draw_settings(log: SearchLog, study: Study, base: TrainOptions, number: int) -> None:
    """Draws settings and trains their trials, until there are `number` different ones."""
    while (draw := study.next(number)) is not None:
        place = f"{int(log.trial_of(draw.settings).name)} of {number}"
        trial = try_settings(log, draw.settings, base, place, draw)
        draw.pruned = trial.status == PRUNED
        study.tell(draw, trial.val_nme)
    if len(log.trials) < number:
        print(f"kpdetect: {number} trials: only {len(log.trials)} different settings exist", file=sys.stderr)


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
    trials = [trial for trial in log.ranked() if trial.status in FINISHED]
    names = setting_names(trials)
    columns = {name: [trial.settings.get(name, "default") for trial in trials] for name in names}
    errors = [float("nan") if trial.val_nme is None else trial.val_nme for trial in trials]
    visualization.setting_panels(columns, errors, _protocol(trials), log.folder / PLOT_FILE)


def report(log: SearchLog, base: TrainOptions) -> None:
    """Prints the table, how its errors were measured, and the best trial with the command that repeats it."""
    ranked = log.ranked()
    print(f"{printed_table(ranked)}\n\nNME: {_protocol(ranked)}\n{VALIDATION_NOTE}")
    best = ranked[0]
    if best.status != DONE:
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
