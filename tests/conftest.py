"""What the tests share."""

import os
from pathlib import Path

import pytest
from small_models import small_bundle, small_face_spec


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled faces; a test that asks for it is skipped where there is none."""
    fallback = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KPDETECT_DATA", fallback))
    if not folder.is_dir():
        pytest.skip(f"no real data: KPDETECT_DATA is not set and {fallback} is not there")
    return folder


@pytest.fixture(scope="session")
def face_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of three points of drawn faces, in every format and with its numbers kept in every way."""
    from kpdetect.export import Quantization, export_model

    work = tmp_path_factory.mktemp("faces")
    source = small_bundle(work / "bundle", spec=small_face_spec())
    ways = ("none", "fp16", "int8", "dynamic")
    formats = ("saved_model", "tflite", "onnx", "keras")
    export_model(source, work / "exported", formats, quantization=Quantization(ways, "synthetic:150"))
    return work / "exported"
