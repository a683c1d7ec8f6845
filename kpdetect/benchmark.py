"""The command ``benchmark``: latency and memory of model files, of dlib and of MediaPipe."""

import dataclasses
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from kpdetect.core.atomic_write import write_json
from kpdetect.core.errors import KpdetectError
from kpdetect.core.options import option, parse_options, quietly, run_command
from kpdetect.evaluation.latency.rounds import TimingRow, time_in_turns, workers_of
from kpdetect.evaluation.latency.subjects import Subject
from kpdetect.modelfile.bundle import model_kind

RUNTIMES = ("ai-edge-litert", "onnxruntime", "tensorflow", "keras", "dlib-bin", "dlib", "mediapipe", "numpy")
SHOWN_OPERATIONS = 6


@dataclass(frozen=True)
class BenchmarkOptions:
    """Times model files side by side, each in its own process, in turns, on the same synthetic faces.

    A time is that of one batch, from uint8 crops to points: median, fastest run and 95th percentile (on a busy machine,
    compare the fastest). Images per second are the batch size over the median. Memory is the peak resident memory of
    the process, and in brackets its peak before it loaded the file: Python, NumPy and OpenCV. dlib (one thread) and
    MediaPipe's mesh predict the same faces one by one, in crops of their own.
    """

    files: tuple[str, ...] = option(
        dataclasses.MISSING,
        ".tflite, .onnx or .keras files, SavedModel, run or bundle folders, or packaged models",
        positional=True,
    )
    threads: tuple[str, ...] = option(("1",), "numbers of threads; each is timed", metavar="N[,N]")
    batch: tuple[str, ...] = option(("1",), "batch sizes; each is timed", metavar="N[,N]")
    runs: int = option(200, "number of batches to time", metavar="N")
    peers: bool = option(True, "also time dlib and MediaPipe, where installed")
    profile: bool = option(
        True, "time by operation (ONNX Runtime only), and the share of the machine's peaks that a file reaches"
    )
    json: str | None = option(None, "write the results here, - for stdout", metavar="FILE")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``benchmark``."""
    example = "python -m kpdetect.benchmark model.tflite model_fp16.tflite model.onnx --threads 1,2 --batch 1,8"
    options = parse_options(BenchmarkOptions, argv, "benchmark", example)
    batches = whole_numbers("--batch", options.batch)
    subjects = subjects_of(options.files, whole_numbers("--threads", options.threads), options.peers)
    if options.runs < 1:
        raise KpdetectError(f"--runs: expected 1 or more, received {options.runs}")
    with ExitStack() as running:
        with quietly(f"loading {', '.join(options.files)}"):
            workers, left_out = running.enter_context(workers_of(subjects, batches))
        for line in left_out:
            print(f"kpdetect: {line}", file=sys.stderr)
        rows = time_in_turns(workers, batches, options.runs, options.profile)
    report(rows, left_out, options.json)
    return 0


def subjects_of(files: Sequence[str], threads: Sequence[int], peers: bool) -> list[Subject]:
    """Returns the subjects: each file with each number of threads, and the peers.

    Raises:
        KpdetectError: A file is no model.
    """
    for file in files:
        model_kind(file)
    subjects = [Subject(file, count) for count in threads for file in files]
    if not peers:
        return subjects
    return [*subjects, Subject("dlib", 1), *(Subject("MediaPipe", count) for count in threads)]


def whole_numbers(option: str, words: Sequence[str]) -> list[int]:
    """Parses the numbers of an option; sorted, without duplicates.

    >>> whole_numbers("--threads", ("2", "1", "2"))
    [1, 2]

    Raises:
        KpdetectError: A word is not a whole number of at least 1, or there is none.
    """
    if not words or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise KpdetectError(f"{option}: expected whole numbers of 1 or more such as 1,2, received '{','.join(words)}'")
    return sorted({int(word) for word in words})


def report(rows: Sequence[TimingRow], left_out: Sequence[str], target: str | None) -> None:
    """Prints the table and writes the JSON."""
    print(table(rows), file=sys.stderr if target == "-" else sys.stdout)
    write_json(target, {"machine": machine(), "left_out": left_out, "rows": [row.to_dict() for row in rows]})


def machine() -> dict[str, Any]:
    """Returns what the figures depend on: system, processor, versions."""
    versions = {}
    for package in RUNTIMES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "packages": versions,
    }


def table(rows: Sequence[TimingRow]) -> str:
    """Returns the rows as text, followed by the time by operation."""
    head = ("model", "kind", "MB", "threads", "batch", "median ms", "least ms", "p95 ms", "images/s", "memory MB")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in cells]
    profiles = [_operations_line(row) for row in rows if row.operations]
    if profiles and len(profiles) < len(rows):
        profiles.append("(LiteRT and TensorFlow report no time by operation)")
    rooflines = [f"roofline of {_run_of(row)}: {row.roofline}" for row in rows if row.roofline]
    return "\n".join([*lines, *profiles, *rooflines])


def _cells(row: TimingRow) -> tuple[str, ...]:
    memory = "-"
    if row.peak_bytes is not None and row.base_bytes is not None:
        memory = f"{row.peak_bytes / 1e6:.0f} ({row.base_bytes / 1e6:.0f})"
    times = (*(f"{ms:.2f}" for ms in (row.median_ms, row.least_ms, row.p95_ms)), f"{row.images_per_second:.0f}")
    return (row.name, row.kind, f"{row.bytes / 1e6:.1f}", str(row.threads), str(row.batch), *times, memory)


def _operations_line(row: TimingRow) -> str:
    operations = row.operations or []
    shown = [f"{part.operation} ({part.count}) {100 * part.share:.0f} %" for part in operations[:SHOWN_OPERATIONS]]
    rest = sum(part.share for part in operations[SHOWN_OPERATIONS:])
    others = [f"others {100 * rest:.0f} %"] * bool(operations[SHOWN_OPERATIONS:])
    return f"time of {_run_of(row)}: {', '.join([*shown, *others])}"


def _run_of(row: TimingRow) -> str:
    return f"{row.name}, {row.threads} thread{'s' * (row.threads > 1)}, batch {row.batch}"


if __name__ == "__main__":
    sys.exit(run_command(main))
