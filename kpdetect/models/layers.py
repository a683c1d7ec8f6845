"""Owns the layers that several architectures share, soft-argmax first, and how all of them begin and end."""

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from kpdetect.models.normalization import BatchNormalization

Tensor = Any  # a keras tensor of whichever backend runs

INPUT_NAME = "image"
OUTPUT_NAME = "keypoints"
UNCERTAINTY_NAME = "uncertainty"

VARIANCE_FLOOR = 1e-6  # relative; a thousandth of the crop squared: the root's slope stays finite
USUAL_SPREAD, USUAL_ERROR = 0.03, 0.015  # relative to the crop


def cell_centers(height: int, width: int) -> npt.NDArray[np.float32]:
    """Where the cells of a heatmap lie, relative to the crop: ``((x + 0.5) / width, (y + 0.5) / height)``.

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
class SoftArgmax(keras.layers.Layer):  # type: ignore[misc]  # keras tells no types
    """The mean place of each heatmap under its softmax: differentiable, and finer than a cell.

    After Sun et al., *Integral Human Pose Regression* (arXiv:1711.08229). Cells stand at their centres,
    ``(i + 0.5) / n``, as the coordinate contract has it. It computes in float32 whatever the policy: half precision
    holds a coordinate to a twentieth of a pixel at best.

    Shapes: logits (B, H, W, K) -> relative ``(x, y)`` (B, K, 2) float32 in (0, 1); with `spread`, a pair of these and
    the heatmaps' standard deviations (B, K), the root of the mean squared distance from the mean, relative too.

    Args:
        spread: Give the standard deviations as well.
        name: The layer's name.
        trainable: It has nothing to train.
        dtype: What it computes in.
    """

    def __init__(
        self, spread: bool = False, name: str | None = None, trainable: bool = True, dtype: Any = "float32"
    ) -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        self.spread = spread

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Lays out the cells of heatmaps of a fixed height and width."""
        _, height, width, _ = input_shape
        if height is None or width is None:
            raise ValueError(f"soft-argmax: expected heatmaps of a known height and width, received {input_shape}")
        self._size_wh = np.array([width, height], np.float32)
        # In cells from the middle, and their squares: half precision, which some exports keep constants in, holds
        # these exactly, and places relative to the crop only to a fifteenth of a pixel.
        cells = (cell_centers(height, width) - 0.5) * self._size_wh
        self._cells = np.round(2 * cells) / 2
        if self.spread:
            self._cells = np.concatenate([self._cells, np.square(self._cells)], axis=1)

    def call(self, logits: Tensor) -> Tensor:
        """(B, H, W, K) -> (B, K, 2), or with `spread` that and (B, K)."""
        # A softmax along the last axis and a 2-D product with a constant, with every size but the batch written down:
        # converters then need no op that computes shapes. Channels go first before anything else, since ONNX has them
        # there already: no transpose is left in its graph.
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
        """What makes this layer again."""
        return {**super().get_config(), "spread": self.spread}


@keras.saving.register_keras_serializable(package="kpdetect")
class ExpectedError(keras.layers.Layer):  # type: ignore[misc]  # keras tells no types
    """How far off a point is expected to be, from its heatmap's standard deviation: ``exp(a + b ln(s / 0.03))``.

    A heatmap must cover the cells that a point lies between, however sure it is, so its deviation is no error by
    itself. The two numbers of each point are learned by likelihood (see `kpdetect.models.losses`), and `calibrate`
    moves the first where validation faces tell that the errors are other ones.

    Shapes: (B, K) -> (B, K) float32, relative to the crop.

    Args:
        name: The layer's name.
        trainable: Learn the two numbers.
        dtype: What it computes in.
    """

    def __init__(self, name: str | None = None, trainable: bool = True, dtype: Any = "float32") -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Two numbers a point; at first, an error that is usual after some epochs, and in proportion to the spread."""
        shape = (input_shape[-1],)
        start = keras.initializers.Constant(math.log(USUAL_ERROR))
        self.level = self.add_weight(shape=shape, initializer=start, name="level_bias")
        self.slope = self.add_weight(shape=shape, initializer="ones", name="slope_bias")

    def call(self, spread: Tensor) -> Tensor:
        """(B, K) -> (B, K)."""
        return ops.exp(self.level + self.slope * ops.log(spread / USUAL_SPREAD))

    def calibrate(self, factor: npt.ArrayLike) -> None:
        """Multiplies what it says by a factor, one for all points or one each, (K,)."""
        self.level.assign(self.level + np.log(np.asarray(factor, np.float32)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(B, K)."""
        return input_shape


def image_input(input_shape: tuple[int, int, int], offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """The way in of every architecture: raw pixels, scaled to [offset, offset + 1].

    Args:
        input_shape: (height, width, channels).
        offset: What black becomes.

    Returns:
        The input named ``image``, (B, H, W, C) of 0-255, and the scaled pixels.
    """
    image = keras.Input(input_shape, name=INPUT_NAME)
    return image, keras.layers.Rescaling(1 / 255, offset=offset, name="scale_pixels")(image)


def normalize(x: Tensor, name: str | None = None, momentum: float = 0.9) -> Tensor:
    """Batch normalisation with PyTorch's defaults: momentum 0.1 there is 0.9 here, epsilon 1e-5."""
    return BatchNormalization(momentum=momentum, epsilon=1e-5, name=name)(x)
