"""Quantized files: inputs, outputs, differences from Keras, operations in float, and errors."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions
from small_models import small_bundle, small_face_spec, small_model

from kpdetect import evaluate, export, models
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.images import Pixels, write_image
from kpdetect.core.options import run_command
from kpdetect.data import load, split_by_rule
from kpdetect.data.crops import evaluation_crops
from kpdetect.export import Quantization, export_model
from kpdetect.exporters import FORMATS, CalibrationSet, Kind, Source, calibration_set
from kpdetect.exporters.parity import all_outputs, difference
from kpdetect.exporters.source import DECODING, TRUNK, in_two_scopes
from kpdetect.modelfile import bundle, runtime

# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

OTHER_FACES = "synthetic:40:9"


@pytest.fixture(scope="module")
def crops() -> Pixels:
    """Crops of faces that are not in the calibration set."""
    spec = small_face_spec()
    return evaluation_crops(load(OTHER_FACES), spec.crop, spec.channels)[0]


@pytest.mark.parametrize(
    ("file", "mean_px"),
    [
        ("small_fp16.tflite", 0.02),
        ("small_int8.tflite", 0.3),
        ("small_dynamic.tflite", 0.3),
        ("small_fp16.onnx", 0.02),
    ],
)
def test_each_file_is_close_to_keras_on_faces_outside_the_calibration_set(face_exports, crops, file, mean_px) -> None:
    model, _ = bundle.load_bundle(face_exports)
    expected = all_outputs(model(crops.astype(np.float32), training=False))
    assert difference(runtime.load(face_exports / file), crops, expected).mean_px < mean_px


@pytest.mark.parametrize(("way", "share"), [("fp16", 0.85), ("int8", 0.65), ("dynamic", 0.6)])
def test_quantized_files_are_smaller(face_exports, way, share) -> None:
    """Kernels are most of the shipped model, but half of this one."""
    whole, smaller = (len(flatbuffer(face_exports / name)) for name in ("small.tflite", f"small_{way}.tflite"))
    assert smaller < share * whole
    if way == "fp16":
        assert (face_exports / "small_fp16.onnx").stat().st_size < 0.85 * (face_exports / "small.onnx").stat().st_size


def flatbuffer(path: Path) -> bytes:
    """A TFLite file without the appended zip."""
    content = path.read_bytes()
    return content[: content.rindex(b"PK\x03\x04")]


def test_int8_has_no_mean_bias(face_exports) -> None:
    spec = small_face_spec()
    faces = calibration_set.calibration_faces("synthetic:150", spec).crops
    given, rounded = (
        runtime.load(face_exports / name).predict(faces) for name in ("small.tflite", "small_int8.tflite")
    )
    moved_px = (rounded.keypoints - given.keypoints) * spec.crop.size_hw[0]
    assert np.abs(moved_px).mean() > 0.01
    assert np.abs(moved_px.mean(axis=0)).max() < 1e-3


def test_int8_has_uint8_input(face_exports, crops) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = face_exports / "small_int8.tflite"
    (image,) = Interpreter(str(path)).get_input_details()
    assert (image["name"], image["dtype"], image["shape_signature"][0]) == ("image", np.uint8, -1)
    spec = bundle.read_spec(path)
    assert spec.input_dtype == "uint8"
    assert re.search(mentions("0-255", "uint8"), spec.to_json())
    others = dict(spec.extra)
    ranges = others.pop("ranges_from")
    assert ranges["data"] == "synthetic"
    assert 100 <= ranges["faces"] < 150
    assert dataclasses.replace(spec, input_dtype="float32", files={}, extra=others) == small_face_spec()
    model = runtime.load(path)
    np.testing.assert_array_equal(model(crops), model(crops.astype(np.float32)))


def test_int8_input_quantization_keeps_pixel_values(face_exports) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(face_exports / "small_int8.tflite"))
    (quantize,) = (op for op in interpreter._get_ops_details() if op["op_name"] == "QUANTIZE")
    scale, zero = interpreter._get_tensor_details(int(quantize["outputs"][0]), 0)["quantization"]
    assert (scale, zero) == (1.0, -128)


@pytest.mark.parametrize("file", ["small_int8.tflite", "small_dynamic.tflite"])
def test_a_batch_equals_its_singles(face_exports, crops, file) -> None:
    model = runtime.load(face_exports / file)
    singles = np.concatenate([model(crop[None]) for crop in crops[:6]])
    np.testing.assert_allclose(model(crops[:6]), singles, atol=1e-5)


@pytest.mark.parametrize("file", ["small_int8.tflite", "small_dynamic.tflite"])
def test_decoding_is_in_float(face_exports, file) -> None:
    kernels = kernel_types(face_exports / file)
    decoding = {name: kind for name, kind in kernels.items() if DECODING in name}
    trunk = {name: kind for name, kind in kernels.items() if TRUNK in name}
    assert len(decoding) == 3  # two kinds of heatmaps and their cell positions
    assert set(decoding.values()) == {np.float32}
    assert len(trunk) > 8
    assert set(trunk.values()) == {np.int8}


def kernel_types(path: Path) -> dict[str, type]:
    """The kernel types of a TFLite file, by the outputs of its convolutions and dense layers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    tensors = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    return {
        tensors[op["outputs"][0]]["name"]: tensors[op["inputs"][1]]["dtype"]
        for op in interpreter._get_ops_details()
        if op["op_name"] in ("CONV_2D", "FULLY_CONNECTED")
    }


@pytest.mark.parametrize("architecture", ["imm-nose", "mobilenet", "twoconv"])
def test_two_scopes_are_the_same_network(architecture) -> None:
    shape = (64, 64, 3 if architecture == "mobilenet" else 1)
    model = models.build(architecture, 4, shape)
    crops = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    expected = np.asarray(model(crops.astype(np.float32), training=False))
    for dtype in ("float32", "uint8"):
        scoped = in_two_scopes(model, dtype)
        assert {TRUNK, DECODING} <= {layer.name for layer in scoped.layers}
        np.testing.assert_allclose(scoped(crops.astype(dtype), training=False)["keypoints"], expected, atol=1e-5)


def test_a_quantised_file_can_be_evaluated(face_exports, capsys) -> None:
    file = str(face_exports / "small_int8.tflite")
    assert evaluate.main([file, "--data", OTHER_FACES, "--no-box-jitter"]) == 0
    assert lines_with(capsys.readouterr().out, "small", "synthetic", "all")


def test_the_record_has_the_maximal_and_the_mean_difference(face_exports) -> None:
    files = bundle.read_spec(face_exports).files
    for name in ("small_fp16.tflite", "small_int8.tflite", "small_dynamic.tflite", "small_fp16.onnx"):
        assert 0 < files[name]["mean_difference_px"] < files[name]["max_difference_px"]
    assert files["model.weights.h5"]["mean_difference_px"] is None


def test_no_held_out_subject_is_in_the_calibration_set(monkeypatch) -> None:
    """Every synthetic subject has one face, so crops identify subjects."""
    monkeypatch.setattr(calibration_set, "LEAST_FACES", 10)
    rule = {"val_fraction": 0.2, "seed": 3, "test_fraction": 0.3}
    spec = dataclasses.replace(small_face_spec(), extra={"split": rule})
    train, val, test = (
        {crop.tobytes() for crop in evaluation_crops(part, spec.crop, spec.channels)[0]}
        for part in split_by_rule(load("synthetic:40"), rule)
    )
    drawn = calibration_set.calibration_faces("synthetic:40", spec)
    assert {crop.tobytes() for crop in drawn.crops} == train
    assert not train & (val | test)
    assert (val, test) != (set(), set())


def test_a_large_set_is_sampled_reproducibly(monkeypatch) -> None:
    for bound, faces in (("LEAST_FACES", 3), ("MOST_FACES", 5)):
        monkeypatch.setattr(calibration_set, bound, faces)
    spec = small_face_spec()
    first, again, other = (calibration_set.calibration_faces("synthetic:20", spec, seed).crops for seed in (0, 0, 1))
    assert first.shape == (5, *spec.input_shape)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("synthetic:60", mentions("synthetic:60", "100") + r"(?=.*\b5\d\b)"),
        ("csv:nose.csv", mentions("3", "nose.csv", "1")),
        ("csv:absent.csv", mentions("absent.csv")),
        ("csv:night/faces.csv", mentions("100", "0") + r"(?=.*\b1[1-4]\d\b)"),
    ],
)
def test_an_unsuitable_calibration_set_is_an_error_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, data, told
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image("a.png", np.zeros((8, 8, 3), np.uint8))
    Path("nose.csv").write_text("image,nose_x,nose_y\na.png,1,2\n")
    spec = small_face_spec()
    columns = ",".join(f"{name}_{axis}" for name in spec.schema.point_names for axis in "xy")
    Path("night").mkdir()
    for number in range(140):
        write_image(f"night/{number}.png", np.zeros((8, 8, 3), np.uint8))
    rows = [f"{number}.png,1,2,6,2,4,5\n" for number in range(140)]
    Path("night/faces.csv").write_text(f"image,{columns}\n{''.join(rows)}")
    source = small_bundle(tmp_path / "bundle", spec=spec)
    arguments = [str(source), "--out", "e", "--formats", "tflite", "--quantize", "int8", "--representative", data]
    assert run_command(export.main, arguments) == 2
    assert re.search(told, capsys.readouterr().err.splitlines()[-1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "bundle", "night", "nose.csv"]


@pytest.mark.slow
def test_an_int8_file_outside_its_tolerance_is_an_error(tmp_path, monkeypatch) -> None:
    """The file was calibrated on black images."""
    kind = FORMATS["tflite"]["int8"]

    def of_the_night(source, path) -> None:
        night = CalibrationSet(np.zeros_like(source.calibration_set.crops), "night")
        kind.write(dataclasses.replace(source, calibration_set=night), path)

    monkeypatch.setitem(FORMATS["tflite"], "int8", Kind(of_the_night, mean_px=kind.mean_px, on_faces=True))
    source = small_bundle(tmp_path / "bundle", spec=small_face_spec())
    with pytest.raises(KpdetectError, match=mentions("small_int8.tflite", "Keras", "0.3")):
        export_model(source, tmp_path / "e", ("tflite",), quantization=Quantization(("int8",), "synthetic:120"))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("way", ["int8", "dynamic"])
def test_an_op_without_a_builtin_kernel_is_an_error_before_quantization(tmp_path, way) -> None:
    import keras

    image = keras.Input((4, 4, 1), name="image")
    features = keras.ops.erfinv(keras.layers.Conv2D(2, 1)(image))
    model = keras.Model(image, keras.layers.Reshape((2, 2))(keras.layers.Dense(4)(keras.layers.Flatten()(features))))
    source = Source(model, small_face_spec(), CalibrationSet(np.zeros((20, 4, 4, 1), np.uint8), "night"))
    with pytest.raises(KpdetectError, match=mentions("TFLite", "Erfinv")):
        FORMATS["tflite"][way].write(source, tmp_path / "a.tflite")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_output_folder_is_an_error(tmp_path) -> None:
    source = small_bundle(tmp_path / "bundle", spec=small_face_spec())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "file" / "e"))):
        export_model(source, tmp_path / "file" / "e", ("tflite",), quantization=Quantization(("dynamic",)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "file"]


def test_a_missing_quantizer_names_its_install_command(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    source = small_bundle(tmp_path / "bundle", spec=small_face_spec())
    with pytest.raises(MissingExtra, match=mentions("ai_edge_quantizer", "pip install", "[train]")):
        export_model(source, tmp_path / "e", ("tflite",), quantization=Quantization(("dynamic",)))
    assert not (tmp_path / "e").exists()


def test_int8_without_a_calibration_set_is_an_error_of_the_writer_too(tmp_path) -> None:
    spec = small_face_spec()
    with pytest.raises(KpdetectError, match=mentions("int8", "--representative")):
        FORMATS["tflite"]["int8"].write(Source(small_model(spec), spec), tmp_path / "a.tflite")


def test_onnx_has_no_transpose_and_only_kernels_in_half_precision(face_exports) -> None:
    import onnx

    proto = onnx.load(face_exports / "small_fp16.onnx")
    assert "Transpose" not in {node.op_type for node in proto.graph.node}
    casts = [node for node in proto.graph.node if node.op_type == "Cast"]
    halves = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    assert {node.input[0] for node in casts} == halves
    assert len(halves) > 3
    whole = onnx.load(face_exports / "small.onnx")
    assert not {"Transpose", "Cast"} & {node.op_type for node in whole.graph.node}
