"""Owns `compact`, the network that ships: a small residual net that reads each point off its own heatmap.

Tried on the way (``benchmarks/compact.md`` has the figures): refining what came down by a convolution at stride 4
learned slower than a linear sum of heatmaps, and a residual block at stride 8 before that sum faster.
"""

from collections.abc import Sequence

import keras

from kpdetect.errors import KpdetectError
from kpdetect.models.layers import (
    OUTPUT_NAME,
    UNCERTAINTY_NAME,
    ExpectedError,
    SoftArgmax,
    Tensor,
    image_input,
)
from kpdetect.models.residual import convolution, halving_block, pad, residual_block


def compact(
    num_keypoints: int,
    input_shape: tuple[int, int, int],
    widths: Sequence[int] = (24, 32, 64, 128),
    blocks: Sequence[int] = (1, 2, 3),
) -> keras.Model:
    """A residual net down to stride 16 and back up to 8, heatmaps at strides 8 and 4, and soft-argmax over their sum.

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

    Returns:
        Raw pixels (B, H, W, C) -> ``keypoints`` (B, K, 2), relative to the crop, in (0, 1), and ``uncertainty``
        (B, K), how far off each is expected to be, relative to the crop; float32.

    Raises:
        KpdetectError: The input's size does not divide by 16, or widths and blocks do not fit each other.
    """
    _check(input_shape, widths, blocks)
    image, x = image_input(input_shape)
    x = convolution(pad(x), widths[0], 4, "stem", strides=2)
    levels = []
    for level, (width, count) in enumerate(zip(widths[1:], blocks, strict=True)):
        x = halving_block(x, width, f"stride{4 << level}_1")
        for block in range(2, count + 1):
            x = residual_block(x, width, f"stride{4 << level}_{block}")
        levels.append(x)
    keypoints, spread = SoftArgmax(spread=True, name="soft_argmax")(_heatmaps(levels, widths[2], num_keypoints))
    uncertainty = ExpectedError(name="expected_error")(spread)
    return keras.Model(image, {OUTPUT_NAME: keypoints, UNCERTAINTY_NAME: uncertainty}, name="compact")


def _check(input_shape: tuple[int, int, int], widths: Sequence[int], blocks: Sequence[int]) -> None:
    height, width, _ = input_shape
    if height % 16 or width % 16:
        raise KpdetectError(f"compact: expected a height and width that divide by 16, received {height}x{width}")
    if len(widths) != 4 or len(blocks) != 3 or min(*widths, *blocks) < 1:
        raise KpdetectError(
            f"compact: expected 4 widths and 3 counts of blocks, positive, received {list(widths)} and {list(blocks)}"
        )


def _heatmaps(levels: Sequence[Tensor], width: int, num_keypoints: int) -> Tensor:
    """Carries what the deepest level knows of the whole face to stride 8, and adds that level's heatmaps to stride 4's.

    Only stride 8 looks again at what came down, which is cheap there. The heatmaps are a linear sum: the softmax
    multiplies what the two levels say.
    """
    fine, middle, deep = levels
    context = _doubled(_linear(deep, width, "context16"))
    x = keras.layers.Add(name="context_add")([_linear(middle, width, "context8"), context])
    x = residual_block(keras.layers.ReLU(name="context_relu")(x), width, "refine")
    coarse = _doubled(_linear(x, num_keypoints, "heatmaps8", dtype="float32"))
    return keras.layers.Add(name="heatmaps", dtype="float32")(
        [_linear(fine, num_keypoints, "heatmaps4", dtype="float32"), coarse]
    )


def _linear(x: Tensor, filters: int, name: str, dtype: str | None = None) -> Tensor:
    """A sum of channels, with Keras' own initial weights (Glorot's), for He's make up for a ReLU."""
    return keras.layers.Conv2D(filters, 1, dtype=dtype, name=name)(x)


def _doubled(x: Tensor) -> Tensor:
    """Twice the size, in float32 whatever the policy: XLA has no gradient of it in half precision (TensorFlow 2.21)."""
    return keras.layers.UpSampling2D(2, interpolation="bilinear", dtype="float32")(x)
