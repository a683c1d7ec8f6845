"""Owns the options of the command ``label``; importing them needs none of the extra's packages."""

import dataclasses
import importlib.util
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.images import MAX_PIXELS
from kpdetect.core.options import option


@dataclass(frozen=True)
class LabelOptions:
    """Labels the faces of photographs by the million, as Parquet: boxes, points, scores and uncertainties.

    DIR/faces holds a row per face, DIR/errors a row per photograph that is bad, with the reason. Both are written part
    by part, whole or not at all; after an interruption the same command goes on with the parts that are missing.
    """

    places: tuple[str, ...] = option(
        dataclasses.MISSING,
        "photographs: files, folders at any depth, quoted globs ('photos/**/*.jpg'), or .parquet files that hold them",
        positional=True,
    )
    out: str = option(
        dataclasses.MISSING, "folder of the labels; the one of an interrupted run to go on", metavar="DIR"
    )
    workers: int = option(1, "processes, each with a model and a core of its own", metavar="N")
    batch: int = option(8, "photographs that a worker holds decoded and marks at once", metavar="N")
    part: int = option(256, "photographs in a part: what an interruption loses at most, per worker", metavar="N")
    model: str | None = option(None, "bundle, SavedModel, .tflite, .onnx or .keras; by default the shipped one")
    detector: str | None = option(
        None, "find faces with: haar, for OpenCV's cascades, or YuNet's ONNX file", metavar="haar|FILE"
    )
    mirror: bool = option(False, "look at every face in a mirror too: twice the time, a little more accurate")
    min_score: float = option(0.5, "leave out what was found and scores lower, from 0 to 1", metavar="X")
    max_megapixels: float = option(MAX_PIXELS / 1e6, "photographs of more are bad, by what their header says")
    column: str = option("image", "of Parquet: the column of the photographs' bytes", metavar="NAME")
    name_column: str | None = option(
        None, "of Parquet: the column of what they are called; by default FILE#ROW", metavar="NAME"
    )
    address: str | None = option(
        None,
        "work on a Ray cluster, such as auto, where every machine has kpdetect and sees all files under the same path",
        metavar="ADDRESS",
    )


def check_options(options: LabelOptions) -> None:
    """Makes sure of the numbers, and that the extra is there.

    Raises:
        KpdetectError: A number is out of range.
        MissingExtra: A package is missing.
    """
    for name in ("workers", "batch", "part"):
        if getattr(options, name) < 1:
            raise KpdetectError(f"--{name}: expected 1 or more, received {getattr(options, name)}")
    if not options.max_megapixels > 0:
        raise KpdetectError(f"--max-megapixels: expected more than 0, received {options.max_megapixels}")
    for module, package in (("pyarrow", "PyArrow"), ("ray", "Ray")):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(package, "label", "labelling at scale")
