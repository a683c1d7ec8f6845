"""Owns how a network's outputs are called, and how a training sees them: as one tensor, since a loss takes one."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kpdetect.models.layers import OUTPUT_NAME, UNCERTAINTY_NAME, Tensor


@keras.saving.register_keras_serializable(package="kpdetect")
class JoinOutputs(keras.layers.Layer):  # type: ignore[misc]  # keras tells no types
    """Keypoints (B, K, 2) and uncertainty (B, K) as one tensor (B, K, 3), in float32 whatever the policy."""

    def __init__(self, name: str | None = None, trainable: bool = True, dtype: Any = "float32") -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)

    def call(self, keypoints: Tensor, uncertainty: Tensor) -> Tensor:
        """(B, K, 3)."""
        return ops.concatenate([keypoints, ops.expand_dims(uncertainty, -1)], axis=-1)


def named_outputs(model: keras.Model) -> dict[str, Tensor]:
    """A network's output tensors by name: ``keypoints``, and ``uncertainty`` where it tells that too."""
    output = model.output
    return dict(output) if isinstance(output, Mapping) else {OUTPUT_NAME: output}


def for_training(model: keras.Model) -> keras.Model:
    """The same network, of the same weights, as `fit` takes it: (B, K, 2), or (B, K, 3) with the uncertainty third."""
    outputs = named_outputs(model)
    if UNCERTAINTY_NAME not in outputs:
        return model
    joined = JoinOutputs(name="joined")(outputs[OUTPUT_NAME], outputs[UNCERTAINTY_NAME])
    return keras.Model(model.input, joined, name=model.name)


def split_joined(predicted: Any) -> dict[str, Any]:
    """What a network or its view for training gave, by name; (B, K, 3) is cut in two."""
    if isinstance(predicted, Mapping):
        return dict(predicted)
    if predicted.shape[-1] == 2:
        return {OUTPUT_NAME: predicted}
    return {OUTPUT_NAME: predicted[..., :2], UNCERTAINTY_NAME: predicted[..., 2]}
