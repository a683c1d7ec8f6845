"""Heads of `compact` beside its keypoints: a face score, and the visibility of each keypoint."""

import math
from typing import Any

import keras
from keras import ops

from kpdetect.models.layers import USUAL_SPREAD, Tensor
from kpdetect.models.residual import convolution, pad

SCORE_LOGIT, VISIBILITY_LOGIT = "score_logit", "visibility_logit"
"""Names of the layers before the sigmoids, which training uses for a loss from logits."""


def face_score(features: Tensor, width: int = 16) -> Tensor:
    """The probability that the crop contains a face, by two strided convolutions and a dense layer.

    Example::

        face_score(keras.Input((10, 10, 128)))  # (B,)

    Args:
        features: The deepest features, (B, H / 16, W / 16, C).
        width: Channels of the convolutions.

    Returns:
        (B,) float32 in (0, 1).
    """
    x = convolution(pad(features), width, 3, "score_a", strides=2)
    x = convolution(pad(x), width, 3, "score_b", strides=2)
    x = _flat(x)
    logit = keras.layers.Dense(1, dtype="float32", name=SCORE_LOGIT)(x)
    score = keras.layers.Activation("sigmoid", dtype="float32", name="score_sigmoid")(logit)
    return ops.reshape(score, (-1,))


def point_visibility(features: Tensor, spread: Tensor, width: int = 24, hidden: int = 48) -> Tensor:
    """The probability of each keypoint that it is seen and not hidden by an object or by the head itself.

    Two sources of evidence are added: a dense layer on the features, which describe what covers each part of the face,
    and the spread of the keypoint's heatmap, which is wide where the picture does not show the point.

    Example::

        point_visibility(keras.Input((10, 10, 128)), keras.Input((68,)))  # (B, 68)

    Args:
        features: The deepest features, (B, H / 16, W / 16, C).
        spread: (B, K), the standard deviations of the heatmaps.
        width: Channels of the convolution.
        hidden: Units of the dense layer before the last one.

    Returns:
        (B, K) float32 in (0, 1).
    """
    x = convolution(features, width, 2, "visibility_a", strides=2)
    x = _flat(x)
    x = keras.layers.Dense(hidden, activation="relu", name="visibility_b")(x)
    x = keras.layers.Dense(spread.shape[-1], dtype="float32", name="visibility_context")(x)
    logit = AddSpread(name=VISIBILITY_LOGIT)(x, spread)
    return keras.layers.Activation("sigmoid", dtype="float32", name="visibility")(logit)


def _flat(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, H W C). Keras' layers compute the batch from the shape, which LiteRT cannot do on GPUs."""
    return ops.reshape(x, (-1, math.prod(x.shape[1:])))


@keras.saving.register_keras_serializable(package="kpdetect")
class AddSpread(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Adds ``c ln(s / 0.03)`` to the logit of each keypoint, where s is the standard deviation of its heatmap.

    The factor c of each keypoint is learned. Its initial value is 0.

    Shapes: logits (B, K) and standard deviations (B, K), relative to the crop -> (B, K) float32.

    Example::

        AddSpread()(keras.ops.zeros((1, 68)), keras.ops.ones((1, 68)))  # (1, 68)

    Args:
        name: Name of the layer.
        trainable: Whether c is trained.
        dtype: Data type of the computation.
    """

    def __init__(self, name: str | None = None, trainable: bool = True, dtype: Any = "float32") -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)

    def build(self, logit_shape: tuple[int | None, ...], spread_shape: tuple[int | None, ...] | None = None) -> None:
        """Creates c of each keypoint."""
        self.slope = self.add_weight(shape=(logit_shape[-1],), initializer="zeros", name="slope_bias")

    def call(self, logit: Tensor, spread: Tensor) -> Tensor:
        """(B, K) and (B, K) -> (B, K)."""
        return logit + self.slope * (ops.log(spread) - math.log(USUAL_SPREAD))

    def compute_output_shape(
        self, logit_shape: tuple[int | None, ...], spread_shape: tuple[int | None, ...] | None = None
    ) -> tuple[int | None, ...]:
        """(B, K)."""
        return logit_shape
