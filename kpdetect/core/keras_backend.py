"""Owns Keras' backend, TensorFlow or JAX: it is settled before Keras is imported, once for a process."""

import importlib.util
import os
import sys

from kpdetect.core.errors import KpdetectError, MissingExtra

TENSORFLOW, JAX = "tensorflow", "jax"
BACKENDS = (TENSORFLOW, JAX)
VARIABLE = "KERAS_BACKEND"


def choose_backend(name: str | None) -> None:
    """Settles which backend Keras will have, and makes sure that what a training needs is installed.

    Args:
        name: One of `BACKENDS`; None leaves it to Keras, which asks the variable ``KERAS_BACKEND`` and then its own
            settings file, and else takes TensorFlow.

    Raises:
        KpdetectError: Keras is imported already, with another backend, or the variable names one that cannot train
            here.
        MissingExtra: TensorFlow, which feeds every training, or JAX is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtra("TensorFlow", "train", "training")
    wanted = name or os.environ.get(VARIABLE)
    if wanted == JAX and importlib.util.find_spec("jax") is None:
        raise MissingExtra("JAX", "jax", "training with --backend jax")
    if wanted not in (None, *BACKENDS):
        raise KpdetectError(f"{VARIABLE}={wanted}: expected {' or '.join(BACKENDS)}, which can train here")
    if name is not None and "keras" in sys.modules and running_backend() != name:
        raise KpdetectError(
            f"--backend {name}: this Python has imported Keras with {running_backend()} already; "
            f"set {VARIABLE}={name} before it starts"
        )
    if name is not None:
        os.environ[VARIABLE] = name


def running_backend() -> str:
    """What Keras computes with; imports it."""
    import keras

    return str(keras.backend.backend())


def need_tensorflow(what: str, command: str) -> None:
    """Makes sure that Keras computes with TensorFlow.

    Args:
        what: What needs it.
        command: The command that does it.

    Raises:
        KpdetectError: It computes with another backend.
    """
    named = os.environ.get(VARIABLE) or TENSORFLOW  # asked first: to import Keras on a missing backend would fail
    backend = running_backend() if named == TENSORFLOW else named
    if backend != TENSORFLOW:
        raise KpdetectError(
            f"{what} needs Keras on TensorFlow, and it is to run on {backend}; the weights are the same: "
            f"{VARIABLE}={TENSORFLOW} {command} …"
        )


def start_tensorflow() -> None:
    """Makes TensorFlow look for its devices now, so that a caller can hide the messages that it prints."""
    import tensorflow as tf

    tf.config.list_logical_devices()
