"""Shared fixtures."""

import logging
import os
from pathlib import Path

import pytest
from small_models import small_bundle, small_face_spec

from kpdetect.core.log import show_messages


@pytest.fixture(autouse=True)
def _messages_on_stderr() -> None:
    """Prints the library's messages in every test as the commands do, so that their text can be checked.

    A level that an earlier test set, such as an example of the documentation, is removed.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("kpdetect."):
            logging.getLogger(name).setLevel(logging.NOTSET)
    show_messages()
    logging.getLogger("kpdetect").propagate = True  # for caplog


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of labelled photographs; tests that need it are skipped if it is missing."""
    fallback = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KPDETECT_DATA", fallback))
    if not folder.is_dir():
        pytest.skip(f"no real data: KPDETECT_DATA is not set and {fallback} does not exist")
    return folder


@pytest.fixture(scope="session")
def cascades() -> None:
    """Skips a test of Haar cascades with OpenCV 5, which has none."""
    import cv2

    if not hasattr(cv2, "CascadeClassifier"):
        pytest.skip(f"OpenCV {cv2.__version__} has no Haar cascades")


@pytest.fixture(scope="session")
def face_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of three points of synthetic faces, in every format and quantization."""
    from kpdetect.export import Quantization, export_model

    work = tmp_path_factory.mktemp("faces")
    source = small_bundle(work / "bundle", spec=small_face_spec())
    ways = ("none", "fp16", "int8", "dynamic")
    formats = ("saved_model", "tflite", "onnx", "keras")
    export_model(source, work / "exported", formats, quantization=Quantization(ways, "synthetic:150"))
    return work / "exported"
