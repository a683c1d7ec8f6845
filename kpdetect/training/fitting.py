"""Owns what happens inside `fit`: optimizers and schedules, the state that `--resume` goes on from, and the guards."""

import json
import math
import sys
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kpdetect import losses
from kpdetect.atomic import atomic_file
from kpdetect.errors import KpdetectError, unknown_name
from kpdetect.metrics_keras import NormalizedMeanError
from kpdetect.recipes import Optimization, Recipe
from kpdetect.spec import Spec

OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
MONITORED = "val_nme"


def compile_model(
    model: keras.Model,
    recipe: Recipe,
    spec: Spec,
    frozen: Collection[str],
    span: tuple[int, int],
    jit_compile: bool,
) -> None:
    """Makes a network ready to fit, with an optimizer that has learned nothing yet.

    The optimizer is built on every variable, those of frozen layers too: its state then has the same layout whatever
    is frozen, and a kept one fits. What is frozen it does not move, decay or otherwise touch.

    Args:
        model: The network.
        recipe: Tells loss and optimizer.
        spec: Of the model.
        frozen: The names of layers that stay as they are. A batch normalisation among them runs in inference mode:
            it neither uses nor takes in a batch's statistics.
        span: How many steps the whole schedule has, and how many of them are done.
        jit_compile: Whether XLA compiles the step.
    """
    thaw(model)
    variables = model.trainable_variables
    for name in frozen:
        model.get_layer(name).trainable = False
    model.compile(
        optimizer=build_optimizer(recipe.optimization, *span),
        loss=losses.build(recipe.loss, recipe.loss_unit),
        weighted_metrics=[NormalizedMeanError(spec.schema, recipe.crop.size_hw)],
        jit_compile=jit_compile,
    )
    model.optimizer.build(variables)


def thaw(model: keras.Model) -> None:
    """Lets every layer learn, and count among the trainable ones."""
    for layer in model.layers:
        layer.trainable = True


def build_optimizer(settings: Optimization, total_steps: int, first_step: int = 0) -> keras.optimizers.Optimizer:
    """An optimizer whose schedule spans `total_steps`, and which begins at the schedule's `first_step`.

    Raises:
        KpdetectError: There is no such optimizer or schedule.
    """
    rate = _learning_rate(settings, total_steps)
    if first_step and settings.schedule != "constant":
        rate = LaterPart(rate, first_step)
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


class LaterPart(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # keras tells no types
    """A schedule without its first steps, for an optimizer that counts its own from zero.

    Adam divides its running means by how much they have gathered, which it knows from its count of steps. So where
    layers begin to learn late, the optimizer begins anew, and only the schedule goes on.
    """

    def __init__(self, whole: Any, first_step: int) -> None:
        self.whole, self.first_step = whole, first_step

    def __call__(self, step: Any) -> Any:
        """The rate at the optimizer's own step."""
        return self.whole(step + self.first_step)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"whole": self.whole, "first_step": self.first_step}


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
        progress, arrays = _read(file, fingerprint)
        variables = _variables(model)
        if [variable.shape for variable in variables] != [array.shape for array in arrays]:
            raise KpdetectError(f"{file}: the checkpoint's variables are not this model's; --overwrite starts anew")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return progress

    def progress(self, fingerprint: dict[str, Any]) -> Progress:
        """How far the last state has come, without a model to put it into; nowhere where there is none.

        Raises:
            KpdetectError: As `restore`.
        """
        return _read(self.last, fingerprint)[0] if self.last.exists() else Progress()


def _read(file: Path, fingerprint: dict[str, Any]) -> tuple[Progress, list[npt.NDArray[Any]]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            state = json.loads(str(archive["state"]))
            arrays = [archive[f"v{index}"] for index in range(len(archive.files) - 1)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise KpdetectError(f"{file}: cannot be read as a checkpoint: {error}") from error
    _check_fingerprint(file, state["fingerprint"], fingerprint)
    return Progress(**state["progress"]), arrays


def _variables(model: keras.Model) -> list[Any]:
    """Every variable that the next step depends on, in a fixed order; the metrics' begin anew each epoch."""
    metrics = {id(variable) for variable in model.metrics_variables}
    if not model.optimizer.built:  # the one that scales the loss for half precision would add its variables again
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
        patient_from: Epochs that do not count for it: while layers are frozen, the best is yet to come.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        progress: Progress,
        fingerprint: dict[str, Any],
        history_file: Path,
        patience: int = 0,
        patient_from: int = 0,
    ) -> None:
        super().__init__()
        self.checkpoints, self.progress, self.fingerprint = checkpoints, progress, fingerprint
        self.history_file, self.patience, self.patient_from = history_file, patience, patient_from

    @property
    def out_of_patience(self) -> bool:
        """Whether the training is to stop early."""
        waited = self.progress.epoch - max(self.progress.best_epoch, self.patient_from)
        return bool(self.patience) and waited >= self.patience

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
        _check_finite("the loss", (logs or {}).get("loss"), f"at step {batch + 1} of the epoch")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the validation error: no loss of the epoch tells what its last step did to the weights."""
        _check_finite("the validation NME", (logs or {}).get(MONITORED), f"after epoch {epoch + 1}")


def _check_finite(what: str, value: float | None, when: str) -> None:
    if value is not None and not math.isfinite(value):
        raise KpdetectError(
            f"{what} is {value} {when}: try a smaller --learning-rate, "
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
