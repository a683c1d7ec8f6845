"""Reader of Kaggle's Facial Keypoints Detection: 15 points, and the grey levels of each image in a cell.

Coordinates are pixels, 0-based, with the pixel centre on the integer, and are not converted; missing ones are empty.
Format: https://www.kaggle.com/c/facial-keypoints-detection/data.
"""

import csv
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import image_box
from kpdetect.core.images import Pixels, as_rgb
from kpdetect.core.schema import KAGGLE15, KeypointSchema, known_or_user_schema
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.rows import BadRow, LabelledFace, Problems, assemble_labelled, parse_number

KAGGLE_TERMS = "Kaggle's Facial Keypoints Detection (Y. Bengio): see the rules of the competition."
_MAX_SIDE = 4096


@dataclass(frozen=True)
class PixelCells:
    """The images of a CSV file by the names ``FILE#ROW``, kept as grey levels in memory. Called, it returns one as RGB.

    Attributes:
        images: Name to (H, W) uint8.
    """

    images: Mapping[str, Pixels]

    def __call__(self, path: str) -> Pixels:
        """Returns an image, (H, W, 3) uint8 RGB."""
        return as_rgb(self.images[path])


def read_kaggle(file: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads ``training.csv`` or ``test.csv``. The box of a face is the whole image, and each row is a subject.

    Example:
        ``read_kaggle("training.csv")``

    Args:
        file: The CSV file, with a column ``Image`` and ``NAME_x,NAME_y`` of each point, or ``ImageId`` without points.
        skip_bad_rows: Leave out invalid rows and count them, instead of raising.

    Returns:
        Faces whose paths are ``FILE#ROW``, counted from 1 (the ``ImageId`` of ``test.csv``), with the images in memory.

    Raises:
        DataError: Rows are invalid; the error lists all problems with their lines.
        KpdetectError: The file does not exist or is no such CSV.
    """
    if not os.path.isfile(file):
        raise KpdetectError(f"{file}: expected Kaggle's training.csv or test.csv, found nothing")
    faces: list[LabelledFace | Problems] = []
    images: dict[str, Pixels] = {}
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            if "Image" not in header:
                raise KpdetectError(f"{file}:1: expected a column 'Image' with grey levels, received {header[:4]}")
            schema, columns = _points(header, f"{file}:1")
            for cells in reader:
                if cells:
                    row = len(faces) + 1
                    faces.append(_face(f"{file}:{reader.line_num}", f"{file}#{row}", cells, header, columns, images))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise KpdetectError(f"{file}: expected a CSV file in UTF-8; reading it failed: {error}") from error
    if not faces:
        raise KpdetectError(f"{file}: expected rows below the header, found none")
    annotations = assemble_labelled(faces, schema, f"kaggle:{os.path.basename(file)}", KAGGLE_TERMS, skip_bad_rows)
    fields = {"read": PixelCells(images), "boxes_around": "image"}
    return Annotations(**{**vars(annotations), **fields})


def _points(header: list[str], where: str) -> tuple[KeypointSchema, dict[str, tuple[int, int]]]:
    """Returns the schema and the columns of x and y of each point."""
    names = [name[:-2] for name in header if name.endswith("_x")]
    missing = [f"{name}_y" for name in names if f"{name}_y" not in header]
    if missing:
        raise KpdetectError(f"{where}: missing column {missing[0]}")
    if not names:
        return KAGGLE15, {}
    schema = KAGGLE15 if set(names) == set(KAGGLE15.point_names) else known_or_user_schema(tuple(names))
    return schema, {name: (header.index(f"{name}_x"), header.index(f"{name}_y")) for name in schema.point_names}


def _face(
    where: str,
    path: str,
    cells: list[str],
    header: list[str],
    columns: Mapping[str, tuple[int, int]],
    images: dict[str, Pixels],
) -> LabelledFace | Problems:
    try:
        if len(cells) != len(header):
            raise BadRow(f"expected {len(header)} fields as in the header, received {len(cells)}")
        image = _image(cells[header.index("Image")])
        points = np.full((len(columns) or KAGGLE15.num_keypoints, 2), np.nan, np.float32)
        for index, (name, pair) in enumerate(columns.items()):
            values = [parse_number(cells[column].strip()) for column in pair]
            if None in values or np.isnan(np.array(values, float)).sum() == 1:
                texts = ",".join(cells[column][:40] for column in pair)
                raise BadRow(f"point '{name}': expected two numbers or two empty cells, received {texts}")
            points[index] = np.array(values, np.float32)
    except BadRow as bad:
        return bad.at(where).args
    images[path] = image
    size_hw = (image.shape[0], image.shape[1])
    return LabelledFace(where, path, points, image_box(size_hw), path, size_hw, prefers_box=True)


def _image(cell: str) -> Pixels:
    """Returns the square image of a cell of grey levels, (H, W) uint8."""
    try:
        levels = np.array(cell.split(), np.float64)
    except ValueError as error:
        raise BadRow("column 'Image': expected grey levels from 0 to 255") from error
    side = math.isqrt(len(levels))
    if not 1 <= side <= _MAX_SIDE or side * side != len(levels):
        raise BadRow(f"column 'Image': expected the levels of a square image, received {len(levels)} numbers")
    if not ((levels >= 0) & (levels <= 255)).all():
        raise BadRow("column 'Image': expected grey levels from 0 to 255")
    return np.asarray(levels.reshape(side, side), np.uint8)
