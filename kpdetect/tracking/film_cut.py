"""Detection of film cuts, at which faces end."""

from collections import deque

import numpy as np
import numpy.typing as npt

from kpdetect.core.images import Pixels, cv2

THUMBNAIL_WH = (48, 32)
LEAST_DIFFERENCE = 20.0  # grey levels, the mean over a thumbnail
LEAST_RATIO = 3.0  # of the difference to the mean of the last ones, so that fast camera movements are not cuts
MOST_CORRELATION = 0.6  # of the thumbnails; a flash or a change of exposure keeps it high
HISTORY = 12  # frames


class CutDetector:
    """Compares thumbnails of consecutive frames. Call it once for each frame of a video, in order.

    A frame is the first after a cut if its thumbnail differs from the last one's by `LEAST_DIFFERENCE` grey levels and
    by `LEAST_RATIO` times the mean of the last `HISTORY` differences, and their correlation is below
    `MOST_CORRELATION`. Of 799 pairs of different videos of YouTube Faces, 97 % count as a cut; of 800 pairs of frames
    at least ten frames apart in the same video, 13 % do (without the ratio, which needs consecutive frames).

    Example:
        >>> is_cut = CutDetector()
        >>> frame = np.zeros((90, 120, 3), np.uint8)
        >>> is_cut(frame), is_cut(frame)
        (False, False)
    """

    def __init__(self) -> None:
        self._last: npt.NDArray[np.float32] | None = None
        self._differences: deque[float] = deque(maxlen=HISTORY)

    def __call__(self, image_rgb: Pixels) -> bool:
        """Whether a frame (H, W, 3) uint8 is the first one after a cut."""
        step = max(1, min(image_rgb.shape[:2]) // 64)  # every `step`-th pixel is enough for a thumbnail
        few = np.ascontiguousarray(image_rgb[::step, ::step])
        thumbnail = np.asarray(cv2.resize(few, THUMBNAIL_WH, interpolation=cv2.INTER_AREA), np.float32)
        last, self._last = self._last, thumbnail
        if last is None:
            return False
        difference = float(np.abs(thumbnail - last).mean())
        usual = float(np.mean(self._differences)) if self._differences else 0.0
        cut = (
            difference >= LEAST_DIFFERENCE
            and difference >= LEAST_RATIO * usual
            and _correlation(thumbnail, last) < MOST_CORRELATION
        )
        if cut:
            self._differences.clear()
        else:
            self._differences.append(difference)
        return cut


def _correlation(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """The correlation of the grey levels of two pictures (H, W, 3), in [-1, 1]; 0 if one is of a single colour."""
    a, b = (picture.mean(axis=2) - picture.mean() for picture in (first, second))
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-6 else 0.0
