"""Checkpoints of a training on disk, from which ``--resume`` continues."""

import json
import logging
import math
import os
import shutil
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
from kpdetect.training.checks import changed_settings, resume_error

_LOG = logging.getLogger(__name__)

MONITORED = "val_nme"
"""The logged figure that selects the best epoch."""

KEEP_LAST = 2
"""Number of latest checkpoints to keep: the second is a fallback if the last is damaged."""

MAX_TIME_SHARE = 0.05
"""Share of the training time that checkpoints within an epoch may take if ``--checkpoint-every`` is not given."""

Arrays = list[npt.NDArray[Any]]


@dataclass
class Progress:
    """Progress of a training.

    Attributes:
        epoch: Number of finished epochs.
        best: Lowest validation NME so far, as a fraction of the normaliser.
        best_epoch: Epoch with that NME, counted from 1; 0 before the first.
        history: Logged figures by name, one value per epoch.
        step: Finished steps of the current epoch.
    """

    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    step: int = 0

    def add(self, logs: dict[str, float]) -> bool:
        """Adds the figures of an epoch.

        Returns:
            Whether its validation NME is the lowest so far.
        """
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
    """A folder of checkpoints: all variables of model, optimizer and metrics, and the progress.

    Each checkpoint is one ``.npz`` file, written atomically: weights, batch-norm statistics, optimizer moments, step
    counter, dropout seeds and the sums of the epoch's loss so far. Batches are a function of the seed and the step, so
    that a training resumed from it continues exactly.

    Args:
        folder: Folder of the files.
        fingerprint: Settings that a resumed training must share, JSON-ready.
        writes: Whether this process writes; only one of several processes does.

    Example:
        >>> checkpoints = Checkpoints(Path("runs/first/checkpoints"), {"seed": 0})
        >>> checkpoints.save(model, Progress(epoch=1), is_best=True)  # doctest: +SKIP
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any], writes: bool = True) -> None:
        self.folder, self.best, self.fingerprint = folder, folder / "best.npz", fingerprint
        self.writes = writes
        self._seconds_to_write, self._written_at = 0.0, time.monotonic()

    @property
    def affordable(self) -> bool:
        """Whether writing another checkpoint now keeps within `MAX_TIME_SHARE` of the time."""
        return MAX_TIME_SHARE * (time.monotonic() - self._written_at) >= self._seconds_to_write

    def save(self, model: keras.Model, progress: Progress, is_best: bool = False) -> None:
        """Writes a checkpoint and removes all but the last `KEEP_LAST`.

        The best checkpoint is written first, so that a kill in between leaves a complete one.

        Args:
            model: The compiled network.
            progress: Its progress.
            is_best: Also keep it as the best: as a hard link if the file system has them, else as a copy.

        Raises:
            KpdetectError: See `write`.
        """
        file = self.folder / f"epoch{progress.epoch:06}_step{progress.step:07}.npz"
        self.write(self.best if is_best else file, model, progress)
        if not self.writes:
            return
        if is_best:
            _link_or_copy(self.best, file)
        others = sorted(set(self.folder.glob("epoch*.npz")) - {file})
        earlier = [other for other in others if other < file]
        for other in set(others) - set(earlier[1 - KEEP_LAST :]):  # later ones are damaged: `newest` skipped them
            other.unlink()

    def write(self, file: Path, model: keras.Model, progress: Progress) -> None:
        """Writes one checkpoint file.

        Raises:
            KpdetectError: The disk is full, or a variable is not finite; earlier checkpoints stay unchanged.
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
            os.fsync(stream.fileno())  # else a power cut could leave the new name without the bytes
        self._written_at = time.monotonic()
        self._seconds_to_write = self._written_at - started

    def newest(self) -> Path | None:
        """The undamaged checkpoint with the most progress, or None. Damaged ones are reported and skipped.

        ``best.npz`` counts too, because it is written before the others.

        Raises:
            KpdetectError: All checkpoints are damaged.
        """
        for temporary in self.folder.glob(".*.npz"):  # left by a killed process
            temporary.unlink()
        found, damaged = [], None
        for file in sorted(self.folder.glob("[!.]*.npz")):
            try:
                state = _read_state(file)
                found.append((state["progress"]["epoch"], state["progress"].get("step", 0), file))
            except KpdetectError as error:
                damaged = error
                _LOG.warning(f"{error}; skipped")
        if damaged and not found:
            raise damaged
        return max(found)[2] if found else None

    def progress(self, file: Path) -> Progress:
        """The progress that a checkpoint holds.

        Raises:
            KpdetectError: The file is damaged, or has other settings.
        """
        state = _read_state(file)
        _check_fingerprint(file, state["fingerprint"], self.fingerprint)
        return Progress(**state["progress"])

    def restore(self, file: Path, model: keras.Model) -> Arrays:
        """Loads a checkpoint into a compiled model of the same architecture.

        Returns:
            The variables of the metrics. Keras builds these at the first step; pass them to `add_to_metrics` then.

        Raises:
            KpdetectError: The file is damaged, has other settings, or its variables have other shapes.
        """
        self.progress(file)
        variables, arrays = _variables(model), _read_arrays(file, "v")
        if [variable.shape for variable in variables] != [array.shape for array in arrays]:
            raise KpdetectError(
                f"{file}: the checkpoint's {len(arrays)} variables do not match this model's {len(variables)}; "
                "--overwrite starts a new run"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return _read_arrays(file, "m")


def _link_or_copy(file: Path, name: Path) -> None:
    with atomic_file(name) as temporary:
        temporary.unlink()
        try:
            os.link(file, temporary)
        except OSError:  # the file system has no hard links
            shutil.copyfile(file, temporary)


def add_to_metrics(model: keras.Model, arrays: Arrays) -> None:
    """Adds saved sums to a model's metric variables, all of which are sums."""
    for variable, array in zip(model.metrics_variables, arrays, strict=True):
        variable.assign(keras.ops.convert_to_numpy(variable) + array)


def not_finite(what: str, when: str) -> KpdetectError:
    """The error for a non-finite loss or weight, with possible remedies."""
    return KpdetectError(
        f"{what} {when}; the last good checkpoints are kept in the run folder. Try a smaller --learning-rate or "
        "--no-mixed-precision, and check for labels far outside their pictures"
    )


def _read_state(file: Path) -> dict[str, Any]:
    """Reads the progress and fingerprint of a checkpoint, after checking the CRC of every array."""
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("checksum mismatch")
        with np.load(file, allow_pickle=False) as arrays:
            state: dict[str, Any] = json.loads(str(arrays["state"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise KpdetectError(f"{file}: cannot be read as a checkpoint: {error}") from error
    return state


def _read_arrays(file: Path, key: str) -> Arrays:
    with np.load(file, allow_pickle=False) as archive:
        return [archive[f"{key}{n}"] for n in range(sum(name.startswith(key) for name in archive.files))]


def _variables(model: keras.Model) -> list[Any]:
    """Every variable that the next step depends on, in a fixed order, without those of metrics."""
    metrics = {id(variable) for variable in model.metrics_variables}
    if not model.optimizer.built:  # a LossScaleOptimizer would add its variables again
        model.optimizer.build(model.trainable_variables)
    return [v for v in (*model.variables, *model.optimizer.variables) if id(v) not in metrics]


def _check_fingerprint(file: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    if changes := changed_settings(saved, wanted):
        raise KpdetectError(resume_error(str(file), changes, "use the settings of the run"))
