"""Drops lines that C++ libraries print to stderr, which no logger of Python can hide."""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from kpdetect.core.keras_backend import TENSORFLOW, VARIABLE, start_tensorflow

TENSORFLOW_NOTES = (
    b"absl::InitializeLog()",
    b"oneDNN custom operations are on",
    b"cudart_stub.cc",
    b"failed call to cuInit",
)
"""Parts of the lines that TensorFlow prints about the machine when it starts, whatever ``TF_CPP_MIN_LOG_LEVEL``."""


@contextmanager
def stderr_without(*texts: bytes) -> Iterator[None]:
    """Drops the lines that contain one of the texts; others are printed when the block ends.

    It redirects the file descriptor of the whole process, so one block at a time may run.

    Example:
        ``with stderr_without(b"oneDNN"): import tensorflow``

    Args:
        texts: Parts of lines.
    """
    try:
        sys.stderr.flush()
        visible = os.dup(2)
    except (OSError, ValueError, AttributeError):  # no stderr, as in a program without a console
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(visible, 2)
            os.close(visible)
            held.seek(0)
            for line in held:
                if not any(text in line for text in texts):
                    os.write(2, line)


def start_tensorflow_quietly() -> None:
    """Starts TensorFlow without its notes about the machine, unless it runs, is not installed or is not Keras' backend.

    Errors are still printed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    other_backend = os.environ.get(VARIABLE, TENSORFLOW) != TENSORFLOW
    if "tensorflow" in sys.modules or other_backend or importlib.util.find_spec("tensorflow") is None:
        return
    with stderr_without(*TENSORFLOW_NOTES):
        start_tensorflow()
