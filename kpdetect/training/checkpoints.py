"""Owns the states of a training on disk: what `--resume` goes on from after an end at any instant."""

import json
import math
import os
import shutil
import sys
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError

MONITORED = "val_nme"
KEPT = 2
"""How many of the latest states stay: should the last be damaged, as by a failing disk, there is the one before."""

WRITING_SHARE = 0.05
"""The share of a training's time that states amid an epoch may take, where nobody says how often to keep one."""

Arrays = list[npt.NDArray[Any]]


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: Epochs that are done.
        best: The lowest validation NME so far.
        best_epoch: The epoch that gave it, counted from 1; 0 before the first.
        history: One list per logged figure, one entry per epoch.
        step: Steps that are done of the epoch after those.
    """

    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    step: int = 0

    def add(self, logs: dict[str, float]) -> bool:
        """Takes in an epoch's figures; tells whether it was the best so far."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch, self.step = self.epoch + 1, 0
        improved = float(logs[MONITORED]) < self.best
        if improved:
            self.best, self.best_epoch = float(logs[MONITORED]), self.epoch
        return improved

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + f", step {self.step}" * bool(self.step)


class Checkpoints:
    """The folder that `--resume` goes on from: every variable of model, optimizer and metrics, and the progress.

    One file a state, written atomically: weights, batch-norm statistics, optimizer moments, step counter, the random
    seeds of dropout, and the sums of the epoch's loss so far. Since a batch is a function of the seed and the step,
    nothing else is needed.

    Args:
        folder: Where the files are.
        fingerprint: The settings that a resumed training must share.
        writes: Whether states are written here: of several processes that train together, one alone does.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any], writes: bool = True) -> None:
        self.folder, self.best, self.fingerprint = folder, folder / "best.npz", fingerprint
        self.writes = writes
        self._seconds_to_write, self._written_at = 0.0, time.monotonic()

    @property
    def affordable(self) -> bool:
        """Whether enough time has passed since the last state for another one, that writing take `WRITING_SHARE`."""
        return WRITING_SHARE * (time.monotonic() - self._written_at) >= self._seconds_to_write

    def keep(self, model: keras.Model, progress: Progress, is_best: bool = False) -> None:
        """Writes the state under its own name, and then removes all but the last `KEPT`.

        The best first: a kill between the two leaves the best, which is a whole state too, to go on from.

        Args:
            model: The network.
            progress: How far it has come.
            is_best: It is the best so far: it is kept under that name as well, which takes neither time nor room where
                a file can have two names.

        Raises:
            KpdetectError: See `save`.
        """
        file = self.folder / f"epoch{progress.epoch:06}_step{progress.step:07}.npz"
        self.save(self.best if is_best else file, model, progress)
        if not self.writes:
            return
        if is_best:
            _give_second_name(self.best, file)
        others = sorted(set(self.folder.glob("epoch*.npz")) - {file})
        earlier = [other for other in others if other < file]
        for other in set(others) - set(earlier[1 - KEPT :]):  # later ones are damaged: they were passed over
            other.unlink()

    def save(self, file: Path, model: keras.Model, progress: Progress) -> None:
        """Writes the state of a training.

        Raises:
            KpdetectError: The disk is full, or a variable is not finite; earlier states stay as they are.
        """
        started = time.monotonic()
        groups = {"v": _variables(model), "m": model.metrics_variables}
        arrays = {f"{key}{n}": np.asarray(one) for key, group in groups.items() for n, one in enumerate(group)}
        if not all(np.isfinite(array).all() for array in arrays.values() if np.issubdtype(array.dtype, np.floating)):
            raise not_finite("the weights are not finite", f"after {progress}")
        if not self.writes:
            return
        text = json.dumps({"progress": vars(progress), "fingerprint": self.fingerprint})
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, state=np.array(text), **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())  # or a power cut could leave the new name and not the bytes
        self._written_at = time.monotonic()
        self._seconds_to_write = self._written_at - started

    def newest(self) -> Path | None:
        """The whole state that has come furthest; None before the first. Damaged ones are told and passed over.

        The best may be the furthest: it is written first, so that no state is ever without its best.

        Raises:
            KpdetectError: All are damaged, or the newest is of a training with other settings.
        """
        for left in self.folder.glob(".*.npz"):  # of a write that was killed
            left.unlink()
        found, damaged = [], None
        for file in sorted(self.folder.glob("[!.]*.npz")):
            try:
                state = _read_state(file)
                found.append((state["progress"]["epoch"], state["progress"].get("step", 0), file))
            except KpdetectError as error:
                damaged = error
                print(f"{error}; passed over", file=sys.stderr)
        if damaged and not found:
            raise damaged
        return max(found)[2] if found else None

    def progress(self, file: Path) -> Progress:
        """How far a state has come, without a model to put it into.

        Raises:
            KpdetectError: As `restore`.
        """
        state = _read_state(file)
        _check_fingerprint(file, state["fingerprint"], self.fingerprint)
        return Progress(**state["progress"])

    def restore(self, file: Path, model: keras.Model) -> Arrays:
        """Reads a state back into a compiled model of the same build.

        Returns:
            The variables of the metrics, which Keras builds with the first step: `add_to_metrics` is for them.

        Raises:
            KpdetectError: The file is damaged, or is of a training with other settings.
        """
        self.progress(file)
        variables, arrays = _variables(model), _read_arrays(file, "v")
        if [variable.shape for variable in variables] != [array.shape for array in arrays]:
            raise KpdetectError(f"{file}: the checkpoint's variables are not this model's; --overwrite starts anew")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return _read_arrays(file, "m")


def _give_second_name(file: Path, name: Path) -> None:
    with atomic_file(name) as temporary:
        temporary.unlink()
        try:
            os.link(file, temporary)
        except OSError:  # a file system whose files have one name each
            shutil.copyfile(file, temporary)


def add_to_metrics(model: keras.Model, arrays: Arrays) -> None:
    """Adds what the metrics had summed up before; their variables are sums, all of them."""
    for variable, array in zip(model.metrics_variables, arrays, strict=True):
        variable.assign(keras.ops.convert_to_numpy(variable) + array)


def not_finite(what: str, when: str) -> KpdetectError:
    """What ends a training whose numbers are none any more, with what to try."""
    return KpdetectError(
        f"{what} {when}; the last good states stay in the run folder. Try a smaller --learning-rate, "
        "train with --no-mixed-precision, or look for labels far outside their pictures"
    )


def _read_state(file: Path) -> dict[str, Any]:
    """What a file says of itself; every byte of it is checked."""
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("its bytes are not those that were written")
        with np.load(file, allow_pickle=False) as arrays:
            state: dict[str, Any] = json.loads(str(arrays["state"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise KpdetectError(f"{file}: cannot be read as a checkpoint: {error}") from error
    return state


def _read_arrays(file: Path, key: str) -> Arrays:
    with np.load(file, allow_pickle=False) as archive:
        return [archive[f"{key}{n}"] for n in range(sum(name.startswith(key) for name in archive.files))]


def _variables(model: keras.Model) -> list[Any]:
    """Every variable that the next step depends on, in a fixed order; the metrics' are kept apart."""
    metrics = {id(variable) for variable in model.metrics_variables}
    if not model.optimizer.built:  # the one that scales the loss for half precision would add its variables again
        model.optimizer.build(model.trainable_variables)
    return [v for v in (*model.variables, *model.optimizer.variables) if id(v) not in metrics]


def _check_fingerprint(file: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [name for name in wanted if saved.get(name) != json.loads(json.dumps(wanted[name]))]
    if differing:
        listed = "; ".join(f"{name} was {saved.get(name)!r}, is {wanted[name]!r}" for name in differing)
        raise KpdetectError(f"{file}: --resume goes on with the same settings only: {listed}")
