"""Readers of CSV files: the frames of YouTube Faces with 68 points, and user-defined points.

Coordinates are pixels, 0-based, with the pixel centre on the integer, and are not converted. Each row is checked. One
`DataError` lists all problems with their file and the line number that an editor shows.

Rows are read with Python's csv module and not with pandas. pandas parses the numbers ten times as fast, but it gives no
line number for a bad cell, guesses the types of columns, and needs the whole file in memory; reading the images takes
longer than either.
"""

import csv
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.schema import IBUG68
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.columns import Columns, columns_of_header, columns_without_header, is_header
from kpdetect.data.readers.rows import (
    LARGEST_COORDINATE,
    BadRow,
    LabelledFace,
    Problems,
    assemble_labelled,
    collect,
    drop_missing_values,
    parse_number,
)

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
    follow, in pixels; a pair of empty cells is a point that is not labelled. A header names the points
    (``nose_x,nose_y,…``, ``x1,y1,…``, ``x_nose,y_nose`` or ``noseX,noseY``) or numbers the columns (``0,1,2,…``). 68
    points without names, or numbered as ``0_x`` to ``67_y`` or ``x1`` to ``y68``, are those of iBUG; other points
    without names are called p0, p1, …. A header may also have these columns:

    - ``subject``: splits keep it together; by default each path is a subject.
    - ``nose_v`` or ``v1`` for each point: its visibility as in COCO, where 0 is not labelled.
    - ``box_x0,box_y0,box_x1,box_y1`` (or ``x0,y0,x1,y1`` beside named points, ``xmin,…``, or
      ``box_x,box_y,box_w,box_h``): the face box. By default it is the tight box of the visible points, or the whole
      image if there is one point.
    - ``score``, which ``kpdetect predict --csv`` writes, is ignored. So are other columns, such as ``gender``; a log
      message names them.

    Cells are separated by commas, semicolons (then numbers may have decimal commas) or tabs. An index column, as pandas
    writes it, is skipped, and backslashes in paths are read as slashes where that finds the file. ``nan``, ``null`` and
    the like are empty cells; ``-1,-1`` and ``0,0`` are points that are not labelled if a file repeats them.

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
    reader = _RowReader(table.file, os.path.dirname(file), table.columns, str, table.decimal_comma)
    return _annotations(table, reader, os.path.basename(file), skip_bad_rows)


def read_dataframe(frame: Any, folder: str = "", name: str = "dataframe") -> Annotations:
    """Reads a pandas data frame with the columns of `read_csv`; see `Annotations.from_dataframe`."""
    header = [str(column) for column in frame.columns]
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    if not header or not rows:
        raise KpdetectError(f"{name}: expected columns and rows, received {len(header)} columns and {len(rows)} rows")
    columns = columns_of_header(header, name, rows[0], folder)
    reader = _RowReader(name, folder, columns, str)
    faces = drop_missing_values([reader.read(number, cells) for number, cells in enumerate(rows)], name)
    return assemble_labelled(faces, columns.schema, name)


def _cell(value: Any) -> str:
    """Returns a value of a data frame as text; empty for NaN, None and pandas' own missing value."""
    if value is None or value != value or type(value).__name__ == "NAType":
        return ""
    return str(value.item() if isinstance(value, np.generic) else value).strip()


_NumberedRow = tuple[int, list[str]]
"""The line on which a row starts, and its cells."""


@dataclass(frozen=True)
class _Table:
    """A CSV file. Its rows are read on demand, because their text needs ten times the memory of the numbers."""

    file: str
    columns: Columns
    rows: Iterator[_NumberedRow]
    decimal_comma: bool = False


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
    delimiter = _delimiter(file)
    rows = _numbered_rows(file, delimiter)
    line, first = next(rows, (0, []))
    if not first:
        raise KpdetectError(f"{file}: expected rows with a path and points, found an empty file")
    where, folder, decimal_comma = f"{file}:{line}", os.path.dirname(file), delimiter == ";"
    if not is_header(first, folder):
        columns = columns_without_header(first, where, folder)
        return _Table(file, columns, itertools.chain([(line, first)], rows), decimal_comma)
    below = list(itertools.islice(rows, 1))
    if not below:
        raise KpdetectError(f"{file}: expected rows below the header, found none")
    _check_no_pixels(file, first, below[0][1])
    columns = columns_of_header(first, where, below[0][1], folder)
    return _Table(file, columns, itertools.chain(below, rows), decimal_comma)


def _check_no_pixels(file: str, header: list[str], row: list[str]) -> None:
    """Refuses Kaggle's format, whose images are cells of grey levels."""
    for name, cell in zip(header, row, strict=False):
        if name.lower() == "image" and cell.count(" ") > 100:
            raise KpdetectError(
                f"{file}: expected paths of images in column '{name}', received grey levels; read it as kaggle:{file}"
            )


def _delimiter(file: str) -> str:
    """Returns the most frequent of comma, semicolon and tab in the first line that is not blank."""
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as stream:
            first = next((line for line in iter(lambda: stream.readline(1 << 20), "") if line.strip()), "")
    except OSError as error:
        raise KpdetectError(f"{file}: expected a CSV file; reading it failed: {error}") from error
    if first.lstrip()[:1] in ("{", "["):
        raise KpdetectError(
            f"{file}: expected a CSV file, received JSON; read it as coco:{file} (or labelme:DIR, label-studio:{file})"
        )
    if first.lstrip()[:1] == "<":
        raise KpdetectError(f"{file}: expected a CSV file, received XML; read it as dlib:{file} or cvat:{file}")
    stated = re.fullmatch(r"sep=([,;\t])", first.strip("\r\n "))  # written by Excel
    if stated is not None:
        return stated[1]
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(",;\t", key=unquoted.count)


def _numbered_rows(file: str, delimiter: str) -> Iterator[_NumberedRow]:
    try:
        # utf-8-sig drops the byte-order mark that spreadsheets write.
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, delimiter=delimiter)
            line = 1
            for cells in reader:
                is_separator_line = line == 1 and cells[:1] == ["sep="]
                if any(cell.strip() for cell in cells) and not is_separator_line:  # skip blank lines
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
    decimal_comma: bool = False

    def read(self, line: int, cells: list[str]) -> LabelledFace | Problems:
        where = f"{self.file}:{line}"
        try:
            self._check_count(cells)
            path, points, subject, box = collect(
                lambda: self._path(cells),
                lambda: self._points(cells),
                lambda: self._subject(cells),
                lambda: self._box(cells),
            )
        except BadRow as bad:
            return bad.at(where).args
        return LabelledFace(where, path, points, box, subject, prefers_box=True)

    def _check_count(self, cells: list[str]) -> None:
        expected, received = len(self.columns.header), len(cells)
        if expected == received:
            return
        if expected == 1 + len(self.columns.xy):
            scheme = f"{expected - 1} coordinates for scheme '{self.columns.schema.name}'"
            raise BadRow(f"expected {scheme}, received {received - 1}")
        raise BadRow(f"expected {expected} fields as in the header, received {received}")

    def _path(self, cells: list[str]) -> str:
        stated = cells[self.columns.path]
        path = os.path.join(self.folder, stated)  # an absolute path is unchanged
        if not stated:
            raise BadRow("expected the image's path in the first column, received an empty cell")
        if not os.path.isfile(path) and "\\" in stated:
            path = os.path.join(self.folder, stated.replace("\\", "/"))  # written on Windows
        if not os.path.isfile(path):
            raise BadRow(f"expected the image {path}, found {'a folder' if os.path.isdir(path) else 'nothing'} there")
        return path

    def _subject(self, cells: list[str]) -> str:
        stated = cells[self.columns.subject] if self.columns.subject is not None else ""
        return stated or self.subject_of(cells[self.columns.path])

    def _points(self, cells: list[str]) -> Floats:
        """Returns (K, 2) float32, NaN for points that are not labelled."""
        points = self._numbers(cells, self.columns.xy).reshape(-1, 2)
        if self.columns.visibility:
            flags = self._numbers(cells, self.columns.visibility)
            points[(flags == 0) | np.isnan(flags)] = np.nan  # as in COCO: 0 is not labelled, 1 covered, 2 visible
        half = np.isfinite(points).any(axis=-1) & ~np.isfinite(points).all(axis=-1)
        if half.any():
            name = self.columns.schema.point_names[int(half.argmax())]
            raise BadRow(f"point '{name}': expected x and y, or two empty cells; received one of the two")
        if not np.isfinite(points).any() and not any(cells[index] for index in self.columns.box):
            raise BadRow("expected at least one visible point or a face box, received only empty cells")
        return points.astype(np.float32)

    def _numbers(self, cells: list[str], indices: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Returns the numbers of some columns; NaN for an empty cell or one of `MISSING_TEXTS`."""
        texts = [cells[index] for index in indices]
        try:
            numbers = np.array(texts, np.float64)  # ten times as fast as one by one, for a row without gaps
        except ValueError:
            numbers = np.full(1, np.nan)
        if (np.abs(numbers) <= LARGEST_COORDINATE).all() and "_" not in "".join(texts):
            return numbers
        values = [self._number(text) for text in texts]
        bad = [index for index, value in zip(indices, values, strict=True) if value is None]
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            name, cell = self.columns.header[bad[0]], cells[bad[0]]
            shown = cell if len(cell) <= 40 else f"{cell[:40]}… ({len(cell)} characters)"
            raise BadRow(f"column '{name}': expected a finite number, received '{shown}'{more}")
        return np.array(values, np.float64)

    def _number(self, cell: str) -> float | None:
        if cell.lower() in MISSING_TEXTS:
            return float("nan")
        return parse_number(cell.replace(",", ".") if self.decimal_comma else cell)

    def _box(self, cells: list[str]) -> Floats | None:
        if not any(cells[index] for index in self.columns.box):
            return None
        box = self._numbers(cells, self.columns.box)
        if self.columns.box_has_size:
            box[2:] += box[:2]
        return box.astype(np.float32)


MISSING_TEXTS = frozenset({"", "nan", "na", "n/a", "null", "none"})
"""Texts of a missing number, in lower case."""


def _person(file_name: str) -> str:
    match = _YOUTUBE_NAME.fullmatch(file_name)
    if match is None:
        raise BadRow(f"expected a file name like Person_Name_VF.jpg (V video, F frame), received '{file_name}'")
    return match["person"]


def _annotations(table: _Table, reader: _RowReader, name: str, skip_bad_rows: bool, terms: str = "") -> Annotations:
    faces = drop_missing_values([reader.read(line, cells) for line, cells in table.rows], table.file)
    return assemble_labelled(faces, reader.columns.schema, name, terms, skip_bad_rows)
