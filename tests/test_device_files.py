"""Files for devices: fixed shapes, which LiteRT's C API and LiteRT.js need. Each is run by the C API as it is."""

import ctypes
import dataclasses
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
import numpy.typing as npt
import pytest
from messages import mentions
from small_models import small_bundle, small_face_spec

from kpdetect import export
from kpdetect.core.errors import KpdetectError
from kpdetect.export import Quantization, export_model
from kpdetect.modelfile import bundle, runtime
from kpdetect.modelfile.inspection import description

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = Path(ai_edge_litert.__file__).with_name("libLiteRt.so")
FIXED = ("small_b1.tflite", "small_fp16_b1.tflite", "small_int8_b1.tflite")
SHIPPED = sorted(
    [
        *(ROOT / "exported_models").glob("*/*_b1.tflite"),
        *(ROOT / "exported_models/finder").glob("finder_[0-9]*.tflite"),
    ]
)
CPU, READ, WRITE = 1, 0, 1  # enums of LiteRT's C headers
TYPES = {1: np.float32, 2: np.int32, 3: np.uint8, 9: np.int8}

needs_library = pytest.mark.skipif(not LIBRARY.is_file(), reason=f"no {LIBRARY.name} in this ai-edge-litert wheel")


class Layout(ctypes.Structure):
    _fields_ = [("rank_and_flag", ctypes.c_uint32), ("dims", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8)]


class TensorType(ctypes.Structure):
    _fields_ = [("element", ctypes.c_int), ("layout", Layout)]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.layout.dims[: self.layout.rank_and_flag & 0x7F])


class StatusError(RuntimeError):
    """A function of the C API failed."""


class CompiledModel:
    """A file in LiteRT's C API, with buffers made from the file's own shapes, as an app makes them."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(LIBRARY))
        self._environment, self._model, self._options, self._compiled, signature = (ctypes.c_void_p() for _ in range(5))
        self._call("CreateEnvironment", 0, None, ctypes.byref(self._environment))
        self._call("CreateModelFromFile", self._environment, str(path).encode(), ctypes.byref(self._model))
        self._call("CreateOptions", ctypes.byref(self._options))
        self._call("SetOptionsHardwareAccelerators", self._options, CPU)
        self._call("CreateCompiledModel", self._environment, self._model, self._options, ctypes.byref(self._compiled))
        self._call("GetModelSignature", self._model, ctypes.c_size_t(0), ctypes.byref(signature))
        self.inputs = self._buffers("Input", signature)
        self.outputs = self._buffers("Output", signature)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise StatusError(f"{name}: status {status}")

    def _buffers(self, side: str, signature: ctypes.c_void_p) -> dict[str, tuple[ctypes.c_void_p, TensorType]]:
        count, found = ctypes.c_size_t(), {}
        self._call(f"GetNumSignature{side}s", signature, ctypes.byref(count))
        for index in range(count.value):
            name, tensor, needs, buffer = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
            kind, number = TensorType(), ctypes.c_size_t(index)
            self._call(f"GetSignature{side}Name", signature, number, ctypes.byref(name))
            self._call(f"GetSignature{side}TensorByIndex", signature, number, ctypes.byref(tensor))
            self._call("GetRankedTensorType", tensor, ctypes.byref(kind))
            self._call(
                f"GetCompiledModel{side}BufferRequirements",
                self._compiled,
                ctypes.c_size_t(0),
                number,
                ctypes.byref(needs),
            )
            self._call(
                "CreateManagedTensorBufferFromRequirements",
                self._environment,
                ctypes.byref(kind),
                needs,
                ctypes.byref(buffer),
            )
            found[str((name.value or b"").decode())] = (buffer, kind)
        return found

    def _memory(self, buffer: ctypes.c_void_p, kind: TensorType, mode: int) -> npt.NDArray[Any]:
        address = ctypes.c_void_p()
        self._call("LockTensorBuffer", buffer, ctypes.byref(address), mode)
        count = int(np.prod(kind.shape))
        dtype = np.dtype(TYPES[kind.element])
        raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address.value or 0)
        return np.frombuffer(raw, dtype).reshape(kind.shape)

    def __call__(self, image: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        ((buffer, kind),) = self.inputs.values()
        self._memory(buffer, kind, WRITE)[:] = image
        self._call("UnlockTensorBuffer", buffer)
        given = (ctypes.c_void_p * 1)(buffer)
        taken = (ctypes.c_void_p * len(self.outputs))(*(buffer for buffer, _ in self.outputs.values()))
        self._call("RunCompiledModel", self._compiled, ctypes.c_size_t(0), ctypes.c_size_t(1), given,
                   ctypes.c_size_t(len(taken)), taken)  # fmt: skip
        results = {}
        for name, (buffer, kind) in self.outputs.items():
            results[name] = self._memory(buffer, kind, READ).copy()
            self._call("UnlockTensorBuffer", buffer)
        return results

    def close(self) -> None:
        for buffer, _ in [*self.inputs.values(), *self.outputs.values()]:
            self._library.LiteRtDestroyTensorBuffer(buffer)
        self._library.LiteRtDestroyCompiledModel(self._compiled)
        self._library.LiteRtDestroyOptions(self._options)
        self._library.LiteRtDestroyModel(self._model)
        self._library.LiteRtDestroyEnvironment(self._environment)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with files of a free and of a fixed batch, in three numeric formats."""
    work = tmp_path_factory.mktemp("devices")
    small_bundle(work / "source", spec=small_face_spec())
    arguments = ["--formats", "tflite", "--batch", "free,1", "--quantize", "none,fp16,int8"]
    arguments += ["--representative", "synthetic:150", "--out", str(work / "out")]
    assert export.main([str(work / "source"), *arguments]) == 0
    return work / "out"


def test_the_spec_records_the_batch(exported: Path) -> None:
    records = bundle.read_spec(exported).files
    assert {name: record["batch"] for name, record in records.items() if "batch" in record} == dict.fromkeys(FIXED, 1)
    assert all(record["max_difference_px"] is not None for name, record in records.items() if name.endswith("tflite"))
    assert runtime.load(exported).path.name == "small.tflite"  # files of a free batch come first
    assert "small_int8_b1.tflite" in description(exported)
    assert "batch of 1" in description(exported)


@pytest.mark.parametrize("name", FIXED)
def test_a_file_of_batch_1_equals_that_of_a_free_batch(exported: Path, name: str) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 1), dtype=np.uint8)
    fixed, free = (runtime.load(exported / file).predict(crops) for file in (name, name.replace("_b1", "")))
    np.testing.assert_allclose(fixed.keypoints, free.keypoints, atol=2e-4)
    assert fixed.uncertainty is not None
    assert bundle.read_spec(exported / name).num_keypoints == 3


@needs_library
@pytest.mark.parametrize("name", FIXED)
def test_the_c_api_runs_a_file_of_batch_1_as_it_is(exported: Path, name: str) -> None:
    crop = np.random.default_rng(1).integers(0, 256, (1, 32, 48, 1), dtype=np.uint8)
    model = CompiledModel(exported / name)
    outputs = model(crop)
    model.close()
    assert set(outputs) == {"keypoints", "uncertainty"}
    expected = runtime.load(exported / name).predict(crop)
    np.testing.assert_allclose(outputs["keypoints"], expected.keypoints, atol=2e-3)


@needs_library
def test_the_c_api_makes_no_buffers_for_a_free_batch(exported: Path) -> None:
    """The reason for files of a fixed batch."""
    with pytest.raises(StatusError, match="Buffer"):
        CompiledModel(exported / "small.tflite")


@needs_library
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_c_api_runs_each_shipped_file_for_devices(path: Path) -> None:
    model = CompiledModel(path)
    ((_, kind),) = model.inputs.values()
    assert min(kind.shape) >= 1
    outputs = model(np.full(kind.shape, 128, TYPES[kind.element]))
    model.close()
    assert outputs
    assert all(np.isfinite(output).all() for output in outputs.values())


@pytest.mark.parametrize(
    ("formats", "batch", "words"),
    [
        (("onnx",), [1], ("--batch 1", "tflite")),
        (("tflite",), [], ("batch", "free")),
    ],
)
def test_a_wrong_batch_is_an_error(tmp_path: Path, formats: Any, batch: Any, words: Any) -> None:
    with pytest.raises(KpdetectError, match=mentions(*words)):
        export_model("compact", tmp_path / "out", formats, quantization=Quantization(), batch=batch)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["0", "many", "-1", "1.5"])
def test_a_batch_that_is_no_number_is_an_error(tmp_path: Path, word: str) -> None:
    with pytest.raises(KpdetectError, match=mentions("--batch", word)):
        export.main(["compact", "--out", str(tmp_path / "out"), "--formats", "tflite", f"--batch={word}"])


def test_a_record_with_a_wrong_batch_is_an_error() -> None:
    record = {"sha256": "0" * 64, "bytes": 1, "max_difference_px": None, "batch": 0}
    with pytest.raises(KpdetectError, match=mentions("batch", "from 1")):
        dataclasses.replace(small_face_spec(), files={"a.tflite": record})
