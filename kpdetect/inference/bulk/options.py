"""The options of the command ``label``. Importing them needs no package of the extra ``label``."""

import dataclasses
import importlib.util
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.images import MAX_PIXELS
from kpdetect.core.options import option


@dataclass(frozen=True)
class LabelOptions:
    """Predicts the faces of very many photographs and writes them as Parquet tables.

    DIR/faces has a row per face with boxes, keypoints, score and uncertainties, DIR/errors a row per bad photograph
    with the reason. Both are written part by part; after an interruption the same command resumes with the missing
    parts.
    """

    places: tuple[str, ...] = option(
        dataclasses.MISSING,
        "photographs: files, folders with subfolders, quoted globs ('photos/**/*.jpg'), or .parquet files of them",
        positional=True,
    )
    out: str = option(dataclasses.MISSING, "output folder; that of an interrupted run is resumed", metavar="DIR")
    workers: int = option(1, "number of processes, each with its own model and core", metavar="N")
    batch: int = option(8, "photographs that a worker predicts at once", metavar="N")
    part: int = option(256, "photographs per part; an interruption loses at most one part per worker", metavar="N")
    model: str | None = option(
        None, "a model's name, or a bundle, SavedModel, .tflite, .onnx or .keras file; the packaged model by default"
    )
    detector: str | None = option(
        None, "the face detector: haar for OpenCV's cascades, or YuNet's ONNX file", metavar="haar|FILE"
    )
    untrusted: bool = option(
        False, "the model is from a source that is not trusted: try it in a child process first, refuse SavedModels"
    )
    device: str | None = option(
        None, "where the model runs: cpu or gpu; the workers share the GPUs of the machine or cluster", metavar="NAME"
    )
    mirror: bool = option(False, "average each face with its mirror image: twice the time, slightly more accurate")
    min_score: float = option(0.5, "leave out detected faces with a lower score, 0 to 1; 0 keeps all", metavar="X")
    max_megapixels: float = option(MAX_PIXELS / 1e6, "larger photographs, by their header, are bad")
    column: str = option("image", "of .parquet: the column with the bytes of the image files", metavar="NAME")
    name_column: str | None = option(
        None, "of .parquet: the column with their names; FILE#ROW by default", metavar="NAME"
    )
    address: str | None = option(
        None,
        "use a running Ray cluster, such as auto; each machine needs kpdetect and all files under the same paths",
        metavar="ADDRESS",
    )


def check_options(options: LabelOptions) -> None:
    """Checks numbers, and that the packages of the extra ``label`` are installed.

    Raises:
        KpdetectError: A number is out of range.
        MissingExtra: A package is missing.
    """
    for name in ("workers", "batch", "part"):
        if getattr(options, name) < 1:
            raise KpdetectError(f"--{name}: expected 1 or more, received {getattr(options, name)}")
    if options.device not in (None, "cpu", "gpu"):
        raise KpdetectError(
            f"--device: expected cpu or gpu, received '{options.device}'; Ray chooses among several GPUs"
        )
    if not options.max_megapixels > 0:
        raise KpdetectError(f"--max-megapixels: expected more than 0, received {options.max_megapixels}")
    for module, package in (("pyarrow", "PyArrow"), ("ray", "Ray")):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(package, "label", "labelling at scale")
