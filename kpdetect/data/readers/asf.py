"""Owns the reader of the IMM Face Database: 58 points in AAM shape files (``.asf``) beside 640x480 photographs.

A file gives x and y relative to the picture's width and height, and does not say where a pixel's centre lies. Here **a
pixel reaches from i / W to (i + 1) / W**, so that the contract's pixel is ``x * W - 0.5``. The numbers speak for it:
they lie on the grid of the window in which they were clicked, and where its zoom is a round number (1.55 in x, in 19 of
37 files) they are ``(m / 1.55 + 0.5) / W`` with whole m: half a pixel was added to a count from 0. The other reading,
``x * W``, would move every point right and down by half a pixel, 0.4 % of the eye distance.

The ``host image`` line is not used: in ``04-1m.asf`` it names another person's picture, but the points fit ``04-1m``.
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
    every,
    image_beside,
    images_by_stem,
    number,
    text_lines,
    visible_box,
)

IMM_TERMS = "IMM Face Database (Nordstrøm, Larsen, Sierakowski and Stegmann, DTU 2004): for research."

TRAINING_PERSONS = 32
"""Persons 1-32 train and 33-40 validate: the split of the notebooks that this set is known from."""

_PARTS = {"all": (1, 40, "imm"), "train": (1, TRAINING_PERSONS, "imm-train"), "val": (33, 40, "imm-val")}
_NAME = re.compile(r"(?P<person>0[1-9]|[1-3]\d|40)-(?P<view>[1-6])(?P<gender>[mf])")
_FIELDS = 7  # path, type, x, y, point, connects from, connects to; later files add three of the user's own
_FARTHEST = 1.0  # picture widths off the picture: what is beyond is no relative coordinate


def read_imm(folder: str, which: str = "all", skip_bad_rows: bool = False) -> Annotations:
    """The IMM faces with 58 points; the subject is the person, ``07`` of ``07-3f.asf`` (view 3, a woman).

    Args:
        folder: Holds ``PP-VG.asf`` and the photograph of the same name for any of the 40 persons and 6 views.
        which: ``all``; ``train`` for persons 1-32; ``val`` for persons 33-40.
        skip_bad_rows: Leave bad files out and count them, instead of raising.

    Raises:
        DataError: Files are bad; all problems are named, with their lines.
        KpdetectError: There is no such folder, or no file of these persons in it.
    """
    if which not in _PARTS:
        raise KpdetectError(f"imm: expected one of {', '.join(_PARTS)}, received '{which}'")
    first, last, name = _PARTS[which]
    siblings = _files_of(folder)
    labels = [file for file in siblings if file.lower().endswith(".asf")]
    if not labels:
        found = ", ".join(siblings[:8]) or "an empty folder"
        raise KpdetectError(f"{folder}: expected .asf files such as 01-1m.asf, found {found}")
    # A file whose name tells no person is wanted in every part, to be named as a problem.
    wanted = [file for file in labels if first <= (_person(file) or first) <= last]
    if not wanted:
        raise KpdetectError(f"{folder}: none of its {len(labels)} .asf files is of the persons {first}-{last}")
    images = images_by_stem(folder, siblings)
    faces = [_read_face(os.path.join(folder, file), images) for file in wanted]
    return assemble(faces, IMM58, name, IMM_TERMS, skip_bad_rows)


def _files_of(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        found = "a file of that name" if os.path.exists(folder) else "nothing"
        raise KpdetectError(f"{folder}: expected the folder of the IMM set's .asf files, found {found}")
    return sorted(os.listdir(folder))


def _person(file_name: str) -> int | None:
    match = _NAME.fullmatch(os.path.splitext(file_name)[0])
    return None if match is None else int(match["person"])


def _read_face(file: str, images: Mapping[str, str]) -> Row | Problems:
    try:
        subject, (image, size_hw), relative = every(
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
    """The photograph and its (height, width), by which relative points become pixels."""
    image = image_beside(file, images)
    try:
        height, width = read_image(image).shape[:2]
    except KpdetectError as error:
        raise BadRow(f"{file}: its image: {error}") from error
    return image, (height, width)


def _box(file: str, keypoints: Floats, visible: npt.NDArray[np.bool_]) -> Floats:
    try:
        return visible_box(keypoints, visible)
    except BadRow as bad:
        raise bad.at(file) from bad


def _relative_points(file: str) -> list[tuple[float, float]]:
    """The points as the file has them."""
    expected = IMM58.num_keypoints
    lines = [line for line in text_lines(file) if not line.text.startswith("#")]
    if not lines:
        raise BadRow(f"{file}: expected the number of points, {expected}, found no line that is no comment")
    count, rows = lines[0], lines[1:]
    if count.text != str(expected):
        raise BadRow(f"{count.where}: expected {expected} points for scheme 'imm58', received '{count.text}'")
    # The points end where the host image's name stands, on a line of its own.
    rows = [row for row in rows if len(row.text.split()) > 1]
    if len(rows) != expected:
        last = (rows or lines)[-1].where
        raise BadRow(f"{last}: expected {expected} lines of points for scheme 'imm58', received {len(rows)}")
    return every(*(functools.partial(_point, row, index) for index, row in enumerate(rows)))


def _point(row: Line, index: int) -> tuple[float, float]:
    """A line's x and y."""
    fields = row.text.split()
    if len(fields) < _FIELDS:
        raise BadRow(f"{row.where}: expected {_FIELDS} fields (path type x y point from to), received {len(fields)}")
    if fields[4] != str(index):
        raise BadRow(f"{row.where}: expected point {index}, received '{fields[4]}'")
    x, y = number(fields[2]), number(fields[3])
    if x is None or y is None:
        raise BadRow(f"{row.where}: expected x and y as finite numbers, received '{fields[2]} {fields[3]}'")
    if not -_FARTHEST <= min(x, y) <= max(x, y) <= 1 + _FARTHEST:
        raise BadRow(f"{row.where}: expected x and y relative to the picture, 0 to 1, received '{x:g} {y:g}'")
    return x, y
