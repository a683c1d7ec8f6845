"""Training end to end on synthetic faces, with small networks and few steps."""

import csv
import dataclasses
import inspect
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from messages import lines_with, mentions

from kpdetect import evaluate
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.options import run_command
from kpdetect.data import load, split_by_rule
from kpdetect.evaluation.reporting import shape_spread
from kpdetect.evaluation.results import read_rows
from kpdetect.evaluation.uncertainty import measure_uncertainty
from kpdetect.modelfile.bundle import load_bundle, read_spec
from kpdetect.models import ExpectedError
from kpdetect.recipes import RECIPES, Optimization, TrainOptions, choose_recipe
from kpdetect.train import main
from kpdetect.training import distillation, train
from kpdetect.training.callbacks import EpochCheckpoint, StopWhenNotFinite
from kpdetect.training.checkpoints import Checkpoints, Progress
from kpdetect.training.compile import build_optimizer
from kpdetect.training.faces import load_faces
from kpdetect.training.uncertainty_calibration import predict_function_of

TINY = ["--data", "synthetic:24", "--batch-size", "8", "--val-fraction", "0.25", "--seed", "3"]


def run(folder: Path, *more: str) -> int:
    return run_command(main, [*TINY, "--out", str(folder), *more])


def weights_of(folder: Path) -> list[np.ndarray]:
    return load_bundle(folder)[0].get_weights()


def losses_of(folder: Path) -> list[float]:
    with (folder / "history.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(folder, "--epochs", "3") == 0
    return folder


def test_a_run_writes_model_history_pictures_and_result(trained: Path) -> None:
    names = {file.name for file in trained.iterdir()}
    assert {"spec.json", "model.weights.h5", "history.csv", "result.csv", "run.json"} <= names
    assert {"learning_curves.png", "predictions.png", "error_curve.png"} <= names
    row = read_rows(trained / "result.csv")[0]
    assert (row.boxes, row.normaliser, row.dataset) == ("truth", "inter-ocular", "synthetic")
    assert row.split.split()[0] == "val"
    assert len(losses_of(trained)) == 3


@pytest.mark.slow
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = EpochCheckpoint.on_epoch_end

    def interrupt(self: EpochCheckpoint, epoch: int, logs: dict[str, float] | None = None) -> None:
        keep(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochCheckpoint, "on_epoch_end", interrupt)
        assert run(tmp_path / "run", "--epochs", "3") == 130
    assert len(losses_of(tmp_path / "run")) == 1
    assert run(tmp_path / "run", "--epochs", "3", "--resume") == 0
    np.testing.assert_allclose(losses_of(tmp_path / "run"), losses_of(trained), rtol=1e-5)
    for resumed, whole in zip(weights_of(tmp_path / "run"), weights_of(trained), strict=True):
        np.testing.assert_allclose(resumed, whole, atol=1e-4)


def test_resuming_with_other_settings_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, "--epochs", "5", "--resume") == 2
    assert lines_with(capsys.readouterr().err, "--resume", "epochs")


def test_a_folder_with_another_run_is_not_changed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "spec.json").read_bytes()
    assert run(trained, "--epochs", "1") == 2
    assert lines_with(capsys.readouterr().err, str(trained), "--resume", "--overwrite")
    assert (trained / "spec.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--recipe", "compct"], ["compct", "compact"]),
        (["--loss", "wng"], ["wng", "wing"]),
        (["--data", "youtube-faces:/no/such/place"], ["/no/such/place"]),
        (["--data", "synthetc:5"], ["synthetc", "synthetic"]),
        (["--epochs", "0"], ["epochs", "1", "0"]),
        (["--batch-size", "-1"], ["batch-size", "1", "-1"]),
        (["--resume"], ["--resume"]),
    ],
)
def test_an_expected_error_is_one_line_and_writes_nothing(
    arguments: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(main, ["--out", str(tmp_path / "run"), "--data", "synthetic:12", *arguments]) == 2
    error = capsys.readouterr().err
    assert lines_with(error, *parts)
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_non_finite_loss_stops_with_a_remedy() -> None:
    with pytest.raises(KpdetectError, match=mentions("--learning-rate")):
        StopWhenNotFinite().on_train_batch_end(4, {"loss": float("nan")})
    StopWhenNotFinite().on_train_batch_end(4, {"loss": 1.0})


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    optimizer = build_optimizer(Optimization("adamw", 1e-3, "cosine", 0.1, 1e-4), total_steps=100)
    rate = optimizer._learning_rate
    assert float(rate(0)) == 0.0
    assert float(rate(10)) == pytest.approx(1e-3, rel=1e-3)
    assert float(rate(100)) == pytest.approx(0.0, abs=1e-8)
    assert float(rate(55)) == pytest.approx(0.5e-3, rel=1e-2)


def test_shapes_that_differ_only_in_position_and_size_have_no_spread() -> None:
    shape = np.random.default_rng(0).normal(size=(1, 6, 2)).astype(np.float32)
    same = np.concatenate([shape, shape * 3 + 5, shape * 0.5 - 1])
    assert shape_spread(same) < 1e-6
    assert shape_spread(np.concatenate([shape, shape[:, ::-1]])) > 0.1


SMALL = ["--set", "architecture_options.widths=8:8:12:16", "architecture_options.blocks=1:1:1"]


@pytest.mark.slow
def test_a_callback_that_stops_the_training_ends_it(tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.model.stop_training = epoch == 1

    small = ("crop.size_hw=32:32", *SMALL[1:])
    options = TrainOptions(data="synthetic:12", val_fraction=0.25, batch_size=8, epochs=4, out=str(tmp_path / "run"))
    folder = train(dataclasses.replace(options, set=small), [Stop()])
    with (folder / "history.csv").open(encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert read_spec(folder).extra["epochs"] <= 2


@pytest.mark.slow
def test_a_held_out_test_part_is_not_used_and_can_be_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the faces are for validation: a face score needs 20 crops of background, which few photographs have."""
    data = ["--data", "synthetic:110", "--val-fraction", "0.5", "--test-fraction", "0.1", "--align-labels"]
    arguments = [*data, *SMALL, "--batch-size", "16", "--epochs", "1", "--seed", "3", "--out", str(tmp_path / "run")]
    assert run_command(main, arguments) == 0
    told = capsys.readouterr()
    assert lines_with(told.out, "inter-ocular")
    spec = read_spec(tmp_path / "run")
    assert spec.extra["split"] == {"val_fraction": 0.5, "seed": 3, "test_fraction": 0.1}
    assert spec.extra["training"]["align_labels"] is True
    assert spec.uncertainty
    assert spec.face_score is not None
    assert all(np.isfinite(value) for value in spec.face_score.values())

    train, val, test = split_by_rule(load("synthetic:110"), spec.extra["split"])
    assert lines_with(told.err, "train", str(len(train)))
    assert lines_with(told.err, "validate", str(len(val)))
    assert len(train) + len(val) + len(test) == 110
    command = [str(tmp_path / "run"), "--data", "synthetic:110", "--split", "test", "--no-box-jitter", "--json", "-"]
    assert run_command(evaluate.main, command) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert (report["n"], report["split"].split()[0]) == (len(test), "test")
    assert re.search(r"face[^\n]* [\d.]+ %[^\n]* [\d.]+ %[^\n]* \d+ ", told.err)


def test_the_bundle_holds_the_calibrated_network(trained: Path) -> None:
    """On validation faces the mean predicted error equals the mean error."""
    model, spec = load_bundle(trained)
    val = split_by_rule(load("synthetic:24"), spec.extra["split"])[1]
    judged = measure_uncertainty(predict_function_of(model), val, spec)
    assert judged.uncertainty.mean() == pytest.approx(judged.distance.mean(), rel=0.1)
    untouched = ExpectedError()
    untouched.build((None, 68))
    assert not np.allclose(model.get_layer("expected_error").get_weights()[0], untouched.get_weights()[0], atol=0.05)


def test_labels_are_changed_for_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The split does not change either."""
    options, recipe = TrainOptions(data="synthetic:20", seed=3), choose_recipe(TrainOptions(align_labels=True))
    monkeypatch.setattr(distillation, "align", lambda faces: dataclasses.replace(faces, keypoints=faces.keypoints + 7))
    aligned = load_faces(options, recipe)
    plain = load_faces(options, dataclasses.replace(recipe, align_labels=False))
    np.testing.assert_array_equal(aligned.train.keypoints, plain.train.keypoints + 7)
    np.testing.assert_array_equal(aligned.val.keypoints, plain.val.keypoints)
    for part in ("train", "val"):
        np.testing.assert_array_equal(getattr(aligned, part).paths, getattr(plain, part).paths)
        np.testing.assert_array_equal(getattr(aligned, part).boxes, getattr(plain, part).boxes)
    other = load_faces(dataclasses.replace(options, val_data="synthetic:5:9"), recipe)
    np.testing.assert_array_equal(other.val.keypoints, load("synthetic:5:9").keypoints)


@pytest.mark.parametrize("fraction", ["-0.1", "0.95", "1.5", "nan"])
def test_a_test_fraction_out_of_range_is_an_error(
    fraction: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "run", "--test-fraction", fraction) == 2
    assert lines_with(capsys.readouterr().err, "[0, 1)", str(float(fraction)))
    assert not (tmp_path / "run").exists()


def test_every_recipe_can_be_chosen_and_overridden() -> None:
    for name in RECIPES:
        recipe = choose_recipe(TrainOptions(recipe=name, data="synthetic:10", epochs=2, learning_rate=0.5, loss="l1"))
        assert (recipe.name, recipe.epochs, recipe.optimization.learning_rate, recipe.loss) == (name, 2, 0.5, "l1")


def test_progress_keeps_the_best_epoch() -> None:
    progress = Progress()
    assert [progress.add({"val_nme": value}) for value in (0.3, 0.2, 0.25)] == [True, True, False]
    assert (progress.epoch, progress.best_epoch, progress.best) == (3, 2, 0.2)


def test_a_damaged_checkpoint_is_named(tmp_path: Path, trained: Path) -> None:
    file = tmp_path / "last.npz"
    file.write_bytes(b"half a checkpoint")
    model = load_bundle(trained)[0]
    with pytest.raises(KpdetectError, match=mentions(str(file))):
        Checkpoints(tmp_path, {}).restore(file, model)


def test_few_frames_lie_between_the_command_and_keras_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``run_command``, ``kpdetect.train.main``, ``training.run.run_training`` and ``training.fit.fit``."""
    package = str(Path(evaluate.__file__).parent)
    frames: list[str] = []

    def stop(*_: object, **__: object) -> None:
        stack = inspect.stack()[1:]
        frames.extend(frame.function for frame in stack if frame.filename.startswith(package))
        raise KpdetectError("the stack was counted")

    monkeypatch.setattr(keras.Model, "fit", stop)
    assert run(tmp_path / "run", "--epochs", "1") == 2
    assert frames == ["fit", "run_training", "main", "run_command"]


def test_the_default_recipe_is_the_quick_one_and_compact_is_what_ships() -> None:
    assert TrainOptions().recipe == "compact-112"
    assert choose_recipe(TrainOptions()).crop == CropRule((112, 112), 1.35)
    shipped = read_spec(Path(__file__).resolve().parents[1] / "exported_models" / "compact")
    recipe = choose_recipe(TrainOptions("compact"))
    assert (recipe.crop, recipe.channels, recipe.architecture) == (shipped.crop, shipped.channels, shipped.architecture)
    assert shipped.extra["training"]["tool"] == "tools/train_any_face.py"  # with augmentation of its own
