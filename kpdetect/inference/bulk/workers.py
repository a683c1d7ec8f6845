"""Workers that are processes of Ray, on this machine or a cluster; one that dies is replaced."""

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import cv2
from kpdetect.core.ray_cluster import death_reason, ray_started
from kpdetect.inference.bulk.sources import Part
from kpdetect.inference.bulk.worker import LabelJob, Labeller, LabelParts, PartResult

MAX_DEATHS = 2
"""A part has failed after this many dead workers. The first may have been killed for the memory of other processes."""


@contextmanager
def started(workers: int, address: str | None = None) -> Iterator[LabelParts]:
    """Starts Ray on this machine, or connects to a cluster, and yields `label_parts`.

    Args:
        workers: The number of workers.
        address: The cluster's address; None starts Ray on this machine.

    Raises:
        KpdetectError: There is no cluster at the address, or Ray cannot be started.
    """
    with ray_started(workers, address):
        yield label_parts


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
            result = PartResult(number, None, f"{part}: {deaths[number]} workers died: {death_reason(error)}")
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


class _Worker:
    """A worker process, limited to one core."""

    def __init__(self, job: LabelJob) -> None:
        cv2.setNumThreads(1)
        self._labeller = Labeller(job)

    def label(self, number: int, part: Part) -> PartResult:
        return self._labeller.label(number, part)
