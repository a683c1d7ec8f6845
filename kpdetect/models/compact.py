"""Owns `compact`, the network that ships: a small residual net that reads each point off its own heatmap.

Tried on the way (``docs/development/compact.md`` has the figures): refining what came down by a convolution at stride 4
learned slower than a linear sum of heatmaps, and a residual block at stride 8 before that sum faster.
"""

from collections.abc import Sequence

import keras

from kpdetect.core.errors import KpdetectError
from kpdetect.models.heatmaps import summed_heatmaps
from kpdetect.models.layers import OUTPUT_NAME, UNCERTAINTY_NAME, ExpectedError, SoftArgmax, image_input
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
    fine, middle, deep = levels
    heatmaps = summed_heatmaps(fine, middle, deep, widths[2], num_keypoints)
    keypoints, spread = SoftArgmax(spread=True, name="soft_argmax")(heatmaps)
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
