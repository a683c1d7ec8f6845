"""`Predictor`: from photographs to the keypoints of their faces.

`Predictor.batch` is the pipeline: detect, crop, infer, refine, filter. The steps are the functions below it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, Matrix, apply_matrix, image_box, invert, mirrored_relative, to_pixels
from kpdetect.core.images import Pixels, as_rgb, decode_image, read_image, to_channels, warp_crop
from kpdetect.detection import (
    FACE_SCORE,
    HAAR,
    Detector,
    Face,
    largest_first,
    make_detector,
    non_maximum_suppression,
    scan,
)
from kpdetect.modelfile.bundle import shipped_model
from kpdetect.modelfile.devices import Provider
from kpdetect.modelfile.runtime import Prediction, load
from kpdetect.modelfile.spec import Spec, face_scores

PathLike = str | os.PathLike[str]
Image = PathLike | bytes | BinaryIO | npt.ArrayLike
"""A photograph: the path of its file, the content of its file as bytes or as an open binary file, a PIL image, or its
pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), see `kpdetect.core.images.as_rgb`."""
Boxes = npt.ArrayLike
"""Face boxes (N, 4) as (x0, y0, x1, y1) in pixels of the photograph."""

MAX_OVERHANG = 4
"""A box is cut where it reaches further than this beyond the photograph, in its longer sides, so that the time and the
memory of a crop depend on the photograph alone."""


class Model(Protocol):
    """A loaded model: `kpdetect.modelfile.runtime.Runtime`, or any object with these two members."""

    @property
    def spec(self) -> Spec:
        """The model's description: its schema, crop rule and channels."""

    def predict(self, crops: npt.NDArray[np.uint8], /) -> Prediction:
        """Predicts crops (B, H, W, C) uint8: keypoints (B, K, 2) relative to the crop, and the further outputs."""


class Predictor:
    """Finds the faces of photographs and predicts their keypoints.

    One object serves many calls, also from several threads: each thread gets its own detector (a function of yours is
    shared, so it has to be thread-safe), and the model runs one batch at a time. An object can be used in forked child
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
        self._of_thread = threading.local()
        if isinstance(self._detector, str):
            self._detect_function()  # so that a wrong name is an error now

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
        return self.results([image], [boxes], bgr)[0].faces

    def batch(
        self, images: Sequence[Image], boxes: Sequence[Boxes | None] | None = None, bgr: bool = False
    ) -> list[list[Face]]:
        """Predicts the faces of several photographs, with all their faces in one batch of the model.

        Args:
            images: Files or arrays, as for a single call; all of them are held in memory.
            boxes: For each photograph its face boxes, or None to detect them.
            bgr: The arrays are BGR.

        Returns:
            For each photograph its faces: the same as single calls give.

        Raises:
            KpdetectError: As for a single call, or `boxes` and `images` differ in length.

        Example:
            >>> faces_of_each = Predictor().batch(["one.jpg", "two.jpg"])  # doctest: +SKIP
        """
        return [result.faces for result in self.results(images, boxes, bgr)]

    def results(
        self, images: Sequence[Image], boxes: Sequence[Boxes | None] | None = None, bgr: bool = False
    ) -> list[Result]:
        """Like `batch`, with the number of detected boxes that were rejected by their score.

        Args:
            images: As for `batch`.
            boxes: As for `batch`.
            bgr: As for `batch`.

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
        spec = self.model.spec

        # Detect.
        candidates = []
        for image, given in zip(images, boxes_of_images, strict=True):
            pixels = read_photograph(image, bgr)
            if given is not None:
                face_boxes = boxes_within(given, pixels)
            elif spec.crop.around == "face":
                face_boxes = largest_first(cut_boxes(as_boxes(self._detect_function()(pixels)), pixels))
            if spec.crop.around == "image":  # one face a picture, or one for each box that was given
                count = 1 if given is None else len(face_boxes)
                face_boxes = np.tile(image_box(size_hw(pixels)), (count, 1))
            candidates.append(Candidates(to_channels(pixels, spec.channels), face_boxes, given is None))

        # Crop, infer and refine; filter.
        results = [self._filter(one, found) for one, found in zip(candidates, self._predict(candidates), strict=True)]

        # If the detector found no face, look for large ones: windows first, then crops around the keypoints in them.
        missed = [i for i, one in enumerate(candidates) if self._scans and one.detected and not results[i].faces]
        retried = []
        for i in missed:
            windows = replace(candidates[i], boxes=scan.windows(size_hw(candidates[i].pixels)), detected=False)
            retried.append(replace(candidates[i], boxes=likely_boxes(self._predict([windows])[0])))
        for i, one, found in zip(missed, retried, self._predict(retried), strict=True):
            results[i] = results[i]._replace(faces=self._filter(one, found).faces)
        return results

    def _predict(self, candidates: Sequence[Candidates]) -> list[list[Face]]:
        """Crop, infer, refine: the faces of all boxes of all photographs, in their order."""
        owners = [one for one in candidates for _ in one.boxes]
        if not owners:
            return [[] for _ in candidates]
        spec, swap = self.model.spec, self._flip_permutation

        # Crop and infer.
        boxes = np.concatenate([one.boxes for one in candidates])
        matrices = spec.crop.matrix(boxes)
        crops = crop(owners, matrices, spec)
        output = self.model.predict(crops if swap is None else with_mirrored(crops))
        prediction = to_photographs(output, matrices, spec, swap)

        # Refine: predict again from upright crops around the first keypoints.
        wanted = [one.detected if self._second_look is None else self._second_look for one in owners]
        again = np.flatnonzero(np.array(wanted) & spans_area(prediction.keypoints, spec))
        if len(again):
            keypoints = prediction.keypoints[again]
            matrices[again] = spec.crop.upright_matrix(keypoints, eye_directions(keypoints, spec))
            crops = crop([owners[i] for i in again], matrices[again], spec)
            output = self.model.predict(crops if swap is None else with_mirrored(crops))
            for first, refined in zip(prediction, to_photographs(output, matrices[again], spec, swap), strict=True):
                if first is not None and refined is not None:
                    first[again] = refined

        faces = iter(as_faces(boxes, prediction, matrices, spec))
        return [[next(faces) for _ in one.boxes] for one in candidates]

    def _filter(self, candidates: Candidates, faces: list[Face]) -> Result:
        """Leaves out false detections and second detections of one face; the largest face comes first."""
        if not candidates.detected:
            return Result(faces, 0)
        rejected = 0
        if self.model.spec.judges_faces:
            likely = [face for face in faces if score_of(face) >= self._min_score]
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

    def _detect_function(self) -> Callable[[Pixels], npt.ArrayLike]:
        """The user's detector, or this thread's own, made on first use: calls with boxes need none."""
        if callable(self._detector):
            return self._detector
        if not hasattr(self._of_thread, "detector"):
            self._of_thread.detector = make_detector(self._detector, self._judges)
        detector: Detector = self._of_thread.detector
        return detector


class Result(NamedTuple):
    """The faces of one photograph.

    Attributes:
        faces: The faces, largest first, or in the order of the caller's boxes.
        below_min_score: The number of detected boxes that were rejected because their score is below ``min_score``.
    """

    faces: list[Face]
    below_min_score: int


@dataclass(frozen=True, eq=False)
class Candidates:
    """The boxes of one photograph that may be faces.

    Attributes:
        pixels: (H, W, C) uint8, the photograph with the model's number of channels.
        boxes: (N, 4) in pixels.
        detected: Whether a detector found the boxes, so that they may be inexact or false.
    """

    pixels: Pixels
    boxes: Floats
    detected: bool


def check_images(images: Any) -> None:
    """Checks that `Predictor.batch` received several photographs.

    Raises:
        KpdetectError: It received one, or None.
    """
    single = images is None or isinstance(images, str | os.PathLike) or not hasattr(images, "__len__")
    if single or (isinstance(images, np.ndarray) and images.ndim < 4):
        raise KpdetectError(
            f"images: expected a list of files or arrays, received {describe(images)}; for one photograph call "
            "predictor(image)"
        )


def read_photograph(image: Any, bgr: bool = False) -> Pixels:
    """Reads a file, or converts an image (see `Image`), to (H, W, 3) uint8 RGB.

    Raises:
        KpdetectError: It is not a picture; the message describes what was received.
    """
    if image is None:
        raise KpdetectError(
            "image: expected a file's path or an array, received None, which cv2.imread returns for a file that it "
            "cannot read"
        )
    if isinstance(image, str) and "://" in image and not os.path.exists(image):
        raise KpdetectError(
            f"image: expected a file's path or an array, received the address {image}; download it first, for example "
            "with urllib.request.urlretrieve(address, 'photo.jpg')"
        )
    several = isinstance(image, list | tuple) and any(
        isinstance(one, str | os.PathLike) or (isinstance(one, np.ndarray) and one.ndim > 1) for one in image
    )
    if several or (isinstance(image, np.ndarray) and image.ndim == 4):
        raise KpdetectError(
            f"image: expected one photograph, received {describe(image)}; for several call predictor.batch(images)"
        )
    if isinstance(image, str | os.PathLike):
        if "\0" in os.fsdecode(image):
            raise KpdetectError(f"image: expected a file's path, received {image!r} with a null character")
        return read_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), "image")
    if hasattr(image, "read") and not hasattr(image, "getexif"):  # PIL images have both
        content = image.read()
        if not isinstance(content, bytes):
            raise KpdetectError("image: expected a file opened in binary mode ('rb'), received a text file")
        return decode_image(content, str(getattr(image, "name", "image")))
    try:
        return as_rgb(image, bgr)
    except KpdetectError:
        raise
    except (TypeError, ValueError, OverflowError) as error:  # such as rows of different lengths
        raise KpdetectError(f"image: expected an array of numbers, received {describe(image)}: {error}") from error


def size_hw(pixels: Pixels) -> tuple[int, int]:
    """The (height, width) of a picture."""
    return pixels.shape[0], pixels.shape[1]


def describe(value: Any) -> str:
    """Says what a wrong argument is, briefly: ``a list of 2``, ``an array of shape (9, 9)``."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r}" if value is None or isinstance(value, str | os.PathLike) else f"a {type(value).__name__}"


def as_boxes(boxes: Boxes) -> Floats:
    """Boxes as (N, 4) float32; the crop rule checks that they have an area.

    Raises:
        KpdetectError: They are not finite numbers, or have another shape.
    """
    try:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are reported below
            array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise KpdetectError(f"face boxes: expected numbers, (N, 4), received {boxes!r}") from error
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise KpdetectError(f"face boxes: expected shape (N, 4) as (x0, y0, x1, y1), received {array.shape}")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        first = int(finite.argmin())
        raise KpdetectError(f"face boxes: expected finite numbers; box {first + 1} is {array[first].tolist()}")
    return array


def boxes_within(boxes: Boxes, pixels: Pixels) -> Floats:
    """The caller's boxes as (N, 4) float32.

    Raises:
        KpdetectError: A box lies outside the photograph, as one of another photograph, or with x and y exchanged, does.
    """
    array = as_boxes(boxes)
    height, width = size_hw(pixels)
    outside = (array[:, :2] >= (width, height)).any(axis=1) | (array[:, 2:] <= 0).any(axis=1)
    outside &= (array[:, 2:] > array[:, :2]).all(axis=1)  # the crop rule reports boxes without an area
    if outside.any():
        first = int(outside.argmax())
        raise KpdetectError(
            f"face boxes: expected boxes within the photograph of {width} x {height} pixels; box {first + 1} lies "
            f"outside: {array[first].tolist()}"
        )
    return cut_boxes(array, pixels)


def cut_boxes(boxes: Floats, pixels: Pixels) -> Floats:
    """Cuts boxes (N, 4) that reach further than `MAX_OVERHANG` beyond a photograph; leaves out those entirely outside.

    Boxes without an area are left to the crop rule, which reports them.

    Example:
        >>> cut_boxes(np.float32([[-1e9, 10, 50, 60]]), np.zeros((100, 200, 3), np.uint8)).tolist()
        [[-800.0, 10.0, 50.0, 60.0]]
    """
    height, width = size_hw(pixels)
    overhang = MAX_OVERHANG * max(height, width)
    low = np.array([-overhang, -overhang], np.float32)
    high = np.array([width + overhang, height + overhang], np.float32)
    with_area = np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    outside = ((boxes[:, :2] > high) | (boxes[:, 2:] < low)).any(axis=1)
    cut = np.where(with_area[:, None], np.clip(boxes, np.tile(low, 2), np.tile(high, 2)), boxes)
    return np.asarray(cut[np.flatnonzero(~with_area | ~outside)], np.float32)


def crop(owners: Sequence[Candidates], matrices: Matrix, spec: Spec) -> Pixels:
    """Crops a face from each photograph.

    Args:
        owners: The photograph of each of the N crops.
        matrices: (N, 3, 3), photograph to crop.
        spec: The model's description.

    Returns:
        (N, height, width, C) uint8.
    """
    crops = [warp_crop(one.pixels, matrix, spec.crop.size_hw) for one, matrix in zip(owners, matrices, strict=True)]
    return np.stack(crops)


def with_mirrored(crops: Pixels) -> Pixels:
    """Crops (N, H, W, C) followed by their mirror images: (2N, H, W, C)."""
    return np.concatenate([crops, crops[:, :, ::-1]])


def to_photographs(
    prediction: Prediction, matrices: Matrix, spec: Spec, flip_permutation: Sequence[int] | None = None
) -> Prediction:
    """Converts a model's prediction of crops to the photographs' coordinates.

    Args:
        prediction: Of N crops; or of 2N, the second half mirrored, whose means are taken.
        matrices: (N, 3, 3), photograph to crop.
        spec: The model's description.
        flip_permutation: The schema's left-right permutation if the second half is mirrored, otherwise None.

    Returns:
        The prediction of N crops with keypoints in pixels of the photographs; uncertainties stay relative to the crop.

    Raises:
        KpdetectError: A number is not finite.
    """
    if not all(array is None or np.isfinite(array).all() for array in prediction):
        raise KpdetectError("model: expected finite numbers, received NaN or infinity; the weights are damaged")
    if flip_permutation is not None:
        prediction = mean_of_mirrored(prediction, list(flip_permutation))
    relative = to_pixels(prediction.keypoints, spec.crop.size_hw)
    return prediction._replace(keypoints=apply_matrix(invert(matrices), relative))


def mean_of_mirrored(prediction: Prediction, swap: list[int]) -> Prediction:
    """The mean of the predictions of N crops and of their N mirror images, which follow them; of N crops."""
    count = len(prediction.keypoints) // 2

    def mean(values: Floats | None, per_point: bool) -> Floats | None:
        if values is None:
            return None
        mirrored = values[count:, swap] if per_point else values[count:]
        return np.asarray((values[:count] + mirrored) / 2, np.float32)

    swapped = mirrored_relative(prediction.keypoints[count:], swap)
    return Prediction(
        np.asarray((prediction.keypoints[:count] + swapped) / 2, np.float32),
        mean(prediction.uncertainty, per_point=True),
        mean(prediction.score, per_point=False),
        mean(prediction.visibility, per_point=True),
    )


def spans_area(keypoints: Floats, spec: Spec) -> npt.NDArray[np.bool_]:
    """Which faces (N,) can be cropped around their keypoints (N, K, 2); none for models of whole pictures."""
    extent = keypoints.max(axis=1) - keypoints.min(axis=1)
    eyes_apart = np.linalg.norm(eye_directions(keypoints, spec), axis=1) > 0
    return np.asarray((spec.crop.around == "face") & (extent.min(axis=1) > 1) & eyes_apart)


def eye_directions(keypoints: Floats, spec: Spec) -> Floats:
    """The direction from eye to eye, towards the right of the picture, (N, 2), in pixels.

    The eyes are the schema's two normalizer points; without them the direction is the x axis.
    """
    if spec.schema.normalizer_points is None:
        return np.tile(np.array([1, 0], np.float32), (len(keypoints), 1))
    first, second = spec.schema.normalizer_points
    across = keypoints[:, second] - keypoints[:, first]
    return np.where(across[:, :1] < 0, -across, across)


def as_faces(boxes: Floats, prediction: Prediction, matrices: Matrix, spec: Spec) -> list[Face]:
    """Makes the results.

    Args:
        boxes: (N, 4), what the keypoints were predicted from.
        prediction: Of N crops; the keypoints in pixels of the photographs.
        matrices: (N, 3, 3), photograph to crop.
        spec: The model's description.
    """
    keypoints, uncertainty, score, visibility = prediction
    if score is None and uncertainty is not None and spec.face_score is not None:
        score = face_scores(uncertainty, spec.face_score)
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
    """The indices of the faces that are left if, of several in one place, the one of the highest score is kept."""
    return non_maximum_suppression([face.box for face in faces], [score_of(face) for face in faces])


def likely_boxes(faces: Sequence[Face]) -> Floats:
    """The tight boxes (N, 4) of the faces of windows that may be faces, largest first."""
    likely = [face for face in faces if score_of(face) >= scan.LEAST_SCORE]
    return largest_first([likely[i].box for i in suppress(likely)])


def score_of(face: Face) -> float:
    """A face's score; 1 if its model has none."""
    return 1.0 if face.score is None else face.score
