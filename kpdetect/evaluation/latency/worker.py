"""Child process of one timed subject: loads it, runs it on request and returns the times."""

import multiprocessing
import signal
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from kpdetect.core.errors import KpdetectError
from kpdetect.evaluation.latency.memory import peak_memory_bytes
from kpdetect.evaluation.latency.operations import OperationTime
from kpdetect.evaluation.latency.subjects import Prepared, Subject, prepare

WARM_UP_RUNS = 10  # allocate memory, map pages and raise the clock rate
PROFILED_RUNS = 50


@dataclass(frozen=True)
class Loaded:
    """Reply of a process after it has loaded its subject.

    Attributes:
        kind: As in `Prepared`.
        file: The file that runs.
        bytes: Its size.
        base_bytes: Peak memory of the process before loading; None if the system does not report it.
        peak_bytes: Peak memory after the warm-up of each batch size.
        macs: As in `Prepared`.
        crop_bytes: As in `Prepared`.
    """

    kind: str
    file: str
    bytes: int
    base_bytes: int | None
    peak_bytes: dict[int, int | None]
    macs: int = 0
    crop_bytes: int = 0


@dataclass(frozen=True)
class _Failure:
    """Why a process failed: a user's mistake, a missing package, or a bug."""

    text: str
    kind: str


class NotInstalled(Exception):
    """A peer is not installed; the text is the package's name."""


class Worker:
    """A subject in its own process; a context manager.

    Args:
        subject: The subject to time.
        batches: The batch sizes that will be run.

    Raises:
        KpdetectError: The subject cannot be loaded, or its process ended.
        NotInstalled: It is a peer that is not installed.
    """

    def __init__(self, subject: Subject, batches: Sequence[int]) -> None:
        self.subject = subject
        # Spawned, because a forked process inherits the peak memory, and runtimes' threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, subject, sorted(batches)), daemon=True)
        self._process.start()
        theirs.close()  # so that the connection ends with the process
        try:
            self.loaded: Loaded = self._receive()
        except BaseException:
            self.close()
            raise

    def turn(self, batch: int, runs: int) -> list[float]:
        """Returns the seconds of each of `runs` runs, after one run that fills the caches and is not timed."""
        self._connection.send((batch, runs))
        seconds: list[float] = self._receive()
        return seconds

    def operations(self, batch: int) -> list[OperationTime] | None:
        """Returns the time by operation; None if the runtime does not report it."""
        self._connection.send((batch, None))
        operations: list[OperationTime] | None = self._receive()
        return operations

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(timeout=5)
        self._process.kill()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise KpdetectError(
                f"{self.subject.name}: its process ended without a result, with exit code {code}"
            ) from None
        if not isinstance(answer, _Failure):
            return answer
        errors = {"mistake": KpdetectError, "missing": NotInstalled, "fault": RuntimeError}
        raise errors[answer.kind](answer.text)


def _serve(connection: Connection, subject: Subject, batches: Sequence[int]) -> None:
    """Main function of the process; returns when the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which ends this process
    try:
        prepared, loaded = _load(subject, batches)
        connection.send(loaded)
        while True:
            batch, runs = connection.recv()
            connection.send(_operations(prepared, batch) if runs is None else _timed(prepared, batch, runs))
    except (EOFError, BrokenPipeError):
        return
    except KpdetectError as error:
        connection.send(_Failure(str(error), "mistake"))
    except ModuleNotFoundError as error:
        connection.send(_Failure(str(error.name), "missing"))
    except Exception:
        connection.send(_Failure(f"{subject.name}: {traceback.format_exc()}", "fault"))


def _load(subject: Subject, batches: Sequence[int]) -> tuple[Prepared, Loaded]:
    base = peak_memory_bytes()
    prepared = prepare(subject, batches)
    peaks = {}
    for batch in batches:
        _timed(prepared, batch, WARM_UP_RUNS)
        peaks[batch] = peak_memory_bytes()
    file, macs, crop_bytes = str(prepared.file), prepared.macs, prepared.crop_bytes
    return prepared, Loaded(prepared.kind, file, prepared.bytes, base, peaks, macs, crop_bytes)


def _timed(prepared: Prepared, batch: int, runs: int) -> list[float]:
    prepared.run(batch)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        prepared.run(batch)
        seconds.append(time.perf_counter() - start)
    return seconds


def _operations(prepared: Prepared, batch: int) -> list[OperationTime] | None:
    return None if prepared.operations is None else prepared.operations(batch, PROFILED_RUNS)
