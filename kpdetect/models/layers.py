"""Owns the layers that several architectures share, soft-argmax first, and how all of them begin and end."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

Tensor = Any  # a keras tensor of whichever backend runs

INPUT_NAME = "image"
OUTPUT_NAME = "keypoints"


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

    Shapes: logits (B, H, W, K) -> relative ``(x, y)`` (B, K, 2) float32 in (0, 1).
    """

    def __init__(self, name: str | None = None, trainable: bool = True, dtype: Any = "float32") -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Lays out the cells of heatmaps of a fixed height and width."""
        _, height, width, _ = input_shape
        if height is None or width is None:
            raise ValueError(f"soft-argmax: expected heatmaps of a known height and width, received {input_shape}")
        self._centers = cell_centers(height, width)

    def call(self, logits: Tensor) -> Tensor:
        """(B, H, W, K) -> (B, K, 2)."""
        # A softmax along the last axis and a 2-D product with a constant, with every size but the batch written down:
        # converters then need no op that computes shapes.
        cells, num_keypoints = len(self._centers), logits.shape[-1]
        heatmaps = ops.transpose(ops.reshape(logits, (-1, cells, num_keypoints)), (0, 2, 1))
        weights = ops.softmax(ops.reshape(heatmaps, (-1, cells)), axis=-1)
        means = ops.matmul(weights, ops.convert_to_tensor(self._centers, dtype=self.compute_dtype))
        return ops.reshape(means, (-1, num_keypoints, 2))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(B, K, 2)."""
        return (input_shape[0], input_shape[-1], 2)


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


def normalize(x: Tensor, name: str | None = None) -> Tensor:
    """Batch normalisation with PyTorch's defaults: momentum 0.1 there is 0.9 here, epsilon 1e-5."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
