"""The results of the trials of a search: its log on disk, and its table. Imports no TensorFlow."""

import contextlib
import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.recipes import TrainOptions
from kpdetect.training.checks import changed_settings, resume_error
from kpdetect.training.tuning.grid import OUTPUT_OPTIONS

LOG_FILE, TABLE_FILE, PLOT_FILE = "search.json", "trials.csv", "trials.png"
DONE, FAILED, PRUNED, UNFINISHED = "done", "failed", "pruned", "unfinished"
FINISHED = (DONE, FAILED, PRUNED)


@dataclass(frozen=True)
class Trial:
    """One training of a search: settings and result.

    Attributes:
        name: Name of its folder in the search folder.
        settings: Values by name, as text.
        status: ``done``, ``failed``, ``pruned`` (stopped early, for it fell behind) or ``unfinished``.
        val_nme: Validation NME in per cent of the normaliser, on the faces that also select the checkpoint.
        epochs: Number of trained epochs.
        best_epoch: Epoch whose weights were saved, counted from 1.
        seconds: Duration of training and measuring, without parts lost to an interruption.
        message: The error, if it failed.
        protocol: How ``val_nme`` was measured: data set, split, boxes, number of faces, normaliser.

    Example:
        >>> Trial("001", {"batch_size": "16"}).status
        'unfinished'
    """

    name: str
    settings: Mapping[str, str]
    status: str = UNFINISHED
    val_nme: float | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    message: str = ""
    protocol: Mapping[str, str] = field(default_factory=dict)


class SearchLog:
    """The trials of a search, written to disk after each change, so that no trial is trained twice.

    Args:
        folder: Folder of the search.
        base: Options that all trials share.
    """

    def __init__(self, folder: Path, base: TrainOptions) -> None:
        self.folder, self.shared = folder, _shared(base)
        self.trials: dict[str, Trial] = {}

    def reload(self) -> None:
        """Reads the trials of an earlier search in the folder, except those whose folder was removed.

        Raises:
            KpdetectError: That search had other options, or its log cannot be read.
        """
        file = self.folder / LOG_FILE
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
            trials = [Trial(**record) for record in saved["trials"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KpdetectError(f"{file}: not the log of a search: {error}") from error
        if changes := changed_settings(saved["shared"], self.shared):
            raise KpdetectError(resume_error(str(file), changes, "use the options of the search"))
        self.trials = {trial.name: trial for trial in trials if (self.folder / trial.name).is_dir()}

    def record(self, trial: Trial) -> None:
        """Writes a trial to the log and the table."""
        self.trials[trial.name] = trial
        self._write()

    def _write(self) -> None:
        records = [dataclasses.asdict(known) for known in self.trials.values()]
        with atomic_file(self.folder / LOG_FILE) as temporary:
            temporary.write_text(json.dumps({"shared": self.shared, "trials": records}, indent=1) + "\n", "utf-8")
        write_table(self.folder / TABLE_FILE, self.ranked())

    def discard(self, trial: Trial) -> None:
        """Removes a trial that could not start; also removes the search folder if no trial is left."""
        del self.trials[trial.name]
        if self.trials:
            self._write()
            return
        for name in (LOG_FILE, TABLE_FILE):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            self.folder.rmdir()

    def trial_of(self, settings: Mapping[str, str]) -> Trial:
        """The recorded trial with these settings, or a new one."""
        for trial in self.trials.values():
            if trial.settings == settings:
                return trial
        numbers = [int(name) for name in self.trials]
        return Trial(f"{max(numbers, default=0) + 1:03d}", dict(settings))

    def ranked(self) -> list[Trial]:
        """All trials by ascending error; those that were stopped early, and then those without an error, are last."""

        def order(trial: Trial) -> tuple[bool, bool, float, str]:
            return trial.val_nme is None, trial.status == PRUNED, trial.val_nme or 0.0, trial.name

        return sorted(self.trials.values(), key=order)


def setting_names(trials: Sequence[Trial]) -> list[str]:
    """Names of the varied settings, in order of their first appearance."""
    return list(dict.fromkeys(name for trial in trials for name in trial.settings))


def write_table(path: Path, trials: Sequence[Trial]) -> None:
    """Writes the trials as CSV, one row each; a cell is empty if the setting is the recipe's default."""
    names = setting_names(trials)
    outcome = ["val_nme", "status", "epochs", "best_epoch", "seconds"]
    protocol = list(dict.fromkeys(name for trial in trials for name in trial.protocol))
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", *names, *outcome, *protocol, "message"])
        for trial in trials:
            values = [_text(getattr(trial, name)) for name in outcome]
            measured = [trial.protocol.get(name, "") for name in protocol]
            settings = [trial.settings.get(name, "") for name in names]
            writer.writerow([trial.name, *settings, *values, *measured, trial.message])


def printed_table(trials: Sequence[Trial]) -> str:
    """The trials as a text table."""
    names = setting_names(trials)
    rows = [["trial", *names, "val NME %", "epochs", "best", "time"]]
    for trial in trials:
        error = trial.status if trial.val_nme is None else f"{trial.val_nme:.2f}"
        error += " (pruned)" if trial.status == PRUNED else ""
        time = f"{int(trial.seconds) // 60}:{int(trial.seconds) % 60:02d}"
        settings = [trial.settings.get(name, "-") for name in names]
        rows.append([trial.name, *settings, error, _text(trial.epochs), _text(trial.best_epoch), time])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _shared(base: TrainOptions) -> dict[str, Any]:
    """The options that all trials must share, JSON-ready."""
    options = {name: value for name, value in dataclasses.asdict(base).items() if name not in OUTPUT_OPTIONS}
    plain: dict[str, Any] = json.loads(json.dumps(options))
    return plain


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
