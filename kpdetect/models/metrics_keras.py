"""The NME as a Keras metric. `kpdetect.evaluation.metrics` computes the same value without Keras."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kpdetect.core.schema import KeypointSchema

Tensor = Any  # a tensor of the Keras backend


@keras.saving.register_keras_serializable(package="kpdetect")
class NormalizedMeanError(keras.metrics.Metric):  # type: ignore[misc]  # keras has no types
    """The mean normalised error over faces, as a fraction; see `kpdetect.evaluation.metrics.nme_per_face`.

    Takes keypoints relative to the crop, true (B, K, 2) and predicted (B, K, 2) or (B, K, 3), and their visibility (B,
    K) as the sample weight. List the metric in ``weighted_metrics``, because Keras passes no weights to ``metrics``.
    Distances are computed in pixels, so that x and y count equally in crops that are not square. Faces without a
    normaliser or a visible keypoint are not counted; the result is NaN until a face is counted.

    Example::

        model.compile("adam", Wing(), weighted_metrics=[NormalizedMeanError(IBUG68, (112, 112))])

    Args:
        schema: The keypoint schema, or the output of its `to_dict`.
        size_hw: (height, width) of the crop in pixels.
        name: Name of the metric in logs.
    """

    def __init__(self, schema: KeypointSchema | Mapping[str, Any], size_hw: tuple[int, int], name: str = "nme") -> None:
        super().__init__(name=name, dtype="float32")
        self.schema = schema if isinstance(schema, KeypointSchema) else KeypointSchema.from_dict(schema)
        height, width = size_hw
        self.size_hw = (int(height), int(width))
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Adds the faces of a batch. Without sample weights, every keypoint is visible."""
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
        """The mean over the faces so far; NaN without faces."""
        return self.total / self.count

    def get_config(self) -> dict[str, Any]:
        """The configuration of the metric."""
        return {"schema": self.schema.to_dict(), "size_hw": list(self.size_hw), "name": self.name}

    def _nme_per_face(self, true: Tensor, predicted: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Errors (B,), and whether each face has one (B,)."""
        distances = ops.sqrt(ops.sum(ops.square(predicted - true), axis=-1))
        weights = ops.cast(seen, "float32")
        count = ops.sum(weights, axis=-1)
        # `where` instead of a product: hidden keypoints may be NaN, and zero times NaN is NaN.
        total = ops.sum(ops.where(seen, distances, 0.0), axis=-1)
        normalizers, known = self._normalizers(true, seen)
        known = ops.logical_and(known, count > 0)
        return ops.divide_no_nan(total, count * ops.where(known, normalizers, 0.0)), known

    def _normalizers(self, true: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Normalisers (B,), and whether the visible keypoints define one (B,)."""
        if self.schema.normalizer_points is not None:
            first, second = self.schema.normalizer_points
            distance = ops.sqrt(ops.sum(ops.square(true[:, first] - true[:, second]), axis=-1))
            return distance, ops.logical_and(ops.logical_and(seen[:, first], seen[:, second]), distance > 0)
        if self.schema.num_keypoints > 1:
            shown = ops.expand_dims(seen, -1)
            extent = ops.max(ops.where(shown, true, -1e9), axis=1) - ops.min(ops.where(shown, true, 1e9), axis=1)
            # Without a visible keypoint, both extents are negative, and their product would be positive.
            side = ops.sqrt(ops.prod(ops.maximum(extent, 0.0), axis=-1))
            return side, side > 0
        width = ops.full_like(true[:, 0, 0], float(self.size_hw[1]))
        return width, width > 0
