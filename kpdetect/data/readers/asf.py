"""Reader of the IMM Face Database: 58 points in AAM shape files (``.asf``) beside 640x480 photographs.

A file contains x and y relative to the image's width and height, and does not define the pixel centre. Here **a pixel
extends from i / W to (i + 1) / W**, so that x is ``x * W - 0.5`` in pixels. The data supports this: the coordinates are
on the grid of the window in which they were clicked, and where its zoom is a round number (1.55 in x, in 19 of 37
files) they are ``(m / 1.55 + 0.5) / W`` with integer m, so half a pixel was added to a 0-based count. The alternative,
``x * W``, would shift every point right and down by half a pixel, 0.4 % of the eye distance.

The ``host image`` line is ignored: in ``04-1m.asf`` it names another person's image, but the points fit ``04-1m``.
"""

import functools
import os
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, to_pixels
from kpdetect.core.images import read_image
from kpdetect.core.schema import IMM58
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.rows import (
    BadRow,
    Line,
    Problems,
    Row,
    assemble,
    box_of_visible,
    collect,
    image_beside,
    images_by_stem,
    parse_number,
    text_lines,
)

IMM_TERMS = "IMM Face Database (Nordstrøm, Larsen, Sierakowski and Stegmann, DTU 2004): for research."

TRAINING_PERSONS = 32
"""Persons 1-32 are for training and 33-40 for validation, as in the notebooks in which this set is widely used."""

_PARTS = {"all": (1, 40, "imm"), "train": (1, TRAINING_PERSONS, "imm-train"), "val": (33, 40, "imm-val")}
_NAME = re.compile(r"(?P<person>0[1-9]|[1-3]\d|40)-(?P<view>[1-6])(?P<gender>[mf])")
_FIELDS = 7  # path, type, x, y, point, connects from, connects to; later files have three user-defined ones more
_MAX_OUTSIDE = 1.0  # a coordinate farther outside the image than its own size is not relative


def read_imm(folder: str, which: str = "all", skip_bad_rows: bool = False) -> Annotations:
    """Reads the IMM faces with 58 points. The subject is the person: ``07`` for ``07-3f.asf`` (view 3, female).

    Example:
        ``read_imm("imm_face_db", "train")``

    Args:
        folder: Contains ``PP-VG.asf`` and the image of the same name for any of the 40 persons and 6 views.
        which: ``all``; ``train`` for persons 1-32; ``val`` for persons 33-40.
        skip_bad_rows: Leave out invalid files and count them, instead of raising.

    Raises:
        DataError: Files are invalid; the error lists all problems with their lines.
        KpdetectError: The folder does not exist or contains no file of these persons.
    """
    if which not in _PARTS:
        raise KpdetectError(f"imm: expected one of {', '.join(_PARTS)}, received '{which}'")
    first, last, name = _PARTS[which]
    siblings = _list_folder(folder)
    labels = [file for file in siblings if file.lower().endswith(".asf")]
    if not labels:
        found = ", ".join(siblings[:8]) or "an empty folder"
        raise KpdetectError(f"{folder}: expected .asf files such as 01-1m.asf, found {found}")
    # A file without a person in its name is kept in every part, so that it is reported.
    wanted = [file for file in labels if first <= (_person(file) or first) <= last]
    if not wanted:
        raise KpdetectError(f"{folder}: expected .asf files of persons {first}-{last}, found {len(labels)} of others")
    images = images_by_stem(folder, siblings)
    faces = [_read_face(os.path.join(folder, file), images) for file in wanted]
    return assemble(faces, IMM58, name, IMM_TERMS, skip_bad_rows)


def _list_folder(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        found = "a file" if os.path.exists(folder) else "nothing"
        raise KpdetectError(f"{folder}: expected the folder of the IMM set's .asf files, found {found}")
    return sorted(os.listdir(folder))


def _person(file_name: str) -> int | None:
    match = _NAME.fullmatch(os.path.splitext(file_name)[0])
    return None if match is None else int(match["person"])


def _read_face(file: str, images: Mapping[str, str]) -> Row | Problems:
    try:
        subject, (image, size_hw), relative = collect(
            lambda: _subject(file), lambda: _image(file, images), lambda: _relative_points(file)
        )
        keypoints, visible = to_pixels(relative, size_hw), np.ones(IMM58.num_keypoints, bool)
        return Row(image, keypoints, visible, _box(file, keypoints, visible), subject)
    except BadRow as bad:
        return bad.args


def _subject(file: str) -> str:
    person = _person(os.path.basename(file))
    if person is None:
        raise BadRow(f"{file}: expected a name like 07-3f.asf (person 01-40, view 1-6, m or f)")
    return f"{person:02d}"


def _image(file: str, images: Mapping[str, str]) -> tuple[str, tuple[int, int]]:
    """Returns the image and its (height, width), which convert relative coordinates to pixels."""
    image = image_beside(file, images)
    try:
        height, width = read_image(image).shape[:2]
    except KpdetectError as error:
        raise BadRow(f"{file}: its image: {error}") from error
    return image, (height, width)


def _box(file: str, keypoints: Floats, visible: npt.NDArray[np.bool_]) -> Floats:
    try:
        return box_of_visible(keypoints, visible)
    except BadRow as bad:
        raise bad.at(file) from bad


def _relative_points(file: str) -> list[tuple[float, float]]:
    """Returns the points in the units of the file."""
    expected = IMM58.num_keypoints
    lines = [line for line in text_lines(file) if not line.text.startswith("#")]
    if not lines:
        raise BadRow(f"{file}: expected the number of points, {expected}, found comments only")
    count, rows = lines[0], lines[1:]
    if count.text != str(expected):
        raise BadRow(f"{count.where}: expected {expected} points for scheme 'imm58', received '{count.text}'")
    # The host image's name, on a line of its own, follows the points.
    rows = [row for row in rows if len(row.text.split()) > 1]
    if len(rows) != expected:
        last = (rows or lines)[-1].where
        raise BadRow(f"{last}: expected {expected} lines of points for scheme 'imm58', received {len(rows)}")
    return collect(*(functools.partial(_point, row, index) for index, row in enumerate(rows)))


def _point(row: Line, index: int) -> tuple[float, float]:
    """Returns x and y of a line."""
    fields = row.text.split()
    if len(fields) < _FIELDS:
        raise BadRow(f"{row.where}: expected {_FIELDS} fields (path type x y point from to), received {len(fields)}")
    if fields[4] != str(index):
        raise BadRow(f"{row.where}: expected point {index}, received '{fields[4]}'")
    x, y = parse_number(fields[2]), parse_number(fields[3])
    if x is None or y is None:
        raise BadRow(f"{row.where}: expected x and y as finite numbers, received '{fields[2]} {fields[3]}'")
    if not -_MAX_OUTSIDE <= min(x, y) <= max(x, y) <= 1 + _MAX_OUTSIDE:
        raise BadRow(f"{row.where}: expected x and y relative to the image, 0 to 1, received '{x:g} {y:g}'")
    return x, y
