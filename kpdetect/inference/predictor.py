"""`Predictor`: from photographs to the keypoints of their faces.

`Predictor.results` is the pipeline: detect, crop, infer, refine, filter. The crops and their geometry are in
`kpdetect.inference.face_crops`. The model scores all candidates of the detector before one of several in a place is
chosen, so that a false box around a face does not hide the face.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, Matrix, image_box
from kpdetect.core.images import Pixels, to_channels
from kpdetect.core.processors import available_processors, in_order
from kpdetect.detection import (
    FACE_SCORE,
    HAAR,
    Detections,
    Detector,
    Face,
    FaceFinder,
    largest_first,
    make_detector,
    non_maximum_suppression,
    scan,
    without_contained,
)
from kpdetect.inference.checks import (
    Boxes,
    Image,
    PathLike,
    as_boxes,
    boxes_within,
    check_images,
    cut_boxes,
    read_photograph,
    size_hw,
)
from kpdetect.inference.face_crops import (
    Candidates,
    crop,
    eye_directions,
    spans_area,
    to_photographs,
    with_mirrored,
    with_upright,
)
from kpdetect.modelfile.bundle import shipped_model
from kpdetect.modelfile.devices import Provider
from kpdetect.modelfile.runtime import Prediction, Runtime, load
from kpdetect.modelfile.spec import Spec, face_scores

MAX_CANDIDATES = 100  # of a photograph, those of the highest scores; the model predicts each of them
MAX_PHOTOGRAPHS = 8  # that a thread of a batch holds in memory, with their faces in one batch of the model
NESTED = 0.35  # share of a face's box within the box of a face of a higher score, from which they are one face

RETRY_SCORE = 0.95
"""The lowest score of a face that only a second search finds, for models that output a score. Such a search tries many
crops of a photograph that probably has no face, so lower scores are mostly false: in 44 pictures without a face, all
ten faces of a second search are below."""

WORTH_REFINING = 0.005
"""The lowest first score of a detected face that is predicted a second time, for models that output a score."""

PROMISING_SCORE = 0.5
"""The same for faces in other rotations than the detector's: nearly all of them are tried in vain."""


class Model(Protocol):
    """A loaded model: `kpdetect.modelfile.runtime.Runtime`, or any object with these two members."""

    @property
    def spec(self) -> Spec:
        """The model's description: its schema, crop rule and channels."""

    def predict(self, crops: npt.NDArray[np.uint8], /) -> Prediction:
        """Predicts crops (B, H, W, C) uint8: keypoints (B, K, 2) relative to the crop, and the further outputs."""


class Predictor:
    """Finds the faces of photographs and predicts their keypoints.

    One object serves many calls, also from several threads: each uses its own detector (a function of yours is
    shared, so it has to be thread-safe) and its own interpreter of the model. An object can be used in forked child
    processes, and be pickled: it is pickled as its arguments, and loads the model again.

    Args:
        model: A bundle or SavedModel folder, a ``.tflite``, ``.onnx`` or ``.keras`` file, or a loaded model; None for
            the packaged one, which needs no TensorFlow.
        detector: Gives the face boxes of a photograph: a function (see `kpdetect.detection.Detector`), ``"haar"`` for
            OpenCV's cascades, or the path of YuNet's ONNX file; None for `kpdetect.detection.FaceFinder`. If that
            or the cascades find no face, the model searches for large ones in windows that cover the photograph. A
            model of whole pictures (``spec.crop.around`` is ``image``) needs no detector.
        threads: The number of threads of the model's runtime.
        mirror: Predict each face and its mirror image and average them: twice the time, slightly more accurate.
        second_look: Predict each face a second time, in an upright crop around its first keypoints: twice the time,
            and more accurate for inexact boxes and tilted heads. None does so for detected faces but not for boxes of
            your own.
        min_score: Detected faces with a lower `Face.score`, in [0, 1], are left out; 0 keeps all. Boxes of your own,
            and faces of models without a score, are kept.
        untrusted: The model is from a source that is not trusted; see `kpdetect.modelfile.runtime.load`.
        device: Where the model runs: ``"cpu"``, ``"gpu"``, or ``"gpu:1"`` for the second GPU; see
            `kpdetect.modelfile.devices`. The detector runs on the processor.
        providers: For an ``.onnx`` file, ONNX Runtime's execution providers, instead of a device.

    Raises:
        KpdetectError: There is no such model, detector or device, `mirror` is used with a schema without left and
            right, or `min_score` is not in [0, 1].
        MissingExtra: The model needs a package that is not installed.

    Example:
        >>> predictor = Predictor()
        >>> faces = predictor(np.zeros((90, 120, 3), np.uint8), boxes=[(40, 20, 80, 60)])
        >>> faces[0].keypoints.shape
        (68, 2)
    """

    def __init__(
        self,
        model: PathLike | Model | None = None,
        detector: Detector | PathLike | None = None,
        threads: int = 1,
        mirror: bool = False,
        second_look: bool | None = None,
        min_score: float = FACE_SCORE,
        untrusted: bool = False,
        device: str | None = None,
        providers: Sequence[Provider] = (),
    ) -> None:
        if not 0 <= min_score <= 1:
            raise KpdetectError(f"min_score: expected 0 to 1, received {min_score}")
        self._arguments = (
            model,
            detector,
            threads,
            mirror,
            second_look,
            min_score,
            untrusted,
            device,
            tuple(providers),
        )
        if model is None or isinstance(model, str | os.PathLike):
            source = shipped_model() if model is None else model
            self.model: Model = load(source, threads, untrusted, device, providers)
        elif device is not None or providers:
            raise KpdetectError("device and providers are for a model's path; this model is loaded already")
        else:
            self.model = model
        self._flip_permutation = self.model.spec.schema.flip_permutation if mirror else None
        if mirror and self._flip_permutation is None:
            name = self.model.spec.schema.name
            raise KpdetectError(f"mirror: expected a scheme with left and right points, received '{name}'")
        self._second_look = second_look
        self._min_score = min_score
        self._detector = os.fspath(detector) if isinstance(detector, str | os.PathLike) else detector
        self._detectors: list[Detector] = []  # made when a call needs one; calls with boxes need none
        if isinstance(self._detector, str):
            self._detectors.append(make_detector(self._detector, self._judges))  # so that a wrong name is an error now

    def __reduce__(self) -> tuple[type[Predictor], tuple[Any, ...]]:
        """Pickles the arguments."""
        return type(self), self._arguments

    def __call__(self, image: Image, boxes: Boxes | None = None, bgr: bool = False) -> list[Face]:
        """Predicts the faces of one photograph.

        Args:
            image: A file's path, its content as bytes or as an open binary file, a PIL image, or an array: (H, W, 3)
                RGB, grey or RGBA, of a type that `kpdetect.core.images.as_rgb` accepts.
            boxes: Your own face boxes, (N, 4) as (x0, y0, x1, y1) in pixels, instead of a detector's. A face box is the
                tight box of the keypoints: for 68 of them, from brow to chin and from ear to ear. A box that reaches
                further than four photographs beyond the border is cut there.
            bgr: The array is BGR, as OpenCV reads it.

        Returns:
            The faces, largest first, or in the order of `boxes`; empty if there is none. A model of whole pictures uses
            the whole picture instead of each box, and predicts one face if there are no boxes.

        Raises:
            KpdetectError: The file or array is not a picture, or a box has no area or lies outside the photograph.

        Example:
            >>> faces = Predictor()("photo.jpg")  # doctest: +SKIP
        """
        return self._results([image], [boxes], bgr)[0].faces

    def batch(
        self,
        images: Sequence[Image],
        boxes: Sequence[Boxes | None] | None = None,
        bgr: bool = False,
        workers: int | None = None,
    ) -> list[list[Face]]:
        """Predicts the faces of several photographs, in threads: one decodes and detects while another predicts.

        Args:
            images: Files or arrays, as for a single call.
            boxes: For each photograph its face boxes, or None to detect them.
            bgr: The arrays are BGR.
            workers: The number of threads; None for one per processor, or for one if the detector or the model is an
                object of yours, which may not be safe to call from several threads.

        Returns:
            For each photograph its faces: the same as single calls give.

        Raises:
            KpdetectError: As for a single call, or `boxes` and `images` differ in length.

        Example:
            >>> faces_of_each = Predictor().batch(["one.jpg", "two.jpg"])  # doctest: +SKIP
        """
        return [result.faces for result in self.results(images, boxes, bgr, workers)]

    def results(
        self,
        images: Sequence[Image],
        boxes: Sequence[Boxes | None] | None = None,
        bgr: bool = False,
        workers: int | None = None,
    ) -> list[Result]:
        """Like `batch`, with the number of detected boxes that were rejected by their score.

        Args:
            images: As for `batch`.
            boxes: As for `batch`.
            bgr: As for `batch`.
            workers: As for `batch`.

        Returns:
            For each photograph its faces, and the number of rejected boxes.

        Raises:
            KpdetectError: As for `batch`.

        Example:
            >>> Predictor().results([np.zeros((90, 120, 3), np.uint8)])
            [Result(faces=[], below_min_score=0)]
        """
        check_images(images)
        boxes_of_images = [None] * len(images) if boxes is None else list(boxes)
        if len(boxes_of_images) != len(images):
            raise KpdetectError(
                f"boxes: expected those of {len(images)} images, received those of {len(boxes_of_images)}"
            )
        if workers is not None and workers < 1:
            raise KpdetectError(f"workers: expected 1 or more, received {workers}")
        count = min(workers or self.default_workers, len(images))
        if count <= 1:
            return self._results(images, boxes_of_images, bgr)
        size = min(MAX_PHOTOGRAPHS, math.ceil(len(images) / (2 * count)))
        parts = [slice(start, start + size) for start in range(0, len(images), size)]
        found = in_order(lambda part: self._results(images[part], boxes_of_images[part], bgr), parts, count)
        return [result for results in found for result in results]

    @property
    def default_workers(self) -> int:
        """The number of threads that `batch` uses by default."""
        if callable(self._detector) or not isinstance(self.model, Runtime):
            return 1
        return available_processors()

    def _results(self, images: Sequence[Image], boxes_of_images: Sequence[Boxes | None], bgr: bool) -> list[Result]:
        spec = self.model.spec

        # Detect.
        candidates = []
        for image, given in zip(images, boxes_of_images, strict=True):
            pixels = read_photograph(image, bgr)
            detections = None
            if given is not None:
                face_boxes = boxes_within(given, pixels)
            elif spec.crop.around == "face":
                face_boxes, detections = self._detect(pixels)
            if spec.crop.around == "image":  # one face a picture, or one for each box that was given
                count = 1 if given is None else len(face_boxes)
                face_boxes = np.tile(image_box(size_hw(pixels)), (count, 1))
            channels = to_channels(pixels, spec.channels)
            candidates.append(Candidates(channels, face_boxes, given is None, detections))

        # Crop, infer and refine; filter.
        results = [self._filter(one, found) for one, found in zip(candidates, self._predict(candidates), strict=True)]

        # Try detections without a certain face in other rotations: the detector's may be wrong.
        doubtful = [
            i
            for i, one in enumerate(candidates)
            if one.detections is not None and self._judges and (spec.score or not results[i].faces)
        ]
        turned = [candidates[i].turned_by_quarters(results[i].faces) for i in doubtful]
        for i, one, found in zip(doubtful, turned, self._predict(turned, PROMISING_SCORE), strict=True):
            more = self._filter(one, found, RETRY_SCORE).faces
            if more:
                results[i] = results[i]._replace(faces=self._filter(one, [*results[i].faces, *more]).faces)

        # If no face was found, look for large ones: windows first, then crops around the keypoints in them.
        missed = [i for i, one in enumerate(candidates) if self._scans and one.detected and not results[i].faces]
        retried = []
        for i in missed:
            everywhere = scan.windows(size_hw(candidates[i].pixels))
            windows = replace(candidates[i], boxes=everywhere, detected=False, detections=None)
            likely = likely_boxes(self._predict([windows])[0])
            retried.append(replace(candidates[i], boxes=likely, detections=None))
        for i, one, found in zip(missed, retried, self._predict(retried), strict=True):
            results[i] = results[i]._replace(faces=self._filter(one, found, RETRY_SCORE).faces)
        return results

    def predict_oriented(self, image: Image, oriented: npt.ArrayLike, bgr: bool = False) -> list[Face]:
        """Predicts the faces of oriented boxes, each from a crop that is upright.

        A head that leans by more than about 45 degrees is not predicted well from the crop of an upright box.

        Args:
            image: As for a call.
            oriented: (N, 5): centre x and y, width and height of the upright face in pixels, and its rotation in
                degrees, positive if the head leans clockwise; such as `kpdetect.detection.Detections.oriented`.
            bgr: The array is BGR.

        Returns:
            The faces, in the order of the boxes.

        Raises:
            KpdetectError: As for a call.

        Example:
            >>> Predictor().predict_oriented(np.zeros((90, 120, 3), np.uint8), [[60, 40, 40, 40, 90]])[0].box.shape
            (4,)
        """
        rows = np.asarray(oriented, np.float32).reshape(-1, 5)
        found = Detections(rows, np.ones(len(rows), np.float32))
        if self.model.spec.crop.around == "image":
            return self(image, found.boxes, bgr)
        pixels = read_photograph(image, bgr)
        boxes = boxes_within(found.boxes, pixels)
        candidates = Candidates(to_channels(pixels, self.model.spec.channels), boxes, False, found)
        return self._predict([candidates])[0]

    def _predict(self, candidates: Sequence[Candidates], promising: float = WORTH_REFINING) -> list[list[Face]]:
        """Crop, infer, refine: the faces of all boxes of all photographs, in their order.

        Detected faces with a first score below `promising` are not refined.
        """
        owners = [one for one in candidates for _ in one.boxes]
        if not owners:
            return [[] for _ in candidates]
        spec, swap = self.model.spec, self._flip_permutation

        # Crop and infer.
        boxes = np.concatenate([one.boxes for one in candidates])
        matrices = np.concatenate([one.matrices(spec) for one in candidates])
        crops = crop(owners, matrices, spec)
        output = self.model.predict(crops if swap is None else with_mirrored(crops))
        prediction = to_photographs(output, matrices, spec, swap)

        # Refine: predict again from upright crops around the first keypoints. Inexact crops of faces have low scores.
        wanted = np.array([one.detected if self._second_look is None else self._second_look for one in owners])
        if prediction.score is not None and self._judges:
            wanted &= (prediction.score >= promising) | ~np.array([one.detected for one in owners])
        again = np.flatnonzero(wanted & spans_area(prediction.keypoints, spec))
        if len(again):
            keypoints = prediction.keypoints[again]
            across = eye_directions(keypoints, matrices[again], spec)
            matrices[again] = spec.crop.upright_matrix(keypoints, across)
            crops = crop([owners[i] for i in again], matrices[again], spec)
            output = self.model.predict(crops if swap is None else with_mirrored(crops))
            for first, refined in zip(prediction, to_photographs(output, matrices[again], spec, swap), strict=True):
                if first is not None and refined is not None:
                    first[again] = refined

        faces = iter(as_faces(boxes, prediction, matrices, spec))
        return [[next(faces) for _ in one.boxes] for one in candidates]

    def _filter(self, candidates: Candidates, faces: list[Face], least_score: float = 0.0) -> Result:
        """Leaves out false detections and second detections of one face; the largest face comes first."""
        if not candidates.detected:
            return Result(faces, 0)
        rejected = 0
        if self.model.spec.judges_faces:
            least = max(self._min_score, least_score if self.model.spec.score else 0.0)
            likely = [face for face in faces if score_of(face) >= least]
            rejected = len(faces) - len(likely)
            faces = [likely[i] for i in sorted(suppress(likely))]
        return Result(sorted(faces, key=lambda face: -float(np.prod(face.box[2:] - face.box[:2]))), rejected)

    @property
    def _judges(self) -> bool:
        """Whether the model's score rejects false detections, so that the detector's threshold can be lower."""
        return self.model.spec.judges_faces and self._min_score >= FACE_SCORE

    @property
    def _scans(self) -> bool:
        """Whether the model searches for large faces if the detector found none."""
        return self._detector in (None, HAAR) and self._judges and self.model.spec.crop.around == "face"

    def _detect(self, pixels: Pixels) -> tuple[Floats, Detections | None]:
        """The face boxes (N, 4) of a photograph, and the faces with their rotations if the detector predicts them."""
        if callable(self._detector):
            return largest_first(cut_boxes(as_boxes(self._detector(pixels)), pixels)), None
        # A detector is used by one thread at a time. Threads of a batch live as long as the batch, detectors longer.
        try:
            detector = self._detectors.pop()
        except IndexError:  # all are in use
            detector = make_detector(self._detector, self._judges)
        try:
            if not isinstance(detector, FaceFinder):
                return largest_first(cut_boxes(as_boxes(detector(pixels)), pixels)), None
            found = detector.detect(pixels)  # by falling score, several in one place: the model's score decides
        finally:
            self._detectors.append(detector)
        found = with_upright(found.take(np.arange(min(len(found.scores), MAX_CANDIDATES))))
        return found.boxes, found


class Result(NamedTuple):
    """The faces of one photograph.

    Attributes:
        faces: The faces, largest first, or in the order of the caller's boxes.
        below_min_score: The number of detected boxes that were rejected because their score is below ``min_score``.
    """

    faces: list[Face]
    below_min_score: int


def scores_of_prediction(prediction: Prediction, spec: Spec) -> Floats | None:
    """The face scores (N,): the model's output, or computed from the uncertainties; None for a model without both."""
    if prediction.score is not None or prediction.uncertainty is None or spec.face_score is None:
        return prediction.score
    return np.asarray(face_scores(prediction.uncertainty, spec.face_score), np.float32)


def as_faces(boxes: Floats, prediction: Prediction, matrices: Matrix, spec: Spec) -> list[Face]:
    """Makes the results.

    Args:
        boxes: (N, 4), what the keypoints were predicted from.
        prediction: Of N crops; the keypoints in pixels of the photographs.
        matrices: (N, 3, 3), photograph to crop.
        spec: The model's description.
    """
    keypoints, uncertainty, _, visibility = prediction
    score = scores_of_prediction(prediction, spec)
    crop_sides_px = max(spec.crop.size_hw) / np.sqrt(np.linalg.det(matrices[:, :2, :2]))
    errors_px = None if uncertainty is None else np.asarray(uncertainty * crop_sides_px[:, None], np.float32)
    return [
        Face(
            keypoints[i],
            spec.schema,
            None if score is None else float(score[i]),
            None if errors_px is None else errors_px[i],
            box,
            None if visibility is None else visibility[i],
        )
        for i, box in enumerate(boxes)
    ]


def suppress(faces: Sequence[Face]) -> npt.NDArray[np.int64]:
    """The indices of the faces that are left if, of several in one place, the one of the highest score is kept.

    Of equal scores, rounded to two digits, the first face is kept: the one that the detector scored highest.
    """
    boxes = np.reshape([face.box for face in faces], (-1, 4))
    scores = np.array([score_of(face) for face in faces]).round(2)  # the last digits vary between processors
    kept = non_maximum_suppression(boxes, scores)
    return np.asarray(kept[without_contained(boxes[kept], scores[kept], NESTED)])


def likely_boxes(faces: Sequence[Face]) -> Floats:
    """The tight boxes (N, 4) of the faces of windows that may be faces, largest first."""
    likely = [face for face in faces if score_of(face) >= scan.LEAST_SCORE]
    return largest_first([likely[i].box for i in suppress(likely)])


def score_of(face: Face) -> float:
    """A face's score; 1 if its model has none."""
    return 1.0 if face.score is None else face.score
