"""Time of a model by operation, for ONNX Runtime."""

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.modelfile.spec import INPUT_NAME


@dataclass(frozen=True)
class OperationTime:
    """Time of all operations of one kind in one run.

    Attributes:
        operation: Its name, such as ``Conv``.
        count: Number of such operations per run.
        ms: Their total time. Profiling makes it slightly longer.
        share: Fraction of all operations' time, in [0, 1].
    """

    operation: str
    count: int
    ms: float
    share: float


def onnx_operations(
    path: Path, threads: int, crops: npt.NDArray[np.uint8], runs: int, warm_up: int = 5
) -> list[OperationTime]:
    """Profiles an ONNX file; the slowest operations come first.

    Args:
        path: The file.
        threads: Number of threads per run.
        crops: (B, H, W, C), fed as float32.
        runs: Number of runs that count, at least 1.
        warm_up: Number of runs before these that do not count.
    """
    import onnxruntime  # the caller has run the file already

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        image = np.asarray(crops, np.float32)
        for _ in range(warm_up + runs):
            session.run(None, {INPUT_NAME: image})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return sum_up(events, warm_up, runs)


def sum_up(events: list[dict[str, Any]], warm_up: int, runs: int) -> list[OperationTime]:
    """Sums the events of an ONNX Runtime profile by operation.

    Each node counts with the median of its runs, so that interruptions do not count.

    Args:
        events: In order of time; those of operations have ``cat`` "Node", ``dur`` in microseconds and the operation's
            name in ``args``. A session runs its nodes in the same order every time.
        warm_up: Number of runs at the beginning that do not count.
        runs: Number of runs that follow.
    """
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    in_a_run = len(nodes) // (warm_up + runs)
    durations = np.array([event["dur"] for event in nodes], float).reshape(warm_up + runs, in_a_run)
    medians = np.median(durations[warm_up:], axis=0) / 1000
    names = [event["args"]["op_name"] for event in nodes[:in_a_run]]
    spent: Counter[str] = Counter()
    for name, ms in zip(names, medians.tolist(), strict=True):
        spent[name] += ms
    counts, total = Counter(names), sum(medians.tolist()) or 1.0
    return [OperationTime(name, counts[name], ms, ms / total) for name, ms in spent.most_common()]
