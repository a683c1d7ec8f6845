"""`Predictor`: from a photograph to the keypoints of its faces."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import (
    Floats,
    Matrix,
    apply_matrix,
    image_box,
    invert,
    mirrored_relative,
    tight_box,
    to_pixels,
)
from kpdetect.core.images import Pixels, as_rgb, read_image, to_channels, warp_crop
from kpdetect.detection import FACE_SCORE, HAAR, Detector, Face, biggest_first, make_detector, scan
from kpdetect.modelfile.bundle import shipped_model
from kpdetect.modelfile.runtime import Prediction, load
from kpdetect.modelfile.spec import Spec, face_scores

PathLike = str | os.PathLike[str]


class Model(Protocol):
    """What predicts: `kpdetect.modelfile.runtime.Runtime`, or anything that acts like one."""

    @property
    def spec(self) -> Spec:
        """What the model says of itself."""

    def predict(self, crops: npt.NDArray[np.uint8], /) -> Prediction:
        """Crops (B, H, W, C) to points (B, K, 2) relative to the crop, and what it tells of their errors, (B, K)."""


class Predictor:
    """Finds the faces of photographs and their points.

    One object serves many calls, also from several threads: each thread has a detector of its own (one that you give
    is shared, and has to allow that), and the model's runtime runs one batch at a time.

    Args:
        model: A bundle or SavedModel folder, a ``.tflite``, ``.onnx`` or ``.keras`` file, or a loaded model; by
            default the one that ships with the package.
        detector: Gives the face boxes of a photograph: any function (see `kpdetect.detection.Detector`), ``"haar"`` for
            OpenCV's cascades, or YuNet's ONNX file; by default `kpdetect.detection.FaceFinder`. Where that or the
            cascades find nothing that the model takes for a face, the model looks for large faces itself, in windows
            all over the photograph. A model of whole pictures (``spec.crop.around`` is ``image``) needs none.
        threads: How many threads the model's runtime may use.
        mirror: Look at every face in a mirror too, and give the mean: twice the time, a little more accurate.
        second_look: Look at every face again, in a crop about its first points, turned upright: twice the time, and
            more accurate the more the box is off or the face is turned. By default, faces that the detector found get
            one, and boxes of your own do not.
        min_score: Leave out what the detector found where the model says, by a lower `Face.score`, that it is no
            face. Boxes of your own, and models that tell no score, are not judged. 0 leaves out nothing.

    Raises:
        KpdetectError: There is no such model or detector, its scheme cannot be mirrored, or the score is not in [0, 1].
    """

    def __init__(
        self,
        model: PathLike | Model | None = None,
        detector: Detector | PathLike | None = None,
        threads: int = 1,
        mirror: bool = False,
        second_look: bool | None = None,
        min_score: float = FACE_SCORE,
    ) -> None:
        if not 0 <= min_score <= 1:
            raise KpdetectError(f"min_score: expected 0 to 1, received {min_score}")
        if model is None or isinstance(model, str | os.PathLike):
            self.model: Model = load(shipped_model() if model is None else model, threads=threads)
        else:
            self.model = model
        self._detector = os.fspath(detector) if isinstance(detector, str | os.PathLike) else detector
        self._own = threading.local()
        self._second_look = second_look
        self._min_score = min_score
        self._swap = self.model.spec.schema.flip_permutation if mirror else None
        if mirror and self._swap is None:
            raise KpdetectError(
                f"mirror: scheme '{self.model.spec.schema.name}' tells no left and right, so no face can be mirrored"
            )
        if isinstance(self._detector, str):
            self._own.detector = make_detector(self._detector, self._judged)  # a wrong one is told at once

    def __call__(
        self, image: PathLike | npt.ArrayLike, boxes: npt.ArrayLike | None = None, bgr: bool = False
    ) -> list[Face]:
        """Prediction the faces of one photograph; all of them go through the model as one batch.

        Args:
            image: A file, or an array: (H, W, 3) RGB, grey, or RGBA, of any type that `kpdetect.core.images.as_rgb`
                takes.
            boxes: Face boxes of your own, (N, 4) as (x0, y0, x1, y1) in pixels; then no detector runs. A face box is
                the tight box of the points: for 68 points from brow to chin and from ear to ear.
            bgr: The array's colours come as OpenCV reads them.

        Returns:
            The faces, biggest first; faces of your own boxes in the order of the boxes. An empty list for no face. A
            model of whole pictures takes the whole picture instead of each box, and once where none are given.

        Raises:
            KpdetectError: The file is no image, or a box is none.
        """
        return self.batch([image], [boxes], bgr)[0]

    def batch(
        self,
        images: Sequence[PathLike | npt.ArrayLike],
        boxes: Sequence[npt.ArrayLike | None] | None = None,
        bgr: bool = False,
    ) -> list[list[Face]]:
        """Prediction the faces of several photographs, all faces as one batch: what calls one by one would give.

        Args:
            images: Files or arrays; all of them are held in memory.
            boxes: For each photograph face boxes of your own, or None to look for faces.
            bgr: The arrays' colours come as OpenCV reads them.

        Returns:
            For each photograph its faces.

        Raises:
            KpdetectError: A file is no image, a box is none, or there are not as many boxes as images.
        """
        given = [None] * len(images) if boxes is None else list(boxes)
        if len(given) != len(images):
            raise KpdetectError(f"boxes: expected those of {len(images)} images, received those of {len(given)}")
        views = [self._view(image, own, bgr) for image, own in zip(images, given, strict=True)]
        found = self._marked(views)
        empty = [at for at, view in enumerate(views) if not found[at] and view.detected and self._scans]
        again = dict(zip(empty, self._marked([self._scanned(views[at]) for at in empty]), strict=True))
        return [again.get(at, faces) for at, faces in enumerate(found)]

    def _marked(self, views: list["_View"]) -> list[list[Face]]:
        """For each photograph the faces of its boxes; of those that a detector found, each once and no mistakes."""
        faces = iter(self._faces([view for view in views for _ in view.boxes], views))
        return [self._kept([next(faces) for _ in view.boxes], view) for view in views]

    @property
    def _judged(self) -> bool:
        """Whether the model says of a detector's finds which are faces."""
        return self.model.spec.face_score is not None and self._min_score >= FACE_SCORE

    @property
    def _scans(self) -> bool:
        """Whether the model looks for large faces by itself where the face finder or the cascades find none."""
        return self._detector in (None, HAAR) and self._judged and self.model.spec.crop.around == "face"

    def _scanned(self, view: "_View") -> "_View":
        """A photograph with boxes of what the model may take for faces, in windows all over it."""
        windows = replace(view, boxes=scan.windows((view.pixels.shape[0], view.pixels.shape[1])), detected=False)
        faces = self._faces([windows] * len(windows.boxes), [windows])
        likely = [face for face in faces if _score(face) >= scan.LEAST_SCORE]
        return replace(view, boxes=biggest_first(_tight_boxes(likely)[_each_once(likely)]))

    def _view(self, image: PathLike | npt.ArrayLike, boxes: npt.ArrayLike | None, bgr: bool) -> "_View":
        """A photograph and what to crop of it: all of it, the boxes that were given, or those that a detector finds."""
        pixels = read_image(image) if isinstance(image, str | os.PathLike) else as_rgb(image, bgr)
        channels = to_channels(pixels, self.model.spec.channels)
        given = None if boxes is None else _checked(boxes)
        if given is not None:
            _check_within(given, (pixels.shape[0], pixels.shape[1]))
        if self.model.spec.crop.around == "image":
            whole = image_box((pixels.shape[0], pixels.shape[1]))
            return _View(channels, np.repeat(whole[None], 1 if given is None else len(given), axis=0), given is None)
        if given is None:
            return _View(channels, biggest_first(_checked(self._detect(pixels))), True)
        return _View(channels, given, False)

    def _detect(self, pixels: Pixels) -> npt.ArrayLike:
        if callable(self._detector):
            return self._detector(pixels)
        if not hasattr(self._own, "detector"):  # not before it is needed: callers with boxes of their own never do
            self._own.detector = make_detector(self._detector, self._judged)
        found: npt.ArrayLike = self._own.detector(pixels)
        return found

    def _kept(self, faces: list[Face], view: "_View") -> list[Face]:
        if not view.detected or self.model.spec.face_score is None:
            return faces
        kept = [face for face in faces if _score(face) >= self._min_score]
        return [kept[index] for index in sorted(_each_once(kept))]

    def _faces(self, view_of: list["_View"], views: list["_View"]) -> list[Face]:
        """The faces of all boxes, with their points in pixels of their photographs.

        Args:
            view_of: Each box's photograph.
            views: The photographs.
        """
        if not view_of:
            return []
        spec = self.model.spec
        boxes = np.concatenate([view.boxes for view in views])
        matrices = spec.crop.matrix(boxes)
        keypoints, uncertainty = self._marks(view_of, matrices)
        again = np.array([view.detected if self._second_look is None else self._second_look for view in view_of])
        again &= _can_be_turned(spec, keypoints)
        if again.any():
            matrices[again] = spec.crop.upright_matrix(keypoints[again], _across(spec, keypoints[again]))
            looked_at = [view for view, chosen in zip(view_of, again, strict=True) if chosen]
            keypoints[again], more = self._marks(looked_at, matrices[again])
            if uncertainty is not None and more is not None:
                uncertainty[again] = more
        if uncertainty is None:
            return [Face(box, points, spec.schema) for box, points in zip(boxes, keypoints, strict=True)]
        sides_px = max(spec.crop.size_hw) / np.sqrt(np.linalg.det(matrices[:, :2, :2]))
        errors_px = np.asarray(uncertainty * sides_px[:, None], np.float32)
        scores = [None] * len(boxes) if spec.face_score is None else face_scores(uncertainty, spec.face_score).tolist()
        found = zip(boxes, keypoints, scores, errors_px, strict=True)
        return [Face(box, points, spec.schema, score, errors) for box, points, score, errors in found]

    def _marks(self, view_of: list["_View"], matrices: Matrix) -> Prediction:
        """What the model says of crops, keypoints in pixels of the photographs; with `mirror`, seen from both sides."""
        size_hw = self.model.spec.crop.size_hw
        crops = np.stack(
            [warp_crop(view.pixels, matrix, size_hw) for view, matrix in zip(view_of, matrices, strict=True)]
        )
        relative, uncertainty = self._predict_mirrored(crops, self._swap) if self._swap else self.model.predict(crops)
        if not np.isfinite(relative).all() or not (uncertainty is None or np.isfinite(uncertainty).all()):
            raise KpdetectError("the model gave numbers that are not finite; its weights are damaged")
        return Prediction(apply_matrix(invert(matrices), to_pixels(relative, size_hw)), uncertainty)

    def _predict_mirrored(self, crops: Pixels, swap: Sequence[int]) -> Prediction:
        """The mean of what the model says of crops and of what it says of them in a mirror."""
        count, swapped = len(crops), list(swap)
        keypoints, uncertainty = self.model.predict(np.concatenate([crops, crops[:, :, ::-1]]))
        both = np.asarray((keypoints[:count] + mirrored_relative(keypoints[count:], swap)) / 2, np.float32)
        if uncertainty is None:
            return Prediction(both, None)
        return Prediction(both, np.asarray((uncertainty[:count] + uncertainty[count:, swapped]) / 2, np.float32))


@dataclass(frozen=True)
class _View:
    """A photograph as the model takes it, and the boxes to look at.

    Attributes:
        pixels: (H, W, C), C as the model's.
        boxes: (N, 4).
        detected: Whether a detector found them.
    """

    pixels: Pixels
    boxes: Floats
    detected: bool


def _tight_boxes(faces: Sequence[Face]) -> Floats:
    """The boxes of the faces' points, (N, 4)."""
    return tight_box([face.keypoints for face in faces]) if faces else np.zeros((0, 4), np.float32)


def _score(face: Face) -> float:
    return 1.0 if face.score is None else face.score


def _each_once(faces: Sequence[Face]) -> npt.NDArray[np.int64]:
    """Which faces are left when of several that have their points in one place the one of the highest score counts."""
    return scan.non_maximum_suppression(_tight_boxes(faces), [_score(face) for face in faces])


def _can_be_turned(spec: Spec, keypoints: Floats) -> npt.NDArray[np.bool_]:
    """Which faces' points tell a crop of their own: they span an area. None does for models of whole pictures."""
    extent = keypoints.max(axis=1) - keypoints.min(axis=1)
    across = np.linalg.norm(_across(spec, keypoints), axis=1)
    return np.asarray((spec.crop.around == "face") & (extent.min(axis=1) > 1) & (across > 0))


def _across(spec: Spec, keypoints: Floats) -> Floats:
    """Towards the right of the picture from eye to eye, (N, 2), by the two points that normalise errors; or level."""
    if spec.schema.normalizer_points is None:
        return np.tile(np.array([1, 0], np.float32), (len(keypoints), 1))
    first, second = spec.schema.normalizer_points
    across = keypoints[:, second] - keypoints[:, first]
    return np.where(across[:, :1] < 0, -across, across)


def _checked(boxes: npt.ArrayLike) -> Floats:
    """Boxes as (N, 4); their values are checked where they become crops."""
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise KpdetectError(f"face boxes: expected numbers, (N, 4), received {boxes!r}") from error
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise KpdetectError(f"face boxes: expected shape (N, 4) as (x0, y0, x1, y1), received {array.shape}")
    return array


def _check_within(boxes: Floats, size_hw: tuple[int, int]) -> None:
    """Refuses boxes beside the photograph, which are another photograph's, or have x and y exchanged."""
    height, width = size_hw
    beside = (boxes[:, :2] >= (width, height)).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)
    beside &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # other boxes are none at all, which the crop rule tells
    if beside.any():
        raise KpdetectError(
            f"face boxes: expected boxes in the photograph, of {width} x {height} pixels; number {beside.argmax() + 1} "
            f"lies beside it: {boxes[beside.argmax()].tolist()}"
        )
