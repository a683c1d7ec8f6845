"""`efficientnet`: the first five stages of EfficientNet-Lite0, with the heatmap head of `compact`.

The trunk starts from ImageNet weights, which are packaged with kpdetect. It needs fewer epochs than `compact` and more
time per crop; ``docs/development/compact.md`` has the figures.
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
UNIT = 8  # widths are rounded to multiples of this
NORM_EPSILON = 1e-3  # the value that the ImageNet weights were trained with


@dataclass(frozen=True)
class Stage:
    """A stage: blocks with the same kernel and number of channels.

    Attributes:
        kernel: Side length of the depthwise kernels.
        halves: Whether the first block halves the size.
        expansion: Ratio of the channels inside a block to those of its input.
        channels: Output channels of a block.
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
"""The first five of the seven stages of EfficientNet-B0. The last two, at stride 32, have most of the weights."""


def efficientnet(
    num_keypoints: int,
    input_shape: tuple[int, int, int],
    width: float = 1.0,
    blocks: Sequence[int] = (1, 2, 2, 3, 3),
    context: int = 64,
) -> keras.Model:
    """EfficientNet-Lite0 down to stride 16, upsampling to 8, heatmaps at strides 8 and 4, soft-argmax of their sum.

    All downsampling uses even kernels (4 or 6), and all upsampling is bilinear about cell centres. So cell i of n has
    its centre at (i + 0.5) / n of the crop at every depth. The published kernels are odd, and their ``same`` padding
    with stride 2 shifts each level by half a cell; `kpdetect.models.imagenet` converts them to even kernels.

    Sources: EfficientNet (Tan and Le, arXiv:1905.11946) in its Lite form, with ReLU6 and without
        squeeze-and-excitation,
    which suits small processors and integer arithmetic; a feature pyramid (Lin et al., arXiv:1612.03144); integral
    regression (Sun et al., arXiv:1711.08229).

    Example::

        model = efficientnet(68, (160, 160, 3))
        model(crops)["keypoints"]  # (B, 68, 2)

    Args:
        num_keypoints: K, the number of heatmaps.
        input_shape: (height, width, channels); height and width are multiples of 16.
        width: Width of the trunk relative to EfficientNet-Lite0. ImageNet weights exist for 1.
        blocks: Number of blocks of each of the five `STAGES`, at least 1. ImageNet weights exist for the default.
        context: Channels of the upsampling path.

    Returns:
        A model from raw pixels (B, H, W, C) to a dict of ``keypoints`` (B, K, 2), relative to the crop, in (0, 1), and
        ``uncertainty`` (B, K), the expected error of each keypoint relative to the crop; both float32.

    Raises:
        KpdetectError: Height or width is not a multiple of 16, or an option is out of range.
    """
    _check(input_shape, width, blocks, context)
    image = keras.Input(input_shape, name=INPUT_NAME)
    # The input range of EfficientNet-Lite: [-127 / 128, 1].
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="scale_pixels")(image)
    heatmaps = summed_heatmaps(*_trunk(x, width, blocks), context, num_keypoints)
    keypoints, spread = SoftArgmax(spread=True, name="soft_argmax")(heatmaps)
    uncertainty = ExpectedError(name="expected_error")(spread)
    return keras.Model(image, {OUTPUT_NAME: keypoints, UNCERTAINTY_NAME: uncertainty}, name="efficientnet")


def _check(input_shape: tuple[int, int, int], width: float, blocks: Sequence[int], context: int) -> None:
    height, width_px, _ = input_shape
    if height % 16 or width_px % 16:
        raise KpdetectError(
            f"efficientnet: expected a height and width that are multiples of 16, received {height}x{width_px}"
        )
    if len(blocks) != len(STAGES) or min(blocks) < 1:
        raise KpdetectError(f"efficientnet: expected {len(STAGES)} positive numbers of blocks, received {list(blocks)}")
    if not width > 0 or context < 1:
        raise KpdetectError(f"efficientnet: expected a positive width and context, received {width} and {context}")


def _trunk(x: Tensor, width: float, blocks: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The last features at strides 4, 8 and 16. Those at 4 and 8 are taken after the expansion of the next stage."""
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
    """A depthwise convolution; a kernel of stride 2 is even, so it is centred between the pixels that it reduces."""
    if halves:
        x = keras.layers.ZeroPadding2D(kernel // 2)(x)
        layer = keras.layers.DepthwiseConv2D(kernel + 1, strides=2, use_bias=False, name=f"{name}_depthwise")
    else:
        layer = keras.layers.DepthwiseConv2D(kernel, padding="same", use_bias=False, name=f"{name}_depthwise")
    return _normalized(layer(x), f"{name}_depthwise")


def _normalized(x: Tensor, name: str, relu: bool = True) -> Tensor:
    x = BatchNormalization(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x
