"""Damaged and hostile model files are errors of the package, without crashes, file access or memory exhaustion."""

import dataclasses
import importlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import small_bundle

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import write_image
from kpdetect.core.options import run_command
from kpdetect.core.quiet import stderr_without
from kpdetect.core.tflite_check import check_tflite
from kpdetect.modelfile import bundle, runtime, trial
from kpdetect.modelfile.bundle import HALF_WEIGHTS_FILE, WEIGHTS_FILE, add_half_weights, file_record, load_bundle
from kpdetect.modelfile.onnx_check import onnx_metadata
from kpdetect.modelfile.spec import SPEC_FILE, Spec

# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

PACKAGED = bundle.shipped_model()


def with_spec(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a TFLite file with other values in its spec."""
    content = source.read_bytes()
    target.write_bytes(content[: content.index(b"PK\x03\x04")])
    document = json.loads(bundle.read_spec(source).to_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = document
        for parent in parents:
            part = part[parent]
        part[last] = value
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(SPEC_FILE, json.dumps(document))
    return target


# --- TFLite -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["compact.tflite", "compact_fp16.tflite", "compact_int8.tflite"])
def test_one_wrong_byte_is_an_error_and_no_crash(name, tmp_path) -> None:
    content = bytearray((PACKAGED / name).read_bytes())
    assert content[8] == 20
    content[8] = 8
    (tmp_path / "a.tflite").write_bytes(content)
    program = (
        "import sys; from kpdetect.core.options import run_command; from kpdetect.modelfile.runtime import load\n"
        "sys.exit(run_command(lambda argv: load('a.tflite') and 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(runtime.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kpdetect: a.tflite: damaged TFLite file: ")
    assert len(done.stderr.splitlines()) == 1


def tiny_model(change: Callable[[Any], None]) -> bytes:
    """A flatbuffer of one addition, after a change of its objects."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(index: int, name: str) -> Any:
        made = schema.TensorT()
        made.shape, made.type, made.buffer, made.name = [1, 4], schema.TensorType.FLOAT32, index, name
        return made

    code, operator, graph, model = schema.OperatorCodeT(), schema.OperatorT(), schema.SubGraphT(), schema.ModelT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph.tensors = [tensor(1, "image"), tensor(2, "offset"), tensor(3, "keypoints")]
    graph.inputs, graph.outputs, graph.operators, graph.name = [0], [2], [operator], ""
    buffers = [schema.BufferT() for _ in range(4)]
    buffers[2].data = np.zeros(16, np.uint8)
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    change(model)
    builder = flatbuffers.Builder(512)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def assign(path: str, value: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            model = model[int(parent)] if parent.isdigit() else getattr(model, parent)
        if last.isdigit():
            model[int(last)] = value
        else:
            setattr(model, last, value)

    return change


def quantized(scale: list[float], zero: list[int], axis: int = 0) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        made = schema.QuantizationParametersT()
        made.scale, made.zeroPoint, made.quantizedDimension = scale, zero, axis
        model.subgraphs[0].tensors[1].quantization = made

    return change


def scales(of_input: float, of_output: float) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        for index, scale in ((0, of_input), (2, of_output)):
            made = schema.QuantizationParametersT()
            made.scale, made.zeroPoint = [scale], [0]
            model.subgraphs[0].tensors[index].quantization = made

    return change


def signature(output: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        def entry(name: str, index: int) -> Any:
            made = schema.TensorMapT()
            made.name, made.tensorIndex = name, index
            return made

        made = schema.SignatureDefT()
        made.inputs, made.outputs = [entry("image", 0)], [entry("keypoints", output)]
        made.signatureKey, made.subgraphIndex = "serving_default", 0
        model.signatureDefs = [made]

    return change


def test_a_valid_model_passes() -> None:
    check_tflite(tiny_model(lambda model: None), "a.tflite")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (assign("subgraphs", []), "0 subgraphs"),
        (assign("buffers", []), "0 buffers"),
        (assign("operatorCodes", []), "0 operator codes"),
        (assign("subgraphs.0.inputs.0", 3), "inputs: expected indices below 3"),
        (assign("subgraphs.0.outputs.0", -1), "outputs: expected indices below 3"),
        (assign("subgraphs.0.outputs.0", 1 << 30), "outputs: expected indices below 3"),
        (assign("subgraphs.0.operators.0.inputs.1", 7), "operator 0: inputs"),
        (assign("subgraphs.0.operators.0.outputs.0", 7), "operator 0: outputs"),
        (assign("subgraphs.0.operators.0.opcodeIndex", 1), "operator code: expected an index below 1"),
        (assign("subgraphs.0.operators", []), "an output is not computed"),
        (assign("subgraphs.0.operators.0.inputs.0", 2), "an input is not computed before it"),
        (assign("subgraphs.0.operators.0.builtinOptionsType", 200), "options of kind 200"),
        (assign("subgraphs.0.operators.0.customOptions", np.ones(4, np.uint8)), "custom options"),
        (assign("operatorCodes.0.customCode", "FlexMatMul"), "a custom operator"),
        (assign("subgraphs.0.tensors.1.buffer", 9), "tensor 1: expected an index below 4"),
        (assign("subgraphs.0.tensors.1.shape", [1, 5]), r"expected 20 bytes for shape \(1, 5\), received 16"),
        (assign("subgraphs.0.tensors.0.shape", [1, -4]), r"shape \(1, -4\)"),
        (assign("subgraphs.0.tensors.0.shape", [1] * 9), "9 values, expected at most 8"),
        (assign("subgraphs.0.tensors.0.shape", [1 << 30, 4]), "tensors of 1717986.* bytes"),
        (assign("subgraphs.0.tensors.0.type", 13), "type 13"),
        (quantized([float("nan")], [0]), "a scale that is negative or not finite"),
        (quantized([1.0, 1.0], [0, 0]), "2 scales"),
        (quantized([1.0], [0, 0]), "1 scales and 2 zero points"),
        (quantized([1.0] * 4, [0] * 4, axis=5), "dimension 5"),
        # Found by tools/fuzz.py, surface models, seed 1:
        (scales(1.0, 1e-21), "scales of its input and output differ by 1e\\+21"),  # 19191: abort in a kernel
        (assign("subgraphs.0.tensors.0.shape", [1, 182452416]), "tensors of 7298096.* bytes"),  # 19406: 1.5 GB
        (assign("operatorCodes.0.builtinCode", 45), r"operator 45 with inputs \[0, 1\]"),  # 67495: reads beyond inputs
        (signature(1), "tensor 1 is no input or output"),  # 4484: KeyError
    ],
)
def test_a_damaged_model_names_the_part(change, part) -> None:
    with pytest.raises(KpdetectError, match=rf"^a\.tflite: damaged TFLite file: .*{part}"):
        check_tflite(tiny_model(change), "a.tflite")


def test_no_byte_of_a_small_model_crashes_the_check() -> None:
    content = tiny_model(lambda model: None)
    for place in range(len(content)):
        for value in (0, 1, 8, 127, 128, 255):
            changed = bytearray(content)
            changed[place] = value
            try:
                check_tflite(changed, "a.tflite")
            except KpdetectError:
                continue
        with pytest.raises(KpdetectError):
            check_tflite(content[:place], "a.tflite")


# --- the spec in a file -----------------------------------------------------------------------------------------------


def test_a_small_file_with_a_huge_spec_is_refused(tmp_path) -> None:
    content = (PACKAGED / "compact_int8.tflite").read_bytes()
    target = tmp_path / "a.tflite"
    target.write_bytes(content[: content.index(b"PK\x03\x04")])
    with (
        zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(SPEC_FILE, "w") as file,
    ):
        for _ in range(100):
            file.write(b" " * (1 << 20))
    assert target.stat().st_size < 3 << 20
    with pytest.raises(KpdetectError, match=r"a\.tflite: expected at most 4194304 bytes"):
        bundle.read_spec(target)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b'{"format": 1e999999}', b"null"])
def test_json_that_is_no_spec_is_an_error_of_the_package(text) -> None:
    with pytest.raises(KpdetectError, match=r"^here: "):
        Spec.from_json(text, "here")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("crop__size_hw", [100_000, 160], "crop"),
        ("crop__size_hw", [1e308, 1e309], "crop"),
        ("crop__size_hw", [0, 160], "crop"),
        ("crop__margin", 1e9, "crop"),
        ("schema__point_names", [f"p{i}" for i in range(20_000)], "schema"),
        ("schema__flip_permutation", [1e309] * 68, "schema"),
        ("input__channels", 10**30, "channels"),
        ("files", {"../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}}, "files"),
    ],
)
def test_values_out_of_bounds_are_named(path, value, named, tmp_path) -> None:
    file = with_spec(PACKAGED / "compact_int8.tflite", tmp_path / "a.tflite", **{path: value})
    with pytest.raises(KpdetectError, match=rf"a\.tflite: {named}"):
        runtime.load(file)


@pytest.mark.parametrize("file", ["compact_int8.tflite"])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"crop__size_hw": [128, 128]}, r"'image': expected the shape \(batch, 128, 128, 1\)"),
        ({"input__channels": 3}, r"'image': expected the shape \(batch, 160, 160, 3\)"),
        ({"schema__point_names": ["a", "b"]}, "schema"),
    ],
)
def test_shapes_that_differ_from_the_spec_are_refused_when_loading(file, changes, named, tmp_path) -> None:
    with pytest.raises(KpdetectError, match=named):
        runtime.load(with_spec(PACKAGED / file, tmp_path / "a.tflite", **changes))


# --- ONNX -------------------------------------------------------------------------------------------------------------


def test_weights_in_another_file_are_refused(tmp_path) -> None:
    import onnx

    model = onnx.load(PACKAGED / "compact.onnx")
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(KpdetectError, match=r"a\.onnx: .*weights in another file"):
        runtime.load(tmp_path / "a.onnx")


@pytest.mark.parametrize("keep", [1, 3, 1000, 1_000_000])
def test_a_truncated_onnx_file_is_an_error(keep, tmp_path) -> None:
    (tmp_path / "a.onnx").write_bytes((PACKAGED / "compact.onnx").read_bytes()[:keep])
    with pytest.raises(KpdetectError, match=r"a\.onnx: not a valid ONNX model"):
        runtime.load(tmp_path / "a.onnx")


def test_the_metadata_are_those_that_onnx_reads() -> None:
    import onnx

    expected = {entry.key: entry.value for entry in onnx.load(PACKAGED / "compact.onnx").metadata_props}
    assert {key: value.decode() for key, value in onnx_metadata(PACKAGED / "compact.onnx").items()} == expected


def test_deeply_nested_graphs_are_refused(tmp_path) -> None:
    message = b""
    for _ in range(40):  # an attribute with a graph, in a node, in a graph
        for number in (6, 5, 1):
            size = len(message)
            length = bytes([size & 127 | 128, size >> 7]) if size > 127 else bytes([size])
            message = bytes([number << 3 | 2]) + length + message
    (tmp_path / "a.onnx").write_bytes(bytes([7 << 3 | 2, len(message) & 127 | 128, len(message) >> 7]) + message)
    with pytest.raises(KpdetectError, match="nested more than 16 deep"):
        onnx_metadata(tmp_path / "a.onnx")


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "small")


def renewed(folder: Path, name: str = WEIGHTS_FILE, **changes: Any) -> Path:
    """Updates the sha256 in the spec of a folder, as an attacker would."""
    spec = dataclasses.replace(bundle.read_spec(folder), **changes)
    bundle.write_spec(dataclasses.replace(spec, files={**spec.files, name: file_record(folder / name)}), folder)
    return folder


@pytest.mark.parametrize("kind", ["external", "soft", "storage", "virtual"])
def test_weights_that_refer_to_other_files_are_refused(small, tmp_path, kind) -> None:
    import h5py

    folder = shutil.copytree(small, tmp_path / "b")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    with h5py.File(folder / WEIGHTS_FILE, "a") as file:
        if kind == "external":
            file["stolen"] = h5py.ExternalLink(str(secret), "/")
        elif kind == "soft":
            file["stolen"] = h5py.SoftLink("/layers")
        elif kind == "storage":
            file.create_dataset("stolen", (16,), "f4", external=[(str(secret), 0, 64)])
        else:
            layout = h5py.VirtualLayout((16,), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "x", (16,))
            file.create_virtual_dataset("stolen", layout)
    with pytest.raises(KpdetectError, match=rf"{WEIGHTS_FILE}: /+stolen: .*in the file itself"):
        load_bundle(renewed(folder))


@pytest.mark.parametrize("options", [{"widths": [100_000] * 4}, {"widths": ["a"] * 4}, {"widths": None}])
def test_an_architecture_too_large_for_its_file_is_refused_before_it_is_built(small, tmp_path, options) -> None:
    folder = renewed(shutil.copytree(small, tmp_path / "b"), architecture_options=options)
    with pytest.raises(KpdetectError, match=r"'compact' with options .*widths"):
        load_bundle(folder)


def test_compressed_arrays_are_refused(small, tmp_path) -> None:
    folder = shutil.copytree(small, tmp_path / "b")
    add_half_weights(folder)
    (folder / WEIGHTS_FILE).unlink()
    np.savez_compressed(folder / HALF_WEIGHTS_FILE, stem=np.zeros((1 << 24,), np.float32))
    with pytest.raises(KpdetectError, match="without compression"):
        load_bundle(renewed(folder, HALF_WEIGHTS_FILE))


# --- untrusted files --------------------------------------------------------------------------------------------------


def test_a_valid_file_is_loaded_after_the_trial() -> None:
    model = runtime.load(PACKAGED / "compact_int8.tflite", untrusted=True)
    assert model(np.zeros((2, 160, 160, 1), np.uint8)).shape == (2, 68, 2)


def test_an_untrusted_saved_model_is_refused(tmp_path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"anything")
    with pytest.raises(KpdetectError, match=r"SavedModel .*refused"):
        runtime.load(tmp_path, untrusted=True)


def test_an_error_of_the_trial_is_the_error(tmp_path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(99))
    bundle.embed_in_zip(bundle.read_spec("compact"), tmp_path / "a.tflite")
    with pytest.raises(KpdetectError, match=r"a\.tflite: damaged TFLite file"):
        runtime.load(tmp_path / "a.tflite", untrusted=True)


@pytest.mark.parametrize("command", ["predict", "track", "label", "evaluate"])
def test_commands_pass_the_option_on(command, tmp_path, capsys) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"anything")
    bundle.embed_in_saved_model(bundle.read_spec("compact"), tmp_path)
    write_image(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8))
    words = {
        "predict": [str(tmp_path / "a.png"), "--model", str(tmp_path)],
        "track": [str(tmp_path / "a.png"), "--model", str(tmp_path)],
        "label": [str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--model", str(tmp_path)],
        "evaluate": [str(tmp_path), "--data", "synthetic:2"],
    }[command]
    assert run_command(importlib.import_module(f"kpdetect.{command}").main, [*words, "--untrusted"]) == 2
    assert "untrusted ones are refused" in capsys.readouterr().err


@pytest.mark.parametrize(("script", "told"), [("kill -SEGV $$", "SIGSEGV"), ("sleep 9", "more than 1 seconds")])
def test_a_crash_or_a_hang_of_the_trial_is_an_error(script, told, tmp_path, monkeypatch) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(trial.sys, "executable", str(python))
    monkeypatch.setattr(trial, "SECONDS", 1)
    with pytest.raises(KpdetectError, match=rf"compact_int8\.tflite: untrusted: .*{told}"):
        runtime.load(PACKAGED / "compact_int8.tflite", untrusted=True)


# --- quiet ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", ["modelfile.runtime import load", "modelfile.bundle import load_bundle as load"])
def test_loading_weights_prints_nothing_about_the_machine(small, load) -> None:
    program = f"import sys; from kpdetect.{load}; load(sys.argv[1])"
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(small)], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_other_lines_are_still_printed(capfd) -> None:
    with stderr_without(b"noise"):
        os.write(2, b"some noise\nan error\n")
    assert capfd.readouterr().err == "an error\n"


def test_a_prediction_prints_nothing_to_stderr() -> None:
    program = (
        "from kpdetect import Predictor; from kpdetect.data import synthetic\n"
        "assert Predictor()(synthetic.render(seed=5, index=0, size=256)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
