"""Networks of five student projects, re-implemented layer by layer: seven architectures.

Each is a sequence of convolutions (unpadded unless stated), most followed by 2x2 max pooling, of dense layers, and a
linear layer with 2K outputs. Every convolution and dense layer has a bias, also before batch normalisation, as the
parameter counts of the sources show. Hidden layers are initialised with He normal kernels (arXiv:1502.01852; Keras
truncates the distribution at two standard deviations) and zero biases.

Some projects train on scaled targets ``(pixels - mean) / deviation``. Their linear layer is initialised as in PyTorch,
with kernel and bias uniform within ``1 / sqrt(fan_in)``, and a fixed layer inverts the scaling, so that every model
outputs keypoints relative to the crop. A loss with `loss_unit` 224 / 50 is therefore the loss of a project that trains
on ``(pixels - 100) / 50``. Without scaled targets, the linear layer starts from a zero kernel and outputs the
centre of the crop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from kpdetect.core.errors import KpdetectError
from kpdetect.models.layers import OUTPUT_NAME, Tensor, image_input, normalize

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Conv:
    """A convolution of stride 1 with ReLU, optional batch normalisation, pooling and dropout.

    Attributes:
        filters: Number of output channels.
        size: Side of the kernel.
        padding: Number of zeros on every side.
        pool: Whether a 2x2 max pool of stride 2 follows.
        batch_norm: Whether batch normalisation precedes the ReLU.
        dropout: Dropout rate after the pooling, in [0, 1).
    """

    filters: int
    size: int
    padding: int = 0
    pool: bool = True
    batch_norm: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Hidden:
    """A hidden dense layer with ReLU, optional batch normalisation and dropout.

    Attributes:
        units: Number of outputs.
        batch_norm: Whether batch normalisation precedes the ReLU.
        dropout: Dropout rate after the ReLU, in [0, 1).
    """

    units: int
    batch_norm: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class TargetScaling:
    """The scaled target of a coordinate: ``(pixels - mean_px) / deviation_px``.

    Attributes:
        mean_px: Subtracted from the pixel coordinate.
        deviation_px: Divisor, in pixels.
    """

    mean_px: float
    deviation_px: float


PIXELS_LESS_100_BY_50 = TargetScaling(100.0, 50.0)


def fourconv(
    num_keypoints: int, input_shape: Shape, dropout: float = 0.4, dropout_everywhere: bool = False
) -> keras.Model:
    """Four convolutions and one hidden layer of 1000: 37,239,984 parameters for 68 points at 224.

    The source lists one dropout of 0.4 without its position. With dropout after the hidden dense layer alone, the
    network trains. With dropout after every pooling too, as in the public code of the project, it outputs one constant
    shape.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).
        dropout: Dropout rate after the hidden dense layer.
        dropout_everywhere: Also apply dropout after every pooling.

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.
    """
    after_pooling = dropout if dropout_everywhere else 0.0
    convolutions = [Conv(f, size, dropout=after_pooling) for f, size in ((32, 5), (64, 4), (128, 3), (256, 2))]
    image, x = image_input(input_shape)
    x = _hidden_layers(x, convolutions, [Hidden(1000, dropout=dropout)])
    return _model("fourconv", image, _keypoints(x, num_keypoints, input_shape, PIXELS_LESS_100_BY_50))


def batchnorm(num_keypoints: int, input_shape: Shape, dropout: float = 0.4) -> keras.Model:
    """Batch normalisation and hidden dense layers of 4000 and 1000: 151,995,936 parameters for 68 points at 224.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).
        dropout: Dropout rate after each hidden dense layer.

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

    The source does not give the widths. The defaults 10 and 20 are those of PyTorch's MNIST example. The effect of an
    SGD step on the output is proportional to the number of flattened features: at the learning rate of the source,
    0.01, the loss decreases steadily with these widths, and overshoots first with three times as many.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).
        widths: Output channels of the two convolutions.

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.

    Raises:
        KpdetectError: The number of widths is not 2.
    """
    if len(widths) != 2:
        raise KpdetectError(f"twoconv: expected 2 widths, received {list(widths)}")
    first, second = widths
    image, x = image_input(input_shape)
    x = _hidden_layers(x, [Conv(first, 5, dropout=0.1), Conv(second, 5, dropout=0.2)], [])
    return _model("twoconv", image, _keypoints(x, num_keypoints, input_shape, PIXELS_LESS_100_BY_50))


def naimish(
    num_keypoints: int,
    input_shape: Shape,
    dropout: float = 0.25,
    batch_norm: bool = False,
    target_px: Sequence[float] = (100.0, 50.0),
) -> keras.Model:
    """After NaimishNet (arXiv:1710.00977), five convolutions: 19,989,896 parameters for 68 points at 224.

    Args:
        num_keypoints: K.
        input_shape: (height, width, channels).
        dropout: Dropout rate after each hidden dense layer.
        batch_norm: Apply batch normalisation before the ReLU of each hidden layer. The project does not use it.
        target_px: Mean and deviation of the scaled targets, in pixels. Those of the project are for 224x224; smaller
            inputs need smaller values, such as 50 and 25 for 112x112.

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2), float32.

    Raises:
        KpdetectError: `target_px` is not a mean and a positive deviation.
    """
    if len(target_px) != 2 or not target_px[1] > 0:
        raise KpdetectError(f"naimish: target_px: expected a mean and a positive deviation, received {list(target_px)}")
    sizes = ((32, 5), (64, 3), (128, 3), (256, 3), (512, 1))
    convolutions = [Conv(filters, size, batch_norm=batch_norm) for filters, size in sizes]
    image, x = image_input(input_shape)
    x = _hidden_layers(x, convolutions, [Hidden(units, batch_norm, dropout) for units in (1024, 512)])
    return _model("naimish", image, _keypoints(x, num_keypoints, input_shape, TargetScaling(*target_px)))


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

    The source only states that the network is the same. The hidden layer therefore keeps its 24 units, here after
    50 x 50 x 64 features, and only the linear layer is larger.

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
    """Adds the convolutions, a flatten and the hidden dense layers."""
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
            f"{name}: {height}x{width} cells are too few for a {conv.size}x{conv.size} kernel; use a larger input"
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
    """Adds the linear layer and the conversion from scaled targets to relative coordinates, ``(px + 0.5) / W``.

    It computes in float32 under every policy, because half precision resolves a coordinate only to a twentieth of a
    pixel.
    """
    if scaling is None:
        # If the outputs start in a corner of the crop, or from a random kernel, the first steps deactivate every unit
        # of the hidden layer, because all weights after the flatten change at once.
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
