"""Owns the workers: Ray's processes, here or on a cluster, each with a model of its own; one that dies is replaced."""

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import cv2
from kpdetect.core.options import quietly
from kpdetect.inference.bulk.sources import Part
from kpdetect.inference.bulk.worker import Job, Labeller, LabelParts, Outcome

STORE_BYTES = 100_000_000
"""Of shared memory, near the least Ray takes; by default it takes 30 % of the machine. Only names and counts pass."""

MOST_DEATHS = 2
"""A worker may be killed for memory that others took; a part that kills two is at fault itself."""

REACH_SECONDS = 10  # enough for any network that workers could share files over


@contextmanager
def started(workers: int, address: str | None = None) -> Iterator[LabelParts]:
    """Starts Ray with room for so many workers on this machine, or joins the one at the address; gives `label_parts`.

    Raises:
        KpdetectError: No Ray runs there, or none can be started here.
    """
    if address is not None:
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers that it is used
    local = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    with quietly("starting Ray"):
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else local))
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"--address {address}: expected a Ray cluster there" if address else "Ray cannot be started here"
            raise KpdetectError(f"{where}: {error}") from error
    try:
        yield label_parts
    finally:
        ray.shutdown()


def label_parts(parts: Sequence[tuple[int, Part]], job: Job, workers: int) -> Iterator[Outcome]:
    """Labels parts on workers; each outcome as it comes.

    A part whose worker dies is given to a new one; after `MOST_DEATHS` it has failed, and the others go on.

    Args:
        parts: Numbers and parts.
        job: What each worker is to know.
        workers: How many.
    """
    new_worker = ray.remote(num_cpus=1)(_Worker)
    waiting, deaths = deque(parts), Counter[int]()
    running: dict[Any, tuple[Any, int, Part]] = {}
    idle: list[Any] = []
    while waiting or running:
        while waiting and len(running) < workers:
            worker = idle.pop() if idle else new_worker.remote(job)
            number, part = waiting.popleft()
            running[worker.label.remote(number, part)] = (worker, number, part)
        (answer,), _ = ray.wait(list(running), num_returns=1)
        worker, number, part = running.pop(answer)
        try:
            outcome = ray.get(answer)
            idle += [worker] * bool(waiting)  # one that nobody holds ends, and leaves its room to others
        except RayActorError as error:
            deaths[number] += 1
            outcome = Outcome(number, None, f"{part}: {deaths[number]} workers died of it: {_reason(error)}")
            if deaths[number] < MOST_DEATHS:
                waiting.append((number, part))
                continue
        yield outcome


def _check_reachable(address: str) -> None:
    """Makes sure that somebody listens; Ray itself waits for minutes, and does not tell for whom."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():  # auto, or a name that Ray knows
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise KpdetectError(f"--address {address}: expected a Ray cluster there: {error}") from error


class _Worker:
    """What runs in a process of its own: it has one core, as Ray counts them, and keeps to it."""

    def __init__(self, job: Job) -> None:
        cv2.setNumThreads(1)
        self._labeller = Labeller(job)

    def label(self, number: int, part: Part) -> Outcome:
        return self._labeller.label(number, part)


def _reason(error: RayActorError) -> str:
    """What Ray knows of a death, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "Worker exit" in line), lines[-1] if lines else type(error).__name__)
    return told.split(" Some common causes")[0]
