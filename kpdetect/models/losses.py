"""Keypoint losses: MSE, L1, smooth L1 and Wing.

Every loss takes relative keypoints (B, K, 2) and multiplies both by `unit` first: 100 measures in per cent of the crop,
and 224 / 50 in the units ``(px - 100) / 50`` of the student projects. It returns one value per keypoint, the mean over
x and y, so that the visibility (B, K) of zeros and ones can be the sample weight. The loss of a batch is the mean over
the visible keypoints. Hidden keypoints need finite coordinates, because zero times NaN is NaN.

If predictions are (B, K, 3), the third value is the expected error of the keypoint relative to the crop, and
`error_likelihood` is added to the loss.
"""

import math
from typing import Any

import keras
from keras import ops

from kpdetect.core.errors import KpdetectError, unknown_name

Tensor = Any  # a tensor of the Keras backend


LIKELIHOOD_WEIGHT = 0.5  # beside a Wing loss of 2 to 3, small enough not to compromise the keypoints


def error_likelihood(distance: Tensor, expected: Tensor) -> Tensor:
    """``ln u + d / u``, whose minimum is at the mean of the distances d. It is the negative log-likelihood of a Laplace
    density in 2-D, without constants.

    No gradient flows through the distances, so that a network cannot reduce this loss at the expense of its keypoints.
    (In LUVLi, Kumar et al., arXiv:2004.02980, both learn from the likelihood.)

    Example::

        error_likelihood(distance=keras.ops.ones((1, 2)), expected=keras.ops.ones((1, 2)))  # [[1., 1.]]

    Args:
        distance: (B, K), the errors of the keypoints.
        expected: (B, K), positive, their expected errors, in the same unit.

    Returns:
        (B, K).
    """
    return ops.log(expected) + ops.stop_gradient(distance) / expected


class KeypointLoss(keras.losses.Loss):  # type: ignore[misc]  # keras has no types
    """Base class of the losses: scales by the unit and averages over the visible keypoints.

    Shapes: relative keypoints, true (B, K, 2) and predicted (B, K, 2) or, with expected errors, (B, K, 3) -> (B, K).

    Args:
        unit: Factor for relative coordinates; positive.
        name: Name of the loss.

    Raises:
        KpdetectError: The unit is not a positive number.
    """

    def __init__(self, unit: float = 1.0, name: str | None = None) -> None:
        # The mean over the weights, so that a batch with many hidden keypoints does not count less.
        super().__init__(name=name, reduction="mean_with_sample_weight")
        self.unit = _positive(unit, "unit")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each keypoint, (B, K)."""
        difference = y_pred[..., :2] - y_true
        loss = ops.mean(self.of_difference(difference * self.unit), axis=-1)
        if y_pred.shape[-1] == 2:
            return loss
        distance = ops.sqrt(ops.sum(ops.square(difference), axis=-1))
        return loss + LIKELIHOOD_WEIGHT * error_likelihood(distance, y_pred[..., 2])

    def of_difference(self, difference: Tensor) -> Tensor:
        """The loss of the difference of each coordinate, which is in units."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The configuration of the loss."""
        return {"unit": self.unit, "name": self.name}


@keras.saving.register_keras_serializable(package="kpdetect")
class MSE(KeypointLoss):
    """The squared difference, ``d^2``.

    Example::

        model.compile(optimizer="adam", loss=MSE(unit=100.0))
    """

    def of_difference(self, difference: Tensor) -> Tensor:
        """See `KeypointLoss.of_difference`."""
        return ops.square(difference)


@keras.saving.register_keras_serializable(package="kpdetect")
class L1(KeypointLoss):
    """The absolute difference, ``|d|``.

    Example::

        model.compile(optimizer="adam", loss=L1(unit=100.0))
    """

    def of_difference(self, difference: Tensor) -> Tensor:
        """See `KeypointLoss.of_difference`."""
        return ops.abs(difference)


@keras.saving.register_keras_serializable(package="kpdetect")
class SmoothL1(KeypointLoss):
    """``d^2 / (2 beta)`` below `beta`, ``|d| - beta / 2`` above (Girshick, *Fast R-CNN*, arXiv:1504.08083).

    Args:
        unit: Factor for relative coordinates.
        beta: The difference at which the parabola meets the line, in units; positive.
        name: Name of the loss.

    Example::

        model.compile(optimizer="adam", loss=SmoothL1(unit=100.0, beta=2.0))
    """

    def __init__(self, unit: float = 1.0, beta: float = 1.0, name: str | None = None) -> None:
        super().__init__(unit, name)
        self.beta = _positive(beta, "beta")

    def of_difference(self, difference: Tensor) -> Tensor:
        """See `KeypointLoss.of_difference`."""
        size = ops.abs(difference)
        return ops.where(size < self.beta, ops.square(size) / (2 * self.beta), size - self.beta / 2)

    def get_config(self) -> dict[str, Any]:
        """The configuration of the loss."""
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable(package="kpdetect")
class Wing(KeypointLoss):
    """``w ln(1 + |d| / c)`` below `width` w, and a line above. It emphasises small errors (Feng et al.,
    arXiv:1711.06753).

    Args:
        unit: Factor for relative coordinates; the defaults suit 100, per cent of the crop.
        width: The difference at which the logarithm ends, w in the paper, in units; positive.
        curvature: Epsilon in the paper, in units; positive. Small errors count more if it is small.
        name: Name of the loss.

    Example::

        model.compile(optimizer="adam", loss=Wing(unit=100.0, width=6.0, curvature=2.0))
    """

    def __init__(
        self, unit: float = 100.0, width: float = 6.0, curvature: float = 2.0, name: str | None = None
    ) -> None:
        super().__init__(unit, name)
        self.width = _positive(width, "width")
        self.curvature = _positive(curvature, "curvature")

    def of_difference(self, difference: Tensor) -> Tensor:
        """See `KeypointLoss.of_difference`."""
        size = ops.abs(difference)
        drop = self.width - self.width * math.log1p(
            self.width / self.curvature
        )  # C in the paper, which joins the two parts
        # Both branches are finite everywhere, so that the gradient of neither is NaN.
        return ops.where(size < self.width, self.width * ops.log1p(size / self.curvature), size - drop)

    def get_config(self) -> dict[str, Any]:
        """The configuration of the loss."""
        return {**super().get_config(), "width": self.width, "curvature": self.curvature}


LOSSES: dict[str, type[KeypointLoss]] = {"mse": MSE, "l1": L1, "smooth_l1": SmoothL1, "wing": Wing}


def build(name: str, unit: float) -> KeypointLoss:
    """Builds a loss by name.

    >>> build("wing", 100.0).width
    6.0

    Args:
        name: One of `LOSSES`.
        unit: Factor for relative coordinates.

    Raises:
        KpdetectError: The loss is unknown, or the unit is not positive.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name](unit=unit)


def _positive(value: float, what: str) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise KpdetectError(f"loss: expected a positive {what}, received {value}")
    return float(value)
