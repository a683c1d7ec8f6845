"""Owns what the trials of a search gave: the log that a search goes on from, and the table. No TensorFlow."""

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
from kpdetect.training.tuning.grid import PLACES

LOG_FILE, TABLE_FILE, PLOT_FILE = "search.json", "trials.csv", "trials.png"
DONE, FAILED, UNFINISHED = "done", "failed", "unfinished"


@dataclass(frozen=True)
class Trial:
    """One training with its settings, and how it ended.

    Attributes:
        name: Its folder, below the search's.
        settings: Value by name, in words.
        status: ``done``, ``failed`` or ``unfinished``.
        val_nme: In per cent of the normaliser, of the faces the checkpoint is chosen on.
        epochs: How many were trained.
        best_epoch: The one whose weights were kept.
        seconds: What training and measuring took, as far as it was not cut off.
        message: Why it failed.
        protocol: What ``val_nme`` is measured on: data set, split, boxes, number of faces, normaliser.
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


class Log:
    """What is known of a search's trials, kept on disk after each change so that nothing is trained twice.

    Args:
        folder: The search's.
        base: What all trials share.
    """

    def __init__(self, folder: Path, base: TrainOptions) -> None:
        self.folder, self.shared = folder, _shared(base)
        self.trials: dict[str, Trial] = {}

    def reload(self) -> None:
        """Takes in the trials of an earlier search in the folder; one whose folder was removed is forgotten.

        Raises:
            KpdetectError: That search had other settings, or its log cannot be read.
        """
        file = self.folder / LOG_FILE
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
            trials = [Trial(**record) for record in saved["trials"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KpdetectError(f"{file}: cannot be read as the log of a search: {error}") from error
        differing = [name for name, value in self.shared.items() if saved["shared"].get(name) != value]
        if differing:
            listed = "; ".join(
                f"{name} was {saved['shared'].get(name)!r}, is {self.shared[name]!r}" for name in differing
            )
            raise KpdetectError(f"{file}: --resume goes on with the same settings only: {listed}")
        self.trials = {trial.name: trial for trial in trials if (self.folder / trial.name).is_dir()}

    def keep(self, trial: Trial) -> None:
        """Notes a trial in the log and in the table."""
        self.trials[trial.name] = trial
        self._write()

    def _write(self) -> None:
        records = [dataclasses.asdict(known) for known in self.trials.values()]
        with atomic_file(self.folder / LOG_FILE) as temporary:
            temporary.write_text(json.dumps({"shared": self.shared, "trials": records}, indent=1) + "\n", "utf-8")
        write_table(self.folder / TABLE_FILE, self.ranked())

    def forget(self, trial: Trial) -> None:
        """Takes a trial out that could not begin; a search without any leaves nothing behind."""
        del self.trials[trial.name]
        if self.trials:
            self._write()
            return
        for name in (LOG_FILE, TABLE_FILE):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it
            self.folder.rmdir()

    def trial_of(self, settings: Mapping[str, str]) -> Trial:
        """The trial of these settings: the one that was begun before, or a new one."""
        for trial in self.trials.values():
            if trial.settings == settings:
                return trial
        numbers = [int(name) for name in self.trials]
        return Trial(f"{max(numbers, default=0) + 1:03d}", dict(settings))

    def ranked(self) -> list[Trial]:
        """All trials, the lowest error first; without one, last."""
        return sorted(self.trials.values(), key=lambda trial: (trial.val_nme is None, trial.val_nme or 0.0, trial.name))


def setting_names(trials: Sequence[Trial]) -> list[str]:
    """What was varied, in the order in which it first came."""
    return list(dict.fromkeys(name for trial in trials for name in trial.settings))


def write_table(path: Path, trials: Sequence[Trial]) -> None:
    """Writes the trials as CSV, a row each, atomically; empty where a setting is the recipe's own."""
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
    """The trials for people, in columns."""
    names = setting_names(trials)
    rows = [["trial", *names, "val NME %", "epochs", "best", "time"]]
    for trial in trials:
        error = trial.status if trial.val_nme is None else f"{trial.val_nme:.2f}"
        time = f"{int(trial.seconds) // 60}:{int(trial.seconds) % 60:02d}"
        settings = [trial.settings.get(name, "-") for name in names]
        rows.append([trial.name, *settings, error, _text(trial.epochs), _text(trial.best_epoch), time])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _shared(base: TrainOptions) -> dict[str, Any]:
    """The options by which errors of two trials can be compared, JSON-ready."""
    options = {name: value for name, value in dataclasses.asdict(base).items() if name not in PLACES}
    plain: dict[str, Any] = json.loads(json.dumps(options))
    return plain


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
