"""Readers of CSV files: the frames of YouTube Faces with 68 points, and user-defined points.

Coordinates are pixels, 0-based, with the pixel centre on the integer, and are not converted. Each row is checked. One
`DataError` lists all problems with their file and the line number that an editor shows.
"""

import csv
import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, image_box
from kpdetect.core.images import read_image
from kpdetect.core.schema import IBUG68
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.columns import BOX_COLUMNS, Columns, columns_of_header, columns_without_header, is_header
from kpdetect.data.readers.rows import BadRow, Problems, Row, assemble, box_of_visible, collect, parse_number

YOUTUBE_FACES_TERMS = "YouTube Faces (Wolf, Hassner and Maoz, CVPR 2011): for research."

_YOUTUBE_FACES = {
    "training": ("training_frames_keypoints.csv", "training", "youtube-faces"),
    "published-test": (
        "test_frames_keypoints.csv",
        "test",
        "youtube-faces published test (leaks: its people and videos are in the training list)",
    ),
}
_YOUTUBE_NAME = re.compile(r"(?P<person>.+)_\d{2,}\.\w+")


def read_youtube_faces(folder: str, which: str = "training", skip_bad_rows: bool = False) -> Annotations:
    """Reads the frames of YouTube Faces with 68 points. The subject is ``Person_Name`` of ``Person_Name_VF.jpg``.

    Example:
        ``read_youtube_faces("youtube_faces")``

    Args:
        folder: Contains ``training_frames_keypoints.csv`` beside ``training/``, and the same for ``test``.
        which: ``training`` or ``published-test``, the lists of the published split. The published test list leaks: all
            of its people and videos are in the training list, too. The name of the set says so.
        skip_bad_rows: Leave out invalid rows and count them, instead of raising.

    Raises:
        DataError: Rows are invalid; the error lists all of them.
        KpdetectError: The folder or its list does not exist.
    """
    if which not in _YOUTUBE_FACES:
        raise KpdetectError(f"youtube-faces: expected one of {', '.join(_YOUTUBE_FACES)}, received '{which}'")
    list_name, images, name = _YOUTUBE_FACES[which]
    table = _open_table(_list_file(folder, list_name))
    if table.columns.schema != IBUG68:
        raise KpdetectError(f"{table.file}: expected the 136 columns 0..135, received {len(table.columns.header) - 1}")
    reader = _RowReader(table.file, os.path.join(folder, images), table.columns, _person)
    return _annotations(table, reader, name, skip_bad_rows, YOUTUBE_FACES_TERMS)


def read_csv(file: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads a CSV file with any number of points, with or without a header.

    The first column is the path of the image, absolute or relative to the CSV file's folder. x and y of each point
    follow, in pixels; a pair of empty cells is a point that is not visible. A header names the points
    (``nose_x,nose_y,…``) or numbers the columns (``0,1,2,…``). 68 points without names are those of iBUG; other points
    without names are called p0, p1, …. A header may also have the columns ``subject`` (by default each path is a
    subject) and ``box_x0,box_y0,box_x1,box_y1`` (by default the tight box of the visible points, or the whole image if
    there is one point). A column ``score``, which ``kpdetect predict --csv`` writes, is ignored.

    Example:
        ``read_csv("faces.csv")``, where the file begins with ``image,left_eye_x,left_eye_y,right_eye_x,right_eye_y``

    Args:
        file: The CSV file.
        skip_bad_rows: Leave out invalid rows and count them, instead of raising.

    Raises:
        DataError: Rows are invalid; the error lists all of them.
        KpdetectError: The file does not exist, is empty, is not CSV, or its header has no valid points.
    """
    table = _open_table(file)
    reader = _RowReader(table.file, os.path.dirname(file), table.columns, lambda path: path)
    return _annotations(table, reader, os.path.basename(file), skip_bad_rows)


_NumberedRow = tuple[int, list[str]]
"""The line on which a row starts, and its cells."""


@dataclass(frozen=True)
class _Table:
    """A CSV file. Its rows are read on demand, because their text needs ten times the memory of the numbers."""

    file: str
    columns: Columns
    rows: Iterator[_NumberedRow]


def _list_file(folder: str, name: str) -> str:
    file = os.path.join(folder, name)
    if not os.path.isdir(folder):
        found = "a file" if os.path.exists(folder) else "nothing"
        raise KpdetectError(f"{folder}: expected the folder that contains {name}, found {found}")
    if not os.path.isfile(file):
        found = ", ".join(sorted(os.listdir(folder))[:8]) or "an empty folder"
        raise KpdetectError(f"{folder}: expected {name} in this folder, found {found}")
    return file


def _open_table(file: str) -> _Table:
    if not os.path.isfile(file):
        found = "a folder" if os.path.isdir(file) else "nothing"
        raise KpdetectError(f"{file}: expected a CSV file, found {found}")
    rows = _numbered_rows(file)
    line, first = next(rows, (0, []))
    if not first:
        raise KpdetectError(f"{file}: expected rows with a path and points, found an empty file")
    if not is_header(first, os.path.dirname(file)):
        return _Table(file, columns_without_header(first, f"{file}:{line}"), itertools.chain([(line, first)], rows))
    below = list(itertools.islice(rows, 1))
    if not below:
        raise KpdetectError(f"{file}: expected rows below the header, found none")
    return _Table(file, columns_of_header(first, f"{file}:{line}"), itertools.chain(below, rows))


def _numbered_rows(file: str) -> Iterator[_NumberedRow]:
    try:
        # utf-8-sig drops the byte-order mark that spreadsheets write.
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            line = 1
            for cells in reader:
                if any(cell.strip() for cell in cells):  # skip blank lines
                    yield line, [cell.strip() for cell in cells]
                line = reader.line_num + 1  # a quoted cell may extend over several lines
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise KpdetectError(f"{file}: expected a CSV file in UTF-8; reading it failed: {error}") from error


@dataclass(frozen=True)
class _RowReader:
    """Checks rows and parses their numbers."""

    file: str
    folder: str
    columns: Columns
    subject_of: Callable[[str], str]

    def read(self, cells: list[str]) -> Row:
        self._check_count(cells)
        parts = collect(lambda: self._path(cells), lambda: self._points(cells), lambda: self._subject(cells))
        path, (keypoints, visible), subject = parts
        return Row(path, keypoints, visible, self._box(cells, path, keypoints, visible), subject)

    def _check_count(self, cells: list[str]) -> None:
        expected, received = len(self.columns.header), len(cells)
        if expected == received:
            return
        if expected == 1 + len(self.columns.xy):
            scheme = f"{expected - 1} coordinates for scheme '{self.columns.schema.name}'"
            raise BadRow(f"expected {scheme}, received {received - 1}")
        raise BadRow(f"expected {expected} fields as in the header, received {received}")

    def _path(self, cells: list[str]) -> str:
        path = os.path.join(self.folder, cells[0])  # an absolute path is unchanged
        if not cells[0]:
            raise BadRow("expected the image's path in the first column, received an empty cell")
        if not os.path.isfile(path):
            raise BadRow(f"expected the image {path}, found {'a folder' if os.path.isdir(path) else 'nothing'} there")
        return path

    def _subject(self, cells: list[str]) -> str:
        stated = cells[self.columns.subject] if self.columns.subject is not None else ""
        return stated or self.subject_of(cells[0])

    def _points(self, cells: list[str]) -> tuple[Floats, npt.NDArray[np.bool_]]:
        numbers = self._numbers(cells, self.columns.xy).reshape(-1, 2)
        visible: npt.NDArray[np.bool_] = np.asarray(np.isfinite(numbers).all(axis=-1))
        half = ~visible & np.isfinite(numbers).any(axis=-1)
        if half.any():
            name = self.columns.schema.point_names[int(half.argmax())]
            raise BadRow(f"point '{name}': expected x and y, or two empty cells; received one of the two")
        if not visible.any():
            raise BadRow("expected at least one visible point, received only empty cells")
        return np.where(visible[:, None], numbers, 0).astype(np.float32), visible

    def _numbers(self, cells: list[str], indices: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Returns the numbers of some columns; NaN for an empty cell."""
        values = [parse_number(cells[index]) for index in indices]
        bad = [index for index, value in zip(indices, values, strict=True) if value is None]
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            name = self.columns.header[bad[0]]
            raise BadRow(f"column '{name}': expected a finite number, received '{cells[bad[0]]}'{more}")
        return np.array(values, np.float64)

    def _box(self, cells: list[str], path: str, keypoints: Floats, visible: npt.NDArray[np.bool_]) -> Floats:
        if any(cells[index] for index in self.columns.box):
            stated = self._numbers(cells, self.columns.box).astype(np.float32)
            if not (stated[2:] > stated[:2]).all():  # not true for NaN
                raise BadRow(f"face box: expected x0 < x1 and y0 < y1, received {stated.tolist()}")
            return stated
        if self.columns.schema.num_keypoints == 1:
            return _image_box(path)
        return box_of_visible(keypoints, visible, f"; give it in columns {','.join(BOX_COLUMNS)}")


def _image_box(path: str) -> Floats:
    try:
        height, width = read_image(path).shape[:2]
    except KpdetectError as error:
        raise BadRow(str(error)) from error
    return image_box((height, width))


def _person(file_name: str) -> str:
    match = _YOUTUBE_NAME.fullmatch(file_name)
    if match is None:
        raise BadRow(f"expected a file name like Person_Name_VF.jpg (V video, F frame), received '{file_name}'")
    return match["person"]


def _annotations(table: _Table, reader: _RowReader, name: str, skip_bad_rows: bool, terms: str = "") -> Annotations:
    faces = [_read_row(reader, line, cells) for line, cells in table.rows]
    assembled = assemble(faces, reader.columns.schema, name, terms, skip_bad_rows)
    has_image_boxes = reader.columns.schema.num_keypoints == 1 and not reader.columns.box
    return dataclasses.replace(assembled, boxes_around="image" if has_image_boxes else "face")


def _read_row(reader: _RowReader, line: int, cells: list[str]) -> Row | Problems:
    try:
        return reader.read(cells)
    except BadRow as bad:
        return bad.at(f"{reader.file}:{line}").args
