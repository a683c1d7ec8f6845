"""Owns result rows: never a number without its normaliser, split and box source; and the README's table of them."""

import csv
import dataclasses
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError

TABLE_BEGIN, TABLE_END = "<!-- results:begin -->", "<!-- results:end -->"


@dataclass(frozen=True)
class ResultRow:
    """One measurement of one file on one part of one data set.

    Attributes:
        model: The model's name.
        file: The very file that was measured.
        dataset: The data set's name.
        split: The part, and how it was made: ``val by subject (checkpoint chosen on it)``.
        boxes: Where the face boxes come from: ``truth``, the labels; or all of prediction, end to
            end, as faces are found by ``finder`` or by the cascades, ``haar``.
        n: How many faces were measured.
        missed: How many of them had no box; each counts as a failure, and in no mean.
        nme: Mean normalised error in per cent of the normaliser.
        nme_mirrored: The same on the mirrored pictures; empty where the scheme has no mirror image.
        nme_centred: The same with the whole set's mean residual taken out.
        nme_point_centred: The same with each point's mean residual taken out, fitted on one half of the faces
            and reported on the other.
        median: Median over faces of the plain error, in per cent.
        auc8: Area under the cumulative error curve up to 8 %, over 8 %; in [0, 1].
        fr8: Failure rate, the share of faces above 8 %, in per cent.
        normaliser: What the error is divided by: ``inter-ocular`` is the distance of the outer eye corners.
        parameters: Trainable parameters of the model.
        macs: Multiply-accumulates of one crop.
        bytes: The file's size.
        seed: The training's seed.
        date: The day of the measurement.
        nme_constant: The plain error of a constant prediction, the mean training target in the recipe's own crops;
            empty for models that do not record it.
    """

    model: str
    file: str
    dataset: str
    split: str
    boxes: str
    n: int
    missed: int
    nme: float
    nme_mirrored: float | None
    nme_centred: float
    nme_point_centred: float
    median: float
    auc8: float
    fr8: float
    normaliser: str
    parameters: int
    macs: int
    bytes: int
    seed: int
    date: str
    nme_constant: float | None = None

    def sentence(self) -> str:
        """The row for people."""
        mirrored = "-" if self.nme_mirrored is None else f"{self.nme_mirrored:.2f} %"
        missed = f", {self.missed} without a box" if self.missed else ""
        constant = "" if self.nme_constant is None else f"; a constant prediction {self.nme_constant:.2f} %"
        return (
            f"{self.model} on {self.dataset}, {self.split}, {self.n} faces{missed}, boxes: {self.boxes}\n"
            f"  NME {self.nme:.2f} % ({self.normaliser}); mirrored {mirrored}; centred {self.nme_centred:.2f} %; "
            f"point-centred {self.nme_point_centred:.2f} %; median {self.median:.2f} %; "
            f"AUC@8 {self.auc8:.3f}; FR@8 {self.fr8:.1f} %{constant}"
        )


def today() -> str:
    """The date of a measurement, ISO 8601, in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def append_row(path: str | os.PathLike[str], row: ResultRow) -> None:
    """Adds a row to a results file, or replaces the row of the same file, data set, split and boxes."""
    key = (row.model, row.file, row.dataset, row.split, row.boxes)
    others = [r for r in read_rows(path) if (r.model, r.file, r.dataset, r.split, r.boxes) != key]
    write_rows(path, [*others, row])


def write_rows(path: str | os.PathLike[str], rows: Sequence[ResultRow]) -> None:
    """Writes a results file (CSV with a header), atomically."""
    names = [field.name for field in dataclasses.fields(ResultRow)]
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in dataclasses.asdict(row).items()} for row in rows)


def read_rows(path: str | os.PathLike[str]) -> list[ResultRow]:
    """Reads what `write_rows` wrote; no file is no rows.

    Raises:
        KpdetectError: The header is another one. Columns of fields that have a default may be absent.
    """
    file = Path(path)
    if not file.exists():
        return []
    fields = dataclasses.fields(ResultRow)
    names = [field.name for field in fields]
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    with file.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        found = list(reader.fieldnames or [])
        if found != [name for name in names if name in found] or not required.issubset(found):
            raise KpdetectError(f"{file}: expected the columns {','.join(names)}, received {reader.fieldnames}")
        return [_row(record) for record in reader]


def markdown_table(rows: Sequence[ResultRow]) -> str:
    """The rows as the README shows them."""
    errors = "NME plain / mirrored / centred / point-centred"
    head = f"| model, file | data, split, boxes | faces | {errors} | constant | FR@8 | parameters | size |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        mirrored = "-" if row.nme_mirrored is None else f"{row.nme_mirrored:.2f}"
        constant = "-" if row.nme_constant is None else f"{row.nme_constant:.2f} %"
        errors = f"{row.nme:.2f} / {mirrored} / {row.nme_centred:.2f} / {row.nme_point_centred:.2f} % {row.normaliser}"
        lines.append(
            f"| {row.model}, `{row.file}` | {row.dataset}, {row.split}, {row.boxes} | {row.n} | {errors} "
            f"| {constant} | {row.fr8:.1f} % | {row.parameters / 1e6:.2f} M | {row.bytes / 1e6:.1f} MB |"
        )
    return "\n".join(lines)


def with_table(page: str, rows: Sequence[ResultRow]) -> str:
    """A page with the table between its two marks made anew.

    Raises:
        KpdetectError: The page has no such marks.
    """
    if TABLE_BEGIN not in page or TABLE_END not in page:
        raise KpdetectError(f"the page has no marks {TABLE_BEGIN} … {TABLE_END}")
    before, rest = page.split(TABLE_BEGIN, 1)
    after = rest.split(TABLE_END, 1)[1]
    return f"{before}{TABLE_BEGIN}\n{markdown_table(rows)}\n{TABLE_END}{after}"


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _row(record: dict[str, str]) -> ResultRow:
    values: dict[str, object] = dict(record)
    for field in dataclasses.fields(ResultRow):
        if field.name not in record:
            continue
        text = record[field.name]
        if field.type is int:
            values[field.name] = int(text)
        elif field.type is not str:
            values[field.name] = float(text) if text else None
    return ResultRow(**values)  # type: ignore[arg-type]
