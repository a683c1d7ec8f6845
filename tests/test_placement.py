"""Devices of model files: processor, GPU and execution providers, and errors for those that do not exist."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from messages import mentions
from small_models import small_bundle

from kpdetect import Predictor
from kpdetect.core.errors import KpdetectError
from kpdetect.export import export_model
from kpdetect.inference.bulk.options import LabelOptions, check_options
from kpdetect.modelfile import runtime
from kpdetect.modelfile.devices import Placement, check_started, onnx_providers

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
FILE = Path("a.onnx")
TOLERANCE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bundle in every format."""
    work = tmp_path_factory.mktemp("placement")
    export_model(small_bundle(work / "bundle"), work / "all", ("saved_model", "tflite", "onnx", "keras"))
    return work / "all"


def crops_of(model: runtime.Runtime, count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *model.spec.input_shape), dtype=np.uint8)


def assert_same(given: runtime.Prediction, expected: runtime.Prediction) -> None:
    np.testing.assert_allclose(given.keypoints, expected.keypoints, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(given.uncertainty, expected.uncertainty, rtol=0, atol=TOLERANCE)


class TestPlacement:
    @pytest.mark.parametrize(("device", "gpu"), [(None, None), ("cpu", None), ("gpu", 0), ("gpu:2", 2)])
    def test_the_number_of_the_gpu(self, device, gpu):
        assert Placement(device=device).gpu == gpu

    @pytest.mark.parametrize("device", ["cuda", "gpu:", "gpu:x", "GPU", "", "tpu", "cpu:1"])
    def test_other_names_are_errors(self, device):
        with pytest.raises(KpdetectError, match=mentions("device", "cpu", "gpu")):
            Placement(device=device)

    def test_a_device_and_providers_contradict_each_other(self):
        with pytest.raises(KpdetectError, match=mentions("gpu", "providers")):
            Placement(device="gpu", providers=(CPU,))


class TestProviders:
    @pytest.mark.parametrize(
        ("available", "expected"),
        [
            ([CUDA, CPU], (CUDA, {"device_id": 1})),
            (["TensorrtExecutionProvider", CUDA, CPU], (CUDA, {"device_id": 1})),
            (["DmlExecutionProvider", CPU], ("DmlExecutionProvider", {"device_id": 1})),
        ],
    )
    def test_a_gpu_is_the_preferred_provider_with_its_number(self, available, expected):
        assert onnx_providers(Placement(device="gpu:1"), available, FILE) == [expected, CPU]

    def test_some_providers_choose_the_gpu(self):
        available = ["CoreMLExecutionProvider", CPU]
        assert onnx_providers(Placement(device="gpu"), available, FILE) == available
        with pytest.raises(KpdetectError, match=mentions("a.onnx", "gpu:1", "CoreMLExecutionProvider")):
            onnx_providers(Placement(device="gpu:1"), available, FILE)

    def test_the_processor_is_the_default_even_if_there_is_a_gpu(self):
        for device in (None, "cpu"):
            assert onnx_providers(Placement(device=device), [CUDA, CPU], FILE) == [CPU]

    def test_without_a_provider_for_gpus_the_error_says_what_to_install(self):
        with pytest.raises(KpdetectError, match=mentions("a.onnx", "gpu", CPU, "pip install onnxruntime-gpu")):
            onnx_providers(Placement(device="gpu"), [CPU], FILE)

    def test_own_providers_keep_their_order_and_options(self):
        own = ((CUDA, {"device_id": 3}), "OpenVINOExecutionProvider")
        available = ["OpenVINOExecutionProvider", CUDA, CPU]
        assert onnx_providers(Placement(providers=own), available, FILE) == [*own, CPU]
        with pytest.raises(KpdetectError, match=mentions("NoExecutionProvider", CUDA)):
            onnx_providers(Placement(providers=("NoExecutionProvider",)), available, FILE)

    def test_a_provider_that_did_not_start_is_an_error(self):
        check_started(FILE, [(CUDA, {}), CPU], [CUDA, CPU])
        with pytest.raises(KpdetectError, match=mentions("a.onnx", CUDA, CPU)):
            check_started(FILE, [(CUDA, {}), CPU], [CPU])


class TestRuntimes:
    @pytest.mark.parametrize("name", ["small.tflite", "small.onnx", "small.keras", "saved_model", "."])
    def test_the_processor_gives_the_same(self, folder, name):
        default, chosen = runtime.load(folder / name), runtime.load(folder / name, device="cpu")
        crops = crops_of(default)
        assert_same(chosen.predict(crops), default.predict(crops))
        assert_same(pickle.loads(pickle.dumps(chosen)).predict(crops), default.predict(crops))

    def test_providers_choose_the_onnx_file_of_a_bundle(self, folder):
        model = runtime.load(folder, providers=[CPU])
        assert model.path.name == "small.onnx"
        assert_same(model.predict(crops_of(model)), runtime.load(folder).predict(crops_of(model)))
        assert pickle.loads(pickle.dumps(model)).path.name == "small.onnx"

    @pytest.mark.parametrize("name", ["small.tflite", "small.keras", "saved_model"])
    def test_other_formats_have_no_providers(self, folder, name):
        with pytest.raises(KpdetectError, match=mentions(name, "providers", ".onnx")):
            runtime.load(folder / name, providers=[CPU])

    @pytest.mark.parametrize("name", ["small.tflite", "small.onnx", "small.keras", "saved_model", "."])
    def test_a_gpu_gives_the_same_or_does_not_exist(self, folder, name, capfd):
        expected = runtime.load(folder / name)
        crops = crops_of(expected)
        try:
            model = runtime.load(folder / name, device="gpu")
        except KpdetectError as error:
            model, message = None, str(error)
        if model is not None:
            assert_same(model.predict(crops), expected.predict(crops))
            return
        assert len(message.splitlines()) == 1
        assert "gpu" in message
        assert not capfd.readouterr().err  # not LiteRT's steps either

    def test_a_gpu_of_a_number_that_does_not_exist(self, folder):
        for name in ("small.keras", "saved_model"):
            with pytest.raises(KpdetectError, match=mentions(name, "gpu:77")):
                runtime.load(folder / name, device="gpu:77")

    def test_litert_for_gpus_on_the_processor(self, folder, monkeypatch):
        """LiteRT's way to GPUs is its compiled model, which runs on any machine with the processor as accelerator."""
        accelerator = pytest.importorskip("ai_edge_litert.hardware_accelerator")

        class Processor:
            CPU = GPU = accelerator.HardwareAccelerator.CPU

        monkeypatch.setattr(accelerator, "HardwareAccelerator", Processor)
        model = runtime.load(folder / "small.tflite", device="gpu")
        crops = crops_of(model, 5)
        expected = runtime.load(folder / "small.tflite").predict(crops)
        assert_same(model.predict(crops), expected)
        first = runtime.Prediction(*(None if values is None else values[:1] for values in expected))
        assert_same(model.predict(crops[:1].astype(np.float32)), first)
        assert model.predict(crops[:0]).keypoints.shape == (0, 3, 2)


class TestPredictor:
    def test_device_and_providers_reach_the_model(self, folder):
        predictor = Predictor(folder, providers=[CPU])
        assert predictor.model.path.name == "small.onnx"
        assert pickle.loads(pickle.dumps(predictor)).model.path.name == "small.onnx"
        with pytest.raises(KpdetectError, match=mentions("device", "tpu")):
            Predictor(folder, device="tpu")

    def test_a_loaded_model_has_its_device(self, folder):
        with pytest.raises(KpdetectError, match=mentions("device")):
            Predictor(runtime.load(folder), device="cpu")

    def test_label_leaves_the_choice_among_gpus_to_ray(self):
        check_options(LabelOptions(("photos",), "out", device="gpu"))
        with pytest.raises(KpdetectError, match=mentions("--device", "gpu:1")):
            check_options(LabelOptions(("photos",), "out", device="gpu:1"))
