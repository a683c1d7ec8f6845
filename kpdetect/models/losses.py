"""Owns the losses: MSE, L1, smooth L1 and Wing, per point, with `keras.ops` alone.

Every loss takes relative keypoints (B, K, 2) and a `unit` that both are multiplied by first: 100 measures in per cent
of the crop, 224 / 50 in the seeds' ``(px - 100) / 50``. It gives one number per point, the mean of x and y, so that
a sample weight (B, K) of zeros and ones, the points' visibility, weighs it; the batch's loss is the mean over the
points that count. Hidden points need finite coordinates too: zero times NaN is NaN.

Where the network tells a third number per point, (B, K, 3), it is how far off it expects the point to be, relative to
the crop, and `error_likelihood` is added to every loss.
"""

import math
from typing import Any

import keras
from keras import ops

from kpdetect.core.errors import KpdetectError, unknown_name

Tensor = Any  # a keras tensor of whichever backend runs


LIKELIHOOD_WEIGHT = 0.5  # beside a Wing loss of 2 to 3: what is said of an error must not cost the point itself


def error_likelihood(distance: Tensor, expected: Tensor) -> Tensor:
    """``ln u + d / u``, least where u is the mean of the distances d: a 2-D Laplace density's, without its constants.

    The distances are taken as they are, with no gradient: a network is not to get rid of a large error by calling it
    expected. (LUVLi, Kumar et al., arXiv:2004.02980, has both learn from it.)

    Args:
        distance: (B, K), how far off the points are.
        expected: (B, K), positive, how far off they were said to be, in the same unit.

    Returns:
        (B, K).
    """
    return ops.log(expected) + ops.stop_gradient(distance) / expected


class KeypointLoss(keras.losses.Loss):  # type: ignore[misc]  # keras tells no types
    """What the losses share: the unit, and the mean over the points that count.

    Args:
        unit: What relative coordinates are multiplied by; positive.
        name: The loss's name.

    Shapes: relative points, true (B, K, 2) and predicted (B, K, 2) or, with expected errors, (B, K, 3) -> (B, K).

    Raises:
        KpdetectError: The unit is not a positive number.
    """

    def __init__(self, unit: float = 1.0, name: str | None = None) -> None:
        # The mean over weights, not over all points: a batch with many hidden points is not a quieter one.
        super().__init__(name=name, reduction="mean_with_sample_weight")
        self.unit = _positive(unit, "unit")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """One number per point."""
        difference = y_pred[..., :2] - y_true
        loss = ops.mean(self.of_difference(difference * self.unit), axis=-1)
        if y_pred.shape[-1] == 2:
            return loss
        distance = ops.sqrt(ops.sum(ops.square(difference), axis=-1))
        return loss + LIKELIHOOD_WEIGHT * error_likelihood(distance, y_pred[..., 2])

    def of_difference(self, difference: Tensor) -> Tensor:
        """The loss of each coordinate's difference, in units."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """What makes this loss again."""
        return {"unit": self.unit, "name": self.name}


@keras.saving.register_keras_serializable(package="kpdetect")
class MSE(KeypointLoss):
    """The squared difference, ``d^2``."""

    def of_difference(self, difference: Tensor) -> Tensor:
        """Elementwise."""
        return ops.square(difference)


@keras.saving.register_keras_serializable(package="kpdetect")
class L1(KeypointLoss):
    """The absolute difference, ``|d|``."""

    def of_difference(self, difference: Tensor) -> Tensor:
        """Elementwise."""
        return ops.abs(difference)


@keras.saving.register_keras_serializable(package="kpdetect")
class SmoothL1(KeypointLoss):
    """``d^2 / (2 beta)`` below `beta`, ``|d| - beta / 2`` above (Girshick, *Fast R-CNN*, arXiv:1504.08083).

    Args:
        unit: What relative coordinates are multiplied by.
        beta: Where the parabola meets the line, in units; positive.
        name: The loss's name.
    """

    def __init__(self, unit: float = 1.0, beta: float = 1.0, name: str | None = None) -> None:
        super().__init__(unit, name)
        self.beta = _positive(beta, "beta")

    def of_difference(self, difference: Tensor) -> Tensor:
        """Elementwise."""
        size = ops.abs(difference)
        return ops.where(size < self.beta, ops.square(size) / (2 * self.beta), size - self.beta / 2)

    def get_config(self) -> dict[str, Any]:
        """What makes this loss again."""
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable(package="kpdetect")
class Wing(KeypointLoss):
    """``w ln(1 + |d| / c)`` below `width` w, a line above that meets it: small errors count (Feng, arXiv:1711.06753).

    Args:
        unit: What relative coordinates are multiplied by; the defaults suit 100, per cent of the crop.
        width: Where the logarithm ends, the paper's w, in units; positive.
        curvature: The paper's epsilon, in units: the smaller, the more a small error counts; positive.
        name: The loss's name.
    """

    def __init__(
        self, unit: float = 100.0, width: float = 6.0, curvature: float = 2.0, name: str | None = None
    ) -> None:
        super().__init__(unit, name)
        self.width = _positive(width, "width")
        self.curvature = _positive(curvature, "curvature")

    def of_difference(self, difference: Tensor) -> Tensor:
        """Elementwise."""
        size = ops.abs(difference)
        drop = self.width - self.width * math.log1p(self.width / self.curvature)  # the paper's C joins the two parts
        # Both branches are finite everywhere, so neither spoils the gradient of the other.
        return ops.where(size < self.width, self.width * ops.log1p(size / self.curvature), size - drop)

    def get_config(self) -> dict[str, Any]:
        """What makes this loss again."""
        return {**super().get_config(), "width": self.width, "curvature": self.curvature}


LOSSES: dict[str, type[KeypointLoss]] = {"mse": MSE, "l1": L1, "smooth_l1": SmoothL1, "wing": Wing}


def build(name: str, unit: float) -> KeypointLoss:
    """A loss by its name, measured in `unit` of the crop.

    Args:
        name: One of `LOSSES`.
        unit: What relative coordinates are multiplied by.

    Raises:
        KpdetectError: There is no such loss, or the unit is not positive.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name](unit=unit)


def _positive(value: float, what: str) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise KpdetectError(f"loss: expected a positive {what}, received {value}")
    return float(value)
