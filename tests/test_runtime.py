"""Runtimes: every file format equals Keras at any batch size; TFLite and ONNX run without TensorFlow."""

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from messages import mentions
from small_models import small_bundle, small_spec

import kpdetect
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.export import export_model
from kpdetect.modelfile import bundle, runtime
from kpdetect.modelfile.runtime import Prediction

# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

KINDS = ("small.tflite", "small.onnx", "small.keras", "saved_model", ".")
# For a crop of 48 pixels, 1e-5 is 0.0005 pixels: float32 rounding.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bundle in every format."""
    work = tmp_path_factory.mktemp("runtimes")
    export_model(small_bundle(work / "bundle"), work / "all", ("saved_model", "tflite", "onnx", "keras"))
    return work / "all"


@pytest.fixture(scope="module")
def expected(folder):
    """Images and the outputs of Keras for them."""
    model, spec = bundle.load_bundle(folder)
    crops = np.random.default_rng(1).integers(0, 256, (5, *spec.input_shape), dtype=np.uint8)
    outputs = model(crops.astype(np.float32), training=False)
    assert np.ptp(outputs["uncertainty"]) > 100 * TOLERANCE  # otherwise any value would pass
    return crops, Prediction(np.asarray(outputs["keypoints"]), np.asarray(outputs["uncertainty"]))


def assert_marks(given, expected, rows=slice(None), tolerance=TOLERANCE) -> None:
    """Compares all outputs with their types and shapes; this model has no score and no visibility."""
    for array, right in zip(given, expected, strict=True):
        if right is None:
            assert array is None
            continue
        assert array.dtype == np.float32
        assert array.shape == right[rows].shape
        np.testing.assert_allclose(array, right[rows], rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_equals_keras_at_any_batch_size(folder, expected, kind) -> None:
    crops, marks = expected
    model = runtime.load(folder / kind)
    for batch in (slice(0, 5), slice(2, 3), slice(1, 5), slice(2, 3), slice(0, 0)):  # increasing and decreasing sizes
        given = model.predict(crops[batch])
        assert_marks(given, marks, batch)
        np.testing.assert_array_equal(model(crops[batch]), given.keypoints)


@pytest.mark.parametrize("kind", KINDS)
def test_uint8_and_float32_give_the_same(folder, expected, kind) -> None:
    crops, _ = expected
    model = runtime.load(folder / kind)
    assert_marks(model.predict(crops), model.predict(crops.astype(np.float32)), tolerance=0)


@pytest.mark.parametrize("kind", KINDS)
def test_changed_outputs_do_not_affect_later_predictions(folder, expected, kind) -> None:
    crops, marks = expected
    model = runtime.load(folder / kind)
    for array in model.predict(crops)[:2]:
        array[1:3] = 7  # like a second look
    assert_marks(model.predict(crops), marks)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_has_its_spec_and_the_path_of_its_file(folder, kind) -> None:
    model = runtime.load(folder / kind)
    told = dataclasses.replace(model.spec, files={})
    assert told == small_spec()
    assert model.path == folder / ("small.tflite" if kind == "." else kind)
    files = [model.path] if model.path.is_file() else [file for file in model.path.rglob("*") if file.is_file()]
    assert model.bytes == sum(file.stat().st_size for file in files)


def test_tflite_and_onnx_import_no_tensorflow(folder) -> None:
    code = """
import sys, numpy, kpdetect.modelfile.runtime
for path in sys.argv[1:]:
    model = kpdetect.modelfile.runtime.load(path)
    print(model(numpy.zeros((2, 32, 48, 3), numpy.uint8)).shape)
print([name for name in ("tensorflow", "keras", "matplotlib", "pandas") if name in sys.modules])
"""
    paths = [str(folder / kind) for kind in ("small.tflite", "small.onnx", ".")]
    root = Path(kpdetect.__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(2, 3, 2)", "(2, 3, 2)", "(2, 3, 2)", "[]"]


def test_a_bundle_without_tflite_runs_its_weights(folder, expected, tmp_path) -> None:
    crops, marks = expected
    for name in (bundle.WEIGHTS_FILE, "spec.json"):
        shutil.copy(folder / name, tmp_path)
    model = runtime.load(tmp_path)
    assert model.path == tmp_path / bundle.WEIGHTS_FILE
    assert_marks(model.predict(crops), marks, tolerance=0)


def test_a_bundle_with_a_tflite_needs_no_weights(folder, expected, tmp_path) -> None:
    """The shipped model has this form."""
    crops, marks = expected
    for name in ("small.tflite", "spec.json"):
        shutil.copy(folder / name, tmp_path)
    assert_marks(runtime.load(tmp_path).predict(crops), marks)


def test_a_replaced_tflite_is_detected(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "b")
    file = tmp_path / "b" / "small.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(KpdetectError, match=mentions(str(file), "sha256")):
        runtime.load(tmp_path / "b")


@pytest.mark.parametrize("kind", ["small.tflite", "small.onnx"])
def test_threads_may_share_a_runtime(folder, expected, kind) -> None:
    crops, marks = expected
    model = runtime.load(folder / kind, threads=2)
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda i: model.predict(crops[i % 4 : 5]), range(40)))
    for i, answer in enumerate(given):
        assert_marks(answer, marks, slice(i % 4, 5))


def test_a_file_with_a_fixed_batch_size_is_run_in_parts(tmp_path, folder, expected) -> None:
    """Other converters write files with a fixed batch size; such a file works if it contains a spec."""
    import keras
    import tensorflow as tf

    crops, marks = expected
    model, spec = bundle.load_bundle(folder)
    image = keras.Input(batch_shape=(2, *spec.input_shape), name="image")
    fixed = keras.Model(image, model(image))
    with warnings.catch_warnings():  # the default of the converter
        warnings.simplefilter("ignore")
        content = tf.lite.TFLiteConverter.from_keras_model(fixed).convert()
    (tmp_path / "fixed.tflite").write_bytes(content)
    bundle.embed_in_zip(spec, tmp_path / "fixed.tflite")
    assert_marks(runtime.load(tmp_path / "fixed.tflite").predict(crops), marks)


def test_wrong_crops_are_errors(folder) -> None:
    model = runtime.load(folder / "small.tflite")
    for shape in ((32, 48, 3), (1, 48, 32, 3), (1, 32, 48, 1), (1, 32, 48)):
        with pytest.raises(KpdetectError, match=mentions("(batch, 32, 48, 3)", str(shape))):
            model(np.zeros(shape, np.uint8))
    for dtype in (np.float64, np.int32, bool):
        with pytest.raises(KpdetectError, match=mentions("0-255", "uint8", "float32", np.dtype(dtype).name)):
            model(np.zeros((1, 32, 48, 3), dtype))


def test_zero_threads_are_an_error(folder) -> None:
    with pytest.raises(KpdetectError, match=mentions("threads", "1", "0")):
        runtime.load(folder, threads=0)


@pytest.mark.parametrize("kind", ["small.tflite", "small.onnx", "small.keras"])
def test_a_truncated_file_is_an_error(folder, tmp_path, kind) -> None:
    content = (folder / kind).read_bytes()
    (tmp_path / kind).write_bytes(content[: len(content) // 2])
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / kind))):
        runtime.load(tmp_path / kind)


def test_a_damaged_model_with_a_valid_spec_is_an_error(folder, tmp_path) -> None:
    """The spec is readable, the model is not."""
    spec = small_spec()
    for name, content in (("a.tflite", b"\0\0\0\0TFL3" + bytes(99)), ("b.keras", b"")):
        (tmp_path / name).write_bytes(content)
        bundle.embed_in_zip(spec, tmp_path / name)
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"nothing")
    bundle.embed_in_saved_model(spec, tmp_path / "saved_model")
    for name, told in (
        ("a.tflite", "TFLite"),
        ("b.keras", "Keras"),
        ("saved_model", "SavedModel"),
    ):
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / name), told)):
            runtime.load(tmp_path / name)


def test_a_file_without_a_spec_is_an_error(folder, tmp_path) -> None:
    import onnx

    content = (folder / "small.tflite").read_bytes()
    (tmp_path / "a.tflite").write_bytes(content[: content.index(b"PK\x03\x04")])
    proto = onnx.load(folder / "small.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "a.onnx")
    shutil.copytree(folder / "saved_model", tmp_path / "a", ignore=shutil.ignore_patterns("assets.extra"))
    for name in ("a.tflite", "a.onnx", "a"):
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / name), "spec.json", "export")):
            runtime.load(tmp_path / name)


def test_code_in_a_keras_file_is_not_run(tmp_path) -> None:
    import keras

    spec = small_spec()
    image = keras.Input(spec.input_shape, name="image")
    keras.Model(image, keras.layers.Lambda(lambda x: x[:, :3, :2, 0])(image)).save(tmp_path / "lambda.keras")
    bundle.embed_in_zip(spec, tmp_path / "lambda.keras")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "lambda.keras"), "Keras", "Lambda")):
        runtime.load(tmp_path / "lambda.keras")


def test_a_model_with_other_points_than_its_spec_is_an_error(folder, tmp_path) -> None:
    document = json.loads(small_spec().to_json())
    document["schema"] = {"name": "two", "point_names": ["a", "b"]}
    spec = bundle.Spec.from_json(json.dumps(document))
    content = (folder / "small.tflite").read_bytes()
    (tmp_path / "a.tflite").write_bytes(content[: content.index(b"PK\x03\x04")])
    bundle.embed_in_zip(spec, tmp_path / "a.tflite")
    with pytest.raises(KpdetectError, match=mentions("keypoints", "(batch, 2, 2)", "(None, 3, 2)")):
        runtime.load(tmp_path / "a.tflite")(np.zeros((1, 32, 48, 3), np.uint8))


@pytest.mark.parametrize(
    ("uncertainty", "told"),
    [
        (None, ("uncertainty", "keypoints")),
        (np.zeros((2, 4), np.float32), ("uncertainty", "(2, 3)", "(2, 4)")),
        (np.zeros((2, 3, 1), np.float32), ("uncertainty", "(2, 3)", "(2, 3, 1)")),
    ],
)
def test_a_model_with_another_uncertainty_than_its_spec_is_an_error(uncertainty, told) -> None:
    def run(crops):
        outputs = {"keypoints": np.zeros((2, 3, 2), np.float32), "uncertainty": uncertainty}
        return {name: array for name, array in outputs.items() if array is not None}

    crops, path = np.zeros((2, 32, 48, 3), np.uint8), Path("a.tflite")
    with pytest.raises(KpdetectError, match=mentions("a.tflite", *told)):
        runtime.Runtime(small_spec(), path, 0, run).predict(crops)
    silent = dataclasses.replace(small_spec(), uncertainty=False)
    assert runtime.Runtime(silent, path, 0, run).predict(crops).uncertainty is None
    assert runtime.Runtime(silent, path, 0, run).predict(crops[:0]).uncertainty is None


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [
        ("small.onnx", "onnxruntime", "onnx"),
        ("saved_model", "tensorflow", "train"),
        ("small.keras", "keras", "train"),
    ],
)
def test_a_missing_package_names_its_install_command(folder, monkeypatch, kind, package, extra) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=mentions(package, "pip install", f"[{extra}]")):
        runtime.load(folder / kind)
