"""Owns what happens inside `fit`: optimizers and schedules, the state that `--resume` goes on from, and the guards."""

import json
import math
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kpdetect.atomic import atomic_file
from kpdetect.errors import KpdetectError, unknown_name
from kpdetect.recipes import Optimization

OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
MONITORED = "val_nme"


def build_optimizer(settings: Optimization, total_steps: int) -> keras.optimizers.Optimizer:
    """An optimizer whose schedule spans `total_steps`.

    Raises:
        KpdetectError: There is no such optimizer or schedule.
    """
    rate = _learning_rate(settings, total_steps)
    if settings.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", settings.optimizer, OPTIMIZERS)
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=settings.momentum)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _learning_rate(settings: Optimization, total_steps: int) -> Any:
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule != "cosine":
        raise unknown_name("schedule", settings.schedule, ["constant", "cosine"])
    warmup_steps = round(settings.warmup_fraction * total_steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else settings.learning_rate,
        decay_steps=max(total_steps - warmup_steps, 1),
        warmup_target=settings.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: Epochs that are done.
        best: The lowest validation NME so far.
        best_epoch: The epoch that gave it, counted from 1; 0 before the first.
        history: One list per logged figure, one entry per epoch.
    """

    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)

    def add(self, logs: dict[str, float]) -> bool:
        """Takes in an epoch's figures; tells whether it was the best so far."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch += 1
        improved = float(logs[MONITORED]) < self.best
        if improved:
            self.best, self.best_epoch = float(logs[MONITORED]), self.epoch
        return improved


class Checkpoints:
    """The folder that `--resume` goes on from: every variable of model and optimizer, and the progress.

    One file a state, written atomically: weights, batch-norm statistics, optimizer moments, step counter and the
    random seeds of dropout. Since a batch is a function of the seed and the step, nothing else is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.last, self.best = folder / "last.npz", folder / "best.npz"

    def save(self, file: Path, model: keras.Model, progress: Progress, fingerprint: dict[str, Any]) -> None:
        """Writes the state of a training."""
        arrays = {f"v{index}": np.asarray(variable) for index, variable in enumerate(_variables(model))}
        text = json.dumps({"progress": vars(progress), "fingerprint": fingerprint})
        with atomic_file(file) as temporary:
            np.savez(temporary, state=np.array(text), **arrays)  # type: ignore[arg-type]

    def restore(self, file: Path, model: keras.Model, fingerprint: dict[str, Any]) -> Progress:
        """Reads a state back into a compiled model of the same build.

        Raises:
            KpdetectError: The file is damaged, or is of a training with other settings.
        """
        try:
            with np.load(file, allow_pickle=False) as archive:
                state = json.loads(str(archive["state"]))
                arrays = [archive[f"v{index}"] for index in range(len(archive.files) - 1)]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise KpdetectError(f"{file}: cannot be read as a checkpoint: {error}") from error
        _check_fingerprint(file, state["fingerprint"], fingerprint)
        variables = _variables(model)
        if [variable.shape for variable in variables] != [array.shape for array in arrays]:
            raise KpdetectError(f"{file}: the checkpoint's variables are not this model's; --overwrite starts anew")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return Progress(**state["progress"])


def _variables(model: keras.Model) -> list[Any]:
    """Every variable that the next step depends on, in a fixed order; the metrics' begin anew each epoch."""
    metrics = {id(variable) for variable in model.metrics_variables}
    model.optimizer.build(model.trainable_variables)
    return [v for v in (*model.variables, *model.optimizer.variables) if id(v) not in metrics]


def _check_fingerprint(file: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [name for name in wanted if saved.get(name) != json.loads(json.dumps(wanted[name]))]
    if differing:
        listed = "; ".join(f"{name} was {saved.get(name)!r}, is {wanted[name]!r}" for name in differing)
        raise KpdetectError(f"{file}: --resume goes on with the same settings only: {listed}")


class KeepState(keras.callbacks.Callback):  # type: ignore[misc]  # keras tells no types
    """At each epoch's end: the log, the last and the best state on disk, and early stopping that survives a resume.

    Args:
        checkpoints: Where to.
        progress: How far the training has come; taken further here.
        fingerprint: The settings that a resumed training must share.
        history_file: The CSV log.
        patience: Stop after so many epochs without a new best; 0 never stops early.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        progress: Progress,
        fingerprint: dict[str, Any],
        history_file: Path,
        patience: int = 0,
    ) -> None:
        super().__init__()
        self.checkpoints, self.progress, self.fingerprint = checkpoints, progress, fingerprint
        self.history_file, self.patience = history_file, patience

    @property
    def out_of_patience(self) -> bool:
        """Whether the training is to stop early."""
        return bool(self.patience) and self.progress.epoch - self.progress.best_epoch >= self.patience

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keeps what the epoch gave."""
        improved = self.progress.add(logs or {})
        # The best first: a kill between the two leaves a last state from which the same best comes again.
        if improved:
            self.checkpoints.save(self.checkpoints.best, self.model, self.progress, self.fingerprint)
        self.checkpoints.save(self.checkpoints.last, self.model, self.progress, self.fingerprint)
        write_history(self.history_file, self.progress.history)
        if self.out_of_patience:
            print(f"no better validation NME for {self.patience} epochs: stopping early", file=sys.stderr)
            self.model.stop_training = True


class StopWhenNotFinite(keras.callbacks.Callback):  # type: ignore[misc]  # keras tells no types
    """Ends a training whose loss is no number any more, with what to try; the states on disk stay as they are."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the running loss."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise KpdetectError(
                f"the loss is {loss} at step {batch + 1} of the epoch: try a smaller --learning-rate, "
                "train without --mixed-precision, or look for labels far outside their pictures"
            )


def write_history(file: Path, history: dict[str, list[float]]) -> None:
    """Writes the log as CSV: a row an epoch, counted from 1."""
    names = list(history)
    lines = [",".join(["epoch", *names])]
    for index in range(len(history[names[0]]) if names else 0):
        lines.append(",".join([str(index + 1), *(f"{history[name][index]:.8g}" for name in names)]))
    with atomic_file(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
