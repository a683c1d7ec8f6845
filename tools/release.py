"""Evaluates every file of the exported model on faces of its test split, and updates the results of the repository.

    python tools/release.py EXPORTED [DATA_FOLDER] [--reports DIR]

EXPORTED is a bundle that ``kpdetect export`` wrote. Its rows in ``exported_models/results.csv``, the details of its
errors in ``details.json``, the rows of ``wild.csv`` (see ``benchmarks/wild.py``) and the tables of the documents are
replaced; rows of other models stay. The data folder is an argument or KPDETECT_DATA. With
``--reports``, the full results of `kpdetect evaluate` are kept as JSON. Each command is printed; all of them take about
twenty minutes on two cores, mostly for face detection.
"""

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kpdetect.core.atomic_write import atomic_file
from kpdetect.evaluation.results import ResultRow, read_rows, write_rows
from kpdetect.modelfile import bundle

ROOT = Path(__file__).resolve().parents[1]
ROWS, TABLES = ROOT / "exported_models" / "results.csv", ROOT / "tools" / "results_tables.py"
WILD_ROWS, DETAILS = ROOT / "exported_models" / "wild.csv", ROOT / "exported_models" / "details.json"
ERROR_KEYS = (
    "file", "dataset", "split", "boxes", "n", "missed", "nme", "auc8", "fr8", "normaliser", "date",
)  # fmt: skip
"""The fields of a result row that are stored in ``spec.json``."""

DETAIL_KEYS = ("regions", "slices", "box_jitter", "reliability", "face_score")
"""The parts of a report that ``details.json`` contains."""


@dataclass(frozen=True)
class Measurement:
    """A row of the results: a file on a set of faces.

    Attributes:
        file: The model file, or the bundle's weights.
        data: The set, as ``--data`` takes it.
        options: Further options of `kpdetect evaluate`.
        report: The name of its report.
        corrections: Fields of the row that `kpdetect evaluate` cannot know, such as the data set of ``labels.xml``.
    """

    file: Path
    data: str
    options: tuple[str, ...]
    report: str
    corrections: Mapping[str, str] = field(default_factory=dict)


def measurements(exported: Path, data: Path) -> Iterator[Measurement]:
    """Every file with labelled boxes; the file that `Predictor` uses also in detail and end to end."""
    first = next(exported / name for name in bundle.read_spec(exported).files if name.endswith(".tflite"))
    common = f"ibug:{data / 'ibug_300w' / 'helen'},ibug:{data / 'ibug_300w' / 'lfpw'}"
    faces = f"youtube-faces:{data / 'youtube_faces'}"
    test, brief = ("--split", "test"), ("--split", "test", "--no-box-jitter")
    yield Measurement(first, common, test, "300w")
    yield Measurement(first, faces, test, "youtube_faces")
    yield Measurement(first, f"ibug:{data / 'ibug_300w' / 'afw'}", brief, "afw")
    end_to_end = ("--boxes", "finder", "--no-box-jitter")
    yield Measurement(first, common, (*end_to_end, "--split", "test"), "300w_finder")
    yield Measurement(first, faces, (*end_to_end, "--split", "test"), "youtube_faces_finder")
    whole = {"dataset": "afw, whole photographs"}
    yield Measurement(first, f"ibug:{data / 'afw_photos' / 'labels.xml'}", end_to_end, "afw_photos_finder", whole)
    dlib_faces = next((data / "dlib_faces").glob("*.xml"))
    others = {"dataset": "dlib's example photographs (labelled by its own model)", "split": "all"}
    yield Measurement(first, f"ibug:{dlib_faces}", end_to_end, "dlib_faces_finder", others)
    graphs = [graph.parent for graph in exported.rglob("saved_model.pb")]
    files = [*exported.rglob("*.tflite"), *exported.rglob("*.onnx"), *graphs]  # the page for browsers contains one too
    for file in sorted(file for file in files if file != first):
        name = {"file": file.relative_to(exported).as_posix()}
        yield Measurement(file, common, brief, f"300w_{file.name}", name)
        yield Measurement(file, faces, brief, f"youtube_faces_{file.name}", name)


def measure(one: Measurement, reports: Path) -> ResultRow:
    """Prints and runs a command of `kpdetect evaluate`; returns its row."""
    rows = reports / f"{one.report}.csv"
    words = [str(one.file), "--data", one.data, *one.options, "--results", str(rows)]
    command = [sys.executable, "-m", "kpdetect.evaluate", *words, "--json", str(reports / f"{one.report}.json")]
    print(shlex.join(["python", *command[1:]]), flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return dataclasses.replace(read_rows(rows)[-1], **one.corrections)  # type: ignore[arg-type]


def record_details(reports: Path) -> None:
    """Writes the parts of the two full reports that the tables of the model card show."""
    details = {}
    for name in ("300w", "youtube_faces"):
        report = json.loads((reports / f"{name}.json").read_text(encoding="utf-8"))
        details[name] = {key: report[key] for key in DETAIL_KEYS}
    with atomic_file(DETAILS) as temporary:
        temporary.write_text(json.dumps(details, indent=1) + "\n", encoding="utf-8")


def record_errors(exported: Path, rows: Sequence[ResultRow]) -> None:
    """Writes the rows of the file that `Predictor` uses into the ``spec.json`` of the bundle."""
    spec = bundle.read_spec(exported)
    first = next(name for name in spec.files if name.endswith(".tflite"))
    errors = [{key: getattr(row, key) for key in ERROR_KEYS} for row in rows if row.file == first]
    bundle.write_spec(dataclasses.replace(spec, errors=tuple(errors)), exported)


def main() -> None:
    """Evaluates, and writes the rows and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exported", type=Path, help="the exported bundle")
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--reports", type=Path, help="folder for the full results, as JSON")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the data folder, or set KPDETECT_DATA")
    with tempfile.TemporaryDirectory() as passing:
        reports = arguments.reports or Path(passing)
        measured = [measure(one, reports) for one in measurements(arguments.exported, Path(arguments.data))]
        record_details(reports)
        first = next(name for name in bundle.read_spec(arguments.exported).files if name.endswith(".tflite"))
        wild = [str(ROOT / "benchmarks" / "wild.py"), arguments.data, "--model", str(arguments.exported / first)]
        subprocess.run([sys.executable, *wild, "--results", str(WILD_ROWS)], check=True)
    names = {row.model for row in measured}
    kept = [row for row in read_rows(ROWS) if row.model not in names]
    write_rows(ROWS, [*measured, *kept])
    subprocess.run([sys.executable, str(TABLES)], check=True)
    bundle.add_half_weights(arguments.exported)
    record_errors(arguments.exported, measured)
    print(f"{ROWS}: {len(measured)} rows of {', '.join(sorted(names))}, {len(kept)} of others")


if __name__ == "__main__":
    main()
