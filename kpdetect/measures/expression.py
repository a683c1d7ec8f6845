"""Owns how open eyes and mouth are, blinks, and how much a face smiles."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.detection import Face
from kpdetect.measures.points import Doubles, distance, points_of

CLOSED_EYE = 0.2
"""Aspect ratio of the lids below which an eye counts as closed; see `eyes_closed`."""

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
    """The aspect ratio of each eye's lids: 0 is shut, some 0.3 is open.

    Attributes:
        right: The person's own right eye.
        left: The left one.
    """

    right: float
    left: float

    @property
    def mean(self) -> float:
        """The mean of both eyes."""
        return (self.right + self.left) / 2


def eye_openness(face: Face) -> EyeOpenness:
    """The eye aspect ratio of each eye (Soukupová and Čech, "Real-Time Eye Blink Detection using Facial Landmarks",
    CVWW 2016): the mean distance of the lids, at two places, over the distance of the eye's corners.

    A turned head makes the eye narrower and so the ratio greater: by a quarter at a yaw of 30 degrees, most of it in
    the eye that turns away.

    Args:
        face: A face with the corners and two points on each lid of both eyes, as `IBUG68` and `IMM58` name them.

    Raises:
        KpdetectError: The scheme has not these points, or an eye's corners fall together.
    """
    right, left = points_of(face, EYE_POINTS, "the eye openness").reshape(2, 6, 2)
    return EyeOpenness(_eye_aspect_ratio(right), _eye_aspect_ratio(left))


def eyes_closed(face: Face, threshold: float = CLOSED_EYE) -> bool:
    """Whether the mean aspect ratio of both eyes is below a threshold.

    By the labels of 300-W, eyes that are shut or look down lie below 0.15, and from there to 0.2 mostly narrowed ones,
    by a smile or the sun. A model trained on faces that seldom blink sees shut eyes as too open:
    ``benchmarks/measures.py`` prints how many of them each threshold finds, and at what price. People differ, too; over
    a video, a threshold of some 0.7 of the person's own median is better than a fixed one.

    Args:
        face: See `eye_openness`.
        threshold: An aspect ratio.

    Raises:
        KpdetectError: See `eye_openness`.
    """
    return eye_openness(face).mean < threshold


def find_blinks(openness: npt.ArrayLike, threshold: float = CLOSED_EYE, least_frames: int = 2) -> list[tuple[int, int]]:
    """The blinks in a video of one face.

    Args:
        openness: (T,) `eye_openness` of each frame, the mean of both eyes; NaN for a frame without a face.
        threshold: An eye is closed below it.
        least_frames: Shorter runs are noise. A blink takes 0.1 to 0.4 seconds, 3 to 12 frames of 30 a second.

    Returns:
        For each blink its first frame and the one after its last.

    >>> find_blinks([0.3, 0.1, 0.05, 0.1, 0.3, 0.1, 0.3])
    [(1, 4)]
    """
    closed = np.concatenate([[False], np.asarray(openness, np.float64) < threshold, [False]])
    edges = np.flatnonzero(closed[1:] != closed[:-1]).tolist()
    runs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in runs if end - start >= least_frames]


def mouth_openness(face: Face) -> float:
    """How far the mouth is open: the mean distance of the inner lips, at three places, over the inner mouth's width.

    0 is closed; about 0.2 shows the teeth, from 0.5 it is wide open.

    Args:
        face: A face with the eight points of the inner lips, as `IBUG68` names them.

    Raises:
        KpdetectError: The scheme has not these points, or the mouth's corners fall together.
    """
    right, *upper, left = (points := points_of(face, MOUTH_POINTS, "the mouth openness"))[:5]
    lower = points[:4:-1]
    gaps = np.linalg.norm(np.array(upper) - lower, axis=1)
    return float(gaps.mean() / distance(left, right, "the inner corners of the mouth"))


def smile(face: Face) -> float:
    """How much the face smiles: a wide mouth whose corners are drawn up.

    The width of the mouth, plus twice the height of its corners above the middle between the lips, both over the
    distance of the outer eye corners; up is at a right angle to the line of the eyes. A plain geometric measure, no
    trained one: nine of ten faces at rest of the IMM set lie between 0.52 and 0.72, broad smiles of 300-W from 0.85. A
    head bowed or raised by 20 degrees scores 0.07 more or 0.09 less.

    Args:
        face: A face with the outer eye corners, the mouth's corners, and the middle of the upper and lower lip.

    Raises:
        KpdetectError: The scheme has not these points, or the eye corners fall together.
    """
    right_eye, left_eye, right, left, top, bottom = points_of(face, SMILE_POINTS, "the smile")
    unit = distance(left_eye, right_eye, "the outer eye corners")
    x, y = (left_eye - right_eye) / unit
    down = np.array([-y, x])
    lift = ((top + bottom) / 2 - (left + right) / 2) @ down
    return float((np.linalg.norm(left - right) + 2 * lift) / unit)


def _eye_aspect_ratio(eye: Doubles) -> float:
    """Of outer corner, upper lid (outer, inner), inner corner, lower lid (inner, outer): (6, 2)."""
    outer, top_outer, top_inner, inner, bottom_inner, bottom_outer = eye
    lids = np.linalg.norm(top_outer - bottom_outer) + np.linalg.norm(top_inner - bottom_inner)
    return float(lids / (2 * distance(outer, inner, "the corners of an eye")))
