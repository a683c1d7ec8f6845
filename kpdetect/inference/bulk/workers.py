"""Workers that are processes of Ray, on this machine or a cluster; one that dies is replaced."""

import logging
import math
import os
import shutil
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.exceptions import RayActorError

from kpdetect.core.atomic_write import is_running
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import cv2
from kpdetect.core.options import quietly
from kpdetect.inference.bulk.sources import Part
from kpdetect.inference.bulk.worker import LabelJob, Labeller, LabelParts, PartResult

STORE_BYTES = 100_000_000
"""Size of Ray's shared memory, near its minimum; the default is 30 % of the machine. Only names and counts pass it."""

MAX_DEATHS = 2
"""A part has failed after this many dead workers. The first may have been killed for the memory of other processes."""

CONNECT_SECONDS = 10

SESSION_PREFIX = "kpdetect-ray-"
LONGEST_PARENT = 20  # characters of the temporary folder's path; the names of Ray's sockets may have 107


@contextmanager
def started(workers: int, address: str | None = None) -> Iterator[LabelParts]:
    """Starts Ray on this machine, or connects to a cluster, and yields `label_parts`.

    A Ray that is started here listens on 127.0.0.1 alone.

    Args:
        workers: The number of workers.
        address: The cluster's address; None starts Ray on this machine.

    Raises:
        KpdetectError: There is no cluster at the address, or Ray cannot be started.
    """
    if address is not None:
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports to the makers of Ray
    with ExitStack() as stack:
        options: dict[str, Any] = {}
        if address is None:
            stack.enter_context(loopback_only())
            folder = stack.enter_context(session_folder())
            options = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": STORE_BYTES}
            options["_temp_dir"] = str(folder)
        with quietly("starting Ray"):
            try:
                ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                where = (
                    f"--address {address}: expected a Ray cluster there" if address else "Ray cannot be started here"
                )
                raise KpdetectError(f"{where}: {error}") from error
        stack.callback(ray.shutdown)
        yield label_parts


@contextmanager
def loopback_only() -> Iterator[None]:
    """Makes a Ray that is started in the block listen on 127.0.0.1 alone, so that no other machine reaches it.

    Ray replaces ``127.0.0.1`` by the machine's address, except where it starts no clusters, as it does on macOS and
    Windows; its environment variable for that has an effect on all systems. It is read when Ray is imported.
    """
    variable, before = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    enabled = ray_constants.ENABLE_RAY_CLUSTER
    os.environ[variable] = "0"  # for Ray's processes
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this one
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


@contextmanager
def session_folder() -> Iterator[Path]:
    """A folder for Ray's files, which is removed at the end; those of killed runs are removed first.

    Ray's own processes end when the run is killed, but its files stay.
    """
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > LONGEST_PARENT:
        parent = Path("/tmp")
    for folder in parent.glob(f"{SESSION_PREFIX}*"):
        number = folder.name.removeprefix(SESSION_PREFIX).partition("-")[0]
        if number.isdecimal() and not is_running(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{SESSION_PREFIX}{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def label_parts(parts: Sequence[tuple[int, Part]], job: LabelJob, workers: int) -> Iterator[PartResult]:
    """Labels parts on workers and yields the results as they come.

    A part whose worker died is given to a new one. After `MAX_DEATHS` it has failed, and the other parts continue.

    Args:
        parts: Numbers and parts.
        job: How to predict, and where the labels go.
        workers: The number of workers.
    """
    gpus = gpu_share(workers, ray.cluster_resources()) if job.options.device == "gpu" else 0.0
    new_worker = ray.remote(num_cpus=1, num_gpus=gpus)(_Worker)
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
            result: PartResult = ray.get(answer)
            idle += [worker] * bool(waiting)  # a worker without a reference ends, which frees its core
        except RayActorError as error:
            deaths[number] += 1
            result = PartResult(number, None, f"{part}: {deaths[number]} workers died: {_reason(error)}")
            if deaths[number] < MAX_DEATHS:
                waiting.append((number, part))
                continue
        yield result


def gpu_share(workers: int, resources: Mapping[str, float]) -> float:
    """Returns the part of a GPU that each worker gets, at most one whole GPU.

    >>> gpu_share(8, {"CPU": 16.0, "GPU": 2.0})
    0.25

    Args:
        workers: The number of workers.
        resources: Result of ``ray.cluster_resources()``.

    Raises:
        KpdetectError: Ray knows no GPU, so that its workers would wait for one forever.
    """
    gpus = int(resources.get("GPU", 0))
    if not gpus:
        raise KpdetectError(
            "--device gpu: Ray finds no GPU; it knows those of NVIDIA, AMD and Intel, with their drivers"
        )
    if workers <= gpus:
        return 1.0
    return math.floor(10_000 / math.ceil(workers / gpus)) / 10_000  # Ray counts ten-thousandths


def _check_reachable(address: str) -> None:
    """Checks that a server listens at the address: Ray itself waits for minutes and does not name the address."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():  # auto, or another name that Ray resolves
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise KpdetectError(f"--address {address}: expected a Ray cluster there: {error}") from error


class _Worker:
    """A worker process, limited to one core."""

    def __init__(self, job: LabelJob) -> None:
        cv2.setNumThreads(1)
        self._labeller = Labeller(job)

    def label(self, number: int, part: Part) -> PartResult:
        return self._labeller.label(number, part)


def _reason(error: RayActorError) -> str:
    """Ray's reason for the death of a worker, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if "Worker exit" in line), lines[-1] if lines else type(error).__name__)
    return reason.split(" Some common causes")[0]
