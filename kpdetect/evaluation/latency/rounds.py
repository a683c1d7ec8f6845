"""Timing in rounds: each subject runs a few times per round, so that disturbances affect all equally."""

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
from kpdetect.evaluation.latency.roofline import Peaks, Roofline, measure_peaks, roofline
from kpdetect.evaluation.latency.subjects import PEERS, Subject
from kpdetect.evaluation.latency.worker import NotInstalled, Worker

RUNS_PER_TURN = 5
"""Few, so that a disturbance of some tenths of a second affects every subject."""


@dataclass(frozen=True)
class TimingRow:
    """Latency of a subject for one batch size.

    Attributes:
        name: The model file or folder as given, or a peer.
        file: The file that runs.
        kind: ``tflite``, ``onnx``, ``saved_model``, ``keras`` or ``dlib``.
        bytes: The file's size.
        threads: Number of threads per batch.
        batch: Faces per batch.
        runs: Number of timed runs.
        median_ms: Median time of a batch, from uint8 crops to points.
        least_ms: Fastest run; the figure to compare on a busy machine.
        p95_ms: 95th percentile.
        images_per_second: ``batch`` over the median.
        peak_bytes: Peak resident memory of the process up to this batch size; None if the system does not report it.
        base_bytes: Peak memory before loading: Python, NumPy and OpenCV.
        operations: Time by operation; None if not requested or not reported by the runtime.
        roofline: Nearness of the fastest run to the machine's limits; None if not requested, or if the file does not
            state the model's multiply-accumulates.
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
    roofline: Roofline | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready description."""
        return dataclasses.asdict(self)


@contextmanager
def workers_of(subjects: Sequence[Subject], batches: Sequence[int]) -> Iterator[tuple[list[Worker], list[str]]]:
    """Starts the processes of all subjects one after the other; yields them and a line for each that is left out.

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
                left_out.append(f"{subject.name}: left out, because {error} is not installed")
        yield workers, list(dict.fromkeys(left_out))


def time_in_turns(workers: Sequence[Worker], batches: Sequence[int], runs: int, profile: bool) -> list[TimingRow]:
    """Times all workers round by round; returns rows in the order of the batches, then of the workers.

    Args:
        workers: Loaded subjects.
        batches: Batch sizes that they were loaded for.
        runs: Least number of timed runs per row; whole turns are run.
        profile: Also return the time by operation, and the roofline.
    """
    pairs = [(worker, batch) for batch in batches for worker in workers]
    seconds: list[list[float]] = [[] for _ in pairs]
    for _ in tqdm(range(-(-runs // RUNS_PER_TURN)), "timing", unit="round", file=sys.stderr):
        for times, (worker, batch) in zip(seconds, pairs, strict=True):
            times += worker.turn(batch, RUNS_PER_TURN)
    operations = [worker.operations(batch) if profile else None for worker, batch in pairs]
    threads = {worker.subject.threads for worker in workers if profile and worker.loaded.macs}
    peaks = {count: measure_peaks(count) for count in threads}
    return [
        _row(worker, batch, times, each, peaks.get(worker.subject.threads))
        for (worker, batch), times, each in zip(pairs, seconds, operations, strict=True)
    ]


def _row(
    worker: Worker, batch: int, seconds: list[float], operations: list[OperationTime] | None, peaks: Peaks | None
) -> TimingRow:
    shares = None
    if peaks is not None and worker.loaded.macs:
        moved = worker.loaded.bytes + batch * worker.loaded.crop_bytes
        shares = roofline(batch * worker.loaded.macs, moved, min(seconds), peaks)
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
        roofline=shares,
    )
