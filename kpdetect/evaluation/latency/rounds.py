"""Owns the turns: every subject runs a little in every round, so that what disturbs the machine disturbs all alike."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from kpdetect.core.errors import KpdetectError
from kpdetect.evaluation.latency.operations import OperationTime
from kpdetect.evaluation.latency.subjects import PEERS, Subject
from kpdetect.evaluation.latency.worker import NotInstalled, Worker

RUNS_A_TURN = 5
"""Few enough that a disturbance of some tenths of a second meets every subject."""


@dataclass(frozen=True)
class TimingRow:
    """How fast a subject is with batches of one size.

    Attributes:
        name: A model file or folder as it was given, or a peer.
        file: What runs of it.
        kind: ``tflite``, ``onnx``, ``saved_model``, ``keras`` or ``dlib``.
        bytes: The size of the file.
        threads: How many a batch may use.
        batch: Faces in a batch.
        runs: How many were timed.
        median_ms: From crops of 8 bits to points, the whole batch.
        least_ms: The fastest run: where a busy machine leaves no other figure to compare.
        p95_ms: What 95 % of the runs stay below.
        images_per_second: ``batch`` over the median.
        peak_bytes: The most resident memory of its process up to batches of this size; None where the system does not
            tell.
        base_bytes: What the process had needed before it loaded anything: Python, NumPy and OpenCV.
        operations: Time by operation; None where nobody asked or the runtime does not tell.
    """

    name: str
    file: str
    kind: str
    bytes: int
    threads: int
    batch: int
    runs: int
    median_ms: float
    least_ms: float
    p95_ms: float
    images_per_second: float
    peak_bytes: int | None
    base_bytes: int | None
    operations: list[OperationTime] | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description."""
        return dataclasses.asdict(self)


@contextmanager
def workers_of(subjects: Sequence[Subject], batches: Sequence[int]) -> Iterator[tuple[list[Worker], list[str]]]:
    """The processes of all subjects, started one after the other; and what was left out, in words.

    Raises:
        KpdetectError: A model cannot be loaded.
    """
    workers, left_out = [], []
    with ExitStack() as stack:
        for subject in subjects:
            try:
                workers.append(stack.enter_context(Worker(subject, batches)))
            except NotInstalled as error:
                if subject.name not in PEERS:
                    raise KpdetectError(f"{subject.name}: needs {error}, which is not installed") from None
                left_out.append(f"{subject.name}: left out, for {error} is not installed")
        yield workers, list(dict.fromkeys(left_out))


def time_in_turns(workers: Sequence[Worker], batches: Sequence[int], runs: int, profile: bool) -> list[TimingRow]:
    """Times all workers, round by round; the rows in the order of the batches, then of the workers.

    Args:
        workers: Loaded subjects.
        batches: Sizes that they were loaded for.
        runs: How many to time of each, at least; whole turns are run.
        profile: Ask for the time by operation as well, when all else is done.
    """
    pairs = [(worker, batch) for batch in batches for worker in workers]
    seconds: list[list[float]] = [[] for _ in pairs]
    for _ in tqdm(range(-(-runs // RUNS_A_TURN)), "timing", unit="round", file=sys.stderr):
        for times, (worker, batch) in zip(seconds, pairs, strict=True):
            times += worker.turn(batch, RUNS_A_TURN)
    operations = [worker.operations(batch) if profile else None for worker, batch in pairs]
    return [
        _row(worker, batch, times, told)
        for (worker, batch), times, told in zip(pairs, seconds, operations, strict=True)
    ]


def _row(worker: Worker, batch: int, seconds: list[float], operations: list[OperationTime] | None) -> TimingRow:
    loaded, (median, p95) = worker.loaded, np.percentile(seconds, (50, 95)).tolist()
    return TimingRow(
        name=worker.subject.name,
        file=loaded.file,
        kind=loaded.kind,
        bytes=loaded.bytes,
        threads=worker.subject.threads,
        batch=batch,
        runs=len(seconds),
        median_ms=1000 * median,
        least_ms=1000 * min(seconds),
        p95_ms=1000 * p95,
        images_per_second=batch / median,
        peak_bytes=loaded.peak_bytes[batch],
        base_bytes=loaded.base_bytes,
        operations=operations,
    )
