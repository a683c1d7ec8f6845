"""The statistical shape model of synthetic faces and its packaged file."""

import functools
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, tight_box


@dataclass(frozen=True)
class ShapeModel:
    """A point distribution model of frontal faces (Cootes et al., Active Shape Models, CVIU 1995).

    The unit of length is the distance of the outer eye corners of the mean face. The x axis points right, the y axis
    down, and the origin is the mean of the points.

    Attributes:
        mean: (K, 2) float32, symmetric about the y axis.
        modes: (M, K, 2) float32, orthonormal, by descending variance.
        deviations: (M,) float32, standard deviation along each mode.

    Example:
        >>> model = face_shape()
        >>> model.shape(np.zeros(len(model.deviations))).shape
        (68, 2)
    """

    mean: Floats
    modes: Floats
    deviations: Floats

    def shape(self, coefficients: npt.ArrayLike) -> Floats:
        """The shape with the given coefficients: ``mean + sum(coefficient * deviation * mode)``.

        Args:
            coefficients: (M,) or (N, M), in standard deviations.

        Returns:
            (K, 2) or (N, K, 2) float32.
        """
        weights = np.asarray(coefficients, np.float64) * self.deviations
        return np.asarray(self.mean + np.tensordot(weights, self.modes, axes=1), np.float32)


@functools.lru_cache(maxsize=1)
def face_shape() -> ShapeModel:
    """The packaged shape model of the 68 iBUG keypoints.

    `tools.derive_face_shape` derives it from the labels of 300-W.
    """
    text = resources.files("kpdetect.data.synthetic").joinpath("face_shape.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    count = len(stored["mean"]) // 2
    return ShapeModel(
        mean=np.array(stored["mean"], np.float32).reshape(count, 2),
        modes=np.array(stored["modes"], np.float32).reshape(-1, count, 2),
        deviations=np.array(stored["deviations"], np.float32),
    )


def mean_shape() -> Floats:
    """The mean face relative to its tight box: the prediction of a model that ignores the image.

    Returns:
        (68, 2) float32, x and y each in [0, 1].

    Example:
        >>> box = np.float32([10, 20, 110, 120])
        >>> (box[:2] + mean_shape() * (box[2:] - box[:2])).max(axis=0)
        array([110., 120.], dtype=float32)
    """
    mean = face_shape().mean
    box = tight_box(mean)
    return np.asarray((mean - box[:2]) / (box[2:] - box[:2]), np.float32)
