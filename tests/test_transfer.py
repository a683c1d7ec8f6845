"""Transfer learning: copied and frozen layers, provenance, and resuming across the unfreezing."""

import csv
import dataclasses
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from messages import lines_with, mentions
from small_models import COMPACT, small_model, small_spec

from kpdetect import models, recipes
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.options import run_command
from kpdetect.core.schema import user_schema
from kpdetect.export import export_model
from kpdetect.modelfile.bundle import load_bundle, read_spec, save_bundle
from kpdetect.modelfile.spec import Spec
from kpdetect.models.imagenet import even_kernel
from kpdetect.recipes import Optimization, Recipe, Start, TrainOptions, choose_recipe
from kpdetect.train import main
from kpdetect.training import checkpoints
from kpdetect.training.callbacks import EpochCheckpoint
from kpdetect.training.checkpoints import Progress
from kpdetect.training.compile import build_optimizer, compile_model
from kpdetect.training.transfer import (
    Source,
    Stage,
    TransferredLayers,
    describe_teachers,
    load_source,
    may_overlap_validation,
    transfer,
    with_provenance,
)

# Keras 3.15 reads its own variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

RUN = ["--recipe", "tiny", "--data", "synthetic:24", "--batch-size", "8", "--val-fraction", "0.25", "--seed", "3"]
POINT_LAYERS = (
    "heatmaps8",
    "heatmaps4",
    "expected_error",
)  # layers of compact whose shapes depend on the number of points
TINY_SPEC = dataclasses.replace(small_spec(), crop=CropRule((32, 32), 1.35), channels=1, data=("elsewhere",))


def tiny() -> Recipe:
    return Recipe(
        "tiny",
        "compact",
        TINY_SPEC.crop,
        architecture_options=COMPACT,
        loss="wing",
        loss_unit=100.0,
        optimization=Optimization("adamw", 1e-2, "cosine", 0.2, 1e-2),
    )


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with three points (synthetic faces have 68) and random batch-norm statistics."""
    folder = tmp_path_factory.mktemp("bundles") / "three_points"
    save_bundle(small_model(TINY_SPEC), TINY_SPEC, folder)
    return folder


def run(folder: Path, *more: str) -> int:
    return run_command(main, [*RUN, "--out", str(folder), *more])


def weights_by_layer(folder: Path) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in load_bundle(folder)[0].layers if layer.weights}


def losses_of(folder: Path) -> list[float]:
    with (folder / "history.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_matching_layers_are_copied_and_frozen_with_their_statistics(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "run", "--init-from", str(bundle), "--freeze-epochs", "9", "--epochs", "1") == 0
    output = capsys.readouterr().err
    assert re.search(rf"--init-from .*: (\d+) of (?!\1)\d+ layers.*: {', '.join(POINT_LAYERS)}\n", output)
    assert lines_with(output, "layers", "9 epochs")
    before, after = weights_by_layer(bundle), weights_by_layer(tmp_path / "run")
    assert before.keys() == after.keys()
    for name in before:
        for old, new in zip(before[name], after[name], strict=True):
            assert (new.shape == old.shape) == (name not in POINT_LAYERS)
            if new.shape == old.shape:
                np.testing.assert_array_equal(new, old)
    spec = read_spec(tmp_path / "run")
    assert spec.extra["training"]["start"] == {"weights": None, "init_from": "three_points", "freeze_epochs": 9}
    assert spec.extra["parameters"] == models.count_parameters(load_bundle(tmp_path / "run")[0])
    assert spec.data == ("synthetic", "elsewhere")  # includes the data of the source
    assert spec.extra["started_from"]["sha256"] == read_spec(bundle).files["model.weights.h5"]["sha256"]


@pytest.mark.slow
def test_resuming_is_exact_at_and_after_the_unfreezing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--init-from", str(bundle), "--freeze-epochs", "1", "--epochs", "3"]
    assert run(tmp_path / "whole", *settings) == 0
    keep = EpochCheckpoint.on_epoch_end

    def interrupt(self: EpochCheckpoint, epoch: int, logs: dict[str, float] | None = None) -> None:
        keep(self, epoch, logs)
        if epoch < 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochCheckpoint, "on_epoch_end", interrupt)
        assert run(tmp_path / "cut", *settings) == 130
        assert run(tmp_path / "cut", *settings, "--resume") == 130
    assert run(tmp_path / "cut", *settings, "--resume") == 0
    assert lines_with(capsys.readouterr().err, "epoch 2")
    np.testing.assert_allclose(losses_of(tmp_path / "cut"), losses_of(tmp_path / "whole"), rtol=1e-5)
    whole, cut, before = (weights_by_layer(folder) for folder in (tmp_path / "whole", tmp_path / "cut", bundle))
    for name in whole:
        for one, other in zip(whole[name], cut[name], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    assert not np.array_equal(whole["stem"][0], before["stem"][0])  # unfrozen layers were trained

    assert run(tmp_path / "cut", "--init-from", str(bundle), "--freeze-epochs", "2", "--epochs", "3", "--resume") == 2
    assert lines_with(capsys.readouterr().err, "--resume", "freeze_epochs")


def test_nothing_is_frozen_if_all_layers_match(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = dataclasses.replace(tiny(), start=Start(init_from=str(bundle)))
    source = load_source(recipe, Path("runs/tiny"))
    transferred = transfer(source, TINY_SPEC, freeze_epochs=3)
    assert list(transferred.stages(8)) == [Stage(0, 8)]
    assert lines_with(capsys.readouterr().err, "frozen")
    model = models.build("compact", TINY_SPEC.num_keypoints, TINY_SPEC.input_shape, COMPACT)
    transferred.copy_into(model)
    for one, other in zip(model.get_weights(), load_bundle(bundle)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_crop_size_keeps_convolutions_and_changes_dense_layers() -> None:
    small = Spec(user_schema(["nose"]), "naimish", {}, CropRule((94, 96), 1.35), 1)
    source = as_source(models.build("naimish", 1, small.input_shape))
    large = dataclasses.replace(small, crop=CropRule((126, 96), 1.35))
    transferred = transfer(source, large, 1)
    assert set(source.weights) - set(transferred.weights) == {"dense1"}
    assert set(transfer(source, dataclasses.replace(small, schema=user_schema(["nose", "chin"])), 0).weights) == {
        *source.weights.keys() - {"linear"}
    }


def as_source(model: keras.Model) -> Source:
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    return Source("--init-from somewhere", weights, ("faces",), "", {"val_fraction": 0.1, "seed": 0}, {"name": "some"})


def test_stages_are_split_at_the_unfreezing() -> None:
    transferred = TransferredLayers({"stem": []}, {"name": "some"}, 2)
    assert list(transferred.stages(5)) == [Stage(0, 2, frozenset({"stem"})), Stage(2, 5)]
    assert list(transferred.stages(2)) == [Stage(0, 2, frozenset({"stem"}))]
    assert list(TransferredLayers().stages(5)) == [Stage(0, 5)]
    for epoch in range(1, 6):
        assert sum(stage.contains(epoch) for stage in transferred.stages(5)) == 1


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("step", [0, 1, 40])
def test_the_schedule_continues_when_the_optimizer_restarts(schedule: str, step: int) -> None:
    settings = Optimization("adamw", 1e-3, schedule, 0.1, 1e-4)
    whole, later = (build_optimizer(settings, 100, first) for first in (0, 30))
    whole.iterations.assign(30 + step)
    later.iterations.assign(step)
    assert float(later.learning_rate) == float(whole.learning_rate) > 0


def test_patience_starts_at_the_unfreezing(tmp_path: Path) -> None:
    progress = Progress(epoch=4, best_epoch=1)
    assert EpochCheckpoint(None, progress, tmp_path / "h.csv", 3).out_of_patience
    assert not EpochCheckpoint(None, progress, tmp_path / "h.csv", 3, patience_start=2).out_of_patience


def test_the_optimizer_state_is_independent_of_frozen_layers() -> None:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")  # wraps the optimizer in a LossScaleOptimizer
    try:
        model = models.build("compact", 3, TINY_SPEC.input_shape, COMPACT)
        sizes = []
        for frozen in (["stem"], []):
            compile_model(model, tiny(), TINY_SPEC.schema, total_steps=10, frozen=frozen)
            sizes += [[v.shape for v in checkpoints._variables(model)] for _ in range(2)]
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert all(size == sizes[0] for size in sizes)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--init-from", "{bundle}", "--recipe", "naimish"], ["naimish", "compact"]),
        (["--init-from", "{bundle}", "--recipe", "compact-112"], ["compact", "stem"]),
        (["--init-from", "/no/such/place"], ["/no/such/place"]),
        (["--init-from", "{bundle}", "--out", "{bundle}", "--overwrite"], ["{bundle}", "--out"]),
        (["--init-from", "{bundle}", "--freeze-epochs", "-1"], ["--freeze-epochs", "0", "-1"]),
        (["--freeze-epochs", "2"], ["--freeze-epochs", "--init-from"]),
        (["--weights", "imagenet"], ["tiny", "efficientnet", "mobilenet"]),
        (["--recipe", "mobilenet", "--weights", "imagenet", "--init-from", "{bundle}"], ["--weights", "--init-from"]),
        (["--recipe", "mobilenet"], ["ImageNet", "--weights none"]),
    ],
)
def test_an_expected_error_is_one_line_and_writes_nothing(
    arguments: list[str],
    parts: list[str],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise Exception("URL fetch failure on https://keras:\nNone -- Name or service not known")  # as Keras does

    monkeypatch.setattr(keras.applications, "MobileNetV3Small", offline)
    assert run(tmp_path / "run", *(word.format(bundle=bundle) for word in arguments)) == 2
    error = capsys.readouterr().err
    assert lines_with(error.splitlines()[-1], *(part.format(bundle=bundle) for part in parts))
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_run_cannot_be_its_own_source(bundle: Path) -> None:
    with pytest.raises(KpdetectError, match=mentions("--init-from", str(bundle))):
        load_source(dataclasses.replace(tiny(), start=Start(init_from=str(bundle))), bundle)


def test_imagenet_weights_fill_the_backbone_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = keras.applications.MobileNetV3Small

    def random_weights(input_shape: tuple[int, int, int], alpha: float, include_top: bool, weights: str) -> keras.Model:
        assert weights == "imagenet"
        return real(input_shape=input_shape, alpha=alpha, include_top=include_top, weights=None)

    recipe = dataclasses.replace(choose_recipe(TrainOptions("mobilenet")), architecture_options={"alpha": 0.75})
    with monkeypatch.context() as patch:
        patch.setattr(keras.applications, "MobileNetV3Small", random_weights)
        source = load_source(recipe, Path("runs/mobilenet"))
    spec = Spec(user_schema(["nose"]), "mobilenet", {"alpha": 0.75}, recipe.crop, 3)
    transferred = transfer(source, spec, recipe.start.freeze_epochs)
    model = models.build("mobilenet", 1, spec.input_shape, {"alpha": 0.75})
    left = {layer.name for layer in model.layers if layer.weights} - set(transferred.weights)
    assert left == {"lateral8", "lateral16", "lateral32", "heatmaps"}
    assert transferred.freeze_epochs == recipe.start.freeze_epochs > 0
    with pytest.raises(KpdetectError, match=mentions("alpha", "0.75", "1.0", "0.5")):
        models.PRETRAINED["mobilenet"]({"alpha": 0.5}, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_imagenet_weights_fill_the_trunk_of_efficientnet(channels: int) -> None:
    recipe = dataclasses.replace(choose_recipe(TrainOptions("efficientnet")), channels=channels)
    source = load_source(recipe, Path("runs/efficientnet"))
    transferred = transfer(source, Spec(user_schema(["nose"]), "efficientnet", {}, recipe.crop, channels), 0)
    model = models.build("efficientnet", 1, (112, 112, channels))
    left = {layer.name for layer in model.layers if layer.weights} - set(transferred.weights)
    head = {f"{name}{more}" for name in ("refine_a", "refine_b") for more in ("", "_norm")}
    assert left == {"context8", "context16", "heatmaps4", "heatmaps8", "expected_error", *head}


def test_grey_weights_equal_rgb_weights_for_grey_images() -> None:
    answers = []
    picture = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 1)).astype(np.float32)
    for channels in (1, 3):
        model = models.build("efficientnet", 1, (32, 32, channels))
        TransferredLayers(models.PRETRAINED["efficientnet"]({}, channels)).copy_into(model)
        trunk = keras.Model(model.input, model.get_layer("stage5_3_project_norm").output)
        answers.append(np.asarray(trunk(np.repeat(picture, channels, axis=3))))
    assert np.abs(answers[1]).mean() > 0.1
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_weights_transfer_between_grey_and_rgb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: int, after: int
) -> None:
    old = dataclasses.replace(TINY_SPEC, channels=before)
    save_bundle(small_model(old), old, tmp_path / "before")
    recipe = dataclasses.replace(tiny(), channels=after, start=Start(init_from=str(tmp_path / "before")))
    new = dataclasses.replace(TINY_SPEC, channels=after)
    model = models.build(new.architecture, new.num_keypoints, new.input_shape, new.architecture_options)
    transfer(load_source(recipe, tmp_path / "run"), new, 0).copy_into(model)
    count = sum(bool(layer.weights) for layer in model.layers)
    assert lines_with(capsys.readouterr().err, f"{count} of {count} layers")
    rgb = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pictures = {3: rgb if before == 1 else np.repeat(rgb[..., :1], 3, axis=3)}
    pictures[1] = pictures[3] @ np.float32([0.299, 0.587, 0.114])[:, None]
    first = load_bundle(tmp_path / "before")[0](pictures[before].astype(np.float32))
    second = model(pictures[after].astype(np.float32))
    for name in ("keypoints", "uncertainty"):
        np.testing.assert_allclose(first[name], second[name], atol=1e-5)


def test_imagenet_weights_exist_only_for_the_original_widths() -> None:
    with pytest.raises(KpdetectError, match=mentions("width", "1", "0.5")):
        models.PRETRAINED["efficientnet"]({"width": 0.5}, 1)


def test_an_even_kernel_is_the_mean_of_two_shifted_odd_ones() -> None:
    odd = np.random.default_rng(0).normal(size=(3, 3, 2, 1))
    moved = [np.pad(odd, ((row, 1 - row), (column, 1 - column), (0, 0), (0, 0))) for row in (0, 1) for column in (0, 1)]
    np.testing.assert_allclose(even_kernel(odd), np.mean(moved, axis=0))


def test_options_set_the_initial_weights() -> None:
    def start(**options: object) -> Start:
        return choose_recipe(TrainOptions(**options)).start

    assert start(recipe="mobilenet").weights == "imagenet"
    assert start(recipe="mobilenet", weights="none") == Start("none")
    assert start(recipe="mobilenet", init_from="runs/a", freeze_epochs=0) == Start("none", "runs/a", 0)
    assert start(recipe="compact", weights="none") == Start()
    assert start(recipe="compact", init_from="runs/a", freeze_epochs=4) == Start(None, "runs/a", 4)


def test_a_possible_overlap_with_validation_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    source = Source("--init-from a", {}, ("faces", "more"), "", {"val_fraction": 0.1, "seed": 0}, {})
    assert not may_overlap_validation(None, "faces", {})
    assert not may_overlap_validation(source, "faces", {"val_fraction": 0.1, "seed": 0})
    assert not may_overlap_validation(source, "others", {"val_fraction": 0.1, "seed": 1})
    assert capsys.readouterr().err == ""
    assert may_overlap_validation(source, "others+faces", {"val_fraction": 0.1, "seed": 1})
    assert may_overlap_validation(source, "more", {})
    assert lines_with(capsys.readouterr().err, "--init-from a", "more", "--seed", "--val-fraction")


def test_provenance_of_several_teachers_is_joined(tmp_path: Path) -> None:
    kept = {"val_fraction": 0.1, "seed": 0}
    naimish = Spec(user_schema(["nose"]), "naimish", {}, CropRule((94, 96), 1.35), 1)
    student = dataclasses.replace(naimish, data=("a",), terms="A.", extra={"split": kept})

    def teacher(name: str, data: str, split: dict[str, float]) -> str:
        spec = dataclasses.replace(student, data=("a", data), terms=f"A. {data.upper()}.", extra={"split": split})
        save_bundle(small_model(spec), spec, tmp_path / name)
        return str(tmp_path / name)

    near, like = teacher("near", "b", kept), teacher("like", "c", kept)
    assert describe_teachers(choose_recipe(TrainOptions())) is None
    source = describe_teachers(choose_recipe(TrainOptions(teacher=f"{near},{like}")))
    taught = with_provenance(student, source, "taught_by")
    assert (taught.data, taught.terms) == (("a", "b", "c"), "A. B. C.")
    assert taught.extra["taught_by"] == {"name": "near, like", "data": ["a", "b", "c"], "other_split": False}
    other = teacher("other", "d", {"val_fraction": 0.1, "seed": 1})
    source = describe_teachers(choose_recipe(TrainOptions(teacher=f"{near},{other}")))
    assert with_provenance(student, source, "taught_by").extra["taught_by"]["other_split"]


@pytest.mark.slow
def test_an_untrained_mobilenet_exports(tmp_path: Path) -> None:
    spec = Spec(user_schema(["nose", "chin"]), "mobilenet", {"alpha": 0.35}, CropRule((64, 64), 1.35), 3)
    save_bundle(small_model(spec), spec, tmp_path / "bundle")
    exported = export_model(tmp_path / "bundle", tmp_path / "exported", ("tflite", "onnx"))
    differences = [record["max_difference_px"] for record in exported.files.values()]
    assert max(value for value in differences if value is not None) < 0.001


@pytest.mark.parametrize("name", ["compact", "compact-160-v2"])
def test_a_shipped_model_is_a_source_by_its_name(name: str) -> None:
    recipe = dataclasses.replace(choose_recipe(TrainOptions("compact")), start=Start(init_from=name))
    source = load_source(recipe, Path("runs/compact"))
    assert source is not None
    spec = read_spec(name)
    transferred = transfer(source, spec, 0)
    assert set(transferred.weights) == set(source.weights)
    assert source.identity["sha256"] == spec.files["model.weights.h5"]["sha256"]
