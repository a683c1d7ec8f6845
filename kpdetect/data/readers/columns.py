"""Finds the meaning of the columns of a CSV file of points, from its header or from the number of columns."""

import logging
import os
import re
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import IBUG68, KeypointSchema, user_schema

SUBJECT_COLUMN = "subject"
BOX_COLUMNS = ("box_x0", "box_y0", "box_x1", "box_y1")
SCORE_COLUMN = "score"  # written by `kpdetect predict --csv`; ignored here

PATH_NAMES = frozenset(
    {"image", "images", "path", "file", "filename", "file_name", "image_path", "image_name", "img", "photo", "frame"}
)
"""Usual names of the column of image paths, in lower case."""

_BOX_FORMS = (
    (BOX_COLUMNS, False),
    (("xmin", "ymin", "xmax", "ymax"), False),
    (("bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"), False),
    (("left", "top", "right", "bottom"), False),
    (("box_x", "box_y", "box_w", "box_h"), True),
    (("bbox_x", "bbox_y", "bbox_w", "bbox_h"), True),
    (("bbox_x", "bbox_y", "bbox_width", "bbox_height"), True),
)
"""Names of the columns of a face box, and whether the last two are its width and height."""

_SHORT_BOX = ("x0", "y0", "x1", "y1")  # a box if there are other points, else two points

_OTHERS = ",".join([SUBJECT_COLUMN, *BOX_COLUMNS, SCORE_COLUMN])
_EXPECTED = f"expected the path, then NAME_x,NAME_y (and perhaps NAME_v) of each point, and optionally {_OTHERS}"
_POINT_COLUMNS = (
    (re.compile(r"(?P<axis>[xyv])[_.\- ]?(?P<name>\d+)", re.IGNORECASE), "{axis}{name}"),  # x1
    (re.compile(r"(?P<name>.+)[_.\- ](?P<axis>[xyv])", re.IGNORECASE), "{name}_{axis}"),  # nose_x
    (re.compile(r"(?P<axis>[xyv])[_.\- ](?P<name>.+)", re.IGNORECASE), "{axis}_{name}"),  # x_nose
    (re.compile(r"(?P<name>.*[a-z0-9])(?P<axis>[XYV])"), "{name}{axis}"),  # noseX
)
_LOG = logging.getLogger(__name__)
_FILE_NAME = re.compile(r".+\.\w{1,5}")
_SMALL_INTEGER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Columns:
    """The meaning of the columns of a CSV file.

    Attributes:
        header: Name of each column; numbers if the file has no header.
        schema: The schema of the points.
        xy: Indices of the columns of x and y of each point, 2 K of them.
        path: Index of the column of image paths.
        visibility: Indices of the columns of each point's visibility, K of them (0 is not labelled), or empty.
        subject: Index of the subject's column, or None.
        box: Indices of the four columns of the face box, or empty.
        box_has_size: The box is x, y, width and height, and not x0, y0, x1 and y1.
        ignored: Names of the columns that have no meaning here, such as ``gender``.
    """

    header: tuple[str, ...]
    schema: KeypointSchema
    xy: tuple[int, ...]
    path: int = 0
    visibility: tuple[int, ...] = ()
    subject: int | None = None
    box: tuple[int, ...] = ()
    box_has_size: bool = False
    ignored: tuple[str, ...] = ()


def is_header(first_row: list[str], folder: str) -> bool:
    """Returns whether the first row of a CSV file is a header and not a face.

    A row that begins with the path of an existing file, or with a number and such a path, is a face. Otherwise, a row
    that begins with something like a file name is a header if no numbers follow, or the numbers 0, 1, 2, …; any other
    row is a header unless coordinates follow.
    """
    path, rest = first_row[0], first_row[1:]
    if not rest or os.path.isfile(os.path.join(folder, path.replace("\\", "/"))) or has_index(first_row, folder):
        return False
    numbers = [_is_number(cell) for cell in rest]
    if _FILE_NAME.fullmatch(path):
        return not any(numbers) or _counts(rest)
    return not all(numbers) or _counts_with_gaps(rest)


def has_index(row: list[str], folder: str) -> bool:
    """Returns whether a face's row begins with its number, as pandas writes it, and the image's path is second."""
    if len(row) < 4 or not _SMALL_INTEGER.fullmatch(row[0]) or _is_number(row[1]):
        return False
    return os.path.isfile(os.path.join(folder, row[1].replace("\\", "/"))) or bool(_FILE_NAME.fullmatch(row[1]))


def columns_without_header(first_row: list[str], where: str, folder: str) -> Columns:
    """Returns the columns of a file without a header: the path, then x and y of each point.

    Args:
        first_row: The first row of the file, a face.
        where: ``FILE:LINE`` for error messages.
        folder: Folder of the file, to which paths are relative.

    Raises:
        KpdetectError: The columns after the path are not pairs.
    """
    path = 1 if has_index(first_row, folder) else 0
    numbers = (str(number) for number in range(len(first_row) - 1 - path))
    header = (*("index", "path")[1 - path :], *numbers)
    return _unnamed(header, path, list(range(path + 1, len(header))), where)


def columns_of_header(header: list[str], where: str, first_row: list[str], folder: str) -> Columns:
    """Returns the columns of a file with a header. One log message names the columns that are ignored.

    Args:
        header: The first row; the name of the first column is free.
        where: ``FILE:LINE`` for error messages.
        first_row: The row below the header, which shows which column contains the paths.
        folder: Folder of the file, to which paths are relative.

    Raises:
        KpdetectError: A column is missing or repeated, or there are no points.
    """
    names, lower = tuple(header), [name.lower() for name in header]
    named_path = next((index for index, name in enumerate(lower) if name in PATH_NAMES), 0)
    path = 1 if has_index(first_row, folder) else named_path
    skipped = {0} if path == 1 else set()
    own = {index: name for index, name in enumerate(names) if index != path and index not in skipped}
    repeated = sorted({name for name in own.values() if list(own.values()).count(name) > 1})
    if repeated:
        raise KpdetectError(f"{where}: column '{repeated[0]}' occurs more than once")
    place = {name.lower(): index for index, name in own.items()}
    box, box_has_size = _box_columns(place, where)
    subject = place.get(SUBJECT_COLUMN)
    taken = {*box, subject, place.get(SCORE_COLUMN)}
    others = [index for index in own if index not in taken]
    points = [index for index in others if _point_column(names[index]) is not None]
    if points:
        found = _named(names, path, points, where)
    else:
        points = [index for index in others if _SMALL_INTEGER.fullmatch(names[index])]
        if not points:
            received = ", ".join(["0 columns of points", *(f"'{names[index]}'" for index in others)])
            raise KpdetectError(f"{where}: {_EXPECTED}; received {received}")
        _check_counting([names[index] for index in points], where)
        found = _unnamed(names, path, points, where)
    ignored = tuple(names[index] or "(no name)" for index in others if index not in points)
    if ignored:
        shown = ", ".join(ignored[:8]) + (f" and {len(ignored) - 8} more" if len(ignored) > 8 else "")
        _LOG.warning("%s: ignored the column%s %s", where, "s" * (len(ignored) > 1), shown)
    return Columns(names, found.schema, found.xy, path, found.visibility, subject, box, box_has_size, ignored)


def _counts(names: list[str]) -> bool:
    """Returns whether names are 0, 1, 2, … or 1, 2, 3, …."""
    return bool(names) and names[0] in ("0", "1") and names == [str(int(names[0]) + i) for i in range(len(names))]


def _counts_with_gaps(names: list[str]) -> bool:
    """Returns whether names are increasing integers from 0 or 1, as in a header that lacks a column."""
    numbers = [int(name) for name in names if _SMALL_INTEGER.fullmatch(name)]
    return len(numbers) == len(names) and numbers[:1] in ([0], [1]) and numbers == sorted(set(numbers))


def _check_counting(names: list[str], where: str) -> None:
    """Checks that no number is missing, because a gap would exchange x and y of the points after it."""
    if names and not _counts(names):
        start = 1 if names[0] == "1" else 0
        missing = next(str(start + i) for i, name in enumerate(names) if name != str(start + i))
        raise KpdetectError(
            f"{where}: expected the columns {start}, {start + 1}, {start + 2}, … in order; missing {missing}"
        )


def _unnamed(header: tuple[str, ...], path: int, points: list[int], where: str) -> Columns:
    count = len(points)
    if count < 2 or count % 2:
        raise KpdetectError(
            f"{where}: expected the path and then x and y of each point, separated by commas, semicolons or tabs; "
            f"received {count} column{'s' * (count != 1)} after the path"
        )
    names = [f"p{index}" for index in range(count // 2)]
    schema = IBUG68 if len(names) == IBUG68.num_keypoints else user_schema(names)
    return Columns(header, schema, tuple(points), path)


def _point_column(name: str) -> tuple[re.Match[str], str] | None:
    """Returns the point and axis in a column's name, and the form of the name; None for any other column."""
    matches = ((pattern.fullmatch(name), form) for pattern, form in _POINT_COLUMNS)
    return next(((match, form) for match, form in matches if match), None)


def _named(names: tuple[str, ...], path: int, points: list[int], where: str) -> Columns:
    """Returns the schema and the columns of the named points, in the order in which they first occur."""
    place: dict[tuple[str, str], int] = {}
    form_of: dict[str, str] = {}
    for index in points:
        match, form = _point_column(names[index]) or (None, "")
        assert match is not None  # the caller chose the columns
        place[match["name"], match["axis"].lower()] = index
        form_of.setdefault(match["name"], form)
    missing = [
        form.format(name=name, axis=axis)
        for name, form in form_of.items()
        for axis in "xy"
        if (name, axis) not in place
    ]
    if missing:
        raise KpdetectError(f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}: {_EXPECTED}")
    xy = tuple(place[name, axis] for name in form_of for axis in "xy")
    flagged = [name for name in form_of if (name, "v") in place]
    if flagged and len(flagged) < len(form_of):
        raise KpdetectError(f"{where}: expected a visibility column of every point or of none, received {flagged}")
    point_names = [f"p{name}" if form == _POINT_COLUMNS[0][1] else name for name, form in form_of.items()]
    is_ibug = tuple(point_names) == IBUG68.point_names or (len(form_of) == IBUG68.num_keypoints and _counts([*form_of]))
    schema = IBUG68 if is_ibug else user_schema(point_names)
    return Columns(names, schema, xy, path, tuple(place[name, "v"] for name in flagged))


def _box_columns(place: dict[str, int], where: str) -> tuple[tuple[int, ...], bool]:
    """Returns the columns of the face box, and whether they are its width and height."""
    forms = list(_BOX_FORMS)
    others = [name for name in place if name not in (*_SHORT_BOX, SUBJECT_COLUMN, SCORE_COLUMN)]
    if not any(re.fullmatch(r"[xy]\d+", name) for name in others) and others:
        forms.append((_SHORT_BOX, False))
    for names, has_size in forms:
        if all(name in place for name in names):
            return tuple(place[name] for name in names), has_size
    missing = [name for name in BOX_COLUMNS if name not in place]
    if len(missing) < len(BOX_COLUMNS):
        raise KpdetectError(f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)} of the face box")
    return (), False


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ".") or "0")
    except ValueError:
        return False
    return True
