"""The command ``convert``: reads labelled faces in one format and writes them in another."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kpdetect.core.options import option, parse_options, run_command
from kpdetect.core.schema import SCHEMAS, describe_flip
from kpdetect.data import load, write


@dataclass(frozen=True)
class ConvertOptions:
    """Reads labelled faces in any format that train takes, and writes another one.

    It writes CSV, COCO, YOLO, dlib's XML and Label Studio tasks. CVAT and FiftyOne import the COCO file. The CSV that
    predict --csv writes is read like any other.
    """

    data: str = option(
        dataclasses.MISSING,
        "labelled faces, such as csv:FILE, coco:FILE.json, ibug:DIR or synthetic:500",
        positional=True,
    )
    out: str = option(
        dataclasses.MISSING,
        "where to write: csv:FILE, coco:FILE.json, yolo:DIR, dlib:FILE.xml or label-studio:FILE.json",
        metavar="KIND:PLACE",
    )
    skip_bad_rows: bool = option(False, "leave out invalid faces and report their number")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``convert``."""
    example = "python -m kpdetect.convert csv:faces.csv --out coco:faces.json"
    options = parse_options(ConvertOptions, argv, "convert", example)
    annotations = load(options.data, options.skip_bad_rows)
    target = write(annotations, options.out)
    images = len(set(annotations.paths.tolist()))
    print(f"{target}: {len(annotations)} faces of {annotations.schema.num_keypoints} points in {images} images")
    if annotations.schema.name not in SCHEMAS:
        print(describe_flip(annotations.schema))
    if annotations.skipped:
        print(f"left out {annotations.skipped} invalid faces")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
