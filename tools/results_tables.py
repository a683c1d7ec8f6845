"""Writes the tables and figures of the documents from ``exported_models/results.csv``.

    python tools/results_tables.py           # rewrites the documents
    python tools/results_tables.py --check   # changes nothing; exits with 1 and names what is out of date

A document marks the place of a table, or of a single figure, with HTML comments. What stands between them is replaced:

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
"""Where tables and figures may stand, as globs from the root of the repository."""

SHIPPED = "compact"
INT8 = "compact_int8.tflite"
COMMON, AFW, YOUTUBE = "ibug:helen+ibug:lfpw", "ibug:afw", "youtube-faces"
YOUTUBE_PUBLISHED = "youtube-faces published test (leaks: its people and videos are in the training list)"

DATA_SETS = {
    COMMON: "300-W, HELEN and LFPW",
    AFW: "300-W, AFW",
    YOUTUBE: "YouTube Faces",
    YOUTUBE_PUBLISHED: "YouTube Faces, published test list (shares people with the training list)",
    "afw, whole photographs": "AFW, whole photographs",
    "dlib's example photographs (labelled by its own model)": "dlib's example photographs (labelled by dlib's model)",
    "imm": "IMM",
    "ibug:ibug_300w": "300-W",
}
"""Data sets as the tables call them."""

SPLITS = {
    "test by subject (looked at after training)": "test",
    "val by subject (checkpoint chosen on it)": "validation, used to choose the checkpoint",
    "all": "all",
    "all (faces trained on are among them)": "all, training faces included",
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
    "nme": lambda row: _percent(row.nme),
    "nme_mirrored": lambda row: _percent(row.nme_mirrored),
    "nme_centred": lambda row: _percent(row.nme_centred),
    "nme_point_centred": lambda row: _percent(row.nme_point_centred),
    "auc8": lambda row: f"{row.auc8:.3f}",
    "fr8": lambda row: f"{row.fr8:.1f} %",
    "n": lambda row: str(row.n),
    "bytes": lambda row: _megabytes(row.bytes),
    "parameters": lambda row: f"{row.parameters / 1e6:.2f} million",
    "macs": lambda row: f"{row.macs / 1e6:.0f} million",
}
"""Figures of a row, with their unit."""

_TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_FIGURE = re.compile(r"(<!-- fig: (?P<row>[\w-]+)\.(?P<field>\w+) -->).*?(<!-- /fig -->)")


def readme_table(rows: Sequence[ResultRow]) -> str:
    """Five rows: the file that `Predictor` runs, on faces kept out of training."""
    head = ("test set", "face boxes", "faces", "NME", "NME, mirrored", "FR@8")
    chosen = [row for row in _shipped(rows, INT8) if row.split.startswith("test")]
    return _table(
        head,
        [
            (_data(row), _boxes(row), str(row.n), _percent(row.nme), _percent(row.nme_mirrored), FIELDS["fr8"](row))
            for row in chosen
        ],
    )


def accuracy_table(rows: Sequence[ResultRow]) -> str:
    """All that was measured of the file that `Predictor` runs."""
    head = (
        *("data", "split", "face boxes", "faces", "not found", "plain", "mirrored", "centred", "point-centred"),
        *("median", "AUC@8", "FR@8"),
    )
    return _table(
        head,
        [
            (_data(row), _split(row), _boxes(row), str(row.n), str(row.missed), *_errors(row), *_shares(row))
            for row in _shipped(rows, INT8)
        ],
    )


def files_table(rows: Sequence[ResultRow]) -> str:
    """Each file of the shipped model: its size, and its errors on two test sets, in boxes of the labels."""
    head = ("file", "size", "300-W: plain", "mirrored", "YouTube Faces: plain", "mirrored")
    measured = [row for row in _shipped(rows) if row.boxes == "truth" and row.dataset in (COMMON, YOUTUBE)]
    files = list(dict.fromkeys(row.file for row in measured))
    lines = []
    for file in files:
        pair = [next(row for row in measured if (row.file, row.dataset) == (file, data)) for data in (COMMON, YOUTUBE)]
        errors = [_percent(value) for row in pair for value in (row.nme, row.nme_mirrored)]
        lines.append((f"`{file}`", _megabytes(pair[0].bytes), *errors))
    return _table(head, lines)


def recipes_table(rows: Sequence[ResultRow]) -> str:
    """The re-implemented student projects."""
    head = (
        *("recipe", "data", "split", "faces", "normaliser", "plain", "mirrored", "centred", "point-centred"),
        *("constant", "FR@8", "parameters", "size"),
    )
    others = [row for row in rows if row.model != SHIPPED]
    return _table(
        head,
        [
            (
                *(f"`{row.model}`", _data(row), _split(row), str(row.n), row.normaliser),
                *(*_errors(row)[:4], _percent(row.nme_constant), FIELDS["fr8"](row)),
                *(f"{row.parameters / 1e6:.2f} M", _megabytes(row.bytes)),
            )
            for row in others
        ],
    )


def all_table(rows: Sequence[ResultRow]) -> str:
    """Every row of the file, with what the other tables leave out."""
    head = ("model", "file", "data", "split", "face boxes", "normaliser", "plain", "MACs", "seed", "date")
    return _table(
        head,
        [
            (
                *(row.model, f"`{row.file}`", _data(row), _split(row), _boxes(row), row.normaliser),
                *(_percent(row.nme), f"{row.macs / 1e6:.1f} M", str(row.seed), row.date),
            )
            for row in rows
        ],
    )


TABLES: dict[str, Callable[[Sequence[ResultRow]], str]] = {
    "readme": readme_table,
    "accuracy": accuracy_table,
    "files": files_table,
    "recipes": recipes_table,
    "all": all_table,
}


def rewritten(page: str, rows: Sequence[ResultRow]) -> str:
    """A page with all of its marked tables and figures made anew.

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


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _data(row: ResultRow) -> str:
    return DATA_SETS.get(row.dataset, row.dataset)


def _split(row: ResultRow) -> str:
    return SPLITS.get(row.split, row.split)


def _boxes(row: ResultRow) -> str:
    return BOXES.get(row.boxes, row.boxes)


def _errors(row: ResultRow) -> tuple[str, ...]:
    """Plain, mirrored, centred, point-centred and median."""
    values = (row.nme, row.nme_mirrored, row.nme_centred, row.nme_point_centred, row.median)
    return tuple(_percent(value) for value in values)


def _shares(row: ResultRow) -> tuple[str, str]:
    return FIELDS["auc8"](row), FIELDS["fr8"](row)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
