"""The heatmap head: one heatmap per keypoint from features of three sizes."""

import keras

from kpdetect.models.layers import Tensor
from kpdetect.models.residual import residual_block


def summed_heatmaps(fine: Tensor, middle: Tensor, deep: Tensor, width: int, num_keypoints: int) -> Tensor:
    """Adds the deepest features to those of stride 8, and the heatmaps of stride 8 to those of stride 4.

    Only the features of stride 8 are refined by a residual block, which is cheap there. The sum of the heatmaps is
    linear, so the softmax multiplies the distributions of the two levels.

    Args:
        fine: Features of stride 4, (B, H / 4, W / 4, …).
        middle: Features of stride 8, (B, H / 8, W / 8, …).
        deep: Features of stride 16, (B, H / 16, W / 16, …).
        width: Channels of the upsampling path.
        num_keypoints: K, the number of heatmaps.

    Returns:
        Heatmap logits (B, H / 4, W / 4, K), float32.
    """
    context = doubled(_linear(deep, width, "context16"))
    x = keras.layers.Add(name="context_add")([_linear(middle, width, "context8"), context])
    x = residual_block(keras.layers.ReLU(name="context_relu")(x), width, "refine")
    coarse = doubled(_linear(x, num_keypoints, "heatmaps8", dtype="float32"))
    return keras.layers.Add(name="heatmaps", dtype="float32")(
        [_linear(fine, num_keypoints, "heatmaps4", dtype="float32"), coarse]
    )


def doubled(x: Tensor) -> Tensor:
    """Bilinear upsampling by 2, always in float32: XLA has no half-precision gradient of it (TensorFlow 2.21)."""
    return keras.layers.UpSampling2D(2, interpolation="bilinear", dtype="float32")(x)


def _linear(x: Tensor, filters: int, name: str, dtype: str | None = None) -> Tensor:
    """A 1x1 convolution without activation, so with Glorot initialisation instead of He's."""
    return keras.layers.Conv2D(filters, 1, dtype=dtype, name=name)(x)
