"""Exported files equal Keras, have names, a dynamic batch and a spec; failures leave no files."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions
from small_models import small_bundle, small_spec

from kpdetect import export, models
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.options import run_command
from kpdetect.export import FilesRefused, Quantization, export_model
from kpdetect.exporters import FORMATS, HALF_PRECISION_PX, Kind, Source
from kpdetect.exporters import onnx as onnx_file
from kpdetect.exporters.parity import KerasReference, all_outputs, difference, probe_crops
from kpdetect.exporters.tflite import write_tflite
from kpdetect.modelfile import bundle, runtime
from kpdetect.modelfile.graphs import tflite_ops
from kpdetect.modelfile.runtime import Prediction

# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ARCHITECTURES = ("compact", "imm-nose")
TOLERANCE_PX = 0.01


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """Bundles of two architectures with weights only."""
    work = tmp_path_factory.mktemp("sources")
    return {name: small_bundle(work / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def exports(sources, tmp_path_factory) -> dict[str, Path]:
    """The same bundles, exported by the command."""
    work = tmp_path_factory.mktemp("exports")
    for name, source in sources.items():
        assert export.main([str(source), "--out", str(work / name)]) == 0
    return {name: work / name for name in sources}


def output_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The output shapes of an architecture by name, without the batch axis."""
    count = small_spec(name).num_keypoints
    return {"keypoints": (count, 2), **({"uncertainty": (count,)} if name == "compact" else {})}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("file", ["saved_model", "small.tflite", "small.onnx"])
def test_each_file_equals_keras(exports, name, file) -> None:
    model, spec = bundle.load_bundle(exports[name])
    crops = np.random.default_rng(5).integers(0, 256, (20, *spec.input_shape), dtype=np.uint8)
    expected = all_outputs(model(crops.astype(np.float32), training=False))
    assert expected.shape == (20, spec.num_keypoints, 3 if name == "compact" else 2)
    assert difference(runtime.load(exports[name] / file), crops, expected).greatest_px < TOLERANCE_PX


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("file", [".", "saved_model", "small.tflite", "small.onnx"])
def test_each_file_contains_the_spec(exports, name, file) -> None:
    spec = bundle.read_spec(exports[name] / file)
    assert dataclasses.replace(spec, files={}) == small_spec(name)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_spec_lists_every_file_with_its_difference_from_keras(exports, name) -> None:
    folder = exports[name]
    spec = bundle.read_spec(folder)
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert set(spec.files) == files - {"spec.json"}
    compared = {name for name, record in spec.files.items() if record["max_difference_px"] is not None}
    assert compared == {"saved_model/saved_model.pb", "small.tflite", "small.onnx"}
    for file in spec.files:
        bundle.checked_file(folder, spec, file)
    assert all(0 <= spec.files[file]["max_difference_px"] <= TOLERANCE_PX for file in compared)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tflite_has_names_and_a_dynamic_batch(exports, name) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter, shapes = Interpreter(str(exports[name] / "small.tflite")), output_shapes(name)
    assert list(interpreter.get_signature_list().values()) == [{"inputs": ["image"], "outputs": sorted(shapes)}]
    (image,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["name"], {output["name"] for output in outputs}) == ("image", set(shapes))
    for output in outputs:
        assert output["shape_signature"].tolist() == [-1, *shapes[output["name"]]]
    assert image["shape_signature"][0] == -1
    # Tensors have the same names in the signature and in the graph.
    runner = interpreter.get_signature_runner()
    by_signature = {output: detail["index"] for output, detail in runner.get_output_details().items()}
    assert by_signature == {output["name"]: output["index"] for output in outputs}
    given = runner(image=np.zeros((4, *small_spec(name).input_shape), np.float32))
    assert {output: array.shape for output, array in given.items()} == {
        output: (4, *shape) for output, shape in shapes.items()
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnx_has_names_and_a_dynamic_batch(exports, name) -> None:
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(exports[name] / "small.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(exports[name] / "small.onnx")
    spec = small_spec(name)
    (image,) = session.get_inputs()
    assert (image.name, image.shape, image.type) == ("image", ["batch", *spec.input_shape], "tensor(float)")
    assert {output.name: output.shape for output in session.get_outputs()} == {
        output: ["batch", *shape] for output, shape in output_shapes(name).items()
    }
    assert {output.type for output in session.get_outputs()} == {"tensor(float)"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_saved_model_has_names_and_a_dynamic_batch(exports, name) -> None:
    import tensorflow as tf

    serve = tf.saved_model.load(exports[name] / "saved_model").signatures["serving_default"]
    image = serve.structured_input_signature[1]["image"]
    assert image.shape.as_list() == [None, *small_spec(name).input_shape]
    assert {output: tensor.shape.as_list() for output, tensor in serve.structured_outputs.items()} == {
        output: [None, *shape] for output, shape in output_shapes(name).items()
    }
    assert {image.dtype, *(tensor.dtype for tensor in serve.structured_outputs.values())} == {tf.float32}


def test_the_shipped_architecture_uses_builtin_ops_without_dynamic_shapes(exports) -> None:
    """No Flex or custom op, and no op that computes shapes at run time: every op outputs float32."""
    content = (exports["compact"] / "small.tflite").read_bytes()
    ops = tflite_ops(content)
    assert "CONV_2D" in ops
    assert not {"SHAPE", "PACK", "GATHER", "CUSTOM", "WHILE", "IF"} & set(ops)
    assert set(computed_types(content)) == {np.float32}


def computed_types(flatbuffer: bytes) -> list[type]:
    """The output types of the ops of a TFLite model, without constants."""
    from ai_edge_litert import schema_py_generated as schema

    numpy_types = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}
    graph = schema.Model.GetRootAs(flatbuffer, 0).Subgraphs(0)
    outputs = [graph.Operators(i).OutputsAsNumpy() for i in range(graph.OperatorsLength())]
    return [numpy_types.get(graph.Tensors(int(tensor)).Type(), object) for tensor in np.concatenate(outputs)]


def test_an_op_without_a_builtin_kernel_is_an_error(tmp_path) -> None:
    import keras

    image = keras.Input((4, 4, 1), name="image")
    model = keras.Model(image, keras.layers.Reshape((8, 2))(keras.ops.erfinv(image)))
    with pytest.raises(KpdetectError, match=mentions("TFLite", "Erfinv")):
        FORMATS["tflite"]["none"].write(Source(model, small_spec()), tmp_path / "a.tflite")
    assert not list(tmp_path.iterdir())


def test_a_file_for_single_crops_has_no_dynamic_shapes(sources, tmp_path) -> None:
    """LiteRT.js returns zeros for dynamic shapes, without an error."""
    model, spec = bundle.load_bundle(sources["compact"])
    write_tflite(Source(model, spec, batch=1), tmp_path / "one.tflite", half=True)
    assert "SHAPE" not in tflite_ops((tmp_path / "one.tflite").read_bytes())
    probes = KerasReference.of(probe_crops(4, spec.input_shape), Source(model, spec))
    assert probes.compare(tmp_path / "one.tflite").mean_px < HALF_PRECISION_PX


def test_a_flex_op_is_an_error() -> None:
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(lambda x: tf.linalg.inv(x), input_signature=[tf.TensorSpec((2, 2), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(KpdetectError, match=mentions("FlexMatrixInverse")):
        tflite_ops(converter.convert())


def test_large_kernels_are_added_after_the_onnx_conversion(sources, exports, tmp_path, monkeypatch) -> None:
    import onnx

    monkeypatch.setattr(onnx_file, "LARGE_KERNEL", 1)
    spec = export_model(sources["imm-nose"], tmp_path / "e", ("onnx",))
    assert spec.files["small.onnx"]["max_difference_px"] < TOLERANCE_PX
    proto, usual = onnx.load(tmp_path / "e" / "small.onnx"), onnx.load(exports["imm-nose"] / "small.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [tensor.name for tensor in proto.graph.input] == ["image"]
    large = [tensor for tensor in proto.graph.initializer if tensor.name.startswith("large_kernel_")]
    assert [list(tensor.dims) for tensor in large] == [[980, 84], [84, 2]]
    assert not any(tensor.name.startswith("large_kernel_") for tensor in usual.graph.initializer)


def test_an_export_can_be_exported_again(exports, tmp_path) -> None:
    spec = export_model(exports["imm-nose"], tmp_path / "again", ("keras",))
    assert set(spec.files) == {bundle.WEIGHTS_FILE, "small.keras"}
    assert runtime.load(tmp_path / "again" / "small.keras").spec == dataclasses.replace(
        spec, files={bundle.WEIGHTS_FILE: spec.files[bundle.WEIGHTS_FILE]}
    )


def test_result_lines_go_to_stdout_and_progress_to_stderr(sources, tmp_path, capfd) -> None:
    assert export.main([str(sources["imm-nose"]), "--out", str(tmp_path / "e"), "--formats", "tflite"]) == 0
    out, err = capfd.readouterr()
    path = tmp_path / "e" / "small.tflite"
    assert out.startswith(f"{path}: ")
    assert lines_with(out, str(path.stat().st_size), "px")
    assert len(out.splitlines()) == 1
    assert all(line.startswith("kpdetect: ") for line in err.splitlines())


def test_a_difference_above_the_tolerance_leaves_no_file(sources, tmp_path, monkeypatch) -> None:
    """The file predicts the points of a model with other weights."""
    write = FORMATS["tflite"]["none"].write

    def wrong(source, path) -> None:
        last = source.model.layers[-2]
        right = last.get_weights()
        last.set_weights([weight + 0.1 for weight in right])
        write(source, path)
        last.set_weights(right)

    monkeypatch.setitem(FORMATS["tflite"], "none", Kind(wrong))
    with pytest.raises(KpdetectError, match=mentions("small.tflite", "Keras", "0.01")):
        export_model(sources["imm-nose"], tmp_path / "e", ("tflite",))
    assert not list(tmp_path.iterdir())


def test_a_tolerance_of_zero_fails_and_keeps_an_older_export(exports, sources, tmp_path) -> None:
    target = small_bundle(tmp_path / "older", "imm-nose")
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    arguments = [str(sources["imm-nose"]), "--out", str(target), "--formats", "tflite", "--tolerance-px", "0"]
    assert run_command(export.main, [*arguments, "--overwrite"]) == 2
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["older"]


class Constant:
    """A model that outputs the same for every crop."""

    spec = small_spec()

    def __init__(self, point: float, uncertainty: float):
        self.said = point, uncertainty

    def predict(self, crops: np.ndarray) -> Prediction:
        point, uncertainty = (np.float32(number) for number in self.said)
        return Prediction(np.full((len(crops), 3, 2), point), np.full((len(crops), 3), uncertainty))


@pytest.mark.parametrize("said", [(np.nan, 0.1), (0.5, np.nan)])
def test_non_finite_points_and_uncertainties_fail(said) -> None:
    expected = np.full((4, 3, 3), 0.5, np.float32)
    assert difference(Constant(*said), probe_crops(4, (32, 48, 3)), expected).greatest_px == np.inf


def test_differences_are_in_pixels_of_the_crop() -> None:
    """The crop is 48 wide and 32 high; uncertainties are relative to its longer side."""
    crops = probe_crops(4, (32, 48, 3))
    small = 0.01  # an uncertainty of half a pixel
    for off, pixels in (((0.25, 0, 0), 12), ((0, 0.25, 0), 8), ((0, 0, 0.005), 0.24)):
        expected = np.full((4, 3, 3), (0.5, 0.5, small), np.float32) + np.float32(off)
        found = difference(Constant(0.5, small), crops, expected)
        assert found.greatest_px == pytest.approx(pixels, rel=1e-5)
        assert found.mean_px == pytest.approx(pixels / 3, rel=1e-5)  # of x, y and uncertainty


def test_large_uncertainties_are_compared_relatively() -> None:
    expected = np.full((4, 3, 3), (0.5, 0.5, 2.0), np.float32)  # 96 pixels
    found = difference(Constant(0.5, 2.02), probe_crops(4, (32, 48, 3)), expected)
    assert found.greatest_px == pytest.approx(0.01, rel=1e-4)


def shifted(kind: Kind) -> Kind:
    """A writer whose file predicts points half a crop away."""

    def write(source: Source, path: Path) -> None:
        import keras

        outputs = models.named_outputs(source.model)
        moved = {**outputs, "keypoints": outputs["keypoints"] + 0.5}
        kind.write(dataclasses.replace(source, model=keras.Model(source.model.input, moved)), path)

    return dataclasses.replace(kind, write=write)


def test_accepted_files_are_kept_and_the_refused_one_is_named(sources, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(FORMATS["tflite"], "fp16", shifted(FORMATS["tflite"]["fp16"]))
    arguments = [str(sources["compact"]), "--out", str(tmp_path / "e"), "--formats", "tflite,onnx"]
    assert run_command(export.main, [*arguments, "--quantize", "none,fp16"]) == 3
    files = {"model.weights.h5", "small.tflite", "small.onnx", "small_fp16.onnx"}
    assert {file.name for file in (tmp_path / "e").iterdir()} == files | {"spec.json"}
    assert set(bundle.read_spec(tmp_path / "e").files) == files
    assert runtime.load(tmp_path / "e").path.name == "small.tflite"
    out, err = capsys.readouterr()
    assert "small_fp16" not in out.replace("small_fp16.onnx", "")
    reason = err.splitlines()[-1]
    assert re.search(r"small_fp16\.tflite: .*at most 0\.2 pixels.*received \d+.*--tolerance-px", reason)


def test_a_failing_writer_does_not_affect_other_files(sources, tmp_path, monkeypatch) -> None:
    def fail(source: Source, path: Path) -> None:
        path.write_bytes(b"half a file")
        raise KpdetectError(f"{path.name}: an op without a kernel")

    monkeypatch.setitem(FORMATS["onnx"], "none", Kind(fail))
    with pytest.raises(FilesRefused, match="an op without a kernel") as caught:
        export_model(sources["imm-nose"], tmp_path / "e", ("tflite", "onnx"))
    assert set(caught.value.refused) == {"small.onnx"}
    assert {file.name for file in (tmp_path / "e").iterdir()} == {"model.weights.h5", "small.tflite", "spec.json"}


def test_files_have_the_name_of_the_run_or_a_given_one(sources, tmp_path) -> None:
    run = shutil.copytree(sources["imm-nose"], tmp_path / "my run")
    (run / "run.json").write_text("{}")
    assert "my_run.keras" in export_model(run, tmp_path / "a", ("keras",)).files
    assert "nose-2.keras" in export_model(run, tmp_path / "b", ("keras",), name="nose-2").files
    with pytest.raises(KpdetectError, match=mentions("--name", "../up")):
        export_model(run, tmp_path / "c", ("keras",), name="../up")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, which needs root")
@pytest.mark.parametrize("kilobytes", [700, 3000])
def test_a_full_disk_is_a_one_line_error_and_the_older_export_is_kept(sources, tmp_path, kilobytes) -> None:
    """The smaller disk is full at the weights, the larger at the first file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs")
    try:
        older = shutil.copytree(sources["imm-nose"], disk / "older")
        (disk / "filling").write_bytes(bytes(200_000))
        before = {file.name: file.read_bytes() for file in older.iterdir()}
        command = [sys.executable, "-m", "kpdetect.export", str(sources["imm-nose"]), "--out", str(older)]
        done = subprocess.run([*command, "--overwrite"], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert re.search(r"disk: cannot write [\w.]+: No space left on device", done.stderr.splitlines()[-1])
        assert {file.name: file.read_bytes() for file in older.iterdir()} == before
        assert {file.name for file in disk.iterdir()} == {"older", "filling"}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--formats", "tflight"], ("tflight", "tflite")),
        (["--formats", ""], ("formats", "saved_model", "tflite", "onnx", "keras")),
        (["--quantize", "int9"], ("int9", "int8")),
        (["--quantize", "int8"], ("--quantize", "int8", "--representative")),
        (["--quantize", "dynamic", "--formats", "onnx"], ("--quantize", "dynamic", "tflite", "--formats", "onnx")),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(sources, tmp_path, capsys, arguments, told) -> None:
    assert run_command(export.main, [str(sources["imm-nose"]), "--out", str(tmp_path / "e"), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("kpdetect: ")
    assert lines_with(err, *told)
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "e").exists()


def test_a_wrong_model_is_an_error_before_tensorflow_starts(tmp_path, exports, capsys) -> None:
    for model in ("absent", exports["imm-nose"] / "small.tflite"):
        assert run_command(export.main, [str(model), "--out", str(tmp_path / "e")]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"kpdetect: {model}: ")
        assert len(err.splitlines()) == 1


def test_a_folder_with_other_files_is_kept(sources, tmp_path) -> None:
    source = sources["imm-nose"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("a picture")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "photos"), "--out", "--overwrite")):
        export_model(source, tmp_path / "photos")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "photos"), "--out", "--overwrite")):
        export_model(source, tmp_path / "photos", overwrite=True)
    with pytest.raises(KpdetectError, match=mentions(str(source), "--out")):
        export_model(source, source, overwrite=True)
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "photos" / "me.jpg"), "--out")):
        export_model(source, tmp_path / "photos" / "me.jpg")


def test_a_bundle_runs_the_format_that_was_listed_first(sources, tmp_path) -> None:
    first = Quantization(("fp16", "none", "fp16"))
    spec = export_model(sources["imm-nose"], tmp_path / "e", ("onnx", "tflite"), quantization=first)
    files = [f"small{way}.{kind}" for kind in ("tflite", "onnx") for way in ("_fp16", "")]
    assert list(spec.files) == ["model.weights.h5", *files]
    assert runtime.load(tmp_path / "e").path.name == "small_fp16.tflite"


def test_other_files_beside_an_export_are_kept(sources, tmp_path) -> None:
    out = tmp_path / "e"
    export_model(sources["imm-nose"], out, ("tflite", "keras"))
    (out / "README.md").write_text("the model card")
    (out / "pictures").mkdir()
    (out / "pictures" / "me.png").write_bytes(b"a picture")
    export_model(sources["imm-nose"], out, ("tflite",), overwrite=True)
    names = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert names == {"README.md", "pictures/me.png", "model.weights.h5", "small.tflite", "spec.json"}
    assert (out / "README.md").read_text() == "the model card"


def test_an_empty_output_folder_is_used(sources, tmp_path) -> None:
    (tmp_path / "e").mkdir()
    export_model(sources["imm-nose"], tmp_path / "e", ("keras",))
    assert (tmp_path / "e" / "small.keras").is_file()


@pytest.mark.parametrize("package", ["tensorflow", "tf2onnx"])
def test_a_missing_package_names_its_install_command(sources, tmp_path, monkeypatch, package) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=mentions(package, "pip install", "[train]")):
        export_model(sources["imm-nose"], tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("count", [1, 2, 3, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_probes_are_distinct_and_reproducible(count, channels) -> None:
    crops = probe_crops(count, (24, 40, channels))
    assert crops.shape == (count, 24, 40, channels)
    np.testing.assert_array_equal(crops, probe_crops(count, (24, 40, channels)))
    assert crops[0].max() == 0
    assert len({crop.tobytes() for crop in crops}) == count
