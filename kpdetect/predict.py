"""Owns `Predictor`, from a photograph to the points of its faces; as a command it marks photographs and data sets."""

import os
import sys
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kpdetect import cli
from kpdetect.bundle import Spec, shipped_model
from kpdetect.errors import KpdetectError
from kpdetect.faces import Detector, Face, HaarDetector, biggest_first
from kpdetect.geometry import Floats, apply_matrix, image_box, invert, to_pixels
from kpdetect.images import Pixels, as_rgb, read_image, to_channels, warp_crop
from kpdetect.runtime import Marks, load
from kpdetect.spec import face_scores

PathLike = str | os.PathLike[str]


class Model(Protocol):
    """What predicts: `kpdetect.runtime.Runtime`, or anything that acts like one."""

    @property
    def spec(self) -> Spec:
        """What the model says of itself."""

    def mark(self, crops: npt.NDArray[np.uint8], /) -> Marks:
        """Crops (B, H, W, C) to points (B, K, 2) relative to the crop, and what it tells of their errors, (B, K)."""


class Predictor:
    """Finds the faces of photographs and their points.

    Args:
        model: A bundle or SavedModel folder, a ``.tflite``, ``.onnx`` or ``.keras`` file, or a loaded model; by
            default the one that ships with the package.
        detector: Gives the face boxes of a photograph (see `kpdetect.faces.Detector`); by default `HaarDetector`.
            A model of whole pictures (its ``spec.crop.around`` is ``image``) needs none.
        threads: How many threads the model's runtime may use.
        mirror: Look at every face in a mirror too, and give the mean: twice the time, a little more accurate.
        min_score: Leave out what the detector found where the model says, by a lower `Face.score`, that it is no
            face. Boxes of your own, and models that tell no score, are not judged. 0 leaves out nothing.

    Raises:
        KpdetectError: There is no such model, its scheme cannot be mirrored, or the score is not in [0, 1].
    """

    def __init__(
        self,
        model: PathLike | Model | None = None,
        detector: Detector | None = None,
        threads: int = 1,
        mirror: bool = False,
        min_score: float = 0.5,
    ) -> None:
        if not 0 <= min_score <= 1:
            raise KpdetectError(f"min_score: expected 0 to 1, received {min_score}")
        if model is None or isinstance(model, str | os.PathLike):
            self.model: Model = load(shipped_model() if model is None else model, threads=threads)
        else:
            self.model = model
        self._detector = detector
        self._min_score = min_score
        self._swap = self.model.spec.schema.flip_permutation if mirror else None
        if mirror and self._swap is None:
            raise KpdetectError(
                f"mirror: scheme '{self.model.spec.schema.name}' tells no left and right, so no face can be mirrored"
            )

    def __call__(self, image: PathLike | npt.ArrayLike, boxes: npt.ArrayLike | None = None) -> list[Face]:
        """Marks the faces of one photograph; all of them go through the model as one batch.

        Args:
            image: A file, or a uint8 array: (H, W, 3) RGB, grey, or RGBA.
            boxes: Face boxes of your own, (N, 4) as (x0, y0, x1, y1) in pixels; then no detector runs. A face box is
                the tight box of the points: for 68 points from brow to chin and from ear to ear.

        Returns:
            The faces, biggest first; faces of your own boxes in the order of the boxes. An empty list for no face. A
            model of whole pictures takes the whole picture instead of each box, and once where none are given.

        Raises:
            KpdetectError: The file is no image, or a box is none.
        """
        pixels = read_image(image) if isinstance(image, str | os.PathLike) else as_rgb(image)
        face_boxes = self._boxes(pixels, None if boxes is None else _checked(boxes))
        faces = self._faces(pixels, face_boxes) if len(face_boxes) else []
        if boxes is not None:
            return faces
        return [face for face in faces if face.score is None or face.score >= self._min_score]

    def _boxes(self, pixels: Pixels, given: Floats | None) -> Floats:
        """What to crop: the whole picture, the boxes that were given, or those that the detector finds."""
        if self.model.spec.crop.around == "image":
            whole = image_box((pixels.shape[0], pixels.shape[1]))
            return np.repeat(whole[None], 1 if given is None else len(given), axis=0)
        return biggest_first(_checked(self._detect(pixels))) if given is None else given

    def _detect(self, pixels: Pixels) -> npt.ArrayLike:
        if self._detector is None:  # not before it is needed: callers with boxes of their own never do
            self._detector = HaarDetector()
        return self._detector(pixels)

    def _faces(self, pixels: Pixels, boxes: Floats) -> list[Face]:
        """The faces of boxes (N, 4), N at least 1, with their points in pixels of the photograph."""
        spec = self.model.spec
        matrices = spec.crop.matrix(boxes)
        photo = to_channels(pixels, spec.channels)
        crops = np.stack([warp_crop(photo, matrix, spec.crop.size_hw) for matrix in matrices])
        relative, uncertainty = self._marks(crops)
        if not np.isfinite(relative).all() or not (uncertainty is None or np.isfinite(uncertainty).all()):
            raise KpdetectError("the model gave numbers that are not finite; its weights are damaged")
        keypoints = apply_matrix(invert(matrices), to_pixels(relative, spec.crop.size_hw))
        if uncertainty is None:
            return [Face(box, points, spec.schema) for box, points in zip(boxes, keypoints, strict=True)]
        sides_px = np.asarray(max(spec.crop.size_hw) / matrices[:, 0, 0], np.float32)
        scores = [None] * len(boxes) if spec.face_score is None else face_scores(uncertainty, spec.face_score).tolist()
        found = zip(boxes, keypoints, scores, uncertainty * sides_px[:, None], strict=True)
        return [Face(box, points, spec.schema, score, errors_px) for box, points, score, errors_px in found]

    def _marks(self, crops: Pixels) -> Marks:
        """What the model says of crops; with `mirror`, the mean of that and of what it says of them in a mirror."""
        if self._swap is None:
            return self.model.mark(crops)
        count, swap = len(crops), list(self._swap)
        keypoints, uncertainty = self.model.mark(np.concatenate([crops, crops[:, :, ::-1]]))
        turned_back = keypoints[count:, swap] * (-1, 1) + (1, 0)
        both = np.asarray((keypoints[:count] + turned_back) / 2, np.float32)
        if uncertainty is None:
            return Marks(both, None)
        return Marks(both, np.asarray((uncertainty[:count] + uncertainty[count:, swap]) / 2, np.float32))


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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``predict``; ends with 2 where a photograph could not be marked."""
    from kpdetect import marking  # here, since whoever imports the library needs no data sets and no drawing

    examples = (
        "python -m kpdetect.predict photo.jpg --draw marked.jpg --json points.json\n"
        "  python -m kpdetect.predict photo.jpg --draw party.jpg --filter sunglasses,hat,moustache\n"
        "  python -m kpdetect.predict --data ibug:DIR/labels_ibug_300W_test_parsed.xml --competition-csv points.csv"
    )
    options = cli.parse_options(marking.PredictOptions, argv, "predict", examples)
    work = marking.gather(options)
    predictor = Predictor(options.model, None, options.threads, options.mirror, options.min_score)
    return marking.mark(predictor, predictor.model.spec.schema, work, options)


if __name__ == "__main__":
    sys.exit(cli.run(main))
