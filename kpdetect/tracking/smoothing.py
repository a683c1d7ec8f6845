"""One Euro filter: adaptive low-pass smoothing of keypoints."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats

SHORTEST_STEP_S = 1e-6  # some streams give two frames the same time


@dataclass(frozen=True)
class OneEuroOptions:
    """The parameters of a `OneEuroFilter`, a trade-off between jitter and lag.

    A lower `min_cutoff_hz` reduces the jitter of points at rest and delays the start of a movement. A higher `beta`
    reduces the lag of moving points and increases their jitter. ``benchmarks/tracking.py`` measures a grid of both.

    Attributes:
        min_cutoff_hz: The cut-off frequency of a point at rest in Hz, above 0.
        beta: The increase of the cut-off in Hz per speed of one face side a second, 0 or more. The unit is the side of
            the face, so that near and far faces are smoothed alike.
        speed_cutoff_hz: The cut-off frequency of the speed in Hz, above 0.

    Raises:
        KpdetectError: A value is out of its range.

    Example:
        >>> OneEuroOptions(min_cutoff_hz=0.5).beta
        30.0
    """

    min_cutoff_hz: float = 1.0
    beta: float = 30.0
    speed_cutoff_hz: float = 1.0  # as in the paper

    def __post_init__(self) -> None:
        values = (self.min_cutoff_hz, self.beta, self.speed_cutoff_hz)
        if not (np.isfinite(values).all() and min(values[0], values[2]) > 0 and self.beta >= 0):
            raise KpdetectError(f"One Euro filter: expected cut-offs above 0 and beta from 0, received {self}")


class OneEuroFilter:
    """A first-order low-pass filter for each point, with a cut-off that rises with the point's speed.

    Casiez, Roussel and Vogel, "1 € Filter", CHI 2012. The speed is that of the point in the plane, so that x and y are
    smoothed alike.

    Args:
        options: The parameters.

    Example:
        >>> smooth = OneEuroFilter(OneEuroOptions())
        >>> smooth([[10.0, 20.0]], time_s=0.0, side=100.0)
        array([[10., 20.]], dtype=float32)
    """

    def __init__(self, options: OneEuroOptions) -> None:
        self._options = options
        self._points: npt.NDArray[np.float64] | None = None
        self._speed: npt.NDArray[np.float64] | float = 0.0
        self._time_s = 0.0

    def __call__(self, points: npt.ArrayLike, time_s: float, side: float) -> Floats:
        """Smooths the points of the next frame.

        Args:
            points: (K, 2) in pixels; the same K in each call.
            time_s: The time of the frame in seconds, rising.
            side: The longer side of the face's box in pixels.

        Returns:
            (K, 2) float32; the points of the first frame are returned unchanged.
        """
        new = np.asarray(points, np.float64)
        if self._points is None:
            self._points = new
        else:
            step_s = max(time_s - self._time_s, SHORTEST_STEP_S)
            velocity = (new - self._points) / (step_s * max(side, 1.0))
            self._speed = self._speed + _share(self._options.speed_cutoff_hz, step_s) * (velocity - self._speed)
            speed = np.linalg.norm(self._speed, axis=-1, keepdims=True)
            cutoff_hz = self._options.min_cutoff_hz + self._options.beta * speed
            self._points = self._points + _share(cutoff_hz, step_s) * (new - self._points)
        self._time_s = time_s
        return np.asarray(self._points, np.float32)


def _share(cutoff_hz: npt.ArrayLike, step_s: float) -> npt.NDArray[np.float64]:
    """The weight of the new value in one step of a low-pass filter, in (0, 1)."""
    turn = 2 * np.pi * np.asarray(cutoff_hz, np.float64) * step_s
    return np.asarray(turn / (turn + 1))
