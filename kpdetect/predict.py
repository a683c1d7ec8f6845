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
from kpdetect.runtime import load

PathLike = str | os.PathLike[str]


class Model(Protocol):
    """What predicts: `kpdetect.runtime.Runtime`, or anything that acts like one."""

    @property
    def spec(self) -> Spec:
        """What the model says of itself."""

    def __call__(self, crops: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Crops (B, H, W, C) to points (B, K, 2) relative to the crop."""


class Predictor:
    """Finds the faces of photographs and their points.

    Args:
        model: A bundle or SavedModel folder, a ``.tflite``, ``.onnx`` or ``.keras`` file, or a loaded model; by
            default the one that ships with the package.
        detector: Gives the face boxes of a photograph (see `kpdetect.faces.Detector`); by default `HaarDetector`.
            A model of whole pictures (its ``spec.crop.around`` is ``image``) needs none.
        threads: How many threads the model's runtime may use.

    Raises:
        KpdetectError: There is no such model.
    """

    def __init__(
        self, model: PathLike | Model | None = None, detector: Detector | None = None, threads: int = 1
    ) -> None:
        if model is None or isinstance(model, str | os.PathLike):
            self.model: Model = load(shipped_model() if model is None else model, threads=threads)
        else:
            self.model = model
        self._detector = detector

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
        keypoints = self._keypoints(pixels, face_boxes)
        return [Face(box, points, self.model.spec.schema) for box, points in zip(face_boxes, keypoints, strict=True)]

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

    def _keypoints(self, pixels: Pixels, boxes: Floats) -> Floats:
        """The points (N, K, 2) of boxes (N, 4), in pixels of the photograph."""
        spec = self.model.spec
        if not len(boxes):
            return np.zeros((0, spec.num_keypoints, 2), np.float32)
        matrices = spec.crop.matrix(boxes)
        photo = to_channels(pixels, spec.channels)
        crops = np.stack([warp_crop(photo, matrix, spec.crop.size_hw) for matrix in matrices])
        relative = self.model(crops)
        if not np.isfinite(relative).all():
            raise KpdetectError("the model gave coordinates that are not finite; its weights are damaged")
        return apply_matrix(invert(matrices), to_pixels(relative, spec.crop.size_hw))


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
    predictor = Predictor(options.model, threads=options.threads)
    return marking.mark(predictor, predictor.model.spec.schema, work, options)


if __name__ == "__main__":
    sys.exit(cli.run(main))
