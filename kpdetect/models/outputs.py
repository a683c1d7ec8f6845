"""The outputs of a network by name, and joined into one tensor for training, because a loss takes one tensor."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kpdetect.core.errors import KpdetectError
from kpdetect.models.layers import OUTPUT_NAME, UNCERTAINTY_NAME, Tensor


@keras.saving.register_keras_serializable(package="kpdetect")
class JoinOutputs(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Joins keypoints (B, K, 2) and uncertainty (B, K) into one tensor (B, K, 3), always in float32.

    Example::

        JoinOutputs()(keypoints, uncertainty)  # (B, 68, 3)
    """

    def __init__(self, name: str | None = None, trainable: bool = True, dtype: Any = "float32") -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)

    def call(self, keypoints: Tensor, uncertainty: Tensor) -> Tensor:
        """(B, K, 3)."""
        return ops.concatenate([keypoints, ops.expand_dims(uncertainty, -1)], axis=-1)


def named_outputs(model: keras.Model) -> dict[str, Tensor]:
    """The output tensors of a network by name: ``keypoints`` and, if it has that output, ``uncertainty``.

    Example:
        ``named_outputs(model)["keypoints"].shape`` is (None, 68, 2).
    """
    output = model.output
    return dict(output) if isinstance(output, Mapping) else {OUTPUT_NAME: output}


def for_training(model: keras.Model) -> keras.Model:
    """The network for `fit`, with shared weights: it outputs (B, K, 2), or (B, K, 3) with the uncertainty as the third
    value.

    Raises:
        KpdetectError: The network has heads that labels of keypoints do not train.

    Example:
        ``for_training(build("compact", 68, (112, 112, 1))).output_shape`` is (None, 68, 3).
    """
    outputs = named_outputs(model)
    heads = [name for name in outputs if name not in (OUTPUT_NAME, UNCERTAINTY_NAME)]
    if heads:
        raise KpdetectError(
            f"{model.name}: expected a network that predicts keypoints, received the heads {', '.join(heads)}, which "
            "need labels of their own: leave out architecture_options.heads"
        )
    if UNCERTAINTY_NAME not in outputs:
        return model
    joined = JoinOutputs(name="joined")(outputs[OUTPUT_NAME], outputs[UNCERTAINTY_NAME])
    return keras.Model(model.input, joined, name=model.name)


def split_joined(predicted: Any) -> dict[str, Any]:
    """Predictions of a network, or of its version for training, by name: splits (B, K, 3) into two arrays.

    Example:
        ``split_joined(model.predict(crops))["keypoints"]``
    """
    if isinstance(predicted, Mapping):
        return dict(predicted)
    if predicted.shape[-1] == 2:
        return {OUTPUT_NAME: predicted}
    return {OUTPUT_NAME: predicted[..., :2], UNCERTAINTY_NAME: predicted[..., 2]}
