"""Writes the tables and figures of the documents from the measurements in ``exported_models``.

``results.csv`` has a row per measurement, ``details.json`` the errors by group of points, pose and box of the shipped
model (both from ``tools/release.py``), and ``wild.csv`` the rows of ``benchmarks/wild.py``.

    python tools/results_tables.py           # rewrites the documents
    python tools/results_tables.py --check   # changes nothing; exits with 1 and names what is out of date

A document marks the place of a table, or of a single figure, with HTML comments. The text between them is replaced:

    <!-- table: readme -->
    <!-- /table -->
    <!-- fig: 300w.nme -->3.19 %<!-- /fig -->

`TABLES` lists the names of the tables; `ROWS` and `FIELDS` list the two parts of a figure's name.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.errors import unknown_name
from kpdetect.evaluation.results import ResultRow, read_rows

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "exported_models"
DOCUMENTS = ("README.md", "docs/**/*.md", "exported_models/*/README.md", "notebooks/README.md")
"""Documents that may contain tables and figures, as globs from the root of the repository."""

SHIPPED = "compact"
INT8 = "compact_int8.tflite"
COMMON, AFW, YOUTUBE = "ibug:helen+ibug:lfpw", "ibug:afw", "youtube-faces"
YOUTUBE_PUBLISHED = "youtube-faces published test (leaks: its people and videos are in the training list)"

DATA_SETS = {
    COMMON: "300-W, HELEN and LFPW",
    AFW: "300-W, AFW",
    YOUTUBE: "YouTube Faces",
    YOUTUBE_PUBLISHED: "YouTube Faces, published test list",
    "afw, whole photographs": "AFW, whole photographs",
    "dlib's example photographs (labelled by its own model)": "dlib's photographs",
    "imm": "IMM",
    "ibug:ibug_300w": "300-W",
}
"""Data sets as the tables call them."""

SPLITS = {
    "test by subject (looked at after training)": "test",
    "val by subject (checkpoint chosen on it)": "validation",
    "all": "all",
    "all (includes training faces)": "all",
}
"""Splits as the tables call them."""

BOXES = {"truth": "labels", "finder": "found"}
"""Box sources as the tables call them."""

ROWS = {
    "300w": (INT8, COMMON, "truth"),
    "300w-found": (INT8, COMMON, "finder"),
    "afw": (INT8, AFW, "truth"),
    "youtube": (INT8, YOUTUBE, "truth"),
    "youtube-found": (INT8, YOUTUBE, "finder"),
    "300w-float32": ("compact.tflite", COMMON, "truth"),
    "300w-fp16": ("compact_fp16.tflite", COMMON, "truth"),
}
"""Rows of the shipped model that a single figure may be taken from: file, data set, box source."""

FIELDS: dict[str, Callable[[ResultRow], str]] = {
    "nme": lambda row: f"{row.nme:.2f} %",
    "nme_mirrored": lambda row: f"{_hundredths(row.nme_mirrored)} %",
    "nme_point_centred": lambda row: f"{row.nme_point_centred:.2f} %",
    "fr8": lambda row: f"{row.fr8:.1f} %",
    "n": lambda row: str(row.n),
    "bytes": lambda row: f"{row.bytes / 1e6:.1f} MB",
    "parameters": lambda row: f"{row.parameters / 1e6:.2f} million",
    "macs": lambda row: f"{row.macs / 1e6:.0f} million",
}
"""Figures of a row, with their unit."""

REPORTS = {"300w": "300-W", "youtube_faces": "YouTube Faces"}
"""Reports of ``details.json``, as the tables call them."""

SLICES = {"yaw": "head turn:", "sharpness": "", "face": "longer side of the box:"}
"""Kinds of slices, as the tables call them."""

_TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_FIGURE = re.compile(r"(<!-- fig: (?P<row>[\w-]+)\.(?P<field>\w+) -->).*?(<!-- /fig -->)")


@dataclass(frozen=True)
class Measured:
    """All measurements.

    Attributes:
        rows: Of ``results.csv``.
        details: Of ``details.json``: by the name of a test set, the report of `kpdetect evaluate`.
        wild: Of ``wild.csv``.
    """

    rows: Sequence[ResultRow]
    details: Mapping[str, Any]
    wild: Sequence[Mapping[str, str]]


COLUMNS: dict[str, Callable[[ResultRow], str]] = {
    "model": lambda row: row.model,
    "recipe": lambda row: f"`{row.model}`",
    "file": lambda row: f"`{row.file}`",
    "data": lambda row: DATA_SETS.get(row.dataset, row.dataset),
    "test set": lambda row: DATA_SETS.get(row.dataset, row.dataset),
    "split": lambda row: SPLITS.get(row.split, row.split),
    "boxes": lambda row: BOXES.get(row.boxes, row.boxes),
    "faces": lambda row: str(row.n),
    "not found": lambda row: str(row.missed),
    "normaliser": lambda row: row.normaliser,
    "NME, %": lambda row: _hundredths(row.nme),
    "mirrored, %": lambda row: _hundredths(row.nme_mirrored),
    "plain, %": lambda row: _hundredths(row.nme),
    "centred, %": lambda row: _hundredths(row.nme_centred),
    "point-centred, %": lambda row: _hundredths(row.nme_point_centred),
    "constant, %": lambda row: _hundredths(row.nme_constant),
    "median, %": lambda row: _hundredths(row.median),
    "AUC@8": lambda row: f"{row.auc8:.3f}",
    "FR@8, %": lambda row: f"{row.fr8:.1f}",
    "parameters, M": lambda row: f"{row.parameters / 1e6:.2f}",
    "MACs, M": lambda row: f"{row.macs / 1e6:.1f}",
    "size, MB": lambda row: f"{row.bytes / 1e6:.1f}",
    "seed": lambda row: str(row.seed),
    "date": lambda row: row.date,
}
"""Columns of the tables, by their heads."""


def readme_table(measured: Measured) -> str:
    """Five rows: the file that `Predictor` runs, on faces kept out of training."""
    head = ("test set", "boxes", "faces", "NME, %", "mirrored, %", "FR@8, %")
    return _table(head, [row for row in _shipped(measured.rows, INT8) if row.split.startswith("test")])


def accuracy_table(measured: Measured) -> str:
    """All measurements of the file that `Predictor` runs."""
    errors = ("plain, %", "mirrored, %", "centred, %", "point-centred, %", "AUC@8", "FR@8, %")
    return _table(("data", "split", "boxes", "faces", "not found", *errors), _shipped(measured.rows, INT8))


def files_table(measured: Measured) -> str:
    """Each file of the shipped model: its size, and its errors on two test sets, in boxes of the labels."""
    row_of = {(row.file, row.dataset): row for row in _shipped(measured.rows) if row.boxes == "truth"}
    lines = []
    for file in dict.fromkeys(file for file, _ in row_of):
        common, youtube = row_of[file, COMMON], row_of[file, YOUTUBE]
        errors = [_hundredths(value) for row in (common, youtube) for value in (row.nme, row.nme_mirrored)]
        lines.append((f"`{file}`", COLUMNS["size, MB"](common), *errors))
    return _markdown(
        ("file", "size, MB", "300-W: plain, %", "mirrored, %", "YouTube Faces: plain, %", "mirrored, %"), lines
    )


def recipes_table(measured: Measured) -> str:
    """The re-implemented student projects."""
    errors = ("plain, %", "mirrored, %", "centred, %", "point-centred, %", "constant, %", "FR@8, %")
    head = ("recipe", "data", "split", "faces", "normaliser", *errors, "parameters, M")
    return _table(head, [row for row in measured.rows if row.model != SHIPPED])


def all_table(measured: Measured) -> str:
    """Every row of the file, with the columns that the other tables omit."""
    head = ("model", "file", "data", "split", "boxes", "normaliser", "plain, %", "median, %", "MACs, M", "seed", "date")
    return _table(head, measured.rows)


def regions_table(measured: Measured) -> str:
    """Errors by group of points."""
    names = ("jaw", "brows", "eyes", "nose", "mouth")
    lines = [(title, *(_percent(report["regions"][name]) for name in names)) for title, report in _reports(measured)]
    return _markdown(("points", *names), lines)


def slices_table(measured: Measured) -> str:
    """Errors by head pose, sharpness and size of the face."""
    reports = _reports(measured)
    parts = [(kind, part["name"]) for kind in ("yaw", "sharpness", "face") for part in _all_parts(reports, kind)]
    lines = []
    for kind, name in dict.fromkeys(parts):
        cells = []
        for _, report in reports:
            found = [part for part in report["slices"].get(kind, []) if part["name"] == name]
            cells.append(f"{_percent(found[0]['nme'])} ({found[0]['n']})" if found else "-")
        lines.append((f"{SLICES[kind]} {name}".strip(), *cells))
    return _markdown(("faces", *(title for title, _ in reports)), lines)


def boxes_table(measured: Measured) -> str:
    """Errors with boxes that are shifted, or of another size, on 300-W."""
    jitter = measured.details["300w"]["box_jitter"]
    shift, scale = dict(map(tuple, jitter["shift"])), dict(map(tuple, jitter["scale"]))
    steps = [step for step, _ in jitter["shift"]]
    lines = [
        ("shifted", *(_percent(shift[step]) for step in steps)),
        ("too large", *(_percent(scale[step]) for step in steps)),
        ("too small", *(_percent(scale[-step]) for step in steps)),
    ]
    return _markdown(("error of the box", *(f"{100 * step:.0f} %" for step in steps)), lines)


def uncertainty_table(measured: Measured) -> str:
    """The test points of 300-W, in equal parts of rising predicted error."""
    parts = measured.details["300w"]["reliability"]
    lines = [(_percent(part["expected"]), _percent(part["measured"])) for part in parts]
    return _markdown(("predicted error", "measured error"), lines)


def wild_table(measured: Measured) -> str:
    """Every row of ``wild.csv``."""
    names = ("dataset", "split", "boxes", "n", "missed", "false", "error", "median", "fr8", "normaliser")
    head = ("data", "split", "boxes", "n", "missed", "false", "mean error", "median", "FR@8, %", "normaliser")
    lines = [
        [f"{float(row[name]):.2f}" if "." in row[name] else BOXES.get(row[name], row[name]) or "-" for name in names]
        for row in measured.wild
    ]
    return _markdown(head, lines)


TABLES: dict[str, Callable[[Measured], str]] = {
    "readme": readme_table,
    "accuracy": accuracy_table,
    "files": files_table,
    "recipes": recipes_table,
    "all": all_table,
    "regions": regions_table,
    "slices": slices_table,
    "boxes": boxes_table,
    "uncertainty": uncertainty_table,
    "wild": wild_table,
}


def rewritten(page: str, measured: Measured) -> str:
    """A page with its marked tables and figures regenerated.

    Raises:
        KpdetectError: A mark names an unknown table, row or field.
    """

    def table(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise unknown_name("table", match["name"], TABLES)
        return f"{match[1]}{TABLES[match['name']](measured)}\n{match[3]}"

    def figure(match: re.Match[str]) -> str:
        if match["field"] not in FIELDS:
            raise unknown_name("field of a figure", match["field"], FIELDS)
        return f"{match[1]}{FIELDS[match['field']](_row(measured.rows, match['row']))}{match[4]}"

    return _FIGURE.sub(figure, _TABLE.sub(table, page))


def read_measured(root: Path = ROOT) -> Measured:
    """Reads all measurements of a copy of the repository."""
    folder = root / FOLDER
    details = json.loads((folder / "details.json").read_text(encoding="utf-8"))
    with (folder / "wild.csv").open(newline="", encoding="utf-8") as file:
        wild = list(csv.DictReader(file))
    return Measured(read_rows(folder / "results.csv"), details, wild)


def outdated(root: Path = ROOT) -> dict[Path, str]:
    """Documents whose tables or figures differ from the measurements, and what they should contain."""
    measured = read_measured(root)
    found = {}
    for file in sorted(file for pattern in DOCUMENTS for file in root.glob(pattern)):
        page = file.read_text(encoding="utf-8")
        new = rewritten(page, measured)
        if new != page:
            found[file] = new
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrites the documents, or names those that are out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if something is out of date")
    check = parser.parse_args(argv).check
    pages = outdated()
    for file, page in pages.items():
        if not check:
            file.write_text(page, encoding="utf-8")
        print(f"{file.relative_to(ROOT)}: {'out of date' if check else 'rewritten'}")
    return 1 if check and pages else 0


def _row(rows: Sequence[ResultRow], name: str) -> ResultRow:
    if name not in ROWS:
        raise unknown_name("row of a figure", name, ROWS)
    return next(row for row in _shipped(rows) if (row.file, row.dataset, row.boxes) == ROWS[name])


def _reports(measured: Measured) -> list[tuple[str, Mapping[str, Any]]]:
    return [(title, measured.details[name]) for name, title in REPORTS.items()]


def _all_parts(reports: Sequence[tuple[str, Mapping[str, Any]]], kind: str) -> list[Mapping[str, Any]]:
    """The slices of a kind in any report; those with bounds in rising order."""
    every = {part["name"]: part for _, report in reports for part in report["slices"].get(kind, [])}
    names = every if kind == "sharpness" else sorted(every, key=_first_number)
    return [every[name] for name in names]


def _first_number(name: str) -> float:
    """The lower bound of a slice, for its order: ``below 10 degrees`` is first."""
    number = re.search(r"\d+", name)
    return -1.0 if number is None or name.startswith("below") else float(number[0])


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _shipped(rows: Sequence[ResultRow], file: str | None = None) -> list[ResultRow]:
    return [row for row in rows if row.model == SHIPPED and file in (None, row.file)]


def _table(head: Sequence[str], rows: Sequence[ResultRow]) -> str:
    return _markdown(head, [[COLUMNS[name](row) for name in head] for row in rows])


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _hundredths(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
