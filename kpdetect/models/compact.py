"""Owns `compact`, the network that ships: a small residual net that reads each point off its own heatmap."""

from collections.abc import Sequence

import keras

from kpdetect.errors import KpdetectError
from kpdetect.models.layers import OUTPUT_NAME, SoftArgmax, Tensor, image_input, normalize


def compact(
    num_keypoints: int,
    input_shape: tuple[int, int, int],
    widths: Sequence[int] = (24, 32, 64, 144),
    blocks: Sequence[int] = (1, 2, 4),
    pyramid_width: int = 96,
) -> keras.Model:
    """A residual net down to stride 16, a feature pyramid back up to stride 4, and soft-argmax over heatmaps.

    Every halving of the size is by an even kernel (4 or 2) and every doubling by bilinear interpolation about cell
    centres, so that cell i of n stands at (i + 0.5) / n of the crop at every depth, exactly: TensorFlow's stride-2
    ``same`` padding is one-sided on even sizes and would shift each level by half a cell.

    The parts: residual blocks (He et al., arXiv:1512.03385) with pooled shortcuts (arXiv:1812.01187), a pyramid
    (Lin et al., arXiv:1612.03144), integral regression (Sun et al., arXiv:1711.08229).

    Args:
        num_keypoints: K; a heatmap each.
        input_shape: (height, width, channels); height and width divide by 16.
        widths: Channels at strides 2, 4, 8 and 16.
        blocks: Residual blocks at strides 4, 8 and 16; one at least, for it halves the size.
        pyramid_width: Channels of the way back up.

    Returns:
        Raw pixels (B, H, W, C) -> relative keypoints (B, K, 2) in (0, 1), float32.

    Raises:
        KpdetectError: The input's size does not divide by 16, or widths and blocks do not fit each other.
    """
    _check(input_shape, widths, blocks)
    image, x = image_input(input_shape)
    x = _convolution(_pad(x), widths[0], 4, "stem", strides=2)
    levels = []
    for level, (width, count) in enumerate(zip(widths[1:], blocks, strict=True)):
        x = _halving_block(x, width, f"stride{4 << level}_1")
        for block in range(2, count + 1):
            x = _residual_block(x, width, f"stride{4 << level}_{block}")
        levels.append(x)
    heatmaps = keras.layers.Conv2D(num_keypoints, 1, dtype="float32", name="heatmaps")
    keypoints = SoftArgmax(name=OUTPUT_NAME)(heatmaps(_pyramid(levels, pyramid_width)))
    return keras.Model(image, keypoints, name="compact")


def _check(input_shape: tuple[int, int, int], widths: Sequence[int], blocks: Sequence[int]) -> None:
    height, width, _ = input_shape
    if height % 16 or width % 16:
        raise KpdetectError(f"compact: expected a height and width that divide by 16, received {height}x{width}")
    if len(widths) != 4 or len(blocks) != 3 or min(*widths, *blocks) < 1:
        raise KpdetectError(
            f"compact: expected 4 widths and 3 counts of blocks, positive, received {list(widths)} and {list(blocks)}"
        )


def _pad(x: Tensor) -> Tensor:
    """A pixel on every side: with it a 4x4 kernel of stride 2 is centred on the four pixels that it halves."""
    return keras.layers.ZeroPadding2D(1)(x)


def _convolution(x: Tensor, filters: int, size: int, name: str, strides: int = 1, relu: bool = True) -> Tensor:
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
    x = normalize(x, f"{name}_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _residual_block(x: Tensor, filters: int, name: str) -> Tensor:
    """Two 3x3 convolutions beside the way past them."""
    y = _convolution(_convolution(x, filters, 3, f"{name}_a"), filters, 3, f"{name}_b", relu=False)
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([x, y]))


def _halving_block(x: Tensor, filters: int, name: str) -> Tensor:
    """A residual block that halves the size: 2x2 kernels in one way, the mean of 2x2 pixels in the other."""
    y = _convolution(_convolution(x, filters, 2, f"{name}_a", strides=2), filters, 3, f"{name}_b", relu=False)
    past = _convolution(
        keras.layers.AveragePooling2D(2, name=f"{name}_mean")(x), filters, 1, f"{name}_past", relu=False
    )
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([past, y]))


def _pyramid(levels: Sequence[Tensor], width: int) -> Tensor:
    """Carries what the deepest level knows of the whole face up to the finest level's places.

    The sum stays linear: heatmaps of different depths add up, and the softmax multiplies what they say. A 3x3
    convolution here costs a third of the training time; a normalisation and ReLU learned no faster.
    """
    *finer, x = [_lateral(level, width, f"lateral{4 << index}") for index, level in enumerate(levels)]
    for level in reversed(finer):
        # In float32 whatever the policy: XLA has no gradient of it in half precision (TensorFlow 2.21).
        x = keras.layers.UpSampling2D(2, interpolation="bilinear", dtype="float32")(x)
        x = keras.layers.Add()([x, level])
    return x


def _lateral(x: Tensor, width: int, name: str) -> Tensor:
    """Linear, as is all that follows it; so Keras' own initial weights (Glorot's), for He's make up for a ReLU."""
    return keras.layers.Conv2D(width, 1, name=name)(x)
