"""The first convolution of a network: its kernels and the feature maps that it computes for a crop."""

from typing import TYPE_CHECKING

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels

if TYPE_CHECKING:
    import keras


def first_convolution(model: "keras.Model") -> "keras.layers.Conv2D":
    """The first convolution of a network.

    Args:
        model: A Keras model of images.

    Raises:
        KpdetectError: The network has no convolution, or its first one does not take 1 or 3 channels.

    Example:
        ``first_convolution(model).kernel.shape`` is (height, width, channels, kernels).
    """
    import keras

    found = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    if not found or found[0].kernel.shape[2] not in (1, 3):
        raise KpdetectError(f"network '{model.name}': no first convolution over a grey or RGB picture to show")
    return found[0]


def feature_maps_of(model: "keras.Model", crop: Pixels) -> Floats:
    """The output of the first convolution, before normalisation and activation.

    Args:
        model: A Keras model of images.
        crop: (H, W, C) uint8, a crop of the model's input size.

    Returns:
        (h, w, N) float32, one map per kernel.

    Example:
        ``feature_maps_of(model, crop)[..., 0]`` is the map of the first kernel.
    """
    import keras

    part = keras.Model(model.input, first_convolution(model).output)
    maps: Floats = np.asarray(part(crop[None].astype(np.float32), training=False), np.float32)
    return np.asarray(maps[0])
