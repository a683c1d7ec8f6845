"""Owns the NME as a Keras metric, for `fit` to watch; `metrics` has the same number without Keras."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kpdetect.core.schema import KeypointSchema

Tensor = Any  # a keras tensor of whichever backend runs


@keras.saving.register_keras_serializable(package="kpdetect")
class NormalizedMeanError(keras.metrics.Metric):  # type: ignore[misc]  # keras tells no types
    """The mean over faces of `kpdetect.evaluation.metrics.nme_per_face`, as a fraction, kept up batch by batch.

    It takes keypoints relative to the crop (B, K, 2), predicted ones maybe with a further number each, and their
    visibility (B, K) as the sample weight: list it among ``weighted_metrics``, for Keras gives the
    others no weights. Distances are taken in pixels, so that crops that are not square count x and y alike. Faces
    without an error, as `kpdetect.evaluation.metrics` has it, are left out; while there is no other, the result is NaN.

    Args:
        schema: The scheme of the points, or what its `to_dict` wrote.
        size_hw: The crop's (height, width) in pixels.
        name: What logs call it.
    """

    def __init__(self, schema: KeypointSchema | Mapping[str, Any], size_hw: tuple[int, int], name: str = "nme") -> None:
        super().__init__(name=name, dtype="float32")
        self.schema = schema if isinstance(schema, KeypointSchema) else KeypointSchema.from_dict(schema)
        height, width = size_hw
        self.size_hw = (int(height), int(width))
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Adds the faces of a batch; without weights every point is visible."""
        height, width = self.size_hw
        to_pixels = ops.convert_to_tensor([float(width), float(height)], dtype="float32")
        true = ops.cast(y_true, "float32") * to_pixels
        predicted = ops.cast(y_pred[..., :2], "float32") * to_pixels
        ones = ops.ones_like(true[..., 0])
        seen = ones > 0 if sample_weight is None else ops.cast(sample_weight, "float32") * ones > 0
        errors, known = self._nme_per_face(true, predicted, seen)
        self.total.assign_add(ops.sum(ops.where(known, errors, 0.0)))
        self.count.assign_add(ops.sum(ops.cast(known, "float32")))

    def result(self) -> Tensor:
        """The mean over the faces seen so far; NaN while there are none."""
        return self.total / self.count

    def get_config(self) -> dict[str, Any]:
        """What makes this metric again."""
        return {"schema": self.schema.to_dict(), "size_hw": list(self.size_hw), "name": self.name}

    def _nme_per_face(self, true: Tensor, predicted: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) errors, and whether each face has one."""
        distances = ops.sqrt(ops.sum(ops.square(predicted - true), axis=-1))
        weights = ops.cast(seen, "float32")
        count = ops.sum(weights, axis=-1)
        # `where` and not a product: a hidden point may be NaN, and zero times NaN is NaN.
        total = ops.sum(ops.where(seen, distances, 0.0), axis=-1)
        normalizers, known = self._normalizers(true, seen)
        known = ops.logical_and(known, count > 0)
        return ops.divide_no_nan(total, count * ops.where(known, normalizers, 0.0)), known

    def _normalizers(self, true: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) what divides each face's error, and whether the visible points tell it."""
        if self.schema.normalizer_points is not None:
            first, second = self.schema.normalizer_points
            distance = ops.sqrt(ops.sum(ops.square(true[:, first] - true[:, second]), axis=-1))
            return distance, ops.logical_and(ops.logical_and(seen[:, first], seen[:, second]), distance > 0)
        if self.schema.num_keypoints > 1:
            shown = ops.expand_dims(seen, -1)
            extent = ops.max(ops.where(shown, true, -1e9), axis=1) - ops.min(ops.where(shown, true, 1e9), axis=1)
            # Without a visible point the extent is negative on both sides, and its area is not.
            side = ops.sqrt(ops.prod(ops.maximum(extent, 0.0), axis=-1))
            return side, side > 0
        width = ops.full_like(true[:, 0, 0], float(self.size_hw[1]))
        return width, width > 0
