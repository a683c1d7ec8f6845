"""Square windows that cover a photograph, for large faces that the detector missed."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats
from kpdetect.detection.boxes import SAME_FACE

__all__ = ["LEAST_SCORE", "LONGEST", "SAME_FACE", "SIDES", "SMALLEST", "STEP", "windows"]

SIDES = (0.6, 0.4)  # of the photograph's shorter side; smaller windows are many, and detectors find small faces
STEP = 0.4  # of a window's side; the model still finds a face whose centre is off by half of it
SMALLEST = 20  # pixels of a window's side
LONGEST = 4  # longer over shorter side of a photograph; a longer one would take hundreds of windows
LEAST_SCORE = 0.02
"""Score of a window that may contain a face: windows cut faces off. The tight crop that follows is judged as usual."""


def windows(size_hw: tuple[int, int]) -> Floats:
    """Square boxes of `SIDES` that cover a photograph evenly, in steps of at most `STEP` of their side.

    Args:
        size_hw: The photograph's (height, width) in pixels.

    Returns:
        (N, 4) float32 (x0, y0, x1, y1) in pixels, all within the photograph: 50 for a photograph of 4:3, none for a
        very small or long one.

    Example:
        >>> windows((300, 400)).shape
        (50, 4)
    """
    height, width = size_hw
    boxes = [np.zeros((0, 4))]
    for share in SIDES if max(size_hw) <= LONGEST * min(size_hw) else ():
        side = share * min(height, width)
        if side < SMALLEST:
            continue
        x, y = (_starts(extent, side) for extent in (width, height))
        corners = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) - 0.5
        boxes.append(np.concatenate([corners, corners + side], axis=1))
    return np.asarray(np.concatenate(boxes), np.float32)


def _starts(extent: float, side: float) -> npt.NDArray[np.float64]:
    """Where windows begin along one side of the photograph, from border to border."""
    count = int(np.ceil((extent - side) / (STEP * side) - 1e-9)) + 1
    return np.linspace(0, extent - side, count)
