"""Writes the tables and figures of the documents from ``exported_models/results.csv``.

    python tools/results_tables.py           # rewrites the documents
    python tools/results_tables.py --check   # changes nothing; exits with 1 and names what is out of date

A document marks the place of a table, or of a single figure, with HTML comments. The text between them is replaced:

    <!-- table: readme -->
    <!-- /table -->
    <!-- fig: 300w.nme -->3.19 %<!-- /fig -->

`TABLES` lists the names of the tables; `ROWS` and `FIELDS` list the two parts of a figure's name.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kpdetect.core.errors import unknown_name
from kpdetect.evaluation.results import ResultRow, read_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "exported_models" / "results.csv"
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

_TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_FIGURE = re.compile(r"(<!-- fig: (?P<row>[\w-]+)\.(?P<field>\w+) -->).*?(<!-- /fig -->)")


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


def readme_table(rows: Sequence[ResultRow]) -> str:
    """Five rows: the file that `Predictor` runs, on faces kept out of training."""
    head = ("test set", "boxes", "faces", "NME, %", "mirrored, %", "FR@8, %")
    return _table(head, [row for row in _shipped(rows, INT8) if row.split.startswith("test")])


def accuracy_table(rows: Sequence[ResultRow]) -> str:
    """All measurements of the file that `Predictor` runs."""
    errors = ("plain, %", "mirrored, %", "centred, %", "point-centred, %", "AUC@8", "FR@8, %")
    return _table(("data", "split", "boxes", "faces", "not found", *errors), _shipped(rows, INT8))


def files_table(rows: Sequence[ResultRow]) -> str:
    """Each file of the shipped model: its size, and its errors on two test sets, in boxes of the labels."""
    measured = {(row.file, row.dataset): row for row in _shipped(rows) if row.boxes == "truth"}
    lines = []
    for file in dict.fromkeys(file for file, _ in measured):
        common, youtube = measured[file, COMMON], measured[file, YOUTUBE]
        errors = [_hundredths(value) for row in (common, youtube) for value in (row.nme, row.nme_mirrored)]
        lines.append((f"`{file}`", COLUMNS["size, MB"](common), *errors))
    return _markdown(
        ("file", "size, MB", "300-W: plain, %", "mirrored, %", "YouTube Faces: plain, %", "mirrored, %"), lines
    )


def recipes_table(rows: Sequence[ResultRow]) -> str:
    """The re-implemented student projects."""
    errors = ("plain, %", "mirrored, %", "centred, %", "point-centred, %", "constant, %", "FR@8, %")
    head = ("recipe", "data", "split", "faces", "normaliser", *errors, "parameters, M")
    return _table(head, [row for row in rows if row.model != SHIPPED])


def all_table(rows: Sequence[ResultRow]) -> str:
    """Every row of the file, with the columns that the other tables omit."""
    head = ("model", "file", "data", "split", "boxes", "normaliser", "plain, %", "median, %", "MACs, M", "seed", "date")
    return _table(head, rows)


TABLES: dict[str, Callable[[Sequence[ResultRow]], str]] = {
    "readme": readme_table,
    "accuracy": accuracy_table,
    "files": files_table,
    "recipes": recipes_table,
    "all": all_table,
}


def rewritten(page: str, rows: Sequence[ResultRow]) -> str:
    """A page with its marked tables and figures regenerated.

    Raises:
        KpdetectError: A mark names an unknown table, row or field.
    """

    def table(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise unknown_name("table", match["name"], TABLES)
        return f"{match[1]}{TABLES[match['name']](rows)}\n{match[3]}"

    def figure(match: re.Match[str]) -> str:
        if match["field"] not in FIELDS:
            raise unknown_name("field of a figure", match["field"], FIELDS)
        return f"{match[1]}{FIELDS[match['field']](_row(rows, match['row']))}{match[4]}"

    return _FIGURE.sub(figure, _TABLE.sub(table, page))


def outdated(root: Path = ROOT) -> dict[Path, str]:
    """Documents whose tables or figures differ from ``results.csv``, and what they should contain."""
    rows = read_rows(root / RESULTS.relative_to(ROOT))
    found = {}
    for file in sorted(file for pattern in DOCUMENTS for file in root.glob(pattern)):
        page = file.read_text(encoding="utf-8")
        new = rewritten(page, rows)
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
