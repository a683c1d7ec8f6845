"""The photographs to label: folders, globs, files and Parquet tables, divided into parts."""

import functools
import glob
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import IMAGE_SUFFIXES, Pixels, decode_image, read_image
from kpdetect.inference.inputs import is_image_name, left_out_note

PARQUET_SUFFIX = ".parquet"

_LOG = logging.getLogger(__name__)


class ReadPixels(Protocol):
    """Decodes a photograph."""

    def __call__(self, *, max_pixels: int) -> Pixels:
        """Returns (H, W, 3) uint8 RGB; raises `KpdetectError` if it is bad or has more pixels."""


@dataclass(frozen=True)
class EncodedPhoto:
    """A photograph that is not decoded yet.

    Attributes:
        name: Its name in the tables.
        read: Returns its pixels.
    """

    name: str
    read: ReadPixels


@dataclass(frozen=True)
class FilesPart:
    """A part of image files.

    Attributes:
        files: Their paths.
    """

    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __str__(self) -> str:
        return f"{self.files[0]} to {self.files[-1]}"

    def photographs(self) -> Iterator[EncodedPhoto]:
        """The photographs, which are read later."""
        for file in self.files:
            yield EncodedPhoto(file, functools.partial(read_image, file))


@dataclass(frozen=True)
class Columns:
    """The columns of a Parquet table.

    Attributes:
        image: The column with the bytes of the image files: binary, or a struct with a field ``bytes`` as in data sets
            of Hugging Face.
        name: The column with the photographs' names; None names them by file and row: ``faces.parquet#0``.
    """

    image: str = "image"
    name: str | None = None


@dataclass(frozen=True)
class TablePart:
    """A part of the rows of a Parquet table.

    Attributes:
        file: The table.
        start: The first row, from 0.
        stop: The row after the last one.
        columns: The columns to read.
    """

    file: str
    start: int
    stop: int
    columns: Columns

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.file}, rows {self.start} to {self.stop - 1}"

    def photographs(self) -> Iterator[EncodedPhoto]:
        """The photographs, read in batches and decoded later.

        Raises:
            KpdetectError: The table is damaged.
        """
        try:
            yield from self._rows()
        except (OSError, pa.ArrowException) as error:
            raise KpdetectError(f"{self}: cannot be read: {_first_line(error)}") from error

    def _rows(self) -> Iterator[EncodedPhoto]:
        with pq.ParquetFile(self.file) as table:
            groups, row = _row_groups(table.metadata, self.start, self.stop)
            names = [name for name in (self.columns.image, self.columns.name) if name is not None]
            for batch in table.iter_batches(batch_size=32, row_groups=groups, columns=names):
                low, high = max(self.start - row, 0), min(self.stop - row, len(batch))
                for index in range(low, high):
                    yield self._encoded(batch, index, row + index)
                row += len(batch)
                if row >= self.stop:
                    return

    def _encoded(self, batch: Any, index: int, row: int) -> EncodedPhoto:
        value = batch.column(self.columns.image)[index].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        given = None if self.columns.name is None else batch.column(self.columns.name)[index].as_py()
        name = f"{self.file}#{row}" if given is None else str(given)
        return EncodedPhoto(name, functools.partial(decode_image, data or b"", name))


Part = FilesPart | TablePart


def find_parts(places: Sequence[str], part_size: int, columns: Columns, left_out: Path) -> list[Part]:
    """Divides photographs into parts. The same arguments and files always give the same parts.

    Args:
        places: Files, folders with their subfolders, and globs, in which ``**`` matches any depth. A ``.parquet``
            file is a table of photographs.
        part_size: The largest number of photographs of a part.
        columns: The columns of the tables.
        left_out: A folder that is not searched: the output folder.

    Raises:
        KpdetectError: A place has no photograph, or a table does not have the columns.
    """
    own = os.path.abspath(left_out)
    files = [file for place in places for file in _files_of(place, own) if not file.startswith(f"{own}{os.sep}")]
    tables = [file for file in dict.fromkeys(files) if _is_table(file)]
    images = [file for file in dict.fromkeys(files) if not _is_table(file)]
    starts = range(0, len(images), part_size)
    parts: list[Part] = [FilesPart(tuple(images[start : start + part_size])) for start in starts]
    for file in tables:
        rows = _checked_rows(file, columns)
        parts += [TablePart(file, start, min(start + part_size, rows), columns) for start in range(0, rows, part_size)]
    if not parts:
        raise KpdetectError(f"{', '.join(places)}: expected photographs, found none outside of {left_out}")
    return parts


def fingerprint(parts: Sequence[Part]) -> str:
    """A hash of the photographs' names and order; not of the files' contents."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode())
    return digest.hexdigest()


def _files_of(place: str, left_out: str) -> list[str]:
    """Absolute paths, sorted; absolute since workers on other machines start in other folders."""
    path = os.path.abspath(place)
    if os.path.isdir(path):
        return _files_below(path, left_out)
    if os.path.exists(path):
        return [path]
    if not glob.has_magic(place):
        raise KpdetectError(f"{place}: no such file or folder")
    found = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
    if not found:
        raise KpdetectError(f"{place}: expected a glob that matches files, found none (** matches any depth)")
    return found


def _files_below(folder: str, left_out: str) -> list[str]:
    found, others = [], []
    for where, folders, names in os.walk(folder):
        visible = (name for name in sorted(folders) if not name.startswith("."))
        folders[:] = [name for name in visible if os.path.join(where, name) != left_out]
        files = [name for name in sorted(names) if not name.startswith(".")]
        found += [os.path.join(where, name) for name in files if is_image_name(name) or _is_table(name)]
        others += [name for name in files if not (is_image_name(name) or _is_table(name))]
    note = left_out_note(others)
    if not found:
        held = f"only other files: {note}" if note else "no file"
        suffixes = ", ".join([*IMAGE_SUFFIXES, PARQUET_SUFFIX])
        raise KpdetectError(f"{folder}: expected files ({suffixes}) in this folder or below it, found {held}")
    if note:
        _LOG.warning(f"{folder}: left out {note}")
    return found


def _is_table(file: str) -> bool:
    return file.lower().endswith(PARQUET_SUFFIX)


def _checked_rows(file: str, columns: Columns) -> int:
    """The number of rows of a table, after its columns were checked."""
    try:
        with pq.ParquetFile(file) as table:
            schema, rows = table.schema_arrow, int(table.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise KpdetectError(f"{file}: expected a Parquet table: {_first_line(error)}") from error
    for option, name in (("--column", columns.image), ("--name-column", columns.name)):
        if name is not None and name not in schema.names:
            raise KpdetectError(f"{file}: expected a column '{name}' ({option}), found: {', '.join(schema.names)}")
    kind = schema.field(columns.image).type
    if not _holds_bytes(kind):
        raise KpdetectError(
            f"{file}: expected the bytes of image files in column '{columns.image}': binary, or a struct with a field "
            f"'bytes'; received {kind}"
        )
    return rows


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _row_groups(metadata: Any, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that contain some of the rows, and the first row of the first of them."""
    wanted: list[int] = []
    first, row = 0, 0
    for group in range(metadata.num_row_groups):
        after = row + metadata.row_group(group).num_rows
        if row < stop and after > start:
            first = first if wanted else row
            wanted.append(group)
        row = after
    return wanted, first


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
