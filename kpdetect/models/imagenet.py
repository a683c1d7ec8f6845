"""ImageNet weights for the backbones of architectures."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kpdetect.core.assets import packaged_file
from kpdetect.core.errors import KpdetectError
from kpdetect.models.mobilenet import imagenet_backbone

Weights = dict[str, list[npt.NDArray[Any]]]
"""The arrays of each layer, in the order of `keras.layers.Layer.get_weights`, by layer name."""

TRUNK_FILE = "efficientnet_lite0.npz"
HALVING = ("stem", "stage2_1_depthwise", "stage3_1_depthwise", "stage4_1_depthwise")
"""Layers of `efficientnet` with stride 2, whose odd published kernels are converted to even ones."""


def weights_of(model: keras.Model) -> Weights:
    """The weights of a model by layer name.

    Example::

        weights_of(model)["stem"][0].shape  # (4, 4, 1, 24)
    """
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def efficientnet_weights(options: Mapping[str, Any], channels: int) -> Weights:
    """Weights of the trunk of `efficientnet`: an EfficientNet-Lite0 trained on ImageNet, packaged with kpdetect.

    The kernels of layers with stride 2 are made even; see `even_kernel`. They are then centred between the pixels that
    they reduce, and blur the picture slightly. For grey input, the kernels of the first layer are summed over RGB,
    which equals an RGB picture with three equal channels.

    Args:
        options: Options of the architecture.
        channels: Channels of the input, 1 or 3.

    Raises:
        KpdetectError: No weights exist for this width or number of channels, or the file is missing.
    """
    if options.get("width", 1.0) != 1 or channels not in (1, 3):
        raise KpdetectError(
            "efficientnet: ImageNet weights exist for width 1 and 1 or 3 channels, received "
            f"{options.get('width', 1.0)} and {channels}; start without: --weights none"
        )
    with np.load(packaged_file("imagenet", TRUNK_FILE, "start without: --weights none")) as file:
        arrays = {name: array.astype(np.float32) for name, array in file.items()}
    weights: Weights = {name: list(array) if name.endswith("_norm") else [array] for name, array in arrays.items()}
    for name in HALVING:
        weights[name] = [even_kernel(kernel) for kernel in weights[name]]
    if channels == 1:
        weights["stem"] = [kernel.sum(axis=2, keepdims=True) for kernel in weights["stem"]]
    return weights


def even_kernel(kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Averages a kernel with copies of itself that are shifted by one pixel along both axes.

    >>> even_kernel(np.float32([[[[4.0]]]]))[..., 0, 0]
    array([[1., 1.],
           [1., 1.]], dtype=float32)

    Args:
        kernel: (k, k, …).

    Returns:
        (k + 1, k + 1, …).
    """
    side = kernel.shape[0]
    even = np.zeros((side + 1, side + 1, *kernel.shape[2:]), kernel.dtype)
    for row in (0, 1):
        for column in (0, 1):
            even[row : row + side, column : column + side] += kernel / 4
    return even


def mobilenet_weights(options: Mapping[str, Any], channels: int) -> Weights:
    """Weights of the backbone of `mobilenet`, which Keras downloads; see `imagenet_backbone`."""
    return weights_of(imagenet_backbone(float(options.get("alpha", 1.0))))
