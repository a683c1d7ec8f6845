"""Owns the One Euro filter, which takes the tremble out of points that stand and lets points that move go."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats

SHORTEST_STEP_S = 1e-6  # for two frames that carry the same time, as some streams have them


@dataclass(frozen=True)
class OneEuroOptions:
    """How much a `OneEuroFilter` smooths.

    The trade-off is jitter against lag. `min_cutoff_hz` rules points that stand: half as much trembles less, and the
    first moment of a movement follows later. `beta` rules points that move: more follows sooner and trembles more
    while it moves. ``benchmarks/tracking.py`` prints both for a grid of the two.

    Attributes:
        min_cutoff_hz: The cut-off frequency at rest, above 0.
        beta: By how many Hz the cut-off rises with a speed of one face side per second, 0 or more. The face's side
            is the unit, so that near and far faces are smoothed alike.
        speed_cutoff_hz: The cut-off frequency of the speed itself, above 0.

    Raises:
        KpdetectError: A value is out of its range.
    """

    min_cutoff_hz: float = 1.0
    beta: float = 30.0
    speed_cutoff_hz: float = 1.0  # the paper's

    def __post_init__(self) -> None:
        values = (self.min_cutoff_hz, self.beta, self.speed_cutoff_hz)
        if not (np.isfinite(values).all() and min(values[0], values[2]) > 0 and self.beta >= 0):
            raise KpdetectError(f"One Euro filter: expected cut-offs above 0 and beta from 0, received {self}")


class OneEuroFilter:
    """A low-pass filter of first order whose cut-off rises with the speed; each point has its own.

    Casiez, Roussel and Vogel, "1 € Filter", CHI 2012. The speed here is that of the point, so that x and y are
    smoothed alike, whichever way it goes.

    Args:
        options: How much it smooths.
    """

    def __init__(self, options: OneEuroOptions) -> None:
        self._options = options
        self._points: npt.NDArray[np.float64] | None = None
        self._speed: npt.NDArray[np.float64] | float = 0.0
        self._time_s = 0.0

    def __call__(self, points: npt.ArrayLike, time_s: float, side: float) -> Floats:
        """Takes the points of the next frame.

        Args:
            points: (K, 2), in pixels; the same K each time.
            time_s: When the frame was taken, in seconds; rising.
            side: The longer side of the face's box, in pixels.

        Returns:
            (K, 2) float32, smoothed; those of the first frame as they are.
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
    """How much of the way to the new value a low-pass filter goes in one step, in (0, 1)."""
    turn = 2 * np.pi * np.asarray(cutoff_hz, np.float64) * step_s
    return np.asarray(turn / (turn + 1))
