"""The numbers on tracked faces, and the window of ``--show``."""

import os
import sys
from collections.abc import Sequence

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels, cv2
from kpdetect.tracking.tracker import TrackedFace
from kpdetect.visualization import BOX_RGB

STOP_KEYS = (ord("q"), 27)  # 27 is Escape

_HEADLESS = "--show: this OpenCV has no windows (opencv-python-headless); pip install opencv-python, or use --out FILE"


def draw_numbers(picture_rgb: Pixels, faces: Sequence[TrackedFace]) -> Pixels:
    """Draws the number of each face at the upper left of its box, on a copy of a picture (H, W, 3) uint8."""
    canvas = np.array(picture_rgb)
    for tracked in faces:
        x0, y0, x1, y1 = tracked.face.box.tolist()
        scale = min(max(max(x1 - x0, y1 - y0) / 200, 0.4), 3.0)
        corner = (round(x0), round(y0 - 8 * scale))
        for thickness, color in ((4, (0, 0, 0)), (1, BOX_RGB)):  # a dark rim, so that it is legible on any background
            width = max(1, round(thickness * scale))
            font = cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(canvas, str(tracked.id), corner, font, scale, color, width, cv2.LINE_AA)
    return canvas


def check_display() -> None:
    """Checks that there is a display, without which Qt aborts the process.

    Raises:
        KpdetectError: There is no display.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise KpdetectError(
            "--show: this machine has no display (neither DISPLAY nor WAYLAND_DISPLAY is set); use --out FILE instead"
        )


class Window:
    """A window that is open within its ``with`` block.

    Args:
        title: The title of the window.

    Raises:
        KpdetectError: This OpenCV is built without windows.

    Example:
        >>> with Window("camera 0") as window:  # doctest: +SKIP
        ...     window.show(picture)
    """

    def __init__(self, title: str) -> None:
        self._title = f"kpdetect: {title}"

    def __enter__(self) -> "Window":
        try:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise KpdetectError(_HEADLESS) from error
        return self

    def __exit__(self, *_: object) -> None:
        cv2.destroyWindow(self._title)

    def show(self, picture_rgb: Pixels) -> bool:
        """Shows a picture (H, W, 3) uint8; returns False if the user pressed q or Escape, or closed the window."""
        cv2.imshow(self._title, cv2.cvtColor(picture_rgb, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in STOP_KEYS:
            return False
        return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
