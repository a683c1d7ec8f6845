"""The roofline of a model: how near its time is to the machine's measured limits of arithmetic and of memory.

The model is that of Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009).
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

_MEASURE = """
import json, time
import numpy as np

def least_seconds(run):
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)

side = 1024
a = np.ones((side, side), np.float32)
product = np.empty_like(a)
source = np.ones(1 << 27, np.uint8)
target = np.empty_like(source)
macs = side**3 / least_seconds(lambda: np.matmul(a, a, out=product))
moved = 2 * source.nbytes / least_seconds(lambda: np.copyto(target, source))
print(json.dumps([macs, moved]))
"""
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Peaks:
    """Measured limits of the machine.

    Attributes:
        macs_per_second: Multiply-accumulates of a float32 matrix product of NumPy.
        bytes_per_second: Bytes that a copy of a large array reads and writes, with one thread.
    """

    macs_per_second: float
    bytes_per_second: float


@dataclass(frozen=True)
class Roofline:
    """The work of one batch, and the shares of the machine's limits that its time reaches.

    Attributes:
        macs: Multiply-accumulates of the convolutions and dense layers.
        bytes: Bytes that are moved at least: the model's file and the crops, once. Activations are not counted.
        share_of_macs: Of the peak of arithmetic; 8-bit models may exceed 1.
        share_of_bytes: Of the peak of memory.
    """

    macs: int
    bytes: int
    share_of_macs: float
    share_of_bytes: float

    def __str__(self) -> str:
        bound = "memory" if self.share_of_bytes > self.share_of_macs else "arithmetic"
        return (
            f"{self.macs / 1e6:,.0f} M multiply-accumulates, {100 * self.share_of_macs:.0f} % of the peak; at least "
            f"{self.bytes / 1e6:.1f} MB moved, {100 * self.share_of_bytes:.0f} % of the peak; nearer to the limit of "
            f"{bound}"
        )


def measure_peaks(threads: int) -> Peaks:
    """Measures the limits in a new process, since libraries read their number of threads when they start.

    Args:
        threads: The number of threads of the matrix product.

    Example:
        ``measure_peaks(1).macs_per_second / 1e9`` is some tens of giga multiply-accumulates for a processor core.
    """
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    answer = subprocess.check_output([sys.executable, "-c", _MEASURE], env=environment)
    macs, moved = json.loads(answer)
    return Peaks(macs, moved)


def roofline(macs: int, moved: int, seconds: float, peaks: Peaks) -> Roofline:
    """Returns the shares of the limits that work within a time reaches.

    >>> roofline(macs=50, moved=10, seconds=2.0, peaks=Peaks(100.0, 10.0)).share_of_macs
    0.25

    Args:
        macs: Multiply-accumulates.
        moved: Bytes.
        seconds: The time that they took.
        peaks: The machine's limits.
    """
    return Roofline(macs, moved, macs / seconds / peaks.macs_per_second, moved / seconds / peaks.bytes_per_second)
