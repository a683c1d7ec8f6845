"""Architectures by name: functions from the number of keypoints and the input shape to a Keras model.

Every model takes raw pixels (B, H, W, C) in [0, 255] as its input ``image`` and outputs keypoints relative to the crop,
(B, K, 2) float32, as ``keypoints``. Some also output ``uncertainty`` (B, K), the expected error of each keypoint
relative to the crop; their output is a dict with both names. A name and JSON-serialisable options are enough to build
the same network again, so a saved model stores only its weights.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.references import import_reference
from kpdetect.models import losses, metrics_keras, optimizers  # noqa: F401 - registers them with Keras
from kpdetect.models.compact import compact
from kpdetect.models.cost import count_macs, count_parameters
from kpdetect.models.efficientnet import efficientnet
from kpdetect.models.imagenet import Weights, efficientnet_weights, mobilenet_weights, weights_of
from kpdetect.models.layers import INPUT_NAME, OUTPUT_NAME, UNCERTAINTY_NAME, ExpectedError, SoftArgmax
from kpdetect.models.mobilenet import mobilenet
from kpdetect.models.outputs import for_training, named_outputs, split_joined
from kpdetect.models.student_projects import batchnorm, fourconv, ibug_large, imm_full, imm_nose, naimish, twoconv

__all__ = [
    "ARCHITECTURES",
    "INPUT_NAME",
    "OUTPUT_NAME",
    "PRETRAINED",
    "TRUSTED_ARCHITECTURES",
    "UNCERTAINTY_NAME",
    "ExpectedError",
    "SoftArgmax",
    "Weights",
    "build",
    "count_macs",
    "count_parameters",
    "for_training",
    "from_preset",
    "named_outputs",
    "register_architecture",
    "split_joined",
    "weights_of",
]

Builder = Callable[..., keras.Model]

ARCHITECTURES: dict[str, Builder] = {
    "compact": compact,
    "fourconv": fourconv,
    "batchnorm": batchnorm,
    "twoconv": twoconv,
    "naimish": naimish,
    "imm-nose": imm_nose,
    "imm-full": imm_full,
    "ibug-large": ibug_large,
    "efficientnet": efficientnet,
    "mobilenet": mobilenet,
}

TRUSTED_ARCHITECTURES = "KPDETECT_ARCHITECTURES"
"""Environment variable with own architectures, ``module:function`` separated by commas, that may be imported."""

PRETRAINED: dict[str, Callable[[Mapping[str, Any], int], Weights]] = {
    "efficientnet": efficientnet_weights,
    "mobilenet": mobilenet_weights,
}
"""Functions that return the ImageNet weights of an architecture, from its options and the number of input channels."""


def build(
    name: str, num_keypoints: int, input_shape: tuple[int, int, int], options: Mapping[str, Any] | None = None
) -> keras.Model:
    """Builds an architecture by name, with random weights.

    >>> model = build("compact", num_keypoints=68, input_shape=(112, 112, 1))
    >>> sorted(named_outputs(model))
    ['keypoints', 'uncertainty']

    Args:
        name: One of `ARCHITECTURES`.
        num_keypoints: K, at least 1.
        input_shape: (height, width, channels), of fixed size.
        options: Options of the architecture by name; see its function for names and defaults.

    Returns:
        A model from raw pixels (B, H, W, C) to relative keypoints (B, K, 2) float32, or to a dict of ``keypoints``
        and ``uncertainty`` (B, K).

    Raises:
        KpdetectError: The architecture or an option is unknown, or the input shape is not supported.
    """
    if name not in ARCHITECTURES and ":" in name:
        _import_trusted(name)
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    if num_keypoints < 1 or len(input_shape) != 3 or min(input_shape) < 1:
        raise KpdetectError(
            f"{name}: expected at least one point and a shape (height, width, channels), "
            f"received {num_keypoints} and {tuple(input_shape)}"
        )
    chosen = dict(options or {})
    for option in chosen.keys() - _options_of(name):
        raise unknown_name(f"option of architecture {name}", option, _options_of(name))
    height, width, channels = input_shape
    return ARCHITECTURES[name](num_keypoints, (height, width, channels), **chosen)


def register_architecture(name: str) -> Callable[[Builder], Builder]:
    """Decorator that registers an own architecture, so that recipes and model files can name it.

    The function is called with ``num_keypoints`` and ``input_shape`` (height, width, channels), and with the options of
    the recipe. It returns a Keras model from raw pixels (B, H, W, C) of 0-255 to relative keypoints (B, K, 2).

    Args:
        name: Name of the architecture; ``kpdetect train --architecture module:function`` uses its argument.

    Raises:
        KpdetectError: The name is taken by another function.

    Example:
        >>> @register_architecture("one-layer")
        ... def one_layer(num_keypoints, input_shape):
        ...     image = keras.Input(input_shape, name=INPUT_NAME)
        ...     points = keras.layers.Dense(2 * num_keypoints)(keras.layers.Flatten()(image))
        ...     return keras.Model(image, keras.layers.Reshape((num_keypoints, 2), name=OUTPUT_NAME)(points))
        >>> build("one-layer", 3, (8, 8, 1)).output_shape
        (None, 3, 2)
        >>> del ARCHITECTURES["one-layer"]
    """

    def register(builder: Builder) -> Builder:
        if ARCHITECTURES.setdefault(name, builder) is not builder:
            raise KpdetectError(f"architecture '{name}' exists already; choose another name")
        return builder

    return register


def __getattr__(name: str) -> Any:
    """`kpdetect.modelfile.keras_models.from_preset` by the name under which Keras users look for it, on first use."""
    if name == "from_preset":  # modelfile is above this package
        return importlib.import_module("kpdetect.modelfile.keras_models").from_preset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _import_trusted(name: str) -> None:
    """Registers ``module:function`` if the user trusts it. A model file alone must not make kpdetect import code."""
    if name not in os.environ.get(TRUSTED_ARCHITECTURES, "").split(","):
        raise KpdetectError(
            f"architecture '{name}' is not part of kpdetect, and importing it would run code; "
            f"if you trust it, set {TRUSTED_ARCHITECTURES}={name}"
        )
    register_architecture(name)(import_reference(name, TRUSTED_ARCHITECTURES))


def _options_of(name: str) -> set[str]:
    return set(inspect.signature(ARCHITECTURES[name]).parameters) - {"num_keypoints", "input_shape"}
