"""`compact`: a small residual network with one heatmap per keypoint. It is the architecture of the packaged model.

``docs/development/compact.md`` has the experiments behind it. A linear sum of heatmaps learned faster than a
convolution at stride 4, and a residual block at stride 8 before the sum made it faster still.
"""

from collections.abc import Sequence

import keras

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.models.heads import face_score, point_visibility
from kpdetect.models.heatmaps import summed_heatmaps
from kpdetect.models.layers import (
    OUTPUT_NAME,
    SCORE_NAME,
    UNCERTAINTY_NAME,
    VISIBILITY_NAME,
    ExpectedError,
    SoftArgmax,
    image_input,
)
from kpdetect.models.residual import convolution, halving_block, pad, residual_block


def compact(
    num_keypoints: int,
    input_shape: tuple[int, int, int],
    widths: Sequence[int] = (24, 32, 64, 128),
    blocks: Sequence[int] = (1, 2, 3),
    heads: Sequence[str] = (),
) -> keras.Model:
    """A residual network down to stride 16 and up to 8, heatmaps at strides 8 and 4, and soft-argmax over their sum.

    All downsampling uses even kernels (4 or 2), and all upsampling is bilinear about cell centres. So cell i of n has
    its centre at (i + 0.5) / n of the crop at every depth. TensorFlow's ``same`` padding with stride 2 is one-sided on
    even sizes and would shift each level by half a cell.

    Sources: residual blocks (He et al., arXiv:1512.03385) with pooled shortcuts (arXiv:1812.01187), a feature pyramid
    (Lin et al., arXiv:1612.03144), integral regression (Sun et al., arXiv:1711.08229).

    Example::

        model = compact(68, (160, 160, 1))
        model(crops)["keypoints"]  # (B, 68, 2)

    Args:
        num_keypoints: K, the number of heatmaps.
        input_shape: (height, width, channels); height and width are multiples of 16.
        widths: Channels at strides 2, 4, 8 and 16.
        blocks: Residual blocks at strides 4, 8 and 16, at least one each. The first one halves the size.
        heads: Further outputs: ``score`` (B,), the probability that the crop contains a face, and ``visibility``
            (B, K), the probability of each keypoint that it is seen (`kpdetect.models.heads`). They need training data
            of their own, see ``tools/train_compact.py``.

    Returns:
        A model from raw pixels (B, H, W, C) to a dict of ``keypoints`` (B, K, 2), relative to the crop, in (0, 1), and
        ``uncertainty`` (B, K), the expected error of each keypoint relative to the crop; both float32.

    Raises:
        KpdetectError: Height or width is not a multiple of 16, `widths` or `blocks` has a wrong length or value, or a
            head does not exist.
    """
    _check(input_shape, widths, blocks, heads)
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
    outputs = {OUTPUT_NAME: keypoints, UNCERTAINTY_NAME: ExpectedError(name="expected_error")(spread)}
    if SCORE_NAME in heads:
        outputs[SCORE_NAME] = face_score(deep)
    if VISIBILITY_NAME in heads:
        outputs[VISIBILITY_NAME] = point_visibility(deep, spread)
    return keras.Model(image, outputs, name="compact")


def _check(
    input_shape: tuple[int, int, int], widths: Sequence[int], blocks: Sequence[int], heads: Sequence[str]
) -> None:
    height, width, _ = input_shape
    if height % 16 or width % 16:
        raise KpdetectError(f"compact: expected a height and width that are multiples of 16, received {height}x{width}")
    if len(widths) != 4 or len(blocks) != 3 or min(*widths, *blocks) < 1:
        raise KpdetectError(
            f"compact: expected 4 positive widths and 3 positive numbers of blocks, received {list(widths)} and "
            f"{list(blocks)}"
        )
    for head in heads:
        if head not in (SCORE_NAME, VISIBILITY_NAME):
            raise unknown_name("head", head, [SCORE_NAME, VISIBILITY_NAME])
