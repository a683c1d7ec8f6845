"""kpdetect as part of Keras programs: registered classes, saved models, `load_model` and presets."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from messages import mentions
from small_models import small_bundle

import kpdetect
from kpdetect import models
from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import IBUG68
from kpdetect.export import export_model
from kpdetect.modelfile import bundle, keras_models
from kpdetect.models import losses
from kpdetect.models.metrics_keras import NormalizedMeanError
from kpdetect.models.optimizers import OffsetSchedule
from kpdetect.recipes import RECIPES
from kpdetect.training.compile import build_optimizer

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ROOT = Path(kpdetect.__file__).resolve().parents[1]
PREFIX = "kpdetect>"
OTHER_ARGUMENTS = {
    "NormalizedMeanError": {"schema": IBUG68, "size_hw": (112, 96), "name": "error"},
    "SmoothL1": {"unit": 50.0, "beta": 2.0},
    "Wing": {"unit": 50.0, "width": 5.0, "curvature": 1.0},
    "SoftArgmax": {"spread": True, "name": "points"},
    "OffsetSchedule": {"schedule": keras.optimizers.schedules.CosineDecay(0.1, 20), "first_step": 7},
    "AdamW": {"learning_rate": 0.1, "weight_decay": 0.2},
}
"""Arguments that are not the defaults."""


def registered() -> dict[str, type]:
    found = keras.saving.get_custom_objects()
    return {name.removeprefix(PREFIX): cls for name, cls in found.items() if name.startswith(PREFIX)}


def test_the_classes_of_models_are_registered() -> None:
    names = {"MSE", "L1", "SmoothL1", "Wing", "NormalizedMeanError", "SoftArgmax", "ExpectedError", "JoinOutputs"}
    assert names | {"BatchNormalization", "Adam", "AdamW", "OffsetSchedule"} <= set(registered())
    assert set(OTHER_ARGUMENTS) <= set(registered())


@pytest.mark.parametrize("name", sorted(registered()))
def test_every_class_is_what_its_configuration_describes(name: str) -> None:
    cls = registered()[name]
    for arguments in ({}, OTHER_ARGUMENTS.get(name, {})):
        if not arguments and name in ("NormalizedMeanError", "OffsetSchedule"):  # these have no defaults
            continue
        one = cls(**arguments)
        twin = cls.from_config(one.get_config())
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
        for copy in (twin, again):
            assert type(copy) is cls
            assert copy.get_config() == one.get_config()
            for argument in set(arguments) - {"schedule", "learning_rate"}:
                assert getattr(copy, argument) == getattr(one, argument) == arguments[argument]


def test_a_schedule_that_starts_late_is_saved_with_its_schedule() -> None:
    schedule = OffsetSchedule(keras.optimizers.schedules.CosineDecay(0.1, 20), 7)
    copy = OffsetSchedule.from_config(schedule.get_config())
    assert float(copy(3)) == float(schedule(3)) == pytest.approx(float(schedule.schedule(10)))


def compiled(recipe_name: str = "compact-112") -> keras.Model:
    """A small network of this package, compiled as a recipe does, after one step."""
    recipe = RECIPES[recipe_name]()
    network = models.build("compact", 68, (32, 32, 1), {"widths": [8, 8, 12, 16], "blocks": [1, 1, 1]})
    model = models.for_training(network)
    model.compile(
        optimizer=build_optimizer(recipe.optimization, total_steps=10, first_step=2),
        loss=losses.build(recipe.loss, recipe.loss_unit),
        weighted_metrics=[NormalizedMeanError(IBUG68, (32, 32))],
    )
    pictures, labels, weights = batch()
    model.fit(pictures, labels, sample_weight=weights, verbose=0)
    return model


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (4, 32, 32, 1)), random.uniform(0, 1, (4, 68, 2)), np.ones((4, 68))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A compiled model of this package in a ``.keras`` file, with its prediction in an ``.npy``."""
    folder = tmp_path_factory.mktemp("keras")
    model = compiled()
    model.save(folder / "own.keras")
    np.save(folder / "expected.npy", model.predict(batch()[0], verbose=0))
    return folder


@pytest.mark.parametrize("first", ["import kpdetect, keras", "import keras, kpdetect", "import tensorflow, kpdetect"])
def test_keras_loads_a_saved_model_after_kpdetect_is_imported(saved: Path, first: str) -> None:
    code = f"""
import sys
{first}
import keras
import numpy as np
model = keras.saving.load_model("own.keras")
print(type(model.loss).__name__, type(model.optimizer).__name__, int(model.optimizer.iterations))
pictures = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 1))
print(float(np.abs(model.predict(pictures, verbose=0) - np.load("expected.npy")).max()) < 1e-5)
model.fit(pictures, np.full((4, 68, 2), 0.5), sample_weight=np.ones((4, 68)), verbose=0)
print(int(model.optimizer.iterations))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=saved,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["Wing AdamW 1", "True", "2"]


def test_asking_whether_keras_exists_does_not_import_or_lose_it() -> None:
    code = (
        "import importlib.util, sys, kpdetect; importlib.util.find_spec('keras'); print('keras' in sys.modules)\n"
        "import keras; print('kpdetect>Wing' in keras.saving.get_custom_objects())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bundle in every format."""
    work = tmp_path_factory.mktemp("load")
    export_model(small_bundle(work / "bundle"), work / "all", ("tflite", "onnx", "keras", "saved_model"))
    return work / "all"


class TestLoadModel:
    def test_folders_and_keras_files_give_the_same_model(self, folder):
        spec = bundle.read_spec(folder)
        pictures = np.random.default_rng(0).uniform(0, 255, (3, *spec.input_shape)).astype(np.float32)
        expected = kpdetect.load_model(folder)(pictures)
        given = kpdetect.load_model(str(folder / "small.keras"))(pictures)
        assert set(given) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(given[name], values, atol=1e-6)

    @pytest.mark.parametrize("name", ["small.tflite", "small.onnx", "saved_model"])
    def test_other_files_have_no_keras_weights(self, folder, name):
        with pytest.raises(KpdetectError, match=mentions(name, "Predictor")):
            kpdetect.load_model(folder / name)

    def test_a_broken_file_is_one_line(self, folder, tmp_path):
        file = tmp_path / "bad.keras"
        file.write_bytes((folder / "small.keras").read_bytes()[:400])
        with pytest.raises(KpdetectError, match=mentions("bad.keras")) as caught:
            kpdetect.load_model(file)
        assert "\n" not in str(caught.value)


class TestPresets:
    def test_a_preset_is_the_packaged_model(self):
        one, other = models.from_preset("compact-160-v2"), kpdetect.load_model("compact")
        for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    def test_without_weights_it_is_the_same_network(self):
        one, other = models.from_preset("compact-160-v2", load_weights=False), kpdetect.load_model("compact")
        assert [weights.shape for weights in one.get_weights()] == [weights.shape for weights in other.get_weights()]
        assert not all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
        assert models.from_preset is keras_models.from_preset

    @pytest.mark.parametrize("name", ["compact-160-v0", "exported_models/compact", ""])
    def test_other_names_are_errors(self, name):
        with pytest.raises(KpdetectError, match="compact-160-v2"):
            models.from_preset(name)
