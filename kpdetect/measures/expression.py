"""Openness of eyes and mouth, blinks, and smiles."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.detection import Face
from kpdetect.measures.points import Doubles, distance, points_of

CLOSED_EYE = 0.2
"""Default threshold of `eyes_closed` and `find_blinks`."""

EYE_POINTS = tuple(
    f"{side}_eye_{place}"
    for side in ("right", "left")
    for place in ("outer", "top_outer", "top_inner", "inner", "bottom_inner", "bottom_outer")
)
MOUTH_POINTS = (
    *("inner_mouth_right", "inner_upper_lip_right", "inner_upper_lip", "inner_upper_lip_left"),
    *("inner_mouth_left", "inner_lower_lip_left", "inner_lower_lip", "inner_lower_lip_right"),
)
SMILE_POINTS = (
    *("right_eye_outer", "left_eye_outer"),
    *("mouth_right", "mouth_left", "upper_lip_top", "lower_lip_bottom"),
)


@dataclass(frozen=True)
class EyeOpenness:
    """The aspect ratio of each eye: 0 is closed, about 0.3 is open.

    Attributes:
        right: Of the person's right eye.
        left: Of the left eye.

    >>> EyeOpenness(right=0.25, left=0.75).mean
    0.5
    """

    right: float
    left: float

    @property
    def mean(self) -> float:
        """Mean of both eyes."""
        return (self.right + self.left) / 2


def eye_openness(face: Face) -> EyeOpenness:
    """The eye aspect ratio: the mean distance of the lids at two places, relative to the distance of the corners.

    Source: Soukupová and Čech, "Real-time eye blink detection using facial landmarks", CVWW 2016. A turned head makes
    eyes narrower and the ratio larger: by a quarter at a yaw of 30 degrees, mostly in the eye that turns away.

    Args:
        face: A face with the corners and two points on each lid of both eyes, as `IBUG68` and `IMM58` name them.

    Raises:
        KpdetectError: The scheme lacks these points, or the corners of an eye are in one place.

    Example:
        ```python
        ratios = [eye_openness(face).mean for face in predictor(image)]
        ```
    """
    right, left = points_of(face, EYE_POINTS, "the eye openness").reshape(2, 6, 2)
    return EyeOpenness(_eye_aspect_ratio(right), _eye_aspect_ratio(left))


def eyes_closed(face: Face, threshold: float = CLOSED_EYE) -> bool:
    """Whether the mean aspect ratio of both eyes is below a threshold.

    In the labels of 300-W, eyes that are closed or look down are below 0.15, and those between 0.15 and 0.2 are mostly
    narrowed by a smile or the sun. A model trained on few closed eyes predicts them too open;
    ``benchmarks/measures.py`` measures how many are found at each threshold. In a video, 0.7 times the person's median
    is a better threshold than a fixed one.

    Args:
        face: As for `eye_openness`.
        threshold: An aspect ratio.

    Raises:
        KpdetectError: As for `eye_openness`.

    Example:
        ```python
        blinking = [eyes_closed(face, threshold=0.22) for face in predictor(image)]
        ```
    """
    return eye_openness(face).mean < threshold


def find_blinks(openness: npt.ArrayLike, threshold: float = CLOSED_EYE, least_frames: int = 2) -> list[tuple[int, int]]:
    """The blinks in a video of one face.

    Args:
        openness: (T,) mean `eye_openness` of each frame; NaN for a frame without a face.
        threshold: An eye is closed below this aspect ratio.
        least_frames: Shorter runs are ignored. A blink takes 0.1 to 0.4 seconds: 3 to 12 frames at 30 per second.

    Returns:
        (first frame, frame after the last) of each blink.

    >>> find_blinks([0.3, 0.1, 0.05, 0.1, 0.3, 0.1, 0.3])
    [(1, 4)]
    """
    closed = np.concatenate([[False], np.asarray(openness, np.float64) < threshold, [False]])
    edges = np.flatnonzero(closed[1:] != closed[:-1]).tolist()
    runs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in runs if end - start >= least_frames]


def mouth_openness(face: Face) -> float:
    """The mean distance of the inner lips at three places, relative to the width of the inner mouth.

    0 is closed; at about 0.2 the teeth show, and from 0.5 the mouth is wide open.

    Args:
        face: A face with the eight points of the inner lips, as `IBUG68` names them.

    Raises:
        KpdetectError: The scheme lacks these points, or the corners of the mouth are in one place.

    Example:
        ```python
        speaking = mouth_openness(face) > 0.2
        ```
    """
    right, *upper, left = (points := points_of(face, MOUTH_POINTS, "the mouth openness"))[:5]
    lower = points[:4:-1]
    gaps = np.linalg.norm(np.array(upper) - lower, axis=1)
    return float(gaps.mean() / distance(left, right, "the inner corners of the mouth"))


def smile(face: Face) -> float:
    """A geometric measure of a smile: large for a wide mouth with raised corners.

    It is the width of the mouth plus twice the height of its corners above the middle of the lips, both relative to the
    distance of the outer eye corners; height is perpendicular to the line through the eyes. Nine of ten neutral faces
    of the IMM set are between 0.52 and 0.72, and broad smiles of 300-W above 0.85. A pitch of 20 degrees down or up
    changes the value by +0.07 or -0.09.

    Args:
        face: A face with the outer eye corners, the corners of the mouth, and the middle of the upper and lower lip.

    Raises:
        KpdetectError: The scheme lacks these points, or the eye corners are in one place.

    Example:
        ```python
        happiest = max(predictor(image), key=smile)
        ```
    """
    right_eye, left_eye, right, left, top, bottom = points_of(face, SMILE_POINTS, "the smile")
    unit = distance(left_eye, right_eye, "the outer eye corners")
    x, y = (left_eye - right_eye) / unit
    down = np.array([-y, x])
    lift = ((top + bottom) / 2 - (left + right) / 2) @ down
    return float((np.linalg.norm(left - right) + 2 * lift) / unit)


def _eye_aspect_ratio(eye: Doubles) -> float:
    """The ratio of outer corner, upper lid (outer, inner), inner corner, lower lid (inner, outer): (6, 2)."""
    outer, top_outer, top_inner, inner, bottom_inner, bottom_outer = eye
    lids = np.linalg.norm(top_outer - bottom_outer) + np.linalg.norm(top_inner - bottom_inner)
    return float(lids / (2 * distance(outer, inner, "the corners of an eye")))
