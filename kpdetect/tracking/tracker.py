"""`Tracker`: from the frames of a video to faces that keep their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, intersection_over_union
from kpdetect.core.images import Pixels, as_rgb
from kpdetect.detection import Detector, Face, FaceFinder, without_contained
from kpdetect.detection.oriented import upright_boxes
from kpdetect.inference.face_crops import CERTAIN_SCORE, oriented_crop_boxes, with_upright
from kpdetect.inference.predictor import NESTED
from kpdetect.tracking import plausible
from kpdetect.tracking.film_cut import CutDetector
from kpdetect.tracking.smoothing import OneEuroFilter, OneEuroOptions

PredictBoxes = Callable[[Pixels, Floats], list[Face]]
"""A function from a frame (H, W, 3) and face boxes (N, 4) to N faces in the same order, such as a `Predictor`."""


@runtime_checkable
class PredictsOriented(Protocol):
    """A function like `PredictBoxes` that can also turn the crops of leaning heads, such as a `Predictor`."""

    def predict_oriented(self, image: Pixels, oriented: Floats, /) -> list[Face]:
        """Predicts the faces of oriented boxes (N, 5); see `kpdetect.detection.oriented`."""


KNOWN = 0.3  # intersection over union of a detector's box and a tracked face's; detectors' boxes vary
SAME_FACE = 0.5  # intersection over union of the tight boxes of two tracked faces that are one
NEAR = 0.75  # distance of a found face from the expected position of a lost one, in sides of the face
SAME_SIZE = 1.5  # and the ratio of their sizes
VELOCITY_SHARE = 0.3  # weight of a frame in the running mean of the velocity


@dataclass(frozen=True)
class TrackerOptions:
    """When a `Tracker` detects faces, and how it smooths.

    Attributes:
        detect_every: Frames between two detections of new faces; a second of video, since faces rarely appear.
        search_every: The same while no face is tracked, or one was just lost. A detection takes eighty times as long as
            a tracked frame, so that one in each frame would slow a live picture down.
        check_every: Frames between two second predictions of the tracked faces, for models without a score (see
            `kpdetect.tracking.plausible`).
        remember: Frames for which the number of a lost face is kept for it; a second of video.
        detect_cuts: End all faces at a film cut, so that the faces after it get new numbers.
        one_euro: The smoothing of the keypoints; None for no smoothing.

    Raises:
        KpdetectError: A number of frames is out of its range.

    Example:
        >>> TrackerOptions(detect_every=10).remember
        30
    """

    detect_every: int = 30
    search_every: int = 3
    check_every: int = 5
    remember: int = 30
    detect_cuts: bool = True
    one_euro: OneEuroOptions | None = field(default_factory=OneEuroOptions)

    def __post_init__(self) -> None:
        if min(self.detect_every, self.search_every, self.check_every) < 1 or self.remember < 0:
            raise KpdetectError(f"tracker: expected 1 frame or more between detections, received {self}")


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face of one frame.

    Attributes:
        id: Its number, from 1; the same in every frame, and no other face's.
        face: The face with smoothed keypoints.
        raw_keypoints: (K, 2) float32, the keypoints as the model predicted them, in pixels.

    Example:
        ``[(one.id, one.face.box) for one in tracker(frame.pixels, frame.time_s)]``
    """

    id: int
    face: Face
    raw_keypoints: Floats


@dataclass(frozen=True, eq=False)
class _Observation:
    """A face in one frame: its tight box (4,), its velocity (2,) in pixels per frame, and the frame's index."""

    box: Floats
    velocity_xy: npt.NDArray[np.float64]
    frame: int

    def distance(self, box: Floats, frame: int) -> float:
        """The distance of a box (4,) of a later frame from the expected position, in sides of the face."""
        offset = _center(box) - _center(self.box) - self.velocity_xy * (frame - self.frame)
        return float(np.linalg.norm(offset) / max(float(plausible.longer_sides(self.box)), 1e-6))

    def may_become(self, box: Floats, frame: int) -> bool:
        """Whether a box (4,) of a later frame can be this face."""
        growth = float(plausible.longer_sides(box) / max(float(plausible.longer_sides(self.box)), 1e-6))
        return self.distance(box, frame) <= NEAR and 1 / SAME_SIZE <= growth <= SAME_SIZE


@dataclass
class _Track:
    """One face: its last observation, and the last two remembered ones.

    An object that passes in front of a face pulls its keypoints along before the face is lost. The observation before
    the last remembered one is therefore a second expected position.
    """

    id: int
    face: Face
    smooth: OneEuroFilter | None
    last: _Observation
    remembered: tuple[_Observation, ...] = ()

    def update(self, face: Face, frame: int, remember: bool) -> None:
        """Adds the observation of the next frame."""
        step = _center(face.box) - _center(self.last.box)
        velocity = self.last.velocity_xy + VELOCITY_SHARE * (step - self.last.velocity_xy)
        self.face, self.last = face, _Observation(face.box, velocity, frame)
        if remember:
            self.remembered = (*self.remembered[-1:], self.last)

    def distance_if_lost(self, face: Face, frame: int) -> float:
        """The distance of a found face from the expected position, in sides; infinite if it cannot be this one."""
        candidates = (self.last, *self.remembered[:1])
        distances = (one.distance(face.box, frame) for one in candidates if one.may_become(face.box, frame))
        return min(distances, default=np.inf)


class Tracker:
    """Tracks the faces of a video. Each call takes the next frame.

    The tight box of a face's keypoints is its box in the next frame; the crop of a leaning head is turned upright, if
    `predict` can do so. The detector only runs at the start, every
    `TrackerOptions.detect_every` frames for new faces, and after a face was lost. A face is dropped if its keypoints
    collapse, leave the picture, jump, or fall on another face, and if the model scores it below 0.5 (or, for a model
    without a score, if a second prediction from a displaced box disagrees). It is not dropped if the detector misses
    it: detectors miss turned faces that the model still predicts. A lost face that is found again soon near its
    expected position gets its number back. At a film cut all faces end.

    Use an object for one video, from one thread at a time.

    Args:
        predict: Predicts the faces of boxes, such as a `kpdetect.Predictor`.
        detect: Gives the face boxes of a frame, such as a `kpdetect.detection.FaceFinder`, whose rotations are used.
        options: See `TrackerOptions`.

    Attributes:
        detections: The number of frames in which the detector ran.
        ids_given: The number of faces so far.

    Example:
        >>> from kpdetect import Predictor
        >>> from kpdetect.detection import FaceFinder
        >>> tracker = Tracker(Predictor(), FaceFinder())
        >>> tracker(np.zeros((90, 120, 3), np.uint8), time_s=0.0)
        []
    """

    def __init__(self, predict: PredictBoxes, detect: Detector, options: TrackerOptions | None = None) -> None:
        self.options = TrackerOptions() if options is None else options
        self.detections = 0
        self.ids_given = 0
        self._predict = predict
        self._detect = detect
        self._is_cut = CutDetector()
        self._tracks: list[_Track] = []
        self._lost: list[_Track] = []
        self._frame = -1
        self._frame_of_detection: int | None = None

    def __call__(self, image_rgb: npt.ArrayLike, time_s: float) -> list[TrackedFace]:
        """Tracks the faces into the next frame.

        Args:
            image_rgb: (H, W, 3) uint8 RGB, of the same size as the frames before.
            time_s: The time of the frame in seconds, rising; the smoothing needs it.

        Returns:
            The faces of the frame, by their numbers.
        """
        pixels = as_rgb(image_rgb)
        self._frame += 1
        if self.options.detect_cuts and self._is_cut(pixels):
            self._tracks, self._lost, self._frame_of_detection = [], [], None
        self._update_tracks(pixels)
        if self._detection_is_due():
            self._add_new_faces(pixels)
        self._lost = [track for track in self._lost if self._frame - track.last.frame <= self.options.remember]
        return [_smoothed(track, time_s) for track in self._tracks]

    def _update_tracks(self, pixels: Pixels) -> None:
        """Updates the tracked faces and drops lost ones."""
        if not self._tracks:
            return
        before = np.stack([track.last.box for track in self._tracks])
        check = self._frame % self.options.check_every == 0
        faces, accepted = self._predict_and_judge(pixels, [track.face for track in self._tracks], check)
        after = plausible.face_boxes([face.keypoints for face in faces])
        kept = accepted & plausible.plausible_boxes(after, _size_hw(pixels)) & plausible.plausible_motion(before, after)
        kept &= ~self._duplicates(after, kept)
        for track, face, keep in zip(self._tracks, faces, kept, strict=True):
            if keep:
                track.update(face, self._frame, remember=check)
            else:
                self._lost.append(track)
        self._tracks = [track for track, keep in zip(self._tracks, kept, strict=True) if keep]

    def _duplicates(self, boxes: Floats, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which faces (N,) fell on another one: of two, the one that is further from its expected position."""
        distances = [track.last.distance(box, self._frame) for track, box in zip(self._tracks, boxes, strict=True)]
        overlap = intersection_over_union(boxes, boxes)
        dropped = ~kept
        for index in np.argsort(distances)[::-1].tolist():
            others = ~dropped
            others[index] = False
            dropped[index] |= bool((overlap[index][others] >= SAME_FACE).any())
        return dropped & kept

    def _predict_and_judge(
        self, pixels: Pixels, before: Sequence[Face], check: bool
    ) -> tuple[list[Face], npt.NDArray[np.bool_]]:
        """Predicts faces near known ones, and whether each is a face, (N,): by its score, or by `check`."""
        faces = self._predict_near(pixels, before)
        scores = [face.score for face in faces if face.score is not None]
        if len(scores) == len(faces):
            return faces, np.array(scores) >= plausible.LEAST_SCORE
        if not check:
            return faces, np.ones(len(faces), bool)
        second = self._predict_near(pixels, before, displaced=True)
        distances = plausible.disagreement(*([face.keypoints for face in some] for some in (faces, second)))
        return faces, distances <= plausible.MOST_DISAGREEMENT

    def _predict_near(
        self, pixels: Pixels, known: Sequence[Face], displaced: bool = False, turn_deg: float = 0.0
    ) -> list[Face]:
        """Predicts faces from the places of known ones.

        Args:
            pixels: The frame.
            known: Faces of it, or of the frame before.
            displaced: Predict from slightly different boxes.
            turn_deg: Turn the faces' rotations by this, for models that take oriented boxes.
        """
        if isinstance(self._predict, PredictsOriented) and known:
            oriented = oriented_crop_boxes(np.stack([face.keypoints for face in known]), known[0].schema)
            oriented[:, 4] += turn_deg
            if oriented[:, 4].any():
                if displaced:
                    upright = plausible.displaced_boxes(upright_boxes(oriented))
                    oriented[:, :2], oriented[:, 2:4] = (
                        (upright[:, :2] + upright[:, 2:]) / 2,
                        upright[:, 2:] - upright[:, :2],
                    )
                return self._predict.predict_oriented(pixels, oriented)
        boxes = plausible.face_boxes([face.keypoints for face in known])
        return self._predict(pixels, plausible.displaced_boxes(boxes) if displaced else boxes)

    def _detection_is_due(self) -> bool:
        if self._frame_of_detection is None:
            return True
        searching = not self._tracks or bool(self._lost)
        wait = min(self.options.search_every, self.options.detect_every) if searching else self.options.detect_every
        return self._frame - self._frame_of_detection >= wait

    def _add_new_faces(self, pixels: Pixels) -> None:
        """Detects faces. A face that is not tracked gets the number of a lost one, or a new one."""
        self._frame_of_detection = self._frame
        self.detections += 1
        new = self._confirmed(pixels, self._detected(pixels))
        numbers = self._numbers_of_lost(new)
        self._lost = [track for track in self._lost if track.id not in numbers.values()]
        for index, face in enumerate(new):
            self._start_track(face, numbers.get(index))

    def _detected(self, pixels: Pixels) -> list[Face]:
        """The first predictions of detected faces that are not tracked, in the detector's order."""
        tracked = np.reshape([track.last.box for track in self._tracks], (-1, 4))

        def untracked(boxes: Floats) -> npt.NDArray[np.bool_]:
            return np.asarray((intersection_over_union(boxes, tracked) < KNOWN).all(axis=1))

        if isinstance(self._detect, FaceFinder) and isinstance(self._predict, PredictsOriented):
            found = self._detect.detect(pixels)
            found = found.take(without_contained(found.boxes, found.scores))
            found = found.take(untracked(found.boxes))
            found = with_upright(found.take(np.argsort(-np.prod(found.oriented[:, 2:4], axis=1), kind="stable")))
            return self._predict.predict_oriented(pixels, found.oriented) if len(found.scores) else []
        boxes = np.asarray(self._detect(pixels), np.float32).reshape(-1, 4)
        boxes = boxes[untracked(boxes)]
        return self._predict(pixels, boxes) if len(boxes) else []

    def _confirmed(self, pixels: Pixels, first: Sequence[Face]) -> list[Face]:
        """Faces that are not tracked, predicted again from their keypoints; of several in one place the best."""
        boxes = np.reshape([face.box for face in first], (-1, 4))
        first = [
            face for face, keep in zip(first, plausible.plausible_boxes(boxes, _size_hw(pixels)), strict=True) if keep
        ]
        if not first:
            return []
        faces, accepted = self._predict_and_judge(pixels, first, check=True)
        faces = self._in_best_rotation(pixels, faces, accepted)
        accepted &= plausible.plausible_boxes([face.box for face in faces], _size_hw(pixels))
        new = [face for face, accept in zip(faces, accepted, strict=True) if accept]
        boxes = np.reshape([track.last.box for track in self._tracks] + [face.box for face in new], (-1, 4))
        scores = [np.inf] * len(self._tracks) + [1.0 if face.score is None else face.score for face in new]
        kept = without_contained(boxes, scores, NESTED) - len(self._tracks)
        return [new[i] for i in sorted(kept.tolist()) if i >= 0]

    def _in_best_rotation(self, pixels: Pixels, faces: list[Face], accepted: npt.NDArray[np.bool_]) -> list[Face]:
        """Tries accepted faces without a high score in the other quarters of a turn, and keeps the best of each."""
        certain = np.array([face.score is None or face.score >= CERTAIN_SCORE for face in faces])
        doubtful = np.flatnonzero(accepted & ~certain).tolist()
        if doubtful and isinstance(self._predict, PredictsOriented):
            best = list(faces)
            for turn_deg in (90.0, 180.0, 270.0):
                turned = self._predict_near(pixels, [faces[i] for i in doubtful], turn_deg=turn_deg)
                for i, face in zip(doubtful, turned, strict=True):
                    best[i] = max(best[i], face, key=lambda one: one.score or 0.0)
            return best
        return faces

    def _numbers_of_lost(self, new: Sequence[Face]) -> dict[int, int]:
        """The numbers of lost faces, by the index of the new face; the nearest pairs are matched first."""
        pairs = [
            (track.distance_if_lost(face, self._frame), track.id, index)
            for track in self._lost
            for index, face in enumerate(new)
        ]
        numbers: dict[int, int] = {}
        for distance, number, index in sorted(pairs):
            if np.isfinite(distance) and index not in numbers and number not in numbers.values():
                numbers[index] = number
        return numbers

    def _start_track(self, face: Face, number: int | None) -> None:
        if number is None:
            self.ids_given += 1
            number = self.ids_given
        smooth = None if self.options.one_euro is None else OneEuroFilter(self.options.one_euro)
        observation = _Observation(face.box, np.zeros(2), self._frame)
        self._tracks.append(_Track(number, face, smooth, observation, (observation,)))
        self._tracks.sort(key=lambda track: track.id)


def _smoothed(track: _Track, time_s: float) -> TrackedFace:
    raw = track.face.keypoints
    if track.smooth is None:
        return TrackedFace(track.id, track.face, raw)
    points = track.smooth(raw, time_s, float(plausible.longer_sides(track.last.box)))
    return TrackedFace(track.id, replace(track.face, keypoints=points), raw)


def _center(box_xyxy: Floats) -> npt.NDArray[np.float64]:
    return np.asarray((box_xyxy[:2] + box_xyxy[2:]) / 2, np.float64)


def _size_hw(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]
