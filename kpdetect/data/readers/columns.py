"""Finds the meaning of the columns of a CSV file of points, from its header or from the number of columns."""

import os
import re
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import IBUG68, KeypointSchema, user_schema

SUBJECT_COLUMN = "subject"
BOX_COLUMNS = ("box_x0", "box_y0", "box_x1", "box_y1")
SCORE_COLUMN = "score"  # written by `kpdetect predict --csv`; ignored here

_OTHERS = ",".join([SUBJECT_COLUMN, *BOX_COLUMNS, SCORE_COLUMN])
_EXPECTED = f"expected the path, then NAME_x,NAME_y of each point, and optionally {_OTHERS}"
_POINT_COLUMN = re.compile(r"(?P<name>.+)_(?P<axis>[xy])")
_FILE_NAME = re.compile(r".+\.\w{1,5}")


@dataclass(frozen=True)
class Columns:
    """The meaning of the columns of a CSV file.

    Attributes:
        header: Name of each column; numbers if the file has no header.
        schema: The schema of the points.
        xy: Indices of the columns of x and y of each point, 2 K of them.
        subject: Index of the subject's column, or None.
        box: Indices of the four columns of the face box, or empty.
    """

    header: tuple[str, ...]
    schema: KeypointSchema
    xy: tuple[int, ...]
    subject: int | None = None
    box: tuple[int, ...] = ()


def is_header(first_row: list[str], folder: str) -> bool:
    """Returns whether the first row of a CSV file is a header and not a face.

    A row that begins with the path of an existing file is a face. Otherwise, a row that begins with something like a
    file name is a header if no numbers follow, or the numbers 0, 1, 2, …; any other row is a header unless coordinates
    follow.
    """
    path, rest = first_row[0], first_row[1:]
    if not rest or os.path.isfile(os.path.join(folder, path)):
        return False
    numbers = [_is_number(cell) for cell in rest]
    if _FILE_NAME.fullmatch(path):
        return not any(numbers) or _counts(rest)
    return not all(numbers) or _counts_with_gaps(rest)


def columns_without_header(first_row: list[str], where: str) -> Columns:
    """Returns the columns of a file without a header: the path, then x and y of each point.

    Args:
        first_row: The first row of the file, a face.
        where: ``FILE:LINE`` for error messages.

    Raises:
        KpdetectError: The columns after the path are not pairs.
    """
    header = (first_row[0], *(str(number) for number in range(len(first_row) - 1)))
    return _unnamed(header, where)


def columns_of_header(header: list[str], where: str) -> Columns:
    """Returns the columns of a file with a header.

    Args:
        header: The first row; the name of the first column is free.
        where: ``FILE:LINE`` for error messages.

    Raises:
        KpdetectError: A column is missing, unknown or repeated.
    """
    names = tuple(header)
    repeated = sorted({name for name in names[1:] if names[1:].count(name) > 1})
    if repeated:
        raise KpdetectError(f"{where}: column '{repeated[0]}' occurs more than once")
    extra = {SUBJECT_COLUMN, *BOX_COLUMNS, SCORE_COLUMN}
    points = [index for index, name in enumerate(names) if index > 0 and name not in extra]
    if all(names[index].isdigit() for index in points):
        _check_counting([names[index] for index in points], where)
        found = _unnamed((names[0], *(names[index] for index in points)), where)
        schema, xy = found.schema, tuple(points)
    else:
        schema, xy = _named(names, points, where)
    subject = names.index(SUBJECT_COLUMN, 1) if SUBJECT_COLUMN in names[1:] else None
    return Columns(names, schema, xy, subject, _box_columns(names, where))


def _counts(names: list[str]) -> bool:
    """Returns whether names are 0, 1, 2, … or 1, 2, 3, …."""
    return bool(names) and names[0] in ("0", "1") and names == [str(int(names[0]) + i) for i in range(len(names))]


def _counts_with_gaps(names: list[str]) -> bool:
    """Returns whether names are increasing integers from 0 or 1, as in a header that lacks a column."""
    numbers = [int(name) for name in names if name.isdecimal()]
    return len(numbers) == len(names) and numbers[:1] in ([0], [1]) and numbers == sorted(set(numbers))


def _check_counting(names: list[str], where: str) -> None:
    """Checks that no number is missing, because a gap would exchange x and y of the points after it."""
    if names and not _counts(names):
        start = 1 if names[0] == "1" else 0
        missing = next(str(start + i) for i, name in enumerate(names) if name != str(start + i))
        raise KpdetectError(
            f"{where}: expected the columns {start}, {start + 1}, {start + 2}, … in order; missing {missing}"
        )


def _unnamed(header: tuple[str, ...], where: str) -> Columns:
    count = len(header) - 1
    if count < 2 or count % 2:
        raise KpdetectError(
            f"{where}: expected the path and then x and y of each point, separated by commas; "
            f"received {count} column{'s' * (count != 1)} after the path"
        )
    names = [f"p{index}" for index in range(count // 2)]
    schema = IBUG68 if len(names) == IBUG68.num_keypoints else user_schema(names)
    return Columns(header, schema, tuple(range(1, count + 1)))


def _named(names: tuple[str, ...], points: list[int], where: str) -> tuple[KeypointSchema, tuple[int, ...]]:
    """Returns the schema and the columns of the named points, in the order in which they first occur."""
    unknown = [names[index] for index in points if not _POINT_COLUMN.fullmatch(names[index])]
    if unknown:
        raise KpdetectError(f"{where}: unknown column '{unknown[0]}': {_EXPECTED}")
    stems = list(dict.fromkeys(names[index][:-2] for index in points))
    missing = [stem + axis for stem in stems for axis in ("_x", "_y") if stem + axis not in names[1:]]
    if missing:
        raise KpdetectError(f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}: {_EXPECTED}")
    xy = tuple(names.index(stem + axis, 1) for stem in stems for axis in ("_x", "_y"))
    return IBUG68 if tuple(stems) == IBUG68.point_names else user_schema(stems), xy


def _box_columns(names: tuple[str, ...], where: str) -> tuple[int, ...]:
    missing = [name for name in BOX_COLUMNS if name not in names[1:]]
    if not missing:
        return tuple(names.index(name, 1) for name in BOX_COLUMNS)
    if len(missing) < len(BOX_COLUMNS):
        raise KpdetectError(f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)} of the face box")
    return ()


def _is_number(cell: str) -> bool:
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True
