"""Chooses the Keras backend, TensorFlow or JAX. Keras fixes it at import, once per process."""

import importlib.util
import json
import os
import sys
from pathlib import Path

from kpdetect.core.errors import KpdetectError, MissingExtra

TENSORFLOW, JAX = "tensorflow", "jax"
BACKENDS = (TENSORFLOW, JAX)
VARIABLE = "KERAS_BACKEND"


def choose_backend(name: str | None) -> None:
    """Sets the Keras backend of this process and checks that the packages for training are installed.

    Call it before Keras is imported, for example ``choose_backend("jax")``.

    Args:
        name: One of `BACKENDS`. None leaves the choice to Keras: the variable ``KERAS_BACKEND``, then Keras' settings
            file, then TensorFlow.

    Raises:
        KpdetectError: Keras is already imported with another backend, or ``KERAS_BACKEND`` names a backend that this
            package cannot train with.
        MissingExtra: TensorFlow, which every training uses for its input pipeline, or JAX is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtra("TensorFlow", "train", "training")
    wanted = name or os.environ.get(VARIABLE)
    if wanted == JAX and importlib.util.find_spec("jax") is None:
        raise MissingExtra("JAX", "jax", "training with --backend jax")
    if wanted not in (None, *BACKENDS):
        raise KpdetectError(f"{VARIABLE}={wanted}: expected {' or '.join(BACKENDS)}")
    if name is not None and "keras" in sys.modules and running_backend() != name:
        raise KpdetectError(
            f"--backend {name}: this process has already imported Keras with the backend {running_backend()}; "
            f"set {VARIABLE}={name} before the process starts"
        )
    if name is not None:
        os.environ[VARIABLE] = name


def configured_backend() -> str:
    """Returns the backend that Keras would choose: ``KERAS_BACKEND``, Keras' settings file, or TensorFlow."""
    if named := os.environ.get(VARIABLE):
        return named
    folder = os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    try:
        settings = json.loads(Path(folder, "keras.json").expanduser().read_text(encoding="utf-8"))
        return str(settings["backend"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return TENSORFLOW


def running_backend() -> str:
    """Returns the name of the backend that Keras uses, such as ``tensorflow``. Imports Keras."""
    import keras

    return str(keras.backend.backend())


def require_tensorflow(task: str, command: str) -> None:
    """Checks that Keras uses TensorFlow, for tasks that only TensorFlow can do.

    Example:
        ``require_tensorflow("exporting", "kpdetect export")``

    Args:
        task: What needs TensorFlow.
        command: The command that does it, shown in the error with the right setting.

    Raises:
        KpdetectError: Keras uses another backend.
    """
    # The variable is read first: importing Keras fails if the backend that it names is not installed.
    named = os.environ.get(VARIABLE) or TENSORFLOW
    backend = running_backend() if named == TENSORFLOW else named
    if backend != TENSORFLOW:
        raise KpdetectError(
            f"{task} needs Keras with TensorFlow, but the backend is {backend}; weights are the same for both, so run "
            f"{VARIABLE}={TENSORFLOW} {command} …"
        )


def start_tensorflow() -> None:
    """Makes TensorFlow find its devices now, so that the caller can suppress the messages that it prints then."""
    import tensorflow as tf

    tf.config.list_logical_devices()
