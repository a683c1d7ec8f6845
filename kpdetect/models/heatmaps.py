"""Owns how a heatmap for each point comes from features of three sizes."""

import keras

from kpdetect.models.layers import Tensor
from kpdetect.models.residual import residual_block


def summed_heatmaps(fine: Tensor, middle: Tensor, deep: Tensor, width: int, num_keypoints: int) -> Tensor:
    """Carries what the deepest level knows of the whole face to stride 8, and adds that level's heatmaps to stride 4's.

    Only stride 8 looks again at what came down, which is cheap there. The heatmaps are a linear sum: the softmax
    multiplies what the two levels say.

    Args:
        fine: Features of stride 4, (B, H / 4, W / 4, …).
        middle: Of stride 8.
        deep: Of stride 16.
        width: Channels of the way back up.
        num_keypoints: K.

    Returns:
        (B, H / 4, W / 4, K), float32.
    """
    context = doubled(_linear(deep, width, "context16"))
    x = keras.layers.Add(name="context_add")([_linear(middle, width, "context8"), context])
    x = residual_block(keras.layers.ReLU(name="context_relu")(x), width, "refine")
    coarse = doubled(_linear(x, num_keypoints, "heatmaps8", dtype="float32"))
    return keras.layers.Add(name="heatmaps", dtype="float32")(
        [_linear(fine, num_keypoints, "heatmaps4", dtype="float32"), coarse]
    )


def doubled(x: Tensor) -> Tensor:
    """Twice the size, in float32 whatever the policy: XLA has no gradient of it in half precision (TensorFlow 2.21)."""
    return keras.layers.UpSampling2D(2, interpolation="bilinear", dtype="float32")(x)


def _linear(x: Tensor, filters: int, name: str, dtype: str | None = None) -> Tensor:
    """A sum of channels, with Keras' own initial weights (Glorot's), for He's make up for a ReLU."""
    return keras.layers.Conv2D(filters, 1, dtype=dtype, name=name)(x)
