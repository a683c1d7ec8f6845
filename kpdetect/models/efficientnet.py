"""Owns `efficientnet`: the greater part of an EfficientNet-Lite0, under the heatmaps of `compact`.

Its trunk begins with weights learned on ImageNet, which come with kpdetect. From 300-W alone, at 160
pixels, it learns in 40 epochs what `compact` needs hundreds for, and takes longer to run
(``docs/development/compact.md``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from kpdetect.core.errors import KpdetectError
from kpdetect.models.heatmaps import summed_heatmaps
from kpdetect.models.layers import INPUT_NAME, OUTPUT_NAME, UNCERTAINTY_NAME, ExpectedError, SoftArgmax, Tensor
from kpdetect.models.normalization import BatchNormalization
from kpdetect.models.residual import NORM_MOMENTUM, pad

STEM = 32  # channels
UNIT = 8  # a width is rounded to a multiple of it
NORM_EPSILON = 1e-3  # as the ImageNet weights were learned


@dataclass(frozen=True)
class Stage:
    """Blocks of one size.

    Attributes:
        kernel: Side of the depthwise kernels.
        halves: Whether the first block halves the size.
        expansion: How many times as many channels a block has inside.
        channels: A block's outputs.
    """

    kernel: int
    halves: bool
    expansion: int
    channels: int


STAGES = (
    Stage(3, False, 1, 16),
    Stage(3, True, 6, 24),
    Stage(5, True, 6, 40),
    Stage(3, True, 6, 80),
    Stage(5, False, 6, 112),
)
"""The first five of EfficientNet-B0's seven; the last two, at stride 32, have three quarters of the weights."""


def efficientnet(
    num_keypoints: int,
    input_shape: tuple[int, int, int],
    width: float = 1.0,
    blocks: Sequence[int] = (1, 2, 2, 3, 3),
    context: int = 64,
) -> keras.Model:
    """EfficientNet-Lite0 down to stride 16, a way back up to 8, heatmaps at strides 8 and 4, soft-argmax of their sum.

    Every halving of the size is by an even kernel (4 or 6) and every doubling by bilinear interpolation about cell
    centres, so that cell i of n stands at (i + 0.5) / n of the crop at every depth, exactly. The published kernels
    are odd, and their stride-2 ``same`` padding is one-sided on even sizes, which shifts each level by half a cell;
    `kpdetect.models.imagenet` makes them even.

    The parts: EfficientNet (Tan and Le, arXiv:1905.11946) in its Lite form, with ReLU6 and without
    squeeze-and-excitation, which small processors and integers like better; a pyramid (Lin et al., arXiv:1612.03144);
    integral regression (Sun et al., arXiv:1711.08229).

    Args:
        num_keypoints: K; a heatmap each.
        input_shape: (height, width, channels); height and width divide by 16.
        width: Of the trunk, relative to EfficientNet-Lite0's; ImageNet weights exist for 1.
        blocks: How many blocks each of the five `STAGES` has, one at least; ImageNet weights exist for the default.
        context: Channels of the way back up.

    Returns:
        Raw pixels (B, H, W, C) -> ``keypoints`` (B, K, 2), relative to the crop, in (0, 1), and ``uncertainty``
        (B, K), how far off each is expected to be, relative to the crop; float32.

    Raises:
        KpdetectError: The input's size does not divide by 16, or the options are out of range.
    """
    _check(input_shape, width, blocks, context)
    image = keras.Input(input_shape, name=INPUT_NAME)
    # As EfficientNet-Lite takes them: from -127 / 128 to 1.
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="scale_pixels")(image)
    heatmaps = summed_heatmaps(*_trunk(x, width, blocks), context, num_keypoints)
    keypoints, spread = SoftArgmax(spread=True, name="soft_argmax")(heatmaps)
    uncertainty = ExpectedError(name="expected_error")(spread)
    return keras.Model(image, {OUTPUT_NAME: keypoints, UNCERTAINTY_NAME: uncertainty}, name="efficientnet")


def _check(input_shape: tuple[int, int, int], width: float, blocks: Sequence[int], context: int) -> None:
    height, width_px, _ = input_shape
    if height % 16 or width_px % 16:
        raise KpdetectError(
            f"efficientnet: expected a height and width that divide by 16, received {height}x{width_px}"
        )
    if len(blocks) != len(STAGES) or min(blocks) < 1:
        raise KpdetectError(f"efficientnet: expected {len(STAGES)} counts of blocks, positive, received {list(blocks)}")
    if not width > 0 or context < 1:
        raise KpdetectError(f"efficientnet: expected a positive width and context, received {width} and {context}")


def _trunk(x: Tensor, width: float, blocks: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The last features of strides 4, 8 and 16; of the first two, as the block that halves them has widened them."""
    channels = _rounded(STEM * width)
    x = _normalized(keras.layers.Conv2D(channels, 4, strides=2, use_bias=False, name="stem")(pad(x)), "stem")
    widest: list[Tensor] = []
    for number, (stage, count) in enumerate(zip(STAGES, blocks, strict=True), 1):
        for block in range(1, count + 1):
            name = f"stage{number}_{block}"
            inside = x if stage.expansion == 1 else _expanded(x, channels * stage.expansion, name)
            halves = stage.halves and block == 1
            if halves:
                widest.append(inside)
            y = _depthwise(inside, stage.kernel, halves, name)
            y = keras.layers.Conv2D(_rounded(stage.channels * width), 1, use_bias=False, name=f"{name}_project")(y)
            y = _normalized(y, f"{name}_project", relu=False)
            x = y if block == 1 else keras.layers.Add(name=f"{name}_add")([x, y])
            channels = x.shape[-1]
    _, fine, middle = widest
    return fine, middle, x


def _rounded(channels: float) -> int:
    return max(UNIT, round(channels / UNIT) * UNIT)


def _expanded(x: Tensor, channels: int, name: str) -> Tensor:
    return _normalized(keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_expand")(x), f"{name}_expand")


def _depthwise(x: Tensor, kernel: int, halves: bool, name: str) -> Tensor:
    """A kernel for each channel; the one that halves is even, and centred on the four pixels that it halves."""
    if halves:
        x = keras.layers.ZeroPadding2D(kernel // 2)(x)
        layer = keras.layers.DepthwiseConv2D(kernel + 1, strides=2, use_bias=False, name=f"{name}_depthwise")
    else:
        layer = keras.layers.DepthwiseConv2D(kernel, padding="same", use_bias=False, name=f"{name}_depthwise")
    return _normalized(layer(x), f"{name}_depthwise")


def _normalized(x: Tensor, name: str, relu: bool = True) -> Tensor:
    x = BatchNormalization(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x
