"""Layers that several architectures share: soft-argmax, expected error, input scaling, batch normalisation."""

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from kpdetect.models.normalization import BatchNormalization

Tensor = Any  # a tensor of the Keras backend

INPUT_NAME = "image"
OUTPUT_NAME = "keypoints"
UNCERTAINTY_NAME = "uncertainty"
SCORE_NAME = "score"
VISIBILITY_NAME = "visibility"

VARIANCE_FLOOR = 1e-6  # relative to the crop, squared; keeps the gradient of the square root finite
USUAL_SPREAD, USUAL_ERROR = 0.03, 0.015  # relative to the crop


def cell_centers(height: int, width: int) -> npt.NDArray[np.float32]:
    """The centres of the cells of a heatmap relative to the crop: ``((x + 0.5) / width, (y + 0.5) / height)``.

    Returns:
        (height * width, 2) float32 in (0, 1), row by row.

    >>> cell_centers(1, 2)
    array([[0.25, 0.5 ],
           [0.75, 0.5 ]], dtype=float32)
    """
    rows, columns = np.mgrid[0:height, 0:width]
    centers = np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=-1)
    return np.asarray(centers.reshape(-1, 2), np.float32)


@keras.saving.register_keras_serializable(package="kpdetect")
class SoftArgmax(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """The expected position of each heatmap under its softmax. It is differentiable and has subcell precision.

    See Sun et al., *Integral Human Pose Regression* (arXiv:1711.08229). The position of a cell is its centre,
    ``(i + 0.5) / n``. The layer computes in float32 under every policy, because half precision resolves a coordinate
    only to a twentieth of a pixel.

    Shapes: logits (B, H, W, K) -> relative ``(x, y)`` (B, K, 2) float32 in (0, 1). With `spread`, a pair of these and
        the
    standard deviations of the heatmaps (B, K), the root of the mean squared distance from the mean, also relative.

    Example::

        SoftArgmax()(keras.ops.zeros((1, 28, 28, 68)))  # every keypoint at (0.5, 0.5)

    Args:
        spread: Also output the standard deviations.
        name: Name of the layer.
        trainable: The layer has no weights.
        dtype: Data type of the computation.
    """

    def __init__(
        self, spread: bool = False, name: str | None = None, trainable: bool = True, dtype: Any = "float32"
    ) -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        self.spread = spread

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Computes the cell centres; height and width must be known."""
        _, height, width, _ = input_shape
        if height is None or width is None:
            raise ValueError(f"soft-argmax: expected heatmaps of fixed height and width, received {input_shape}")
        self._size_wh = np.array([width, height], np.float32)
        # In cells from the centre, and their squares. Exports in half precision represent these constants exactly, but
        # positions relative to the crop only to a fifteenth of a pixel.
        cells = (cell_centers(height, width) - 0.5) * self._size_wh
        self._cells = np.round(2 * cells) / 2
        if self.spread:
            self._cells = np.concatenate([self._cells, np.square(self._cells)], axis=1)

    def call(self, logits: Tensor) -> Tensor:
        """(B, H, W, K) -> (B, K, 2), or with `spread` that and (B, K)."""
        # A softmax along the last axis and a 2-D product with a constant, with all sizes fixed except the batch, so
        # that converters need no shape computation. Channels are moved first, where ONNX has them already, so that its
        # graph needs no transpose.
        count, num_keypoints = len(self._cells), logits.shape[-1]
        heatmaps = ops.reshape(ops.transpose(logits, (0, 3, 1, 2)), (-1, count))
        weights = ops.softmax(heatmaps, axis=-1)
        means = ops.matmul(weights, ops.convert_to_tensor(self._cells, dtype=self.compute_dtype))
        size_wh = ops.convert_to_tensor(self._size_wh, dtype=self.compute_dtype)
        keypoints = ops.reshape(means[:, :2] / size_wh + 0.5, (-1, num_keypoints, 2))
        if not self.spread:
            return keypoints
        variance = ops.maximum(means[:, 2:] - ops.square(means[:, :2]), 0.0) / ops.square(size_wh)
        return keypoints, ops.reshape(ops.sqrt(ops.sum(variance, axis=-1) + VARIANCE_FLOOR), (-1, num_keypoints))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(B, K, 2), or with `spread` that and (B, K)."""
        shape = (input_shape[0], input_shape[-1], 2)
        return (shape, shape[:2]) if self.spread else shape

    def get_config(self) -> dict[str, Any]:
        """The configuration of the layer."""
        return {**super().get_config(), "spread": self.spread}


@keras.saving.register_keras_serializable(package="kpdetect")
class ExpectedError(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """The expected error of a keypoint, from the standard deviation s of its heatmap: ``exp(a + b ln(s / 0.03))``.

    A heatmap always covers the cells around a keypoint, so its standard deviation alone is not an error. The parameters
    a and b of each keypoint are learned by likelihood (see `kpdetect.models.losses`); `calibrate` adjusts a on
    validation faces.

    Shapes: (B, K) -> (B, K) float32, relative to the crop.

    Example::

        keypoints, spread = SoftArgmax(spread=True)(heatmaps)
        uncertainty = ExpectedError()(spread)

    Args:
        name: Name of the layer.
        trainable: Whether a and b are trained.
        dtype: Data type of the computation.
    """

    def __init__(self, name: str | None = None, trainable: bool = True, dtype: Any = "float32") -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates a and b of each keypoint. The initial error is proportional to the spread."""
        shape = (input_shape[-1],)
        start = keras.initializers.Constant(math.log(USUAL_ERROR))
        self.level = self.add_weight(shape=shape, initializer=start, name="level_bias")
        self.slope = self.add_weight(shape=shape, initializer="ones", name="slope_bias")

    def call(self, spread: Tensor) -> Tensor:
        """(B, K) -> (B, K)."""
        return ops.exp(self.level + self.slope * ops.log(spread / USUAL_SPREAD))

    def calibrate(self, factor: npt.ArrayLike) -> None:
        """Multiplies the expected errors by `factor`, a number or one for each keypoint, (K,)."""
        self.level.assign(self.level + np.log(np.asarray(factor, np.float32)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(B, K)."""
        return input_shape


def image_input(input_shape: tuple[int, int, int], offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """The input of an architecture: raw pixels, which are scaled to [offset, offset + 1].

    Args:
        input_shape: (height, width, channels).
        offset: The value of black after scaling.

    Returns:
        The input ``image``, (B, H, W, C) in [0, 255], and the scaled pixels.
    """
    image = keras.Input(input_shape, name=INPUT_NAME)
    return image, keras.layers.Rescaling(1 / 255, offset=offset, name="scale_pixels")(image)


def normalize(x: Tensor, name: str | None = None, momentum: float = 0.9) -> Tensor:
    """Batch normalisation with the defaults of PyTorch: its momentum 0.1 is 0.9 in Keras, epsilon is 1e-5."""
    return BatchNormalization(momentum=momentum, epsilon=1e-5, name=name)(x)
