"""Checks before TensorFlow is imported, custom architectures and callbacks, and progress in logs."""

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from messages import lines_with

from kpdetect import models
from kpdetect.core import progress as progress_module
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.options import run_command
from kpdetect.core.progress import TenthLines, progress
from kpdetect.core.references import import_reference
from kpdetect.core.schema import IBUG68
from kpdetect.data import load
from kpdetect.modelfile.bundle import load_bundle
from kpdetect.models import losses
from kpdetect.models.metrics_keras import NormalizedMeanError
from kpdetect.recipes import RECIPES, TrainOptions, choose_recipe
from kpdetect.train import main
from kpdetect.training.callbacks import EpochCheckpoint, ProgressLines, StopWhenNotFinite
from kpdetect.training.checkpoints import Checkpoints, Progress
from kpdetect.training.checks import LOSSES, changed_settings, check_folder, check_options
from kpdetect.training.compile import build_optimizer
from kpdetect.training.tensorboard import PredictionPictures
from kpdetect.training.transfer import Source, TransferredLayers
from kpdetect.training.tuning.trials import Trial

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--data", "synthetic:12", "--batch-size", "6", "--val-fraction", "0.5", "--epochs", "1"]

COMMAND = """
import importlib, sys
from kpdetect.core.options import run_command
status = run_command(importlib.import_module(f"kpdetect.{sys.argv[1]}").main, sys.argv[2:])
sys.exit("TensorFlow was started" if {"tensorflow", "keras"} & set(sys.modules) else status)
"""


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "--recipe", "compct"], ["compct", "compact"]),
        (["train", "--loss", "wng"], ["wng", "wing"]),
        (["train", "--data", "ibug:/no/such/place"], ["/no/such/place"]),
        (["train", "--data", "synthetic:8", "--val-data", "csv:missing.csv"], ["missing.csv"]),
        (["train", "--init-from", "compct"], ["compct", "compact-160-v2"]),
        (["train", "--teacher", "runs/nothing"], ["runs/nothing"]),
        (["train", "--resume"], ["--resume"]),
        (["train", "--architecture", "no_such_module:network"], ["--architecture", "no_such_module"]),
        (["train", "--callbacks", "no_such_module:Callback"], ["--callbacks", "no_such_module"]),
        (["train", "--out", "taken"], ["taken", "--out"]),
        (["tune", "--grid", "batch_size=8,16", "--recipe", "compct"], ["compct", "compact"]),
        (["tune", "--grid", "batch_size=8,16", "--data", "ibug:/no/such/place"], ["/no/such/place"]),
    ],
)
def test_wrong_names_are_reported_without_tensorflow(words: list[str], parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert lines_with(done.stderr, "kpdetect:", *parts), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["taken"]


def test_the_names_of_losses_are_those_of_the_models() -> None:
    assert set(LOSSES) == set(losses.LOSSES)


def test_only_changed_settings_are_named() -> None:
    saved = {"epochs": 3, "crop": {"size_hw": (32, 32), "margin": 1.2}, "start": None, "gone": 1}
    assert changed_settings(saved, {"epochs": 3, "crop": {"size_hw": [32, 32], "margin": 1.2}, "start": None}) == []
    assert changed_settings(saved, {"epochs": 5, "crop": {"size_hw": (64, 32), "margin": 1.2}}) == [
        "epochs was 3, is 5",
        "crop.size_hw was [32, 32], is [64, 32]",
    ]


def test_resuming_with_changed_options_names_only_these_and_the_command_that_continues(tmp_path: Path) -> None:
    options = TrainOptions(data="synthetic:20", out="elsewhere", epochs=3, seed=4)
    (tmp_path / "run.json").write_text(json.dumps({"options": dataclasses.asdict(options)}))
    check_folder(tmp_path, dataclasses.replace(options, resume=True))
    changed = dataclasses.replace(options, resume=True, seed=5, set=("augmentation.scale=0.5",))
    with pytest.raises(KpdetectError) as raised:
        check_folder(tmp_path, changed)
    message = str(raised.value)
    assert "seed was 4, is 5" in message
    assert "augmentation.scale was 0.22, is 0.5" in message
    assert message.count(" was ") == 2
    assert f"kpdetect train --data synthetic:20 --out {tmp_path} --epochs 3 --seed 4 --resume" in message


def test_progress_is_logged_at_each_tenth_but_not_too_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines = TenthLines("epoch 1/2", 300)
    for step in range(1, 301):
        now[0] += 0.1
        lines.update(step, f"loss {step}")
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "epoch 1/2: 10 %, loss 30, 0:27 left"
    assert [line.split(":")[1].split("%")[0].strip() for line in printed] == [str(10 * n) for n in range(1, 10)]
    fast = TenthLines("fast", 10)
    for step in range(1, 11):
        now[0] += 0.01
        fast.update(step)
    assert capsys.readouterr().err == ""


def test_progress_without_a_terminal_has_no_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(progress(range(20), "caching")) == list(range(20))
    error = capsys.readouterr().err
    assert "\r" not in error
    assert [line.split(",")[0] for line in error.splitlines()] == [f"caching: {10 * n} %" for n in range(1, 10)]


OWN_CODE = """
import keras

def network(num_keypoints, input_shape, width=4):
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(width, 8, strides=8, activation="relu")(image / 255.0)
    x = keras.layers.Dense(2 * num_keypoints)(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Reshape((num_keypoints, 2), name="keypoints")(x))

class Counter(keras.callbacks.Callback):
    epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        Counter.epochs += 1
"""


def test_custom_architectures_and_callbacks_are_used_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_code.py").write_text(OWN_CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(models, "ARCHITECTURES", dict(models.ARCHITECTURES))
    own = ["--architecture", "my_code:network", "--callbacks", "my_code:Counter"]
    small = ["--set", "crop.size_hw=32:32", "architecture_options.width=5"]
    assert run_command(main, [*TINY, *own, *small, "--out", "run"]) == 0, capsys.readouterr().err
    assert import_reference("my_code:Counter", "").epochs == 1
    network, spec = load_bundle("run")
    assert spec.architecture == "my_code:network"
    assert network.layers[-3].output.shape[-1] == 4 * 4 * 5
    # In another process, a model file alone does not import code.
    monkeypatch.setattr(models, "ARCHITECTURES", {})
    with pytest.raises(KpdetectError, match="KPDETECT_ARCHITECTURES=my_code:network"):
        load_bundle("run")
    monkeypatch.setenv("KPDETECT_ARCHITECTURES", "my_code:network")
    assert load_bundle("run")[1] == spec


def test_errors_in_custom_code_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_broken_code.py").write_text("def network(num_keypoints, input_shape): ...\n1 / 0\n")
    (tmp_path / "my_wrong_code.py").write_text("Callback = dict\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for words, parts in [
        (["--architecture", "my_broken_code:network"], ["my_broken_code", "division by zero"]),
        (["--callbacks", "my_wrong_code:Callback"], ["--callbacks", "my_wrong_code:Callback"]),
        (["--callbacks", "my_wrong_code:Callbck"], ["Callbck", "Callback"]),
        (["--callbacks", "my_wrong_code"], ["--callbacks", "my_wrong_code"]),
    ]:
        assert run_command(main, [*TINY, *words, "--out", "run", "--overwrite"]) == 2
        assert lines_with(capsys.readouterr().err, "kpdetect:", *parts)
        assert not (tmp_path / "run").exists()


def test_a_registered_name_is_not_replaced() -> None:
    with pytest.raises(KpdetectError, match="compact"):
        models.register_architecture("compact")(lambda num_keypoints, input_shape: None)


def test_loss_metric_optimizer_and_callbacks_of_a_recipe_work_with_a_custom_model(tmp_path: Path) -> None:
    """As in the example of `kpdetect.training.compile`."""
    keras.utils.set_random_seed(0)
    recipe = choose_recipe(TrainOptions("compact-112", learning_rate=1e-2))
    own = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(136)])
    own.add(keras.layers.Reshape((68, 2)))
    own.compile(
        optimizer=build_optimizer(recipe.optimization, total_steps=40),
        loss=losses.build(recipe.loss, recipe.loss_unit),
        weighted_metrics=[NormalizedMeanError(IBUG68, (8, 8))],
    )
    random = np.random.default_rng(0)
    pictures, shape = random.uniform(0, 1, (16, 8, 8, 1)), random.uniform(0.2, 0.8, (1, 68, 2))
    labels = (shape + random.normal(0, 0.01, (16, 68, 2))).astype(np.float32)
    checkpoints, progress_made = Checkpoints(tmp_path / "checkpoints", {}), Progress()
    own.fit(
        pictures,
        labels,
        sample_weight=np.ones((16, 68)),
        validation_data=(pictures, labels, np.ones((16, 68))),
        epochs=20,
        batch_size=8,
        verbose=0,
        callbacks=[
            StopWhenNotFinite(),
            ProgressLines(2, epochs=20),
            EpochCheckpoint(checkpoints, progress_made, tmp_path / "history.csv"),
        ],
    )
    errors = progress_made.history["val_nme"]
    assert len(errors) == 20
    assert min(errors) < errors[0] / 2
    assert (tmp_path / "history.csv").read_text().count("\n") == 21
    checkpoints.restore(checkpoints.best, own)
    assert own.evaluate(pictures, labels, sample_weight=np.ones((16, 68)), verbose=0)[1] == pytest.approx(
        progress_made.best, rel=1e-4
    )


@pytest.mark.parametrize(
    "value",
    [
        *(recipe() for recipe in RECIPES.values()),
        TrainOptions(set=("loss_unit=2",)),
        Trial("001", {"batch_size": "8"}, protocol={"split": "val"}),
        Progress(2, history={"loss": [1.0]}),
        TransferredLayers({}, {"name": "some"}),
        Source("--init-from a", {}, ("faces",), "", {"seed": 0}, {"name": "a"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_training_settings_can_be_copied_and_pickled(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
    assert dataclasses.asdict(value)  # type: ignore[call-overload]


def test_check_options_returns_the_recipe() -> None:
    assert check_options(TrainOptions("compact", epochs=2)) == choose_recipe(TrainOptions("compact", epochs=2))


def test_tensorboard_has_pictures_of_predictions(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = dataclasses.replace(choose_recipe(TrainOptions("compact-112")), crop=CropRule((32, 32), 1.35))
    faces = load("synthetic:5")
    network = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Flatten(), keras.layers.Dense(136)])
    network.add(keras.layers.Reshape((68, 2)))
    callback = PredictionPictures(tmp_path, faces, recipe, every=3)
    callback.set_model(network)
    for epoch in range(6):
        callback.on_epoch_end(epoch)
    (file,) = (tmp_path / "predictions").iterdir()
    events = accumulator.EventAccumulator(str(file), {"tensors": 0})
    events.Reload()
    assert [event.step for event in events.Tensors("validation predictions")] == [1, 3, 6]
