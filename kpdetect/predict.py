"""Owns `Predictor`, from a photograph to the points of its faces, and the command that marks photographs."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kpdetect import cli
from kpdetect.atomic import atomic_file
from kpdetect.bundle import Spec, shipped_model
from kpdetect.draw import draw_faces
from kpdetect.errors import KpdetectError
from kpdetect.faces import Detector, Face, HaarDetector, biggest_first
from kpdetect.geometry import Floats, apply_matrix, invert, to_pixels
from kpdetect.images import Pixels, as_rgb, read_image, to_channels, warp_crop, write_image
from kpdetect.runtime import load

PathLike = str | os.PathLike[str]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""What a folder is searched for. A file that is named itself may have any suffix: its content counts."""


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
            The faces, biggest first; faces of your own boxes in the order of the boxes. An empty list for no face.

        Raises:
            KpdetectError: The file is no image, or a box is none.
        """
        pixels = read_image(image) if isinstance(image, str | os.PathLike) else as_rgb(image)
        face_boxes = biggest_first(_checked(self._detect(pixels))) if boxes is None else _checked(boxes)
        keypoints = self._keypoints(pixels, face_boxes)
        return [Face(box, points, self.model.spec.schema) for box, points in zip(face_boxes, keypoints, strict=True)]

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


@dataclass(frozen=True)
class PredictOptions:
    """Marks the faces of photographs: boxes and points, as text, JSON or drawn on the photographs."""

    images: tuple[str, ...] = cli.option(
        MISSING, "photographs, or folders of them (not their subfolders)", positional=True
    )
    model: str | None = cli.option(None, "bundle, SavedModel, .tflite, .onnx or .keras; by default the shipped one")
    json: str | None = cli.option(None, "write boxes and points, - for stdout", metavar="FILE")
    draw: str | None = cli.option(
        None, "write the marked photographs; a file for a single one", metavar="FILE_OR_FOLDER"
    )
    threads: int = cli.option(1, "threads of the model's runtime; one is enough for single faces")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``predict``; ends with 2 where a photograph could not be read."""
    example = "python -m kpdetect.predict photo.jpg --draw marked.jpg --json points.json"
    options = cli.parse_options(PredictOptions, argv, "predict", example)
    files = list_images(options.images)
    targets = drawing_targets(files, options.draw)
    predictor = Predictor(options.model, threads=options.threads)
    with ExitStack() as stack:
        # The file is opened before the work, so that a folder one may not write to shows at once.
        to_file = options.json not in (None, "-")
        temporary = stack.enter_context(atomic_file(str(options.json))) if to_file else None
        reports, failed = _predict_all(predictor, files, targets, sys.stderr if options.json == "-" else sys.stdout)
        text = json.dumps(reports, indent=1, allow_nan=False)
        if temporary is not None:
            temporary.write_text(text + "\n", encoding="utf-8")
        elif options.json == "-":
            print(text)
    return 2 if failed else 0


def list_images(places: Sequence[str]) -> list[str]:
    """Files as they are, and the images of folders, by name.

    Raises:
        KpdetectError: A folder has no image.
    """
    files = []
    for place in places:
        files += _images_in(Path(place)) if os.path.isdir(place) else [place]
    return list(dict.fromkeys(files))


def drawing_targets(files: Sequence[str], target: str | None) -> dict[str, Path]:
    """Where each marked photograph goes; nothing without a target.

    Args:
        files: The photographs.
        target: A file, for a single photograph and with the suffix of an image; or else a folder.

    Raises:
        KpdetectError: Two photographs would go to one file, or one would replace a photograph.
    """
    if target is None:
        return {}
    place = Path(target)
    if place.suffix.lower() in IMAGE_SUFFIXES and not place.is_dir():
        if len(files) > 1:
            raise KpdetectError(f"--draw {target}: expected a folder for {len(files)} photographs, received a file")
        targets = {files[0]: place}
    else:
        targets = {file: place / _drawable(Path(file).name) for file in files}
    _check_targets(targets)
    return targets


def _images_in(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")]
    if not images:
        found = f"{len(names)} other files" if names else "no file"
        raise KpdetectError(f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}) in this folder, found {found}")
    return [str(folder / name) for name in images]


def _drawable(name: str) -> str:
    """A file name in whose format a picture can be written."""
    return name if name.lower().endswith(IMAGE_SUFFIXES) else f"{name}.png"


def _check_targets(targets: dict[str, Path]) -> None:
    photographs = {os.path.realpath(file) for file in targets}
    taken: dict[Path, str] = {}
    for file, target in targets.items():
        if os.path.realpath(target) in photographs:
            raise KpdetectError(f"--draw: {target} would replace a photograph; choose another folder")
        if target in taken:
            raise KpdetectError(f"--draw: {taken[target]} and {file} would both go to {target}; mark them apart")
        taken[target] = file


def _predict_all(
    predictor: Predictor, files: Sequence[str], targets: dict[str, Path], out: Any
) -> tuple[list[dict[str, Any]], int]:
    """Marks every photograph; a bad one is reported and the others go on. Gives the reports and the failures' number.

    Raises:
        KpdetectError: Not one photograph could be read.
    """
    from tqdm import tqdm  # here, since whoever imports the library needs no progress bar

    reports, problems = [], []
    for file in tqdm(files, unit="photo", file=sys.stderr, disable=None if len(files) > 1 else True):
        try:
            reports.append(_predict_one(predictor, file, targets.get(file)))
            tqdm.write(_line(reports[-1]), file=out)
        except KpdetectError as error:
            problems.append(str(error))
            if len(files) > 1:
                tqdm.write(f"kpdetect: {error}", file=sys.stderr)
    if not reports:
        raise KpdetectError(problems[0] if len(files) == 1 else f"none of the {len(files)} photographs could be marked")
    return reports, len(problems)


def _predict_one(predictor: Predictor, file: str, target: Path | None) -> dict[str, Any]:
    pixels = read_image(file)
    faces = predictor(pixels)
    if target is not None:
        write_image(target, draw_faces(pixels, faces))
    height, width = pixels.shape[:2]
    report = {"image": file, "width": width, "height": height, "scheme": predictor.model.spec.schema.name}
    return {**report, "faces": [face.to_dict() for face in faces]}


def _line(report: dict[str, Any]) -> str:
    boxes = ", ".join(f"[{' '.join(f'{side:.0f}' for side in face['box'])}]" for face in report["faces"])
    count = len(report["faces"])
    return f"{report['image']}: {count} face{'s' * (count != 1)}{' ' * bool(boxes)}{boxes}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
