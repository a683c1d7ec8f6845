"""Owns the statistical face shape that synthetic faces are drawn from: its mean, its modes, and their file."""

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

    The unit is the mean face's distance between the outer eye corners; x points right, y down, the origin is
    the mean of the points.

    Attributes:
        mean: (K, 2) float32; its own mirror image.
        modes: (M, K, 2) float32, orthonormal, by falling variance.
        deviations: (M,) float32, the standard deviation along each mode.
    """

    mean: Floats
    modes: Floats
    deviations: Floats

    def shape(self, coefficients: npt.ArrayLike) -> Floats:
        """The face shape of some coefficients.

        Args:
            coefficients: (M,) or (N, M), in standard deviations.

        Returns:
            (K, 2) or (N, K, 2) float32.
        """
        weights = np.asarray(coefficients, np.float64) * self.deviations
        return np.asarray(self.mean + np.tensordot(weights, self.modes, axes=1), np.float32)


@functools.lru_cache(maxsize=1)
def face_shape() -> ShapeModel:
    """The shape model of the 68 points of iBUG that ships with the package.

    `tools.derive_face_shape` derived it from the labels of 300-W and tells how.
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
    """The mean face in the unit of its own tight box: what a model that looks at nothing would answer.

    Returns:
        (68, 2) float32, x and y each from 0 to 1; ``box[:2] + mean_shape() * (box[2:] - box[:2])`` puts it in a box.
    """
    mean = face_shape().mean
    box = tight_box(mean)
    return np.asarray((mean - box[:2]) / (box[2:] - box[:2]), np.float32)
