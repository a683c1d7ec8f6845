"""Result rows, which never hold an error without its normaliser, split and box source, and their CSV file."""

import csv
import dataclasses
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError, MissingExtra


@dataclass(frozen=True)
class ResultRow:
    """One evaluation of one file on one part of one data set.

    Attributes:
        model: The model's name.
        file: The file that was evaluated.
        dataset: The data set's name.
        split: The part of the data, and how it was made: ``val by subject (checkpoint chosen on it)``.
        boxes: Source of the face boxes: ``truth`` for the labels; ``finder`` or ``haar`` for an end-to-end evaluation
            with that detector.
        n: Number of faces.
        missed: Number of these without a detected box; each counts as a failure, and is in no mean.
        nme: Mean normalised error, in per cent of the normaliser.
        nme_mirrored: The same on mirrored pictures; empty if the scheme has no flip permutation.
        nme_centred: The same after subtracting the set's mean residual.
        nme_point_centred: The same after subtracting each point's mean residual, fitted on half of the faces and
            evaluated on the other half.
        median: Median over faces of the plain error, in per cent.
        auc8: Area under the cumulative error curve up to 8 %, divided by 8 %; in [0, 1].
        fr8: Failure rate, the share of faces above 8 %, in per cent.
        normaliser: Divisor of the error: ``inter-ocular`` is the distance of the outer eye corners.
        parameters: Trainable parameters of the model.
        macs: Multiply-accumulates per crop.
        bytes: The file's size.
        seed: The seed of the training.
        date: Date of the evaluation, ISO 8601.
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
        """Returns the row as text."""
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
    """Returns today's date in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def append_row(path: str | os.PathLike[str], row: ResultRow) -> None:
    """Adds a row to a results file; replaces the row of the same model, file, data set, split and boxes."""
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
    """Reads what `write_rows` wrote; a missing file gives no rows.

    Raises:
        KpdetectError: The header differs. Columns of fields with a default may be absent.
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


def read_results(path: str | os.PathLike[str]) -> Any:
    """Returns the rows of a results file, such as ``exported_models/results.csv``, as a pandas data frame.

    Example:
        ``read_results("exported_models/results.csv").pivot_table("nme", "model", "dataset")``

    Args:
        path: A file that `write_rows` wrote. The columns are the fields of `ResultRow`.

    Raises:
        KpdetectError: The file does not exist, or its header differs.
        MissingExtra: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("pandas", "train", "read_results") from error
    if not Path(path).is_file():
        raise KpdetectError(f"{path}: expected a results file (CSV), found nothing")
    return pandas.DataFrame(
        [dataclasses.asdict(row) for row in read_rows(path)],
        columns=[field.name for field in dataclasses.fields(ResultRow)],
    )


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
