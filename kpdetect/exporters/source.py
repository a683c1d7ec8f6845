"""Owns what the writers begin with: a model, its spec, and the model laid out as a trunk and a decoding."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpdetect.core.images import Pixels
from kpdetect.modelfile.spec import INPUT_NAME, Spec

if TYPE_CHECKING:
    import keras

TRUNK, DECODING = "trunk", "decoding"


@dataclass(frozen=True)
class CalibrationSet:
    """Crops that integer files take the ranges of their numbers from, and what rounding moves their points by.

    Attributes:
        crops: (N, H, W, C) uint8.
        data: The data sets that they are of.
    """

    crops: Pixels
    data: str


@dataclass(frozen=True)
class Source:
    """What a file is made of.

    Attributes:
        model: The network, with its weights.
        spec: What it says of itself.
        representative: What ``int8`` needs; None where no such file is written.
        batch: How many crops the file takes at once; None for any number.
    """

    model: "keras.Model"
    spec: Spec
    representative: CalibrationSet | None = None
    batch: int | None = None


Writer = Callable[[Source, Path], None]
"""Takes what a file is made of and the path to write."""


def in_two_scopes(model: "keras.Model", dtype: str = "float32", batch: int | None = None) -> "keras.Model":
    """The same network, of the same weights, with a dict of outputs, as a part `TRUNK` and a part `DECODING`.

    The decoding is what makes coordinates: from the last layers with a kernel, such as those that give the heatmaps, to
    the outputs. Converters name every op by its scope, so whoever quantises knows by name what has to stay in float;
    the dict gives the signature's outputs their names.

    Args:
        model: Raw pixels (B, H, W, C) -> keypoints, or a dict of keypoints and uncertainty.
        dtype: The type of the pixels that it takes: ``float32`` or ``uint8``.
        batch: How many crops it takes at once; None for any number.
    """
    import keras

    from kpdetect import models

    outputs = models.named_outputs(model)
    features = _before_last_kernels(list(outputs.values()))
    trunk = keras.Model(model.input, features, name=TRUNK)
    decoding = keras.Model(features, outputs, name=DECODING)
    image = keras.Input(model.input_shape[1:], batch, dtype=dtype, name=INPUT_NAME)
    pixels = image if dtype == "float32" else keras.ops.cast(image, "float32")
    return keras.Model(image, decoding(trunk(pixels)), name=model.name)


def _before_last_kernels(outputs: list[Any]) -> list[Any]:
    """What the last layers with a kernel take, on every way to the outputs."""
    found: dict[int, Any] = {}
    todo, seen = list(outputs), set()
    while todo:
        tensor = todo.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, node, _ = tensor._keras_history  # Keras has no public way from a tensor to what made it
        given = operation._inbound_nodes[node].input_tensors
        if hasattr(operation, "kernel"):
            found |= {id(features): features for features in given}
        elif given:
            todo += given
        else:
            found[id(tensor)] = tensor
    return list(found.values())
