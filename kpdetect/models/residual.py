"""Building blocks of `compact` and `finder`: normalised convolutions, residual blocks, downsampling without shift."""

import keras

from kpdetect.models.layers import Tensor, normalize

NORM_MOMENTUM = 0.97  # averages over about 33 batches; with 10, predictions shifted randomly between epochs


def pad(x: Tensor) -> Tensor:
    """Pads a pixel on every side, so that a 4x4 kernel of stride 2 is centred on the pixels that it reduces."""
    return keras.layers.ZeroPadding2D(1)(x)


def convolution(x: Tensor, filters: int, size: int, name: str, strides: int = 1, relu: bool = True) -> Tensor:
    """Convolution, batch normalisation and, with `relu`, ReLU."""
    x = keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,  # batch normalisation has a bias
        kernel_initializer="he_normal",
        name=name,
    )(x)
    x = normalize(x, f"{name}_norm", NORM_MOMENTUM)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def residual_block(x: Tensor, filters: int, name: str) -> Tensor:
    """Two 3x3 convolutions with an identity shortcut (He et al., arXiv:1512.03385)."""
    y = convolution(convolution(x, filters, 3, f"{name}_a"), filters, 3, f"{name}_b", relu=False)
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([x, y]))


def halving_block(x: Tensor, filters: int, name: str) -> Tensor:
    """A residual block that halves the size, by a 2x2 kernel and by average pooling in the shortcut."""
    y = convolution(convolution(x, filters, 2, f"{name}_a", strides=2), filters, 3, f"{name}_b", relu=False)
    past = convolution(keras.layers.AveragePooling2D(2, name=f"{name}_mean")(x), filters, 1, f"{name}_past", relu=False)
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([past, y]))
