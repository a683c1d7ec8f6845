"""Owns the seven networks of the five student projects that kpdetect re-implements, layer for layer.

They are chains: convolutions without padding (unless said), a 2x2 max pool after most, dense layers, and a linear
layer of 2K numbers. Every convolution and dense layer has a bias, also before batch normalisation, as in the sources:
their parameter counts show it. Hidden layers start from He normal kernels (arXiv:1502.01852; Keras truncates the
normal at two deviations) and zero biases. The last layer of a network with a target scaling starts as the projects
leave it, at PyTorch's default: kernel and bias uniform within ``1 / sqrt(fan_in)``. Without a target scaling the last
layer starts from a zero kernel and outputs the middle of the crop. A last fixed layer undoes the target scaling, so
that each model outputs keypoints relative to the crop: a loss in the unit 224 / 50 is the project's own loss of
``(pixels - 100) / 50``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from kpdetect.core.errors import KpdetectError
from kpdetect.models.layers import OUTPUT_NAME, Tensor, image_input, normalize

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Conv:
    """A convolution of stride 1, ReLU, and what follows it.

    Attributes:
        filters: Output channels.
        size: The kernel's side.
        padding: Zeros on every side.
        pool: Whether a 2x2 max pool of stride 2 follows.
        batch_norm: Whether batch normalisation stands before the ReLU.
        dropout: The share dropped at the end; 0 drops nothing.
    """

    filters: int
    size: int
    padding: int = 0
    pool: bool = True
    batch_norm: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Hidden:
    """A hidden dense layer, ReLU, and what follows it; attributes as in `Conv`."""

    units: int
    batch_norm: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class TargetScaling:
    """What a project's network gives for a point: ``(pixels - mean) / deviation``."""

    mean_px: float
    deviation_px: float


PIXELS_LESS_100_BY_50 = TargetScaling(100.0, 50.0)


def fourconv(
    num_keypoints: int, input_shape: Shape, dropout: float = 0.4, dropout_everywhere: bool = False
) -> keras.Model:
    """Four convolutions and one hidden layer of 1000: 37,239,984 parameters for 68 points at 224.

    The source lists one dropout of 0.4 without a place. On the hidden dense layer alone the network learns. After every
    pooling as well, which is the other reading and that of the project's public code, it outputs one constant shape.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).
        dropout: The share dropped after the hidden dense layer.
        dropout_everywhere: Drop the same share after every pooling too.

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.
    """
    after_pooling = dropout if dropout_everywhere else 0.0
    convolutions = [Conv(f, size, dropout=after_pooling) for f, size in ((32, 5), (64, 4), (128, 3), (256, 2))]
    image, x = image_input(input_shape)
    x = _hidden_layers(x, convolutions, [Hidden(1000, dropout=dropout)])
    return _model("fourconv", image, _keypoints(x, num_keypoints, input_shape, PIXELS_LESS_100_BY_50))


def batchnorm(num_keypoints: int, input_shape: Shape, dropout: float = 0.4) -> keras.Model:
    """Batch normalisation throughout, hidden layers of 4000 and 1000: 151,995,936 parameters for 68 points at 224.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).
        dropout: The share dropped after each hidden dense layer.

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.
    """
    convolutions = [Conv(filters, 3, batch_norm=True) for filters in (32, 64, 128, 256)]
    dense = [Hidden(units, batch_norm=True, dropout=dropout) for units in (4000, 1000)]
    image, x = image_input(input_shape)
    x = _hidden_layers(x, convolutions, dense)
    return _model("batchnorm", image, _keypoints(x, num_keypoints, input_shape, PIXELS_LESS_100_BY_50))


def twoconv(num_keypoints: int, input_shape: Shape, widths: Sequence[int] = (10, 20)) -> keras.Model:
    """Two 5x5 convolutions and a linear layer: 7,645,896 parameters for 68 points at 224.

    The source names no widths. 10 and 20 at 5x5 are those of PyTorch's own MNIST example, where such projects begin.
    A step of SGD moves the output by the number of flattened features: at the source's rate of 0.01 these widths go
    straight down, three times as many overshoot before they settle.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).
        widths: Channels of the two convolutions.

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.

    Raises:
        KpdetectError: There are not two widths.
    """
    if len(widths) != 2:
        raise KpdetectError(f"twoconv: expected 2 widths, received {list(widths)}")
    first, second = widths
    image, x = image_input(input_shape)
    x = _hidden_layers(x, [Conv(first, 5, dropout=0.1), Conv(second, 5, dropout=0.2)], [])
    return _model("twoconv", image, _keypoints(x, num_keypoints, input_shape, PIXELS_LESS_100_BY_50))


def naimish(num_keypoints: int, input_shape: Shape, dropout: float = 0.25, batch_norm: bool = False) -> keras.Model:
    """After NaimishNet (arXiv:1710.00977), five convolutions: 19,989,896 parameters for 68 points at 224.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).
        dropout: The share dropped after each hidden dense layer.
        batch_norm: Normalise each hidden layer's batches before its ReLU. The project does not.

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.
    """
    sizes = ((32, 5), (64, 3), (128, 3), (256, 3), (512, 1))
    convolutions = [Conv(filters, size, batch_norm=batch_norm) for filters, size in sizes]
    image, x = image_input(input_shape)
    x = _hidden_layers(x, convolutions, [Hidden(units, batch_norm, dropout) for units in (1024, 512)])
    return _model("naimish", image, _keypoints(x, num_keypoints, input_shape, PIXELS_LESS_100_BY_50))


def imm_nose(num_keypoints: int, input_shape: Shape) -> keras.Model:
    """Three padded convolutions for the nose tip: 100,740 parameters for one point at 60x80.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.
    """
    convolutions = [Conv(12, 3, padding=2), Conv(18, 5, padding=1), Conv(28, 5)]
    image, x = image_input(input_shape, offset=-0.5)
    x = _hidden_layers(x, convolutions, [Hidden(84)])
    return _model("imm_nose", image, _keypoints(x, num_keypoints, input_shape))


def imm_full(num_keypoints: int, input_shape: Shape) -> keras.Model:
    """Five convolutions for the whole face: 3,264,620 parameters for 58 points at 180x240.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.
    """
    return _imm_full("imm_full", num_keypoints, input_shape)


def ibug_large(num_keypoints: int, input_shape: Shape) -> keras.Model:
    """`imm_full` for crops of iBUG faces: 3,870,304 parameters for 68 points at 224x224.

    The source says no more than that it is the same network; so the hidden layer keeps its 24 units, now after
    50 x 50 x 64 features, and only the linear layer grows.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.
    """
    return _imm_full("ibug_large", num_keypoints, input_shape)


def _imm_full(name: str, num_keypoints: int, input_shape: Shape) -> keras.Model:
    pooled = [Conv(12, 5), Conv(24, 3)]
    plain = [Conv(f, size, pool=False) for f, size in ((32, 3), (48, 3), (64, 1))]
    image, x = image_input(input_shape, offset=-0.5)
    x = _hidden_layers(x, pooled + plain, [Hidden(24)])
    return _model(name, image, _keypoints(x, num_keypoints, input_shape))


def _model(name: str, image: Tensor, keypoints: Tensor) -> keras.Model:
    return keras.Model(image, keypoints, name=name)


def _hidden_layers(x: Tensor, convolutions: Sequence[Conv], dense: Sequence[Hidden]) -> Tensor:
    """The convolutions, a flatten, and the hidden dense layers."""
    for number, conv in enumerate(convolutions, 1):
        x = _convolution(x, conv, f"conv{number}")
    x = keras.layers.Flatten(name="flatten")(x)
    for number, hidden in enumerate(dense, 1):
        name = f"dense{number}"
        x = keras.layers.Dense(hidden.units, kernel_initializer="he_normal", name=name)(x)
        x = _activation(x, hidden.batch_norm, name)
        x = _dropout(x, hidden.dropout, name)
    return x


def _convolution(x: Tensor, conv: Conv, name: str) -> Tensor:
    _, height, width, _ = x.shape
    room = min(height, width) + 2 * conv.padding - conv.size + 1
    if room < (2 if conv.pool else 1):
        raise KpdetectError(
            f"{name}: the input is too small: {height}x{width} cells are left for a {conv.size}x{conv.size} kernel"
        )
    if conv.padding:
        x = keras.layers.ZeroPadding2D(conv.padding, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(conv.filters, conv.size, kernel_initializer="he_normal", name=name)(x)
    x = _activation(x, conv.batch_norm, name)
    if conv.pool:
        x = keras.layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    return _dropout(x, conv.dropout, name)


def _activation(x: Tensor, batch_norm: bool, name: str) -> Tensor:
    if batch_norm:
        x = normalize(x, f"{name}_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _dropout(x: Tensor, share: float, name: str) -> Tensor:
    return keras.layers.Dropout(share, name=f"{name}_dropout")(x) if share else x


def _keypoints(x: Tensor, num_keypoints: int, input_shape: Shape, scaling: TargetScaling | None = None) -> Tensor:
    """The linear layer, and the way from its target scaling to relative: ``(px + 0.5) / W``.

    In float32 whatever the policy: half precision holds a coordinate to a twentieth of a pixel at best.
    """
    if scaling is None:
        # From a corner of the crop, and with a random kernel, the first steps switch off every unit of the hidden
        # layer: the many thousand weights after the flatten move all at once.
        kernel, bias = keras.initializers.Zeros(), keras.initializers.Constant(0.5)
    else:
        limit = x.shape[-1] ** -0.5
        kernel, bias = (keras.initializers.RandomUniform(-limit, limit) for _ in range(2))
    x = keras.layers.Dense(
        2 * num_keypoints, kernel_initializer=kernel, bias_initializer=bias, dtype="float32", name="linear"
    )(x)
    if scaling is None:
        return keras.layers.Reshape((num_keypoints, 2), dtype="float32", name=OUTPUT_NAME)(x)
    x = keras.layers.Reshape((num_keypoints, 2), dtype="float32", name="points")(x)
    height, width, _ = input_shape
    scale = [scaling.deviation_px / side for side in (width, height)]
    offset = [(scaling.mean_px + 0.5) / side for side in (width, height)]
    return keras.layers.Rescaling(scale, offset, dtype="float32", name=OUTPUT_NAME)(x)
