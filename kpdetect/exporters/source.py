"""Input of the writers: a model with its spec, and the split of a network into trunk and decoding."""

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
    """Crops on which integer files measure the ranges of their activations and the mean shift of their points.

    Attributes:
        crops: (N, H, W, C) uint8.
        data: Names of the data sets.

    Example:
        ``CalibrationSet(crops, "csv:faces.csv")``, as `kpdetect.exporters.calibration_set` makes it.
    """

    crops: Pixels
    data: str


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        model: The network with its weights.
        spec: Its description.
        calibration_set: Required by ``int8`` files; otherwise None.
        batch: Batch size of the file; None leaves it free.

    Example:
        ``Source(model, spec)`` is exported with a free batch size.
    """

    model: "keras.Model"
    spec: Spec
    calibration_set: CalibrationSet | None = None
    batch: int | None = None


Writer = Callable[[Source, Path], None]
"""Writes a model to a path."""


def in_two_scopes(model: "keras.Model", dtype: str = "float32", batch: int | None = None) -> "keras.Model":
    """Returns the same network with the same weights, divided into `TRUNK` and `DECODING`, with a dict of outputs.

    The decoding computes the coordinates: from the last layers with a kernel, such as the heatmap layers, to the
    outputs. Converters name ops by scope, so the quantizer selects by name what stays in float. The dict names the
    outputs of the signature.

    Args:
        model: Raw pixels (B, H, W, C) to keypoints, or to a dict of keypoints and uncertainty.
        dtype: Type of the input's pixels: ``float32`` or ``uint8``.
        batch: Batch size; None leaves it free.
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
    """Returns the inputs of the last layers with a kernel, on every path to the outputs."""
    found: dict[int, Any] = {}
    todo, seen = list(outputs), set()
    while todo:
        tensor = todo.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, node, _ = tensor._keras_history  # Keras has no public way from a tensor to its operation
        given = operation._inbound_nodes[node].input_tensors
        if hasattr(operation, "kernel"):
            found |= {id(features): features for features in given}
        elif given:
            todo += given
        else:
            found[id(tensor)] = tensor
    return list(found.values())
