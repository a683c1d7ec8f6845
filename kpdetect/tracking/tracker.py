"""Owns `Tracker`: the frames of a video, one after the other, to faces that keep their number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, intersection_over_union
from kpdetect.core.images import Pixels, as_rgb
from kpdetect.detection import Detector, Face
from kpdetect.tracking import plausible
from kpdetect.tracking.smoothing import OneEuroFilter, OneEuroOptions

MarkBoxes = Callable[[Pixels, Floats], list[Face]]
"""A frame (H, W, 3) and face boxes (N, 4) to N faces in the same order; such as a `kpdetect.predict.Predictor`."""

KNOWN = 0.3  # intersection over union from which a detector's box is that of a tracked face; its boxes scatter
SAME_FACE = 0.5  # and from which two tracked faces are one: their tight boxes scatter by a few per cent
NEAR = 0.75  # how far, in its sides, a found face may be from where a lost one would be by now
SAME_SIZE = 1.5  # and how much larger or smaller
VELOCITY_SHARE = 0.3  # of each frame in the running mean of the velocity


@dataclass(frozen=True)
class TrackerOptions:
    """When a `Tracker` looks for faces, and how it smooths.

    Attributes:
        detect_every: Frames between two searches for new faces; a second, where faces rarely come and go.
        search_every: The same while no face is known, or one was lost a moment ago: a search takes eighty times as long
            as a tracked frame, so that doing it each time would halt a live picture.
        check_every: Frames between two second looks at the known faces, where the model tells no score of them (see
            `kpdetect.tracking.plausible`).
        remember: For so many frames a lost face's number waits for it; a second.
        one_euro: The filter of each face's points; None leaves them as the model gives them.

    Raises:
        KpdetectError: A number of frames is too small.
    """

    detect_every: int = 30
    search_every: int = 3
    check_every: int = 5
    remember: int = 30
    one_euro: OneEuroOptions | None = field(default_factory=OneEuroOptions)

    def __post_init__(self) -> None:
        if min(self.detect_every, self.search_every, self.check_every) < 1 or self.remember < 0:
            raise KpdetectError(f"tracker: expected every so many frames, 1 or more, received {self}")


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face of one frame.

    Attributes:
        id: Its number, from 1; the same in each frame, and that of no other face.
        face: Its box and its points, smoothed.
        raw_keypoints: (K, 2) float32, the points as the model gave them.
    """

    id: int
    face: Face
    raw_keypoints: Floats


@dataclass(frozen=True, eq=False)
class _Moment:
    """Where a face was in a frame, and where it went: its tight box (4,) and pixels per frame (2,)."""

    box: Floats
    velocity_xy: npt.NDArray[np.float64]
    frame: int

    def surprise(self, box: Floats, frame: int) -> float:
        """How far a box (4,) of a later frame is from where this one would be by then, in its sides."""
        off = _center(box) - _center(self.box) - self.velocity_xy * (frame - self.frame)
        return float(np.linalg.norm(off) / max(float(plausible.sides_of(self.box)), 1e-6))

    def could_become(self, box: Floats, frame: int) -> bool:
        """Whether a box (4,) of a later frame may be this face's."""
        growth = float(plausible.sides_of(box) / max(float(plausible.sides_of(self.box)), 1e-6))
        return self.surprise(box, frame) <= NEAR and 1 / SAME_SIZE <= growth <= SAME_SIZE


@dataclass
class _Track:
    """What is known of one face: how it was seen last, and some frames before.

    What comes before a face draws its points along before they fall on it, so that a lost face is looked for from the
    look before the last one too.
    """

    id: int
    face: Face
    smooth: OneEuroFilter | None
    last: _Moment
    looks: tuple[_Moment, ...] = ()

    def see(self, face: Face, frame: int, remember: bool) -> None:
        """Takes the face of the next frame, which it may remember for when it is lost."""
        box = plausible.boxes_of(face.keypoints)
        step = _center(box) - _center(self.last.box)
        velocity = self.last.velocity_xy + VELOCITY_SHARE * (step - self.last.velocity_xy)
        self.face, self.last = face, _Moment(box, velocity, frame)
        if remember:
            self.looks = (*self.looks[-1:], self.last)

    def surprise_if_found(self, face: Face, frame: int) -> float:
        """How far a face is from where this lost one would be, in sides; infinite where it cannot be."""
        box = plausible.boxes_of(face.keypoints)
        moments = (self.last, *self.looks[:1])
        return min((m.surprise(box, frame) for m in moments if m.could_become(box, frame)), default=np.inf)


class Tracker:
    """Follows the faces of a video; each call takes the next frame.

    The tight box of a face's last points gives its next crop, so that the detector runs only at the start, every so
    many frames for new faces, and when a face was lost. A face is dropped when its points collapse, leave the
    picture, jump as no face does or fall on another face's, and when the model scores it below 0.5 (or, where it tells
    no score, when a second look from a shifted box gives other points). The detector's silence drops none: a detector
    misses turned faces that the model still follows. A face that is found again soon where it would be by then takes
    its number back. For one thread, and one video, at a time.

    Args:
        mark: Gives the points of face boxes; such as a `kpdetect.predict.Predictor`.
        detect: Gives the face boxes of a frame; such as a `kpdetect.detection.HaarDetector`.
        options: See `TrackerOptions`.
    """

    def __init__(self, mark: MarkBoxes, detect: Detector, options: TrackerOptions | None = None) -> None:
        self.options = TrackerOptions() if options is None else options
        self.detections = 0
        self.ids_given = 0
        self._mark = mark
        self._detect = detect
        self._tracks: list[_Track] = []
        self._lost: list[_Track] = []
        self._frame = -1
        self._frame_of_detection: int | None = None

    def __call__(self, image_rgb: npt.ArrayLike, time_s: float) -> list[TrackedFace]:
        """Takes the next frame.

        Args:
            image_rgb: (H, W, 3) uint8 RGB, as the frames before it.
            time_s: When it was taken, in seconds; rising. The filter needs it.

        Returns:
            The faces that are seen, the one known for longest first.
        """
        pixels = as_rgb(image_rgb)
        self._frame += 1
        self._follow(pixels)
        if self._detection_is_due():
            self._discover(pixels)
        self._lost = [track for track in self._lost if self._frame - track.last.frame <= self.options.remember]
        return [_smoothed(track, time_s) for track in self._tracks]

    def _follow(self, pixels: Pixels) -> None:
        """Prediction the known faces, and takes leave of those that are none any more."""
        if not self._tracks:
            return
        before = np.stack([track.last.box for track in self._tracks])
        now_and_then = self._frame % self.options.check_every == 0
        faces, agree = self._look(pixels, before, twice=now_and_then)
        after = plausible.boxes_of([face.keypoints for face in faces])
        kept = agree & plausible.look_like_faces(after, _size(pixels)) & plausible.moved_on(before, after)
        kept &= ~self._doubles(after, kept)
        for track, face, keep in zip(self._tracks, faces, kept, strict=True):
            if keep:
                track.see(face, self._frame, remember=now_and_then)
            else:
                self._lost.append(track)
        self._tracks = [track for track, keep in zip(self._tracks, kept, strict=True) if keep]

    def _doubles(self, boxes: Floats, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which faces (N,) fell on another: of two, the one that is further from where it was going."""
        surprise = [track.last.surprise(box, self._frame) for track, box in zip(self._tracks, boxes, strict=True)]
        overlap = intersection_over_union(boxes, boxes)
        doubles = ~kept
        for index in np.argsort(surprise)[::-1].tolist():
            others = ~doubles
            others[index] = False
            doubles[index] |= bool((overlap[index][others] >= SAME_FACE).any())
        return doubles & kept

    def _look(self, pixels: Pixels, boxes: Floats, twice: bool) -> tuple[list[Face], npt.NDArray[np.bool_]]:
        """The faces of boxes (N, 4), and whether the model takes them for faces, (N,); or a second look agrees."""
        faces = self._mark(pixels, boxes)
        scores = [face.score for face in faces if face.score is not None]
        if len(scores) == len(faces):
            return faces, np.array(scores) >= plausible.LEAST_SCORE
        if not twice:
            return faces, np.ones(len(faces), bool)
        second = self._mark(pixels, plausible.second_look(boxes))
        apart = plausible.disagreement(*([face.keypoints for face in look] for look in (faces, second)))
        return faces, apart <= plausible.MOST_DISAGREEMENT

    def _detection_is_due(self) -> bool:
        if self._frame_of_detection is None:
            return True
        searching = not self._tracks or bool(self._lost)
        wait = min(self.options.search_every, self.options.detect_every) if searching else self.options.detect_every
        return self._frame - self._frame_of_detection >= wait

    def _discover(self, pixels: Pixels) -> None:
        """Searches the frame; faces that are not known yet take the number of a lost one, or a new one."""
        self._frame_of_detection = self._frame
        self.detections += 1
        boxes = np.asarray(self._detect(pixels), np.float32).reshape(-1, 4)
        new = self._settled(pixels, self._unknown(boxes))
        numbers = self._numbers_of_lost(new)
        self._lost = [track for track in self._lost if track.id not in numbers.values()]
        for at, face in enumerate(new):
            self._begin(face, numbers.get(at))

    def _numbers_of_lost(self, new: Sequence[Face]) -> dict[int, int]:
        """Which new faces (by their place) are which lost ones (by their number); the nearest pairs come first."""
        pairs = [
            (track.surprise_if_found(face, self._frame), track.id, at)
            for track in self._lost
            for at, face in enumerate(new)
        ]
        numbers: dict[int, int] = {}
        for surprise, number, at in sorted(pairs):
            if np.isfinite(surprise) and at not in numbers and number not in numbers.values():
                numbers[at] = number
        return numbers

    def _settled(self, pixels: Pixels, boxes: Floats) -> list[Face]:
        """The faces of a detector's boxes (N, 4), marked again from their own points; without what is none."""
        found: list[Face] = []
        if not len(boxes):
            return found
        first = plausible.boxes_of([face.keypoints for face in self._mark(pixels, boxes)])
        first = first[plausible.look_like_faces(first, _size(pixels))]
        if not len(first):
            return found
        faces, agree = self._look(pixels, first, twice=True)
        good = agree & plausible.look_like_faces(plausible.boxes_of([face.keypoints for face in faces]), _size(pixels))
        known = [track.last.box for track in self._tracks]
        for face, keep in zip(faces, good, strict=True):
            box = plausible.boxes_of(face.keypoints)
            if keep and not (intersection_over_union(box, np.reshape(known, (-1, 4))) >= SAME_FACE).any():
                found.append(face)
                known.append(box)
        return found

    def _unknown(self, boxes: Floats) -> Floats:
        """The boxes that are no tracked face's."""
        known = np.reshape([track.last.box for track in self._tracks], (-1, 4))
        return np.asarray(boxes[(intersection_over_union(boxes, known) < KNOWN).all(axis=1)])

    def _begin(self, face: Face, number: int | None) -> None:
        if number is None:
            self.ids_given += 1
            number = self.ids_given
        smooth = None if self.options.one_euro is None else OneEuroFilter(self.options.one_euro)
        moment = _Moment(plausible.boxes_of(face.keypoints), np.zeros(2), self._frame)
        self._tracks.append(_Track(number, face, smooth, moment, (moment,)))
        self._tracks.sort(key=lambda track: track.id)


def _smoothed(track: _Track, time_s: float) -> TrackedFace:
    raw = track.face.keypoints
    if track.smooth is None:
        return TrackedFace(track.id, track.face, raw)
    points = track.smooth(raw, time_s, float(plausible.sides_of(track.last.box)))
    return TrackedFace(track.id, replace(track.face, keypoints=points), raw)


def _center(box_xyxy: Floats) -> npt.NDArray[np.float64]:
    return np.asarray((box_xyxy[:2] + box_xyxy[2:]) / 2, np.float64)


def _size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]
