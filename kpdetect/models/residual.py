"""Owns the convolutions that our own networks are made of: normalised, residual, halving without a shift."""

import keras

from kpdetect.models.layers import Tensor, normalize

NORM_MOMENTUM = 0.97  # over 33 batches: with 10, whole nets leaned to one side by chance from epoch to epoch


def pad(x: Tensor) -> Tensor:
    """A pixel on every side: with it a 4x4 kernel of stride 2 is centred on the four pixels that it halves."""
    return keras.layers.ZeroPadding2D(1)(x)


def convolution(x: Tensor, filters: int, size: int, name: str, strides: int = 1, relu: bool = True) -> Tensor:
    """Convolution, batch normalisation, and ReLU unless an addition comes before it."""
    x = keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,  # the normalisation has one
        kernel_initializer="he_normal",
        name=name,
    )(x)
    x = normalize(x, f"{name}_norm", NORM_MOMENTUM)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def residual_block(x: Tensor, filters: int, name: str) -> Tensor:
    """Two 3x3 convolutions beside the way past them (He et al., arXiv:1512.03385)."""
    y = convolution(convolution(x, filters, 3, f"{name}_a"), filters, 3, f"{name}_b", relu=False)
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([x, y]))


def halving_block(x: Tensor, filters: int, name: str) -> Tensor:
    """A residual block that halves the size: 2x2 kernels in one way, the mean of 2x2 pixels in the other."""
    y = convolution(convolution(x, filters, 2, f"{name}_a", strides=2), filters, 3, f"{name}_b", relu=False)
    past = convolution(keras.layers.AveragePooling2D(2, name=f"{name}_mean")(x), filters, 1, f"{name}_past", relu=False)
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([past, y]))
