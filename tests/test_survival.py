"""Training survives signals, kills, full disks and non-finite numbers, and resumes exactly."""

import dataclasses
import math
import os
import random
import re
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import forked_training
import keras
import numpy as np
import pytest
from forked_training import ONE_THREAD, finish, start, wait_for
from messages import lines_with, mentions

from kpdetect.core.errors import Interrupted, KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.images import Pixels, read_image, write_image
from kpdetect.core.options import run_command
from kpdetect.data import Annotations, load, load_sets
from kpdetect.data.crops import evaluation_crops
from kpdetect.data.pipeline import open_cache
from kpdetect.modelfile.bundle import load_bundle
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.train import main
from kpdetect.training import callbacks
from kpdetect.training.callbacks import StepCheckpoint
from kpdetect.training.checkpoints import Checkpoints, Progress
from kpdetect.training.faces import load_faces
from kpdetect.training.feeding import framing_of

KILLS = int(os.environ.get("KPDETECT_KILLS", "1"))  # 20 take some minutes
PLAIN = [f"augmentation.{name}=0" for name in ("rotation_deg", "blur", "noise", "cut_out", "gamma", "contrast")]
TRAINING = ["--data", "synthetic:24", "--batch-size", "4", "--val-fraction", "0.25", "--checkpoint-every", "1"]
COMMAND = [*TRAINING, *forked_training.SMALL, *PLAIN, "--epochs", str(12 + KILLS)]


def weights_of(folder: Path) -> list[np.ndarray]:
    return load_bundle(folder)[0].get_weights()


@pytest.mark.slow
def test_a_run_stopped_at_random_times_and_resumed_has_the_same_weights(tmp_path: Path) -> None:
    """SIGTERM, SIGKILL (`KILLS` times) and SIGINT; with one thread the weights are bit-identical.

    The stopped run has its cache in a file, which is built once.
    """
    seed = int(os.environ.get("KPDETECT_KILL_SEED", random.SystemRandom().randrange(2**32)))
    print(f"KPDETECT_KILL_SEED={seed} repeats the instants of this test")
    log, cut, chance = tmp_path / "log", tmp_path / "cut", random.Random(seed)
    cache, made = tmp_path / "cache", set()
    command = [*COMMAND, "--out", str(cut), "--cache", str(cache)]
    started, ended = time.monotonic(), []
    whole = start([*COMMAND, "--out", str(tmp_path / "whole")], ONE_THREAD, log)
    _wait_for_checkpoint(whole, tmp_path / "whole")
    seconds = time.monotonic() - started
    finish(whole, log)
    signals = [signal.SIGTERM, *[signal.SIGKILL] * KILLS, signal.SIGINT]
    for number in signals:
        resume = ["--resume"] * (cut / "run.json").exists()
        process = start([*command, *resume], ONE_THREAD, log)
        _wait_for_signal_time(process, number, cut, chance.uniform(0, 1), seconds)
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        process.join(60)
        made.add(_identity(cache / "images.npy"))
        if process.exitcode == 0:  # a fast machine finished before the signal arrived
            break
        ended.append(process.exitcode)
    assert ended, "expected a training that is stopped before its end"
    assert ended == [143, *[-9] * KILLS, 130][: len(ended)], log.read_text()[-2000:]
    said = log.read_text()
    assert any(re.search(r"epoch \d+", line) for line in lines_with(said, "kpdetect:", "SIGTERM", "--resume"))
    assert bool(lines_with(said, "SIGINT")) == (len(ended) == len(signals))
    assert "Traceback" not in said
    finish(start([*command, "--resume"], ONE_THREAD, log), log)
    made.add(_identity(cache / "images.npy"))
    assert len(made) == 1
    assert lines_with(log.read_text(), str(cache))
    for one, other in zip(weights_of(tmp_path / "whole"), weights_of(cut), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (cut / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    assert len(list((cut / "checkpoints").iterdir())) == 3  # the last two and the best


def _identity(file: Path) -> tuple[int, int]:
    return file.stat().st_ino, file.stat().st_mtime_ns


def _wait_for_signal_time(
    process: forked_training.ForkServerProcess, number: int, run: Path, chance: float, seconds: float
) -> None:
    """Waits for the start in a third of the kills; else until the process has written a checkpoint."""
    if number == signal.SIGKILL and chance < 1 / 3:
        wait_for(run / "run.json", process)
        time.sleep(3 * chance * seconds)  # about the time to the first checkpoint
        return
    _wait_for_checkpoint(process, run)
    time.sleep(0.1 * chance)


def _wait_for_checkpoint(process: forked_training.ForkServerProcess, run: Path) -> None:
    before = _states(run)
    while _states(run) <= before and process.is_alive():
        time.sleep(0.002)


def _states(run: Path) -> set[str]:
    return {file.name for file in (run / "checkpoints").glob("epoch*")} if run.exists() else set()


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4096), keras.layers.Dense(1)])
    network.compile("adam", "mse", metrics=["mae"])
    return network


def kept(folder: Path) -> Checkpoints:
    return Checkpoints(folder / "checkpoints", {"seed": 0})


def fit(model: keras.Model, steps: int, *callbacks: keras.callbacks.Callback, first: int = 0) -> None:
    """Fits an epoch of two rows per step, or the rest of one."""
    rows = np.random.default_rng(0).normal(size=(2 * steps, 5))[2 * first :]
    model.fit(rows[:, :4], rows[:, 4:], 2, verbose=0, shuffle=False, callbacks=list(callbacks))


@contextmanager
def small_disk(folder: Path, bytes_free: int) -> Iterator[None]:
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={bytes_free}", "tmpfs", str(folder)], capture_output=True
    )
    if mount.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def files_limited(_: Path, largest: int) -> Iterator[None]:
    """Limits the size of files, which fails like a full disk and needs no root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_and_keeps_the_last_checkpoint(model: keras.Model, tmp_path: Path) -> None:
    with small_disk(tmp_path, 700_000):  # a checkpoint of this model takes 300 kB
        fit(model, 1, StepCheckpoint(kept(tmp_path), Progress(), 0, lambda: 0, []))
        for step in (1, 2):
            kept(tmp_path).save(model, Progress(step=step))
        _refuses_and_keeps(model, tmp_path, 2)


def test_a_file_size_limit_is_reported_like_a_full_disk(model: keras.Model, tmp_path: Path) -> None:
    fit(model, 1)
    kept(tmp_path).save(model, Progress(step=2))
    with files_limited(tmp_path, 100_000):
        _refuses_and_keeps(model, tmp_path, 2)


def _refuses_and_keeps(model: keras.Model, folder: Path, last_step: int) -> None:
    weights = model.get_weights()
    with pytest.raises(KpdetectError, match=mentions("epoch000000_step0000003.npz")):
        kept(folder).save(model, Progress(step=3))
    newest = kept(folder).newest()
    assert newest is not None
    assert kept(folder).progress(newest).step == last_step
    assert not list((folder / "checkpoints").glob(".*"))
    model.set_weights([0 * array for array in weights])
    kept(folder).restore(newest, model)
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_checkpoints_are_written_every_few_steps_and_two_are_kept(model: keras.Model, tmp_path: Path) -> None:
    progress = Progress()
    fit(model, 11, StepCheckpoint(kept(tmp_path), progress, 3, lambda: 0, []))
    assert sorted(file.name for file in (tmp_path / "checkpoints").iterdir()) == [
        "epoch000000_step0000006.npz",
        "epoch000000_step0000009.npz",
    ]
    with pytest.raises(Interrupted, match=mentions("SIGTERM", "epoch 0", "step 1")):
        fit(model, 11, StepCheckpoint(kept(tmp_path / "other"), Progress(), 0, lambda: signal.SIGTERM, []))


def test_by_default_slow_checkpoints_are_written_less_often(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "DEFAULT_STEPS", 3)
    fit(model, 1)
    for slow, states in ((0.0, 2), (1e6, 1)):  # the duration is unknown before the first
        folder = tmp_path / str(slow)
        checkpoints, save = kept(folder), Checkpoints.write

        def save_slowly(self: Checkpoints, *rest: Any, slow: float = slow, save: Any = save) -> None:
            save(self, *rest)
            self._seconds_to_write = slow

        monkeypatch.setattr(Checkpoints, "write", save_slowly)
        fit(model, 11, StepCheckpoint(checkpoints, Progress(), None, lambda: 0, []))
        monkeypatch.setattr(Checkpoints, "write", save)
        assert len(list((folder / "checkpoints").iterdir())) == states
    assert [file.name for file in (folder / "checkpoints").iterdir()] == ["epoch000000_step0000003.npz"]


def test_best_and_last_checkpoint_are_one_file_until_they_differ(model: keras.Model, tmp_path: Path) -> None:
    fit(model, 1)
    checkpoints = kept(tmp_path)
    checkpoints.save(model, Progress(epoch=1), is_best=True)
    last = tmp_path / "checkpoints" / "epoch000001_step0000000.npz"
    assert checkpoints.best.stat().st_ino == last.stat().st_ino
    before = last.read_bytes()
    fit(model, 1)
    checkpoints.save(model, Progress(epoch=2), is_best=True)
    assert last.read_bytes() == before != checkpoints.best.read_bytes()
    newest = checkpoints.newest()
    assert newest is not None
    assert checkpoints.progress(newest).epoch == 2


def test_only_one_of_several_processes_writes_and_removes(model: keras.Model, tmp_path: Path) -> None:
    fit(model, 1)
    for step in (1, 2):
        kept(tmp_path).save(model, Progress(step=step))
    before = sorted((tmp_path / "checkpoints").iterdir())
    another = Checkpoints(tmp_path / "checkpoints", {"seed": 0}, writes=False)
    for step in (3, 4):
        another.save(model, Progress(step=step), is_best=True)
    assert sorted((tmp_path / "checkpoints").iterdir()) == before
    model.layers[0].kernel.assign(model.layers[0].kernel * math.nan)
    with pytest.raises(KpdetectError, match=mentions("weights", "step 5")):
        another.save(model, Progress(step=5))


def test_without_hard_links_the_best_checkpoint_is_copied(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    fit(model, 1)
    kept(tmp_path).save(model, Progress(epoch=1), is_best=True)
    best, last = sorted((tmp_path / "checkpoints").iterdir())
    assert (best.name, best.read_bytes()) == ("best.npz", last.read_bytes())


def test_the_metrics_of_an_interrupted_epoch_cover_all_its_steps(model: keras.Model, tmp_path: Path) -> None:
    model.optimizer.learning_rate = 0.0  # constant weights
    fit(model, 8)
    whole = [float(value) for value in model.get_metrics_result().values()]
    fit(model, 5)
    kept(tmp_path).save(model, Progress(step=5))
    metrics = kept(tmp_path).restore(tmp_path / "checkpoints" / "epoch000000_step0000005.npz", model)
    fit(model, 8, StepCheckpoint(kept(tmp_path), Progress(step=5), 0, lambda: 0, metrics), first=5)
    assert [float(value) for value in model.get_metrics_result().values()] == pytest.approx(whole, rel=1e-6)


def test_a_damaged_checkpoint_is_skipped(
    model: keras.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model, 1)
    for step in (1, 2):
        kept(tmp_path).save(model, Progress(step=step))
    one, two = sorted((tmp_path / "checkpoints").iterdir())
    (tmp_path / "checkpoints" / ".left.npz").write_bytes(b"of a write that was killed")
    content = bytearray(two.read_bytes())
    content[len(content) // 2] ^= 1
    two.write_bytes(content)
    assert kept(tmp_path).newest() == one
    assert lines_with(capsys.readouterr().err, str(two))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    kept(tmp_path).save(model, Progress(step=1))
    assert kept(tmp_path).newest() == one
    assert list((tmp_path / "checkpoints").iterdir()) == [one]
    one.write_bytes(b"half")
    with pytest.raises(KpdetectError, match=mentions(str(one))):
        kept(tmp_path).newest()


def test_non_finite_weights_are_not_saved(model: keras.Model, tmp_path: Path) -> None:
    fit(model, 1)
    kept(tmp_path).save(model, Progress(step=1))
    model.layers[1].set_weights([np.full((4096, 1), np.nan), np.zeros(1)])
    with pytest.raises(KpdetectError, match=mentions("weights", "epoch 0", "step 2", "--learning-rate")):
        kept(tmp_path).save(model, Progress(step=2))
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["epoch000000_step0000001.npz"]


@pytest.fixture
def partly_broken(tmp_path: Path) -> Path:
    """Twelve synthetic faces of twelve subjects; photographs 3 and 10 are truncated."""
    faces = load("synthetic:12")
    names = ["image", *(f"{point}_{axis}" for point in ("a", "b", "c") for axis in "xy"), "subject"]
    lines = [",".join(names)]
    for row in range(len(faces)):
        file = tmp_path / f"face{row}.jpg"
        write_image(file, faces.read(faces.paths[row]))
        if row in (3, 10):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        lines.append(",".join([file.name, *map(str, faces.keypoints[row, :3].ravel()), f"s{row}"]))
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "faces.csv"


@pytest.mark.parametrize("recipe", ["compact-112", "naimish"])  # one crops faces, the other takes whole pictures
def test_broken_images_are_named_and_skipped(
    recipe: str, partly_broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = TrainOptions(recipe, data=f"csv:{partly_broken}", val_fraction=0.5, skip_bad_rows=True)
    chosen = choose_recipe(options)
    faces = load_faces(options, chosen)
    cache = open_cache(faces.train, framing_of(chosen), chosen.channels, skip_bad=True)
    assert len(cache) + len(faces.val) == 10
    said = capsys.readouterr().err
    named = {name for line in said.splitlines() for name in re.findall(r"face\d+\.jpg", line)}
    assert named == {"face3.jpg", "face10.jpg"}


@pytest.mark.parametrize("teacher", [False, True])
def test_skipping_broken_images_reads_each_at_most_once_more(
    teacher: bool, partly_broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training photographs are read before the cache is built only for a teacher."""
    read: list[str] = []

    def counted(path: str) -> Pixels:
        read.append(path)
        return read_image(path)

    def load_counted(spec: str, skip_bad_rows: bool) -> list[Annotations]:
        return [dataclasses.replace(part, read=counted) for part in load_sets(spec, skip_bad_rows)]

    def taught(part: Annotations) -> Annotations:
        evaluation_crops(part, CropRule((16, 16), 1.3), 1)
        return dataclasses.replace(part, keypoints=part.keypoints + 1)

    monkeypatch.setattr("kpdetect.training.faces.load_sets", load_counted)
    monkeypatch.setattr("kpdetect.training.faces.relabelling", lambda recipe: taught if teacher else None)
    options = TrainOptions(
        "compact-112",
        data=f"csv:{partly_broken}",
        val_fraction=0.5,
        skip_bad_rows=True,
        teacher="bundle" if teacher else None,
    )
    faces = load_faces(options, choose_recipe(options))
    before = Counter(read)
    assert [before[path] for path in faces.train.paths] == [2 if teacher else 0] * len(faces.train)
    assert [before[path] for path in faces.val.paths] == [2 if teacher else 1] * len(faces.val)
    assert max(before[str(partly_broken.parent / f"face{row}.jpg")] for row in (3, 10)) == 1


def test_a_broken_image_is_an_error_without_skip_bad_rows(
    partly_broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", f"csv:{partly_broken}", "--val-fraction", "0.5", "--out", str(tmp_path / "run")]
    assert run_command(main, [*command, *forked_training.SMALL]) == 2
    said = capsys.readouterr().err
    assert lines_with(said, "face3.jpg") or lines_with(said, "face10.jpg")
