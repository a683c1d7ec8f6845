"""Training on several workers with Ray Train, as the command ``train`` starts it."""

import dataclasses
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback, WorkerGroupError
from ray.train.v2.jax import JaxConfig, JaxTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kpdetect.core.errors import Interrupted, KpdetectError
from kpdetect.core.ray_cluster import death_reason, environment, ray_started
from kpdetect.core.signals import stop_on_signals
from kpdetect.core.text import printable
from kpdetect.recipes import TrainOptions
from kpdetect.training.distributed.caller import Caller, End, News
from kpdetect.training.distributed.options import check_worker_options
from kpdetect.training.distributed.worker import WorkerJob, train_on_worker

_LOG = logging.getLogger(__name__)

SECONDS_BETWEEN_QUESTIONS = 0.2
"""Seconds between two looks at what the workers printed."""

ADVICE = "if there are checkpoints, the same command with --resume continues"

SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # the workers' folder is that of the command
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # process 0 prints through `Relay`
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
"""Environment variables of Ray Train that have no other form; those that the user has set stay."""


def train_on_workers(options: TrainOptions) -> str:
    """Trains on several workers and returns the report that the command prints.

    Ray places the workers, and starts all of them again from the last checkpoint if one ends, up to
    ``options.max_failures`` times. What process 0 prints is printed here.

    Args:
        options: The options of ``kpdetect train``, with ``workers``.

    Returns:
        The report of `kpdetect.training.run.TrainingResult`.

    Raises:
        KpdetectError: An option, the data or the folder is wrong, or workers failed too often.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved if training had begun.

    Example:
        >>> options = TrainOptions(data="csv:faces.csv", out="runs/mine", workers=4)
        >>> print(train_on_workers(options))  # doctest: +SKIP
    """
    resources, workers = check_worker_options(options), options.workers or 1
    folder = Path(options.out or f"runs/{options.recipe}").absolute()
    with (
        environment(**SETTINGS),
        ray_started(resources["CPU"] * workers, options.address),
        state_folder(folder, shared=options.address is not None) as storage,
        stop_on_signals() as received,  # after Ray has installed its own handler
    ):
        warn_of_missing_resources(resources, workers, ray.cluster_resources())
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        caller = ray.remote(num_cpus=0, scheduling_strategy=here)(Caller).remote()
        trainer = JaxTrainer(
            train_on_worker,
            train_loop_config={
                "job": WorkerJob(
                    options=dataclasses.replace(options, out=str(folder)),
                    folder=os.getcwd(),
                    caller=caller,
                    terminal=sys.stderr.isatty(),
                    on_cpu=not resources.keys() & {"GPU", "TPU"},
                )
            },
            # Its own connection gives all workers of a machine the same GPU; see `connected`.
            jax_config=JaxConfig(use_gpu=False, use_tpu=False),
            scaling_config=ScalingConfig(
                num_workers=workers, resources_per_worker=resources, use_gpu=resources.get("GPU", 0) > 0
            ),
            run_config=RunConfig(
                name=storage.name,
                storage_path=str(storage.parent),
                failure_config=FailureConfig(max_failures=options.max_failures),
                callbacks=[FailureMessages(caller)],
            ),
        )
        return _report_of(Fitting(trainer), caller, received, options.max_failures)


class FailureMessages(UserCallback):  # type: ignore[misc]  # Ray has no types
    """Tells the command why workers ended. Ray Train calls it in its controller.

    Args:
        caller: Handle of the actor `Caller`.
    """

    def __init__(self, caller: Any) -> None:
        self._caller = caller

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Sends the reason."""
        ray.get(self._caller.failed.remote(reason_of(worker_exceptions)))


class Fitting:
    """A thread that runs a trainer, since `JaxTrainer.fit` returns only at the end and handles signals itself.

    Args:
        trainer: The trainer.

    Attributes:
        error: What ended it, if it failed.
    """

    def __init__(self, trainer: JaxTrainer) -> None:
        self.error: BaseException | None = None
        self._trainer = trainer
        self._thread = threading.Thread(target=self._run, name="fit", daemon=True)
        self._thread.start()

    def runs(self, seconds: float) -> bool:
        """Waits at most some seconds for the end; returns whether it still runs."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self.error = error


def _report_of(fitting: Fitting, caller: Any, received: Callable[[], int], max_failures: int) -> str:
    """Prints what the workers print until the training ends; returns the report."""
    failures = 0
    while True:
        runs = fitting.runs(SECONDS_BETWEEN_QUESTIONS)
        news: News = ray.get(caller.news.remote(received()))
        sys.stderr.write(news.text)  # as process 0 wrote it, with its own ends of lines
        sys.stderr.flush()
        for reason in news.failures:
            failures += 1
            if failures <= max_failures:
                _LOG.warning(f"{reason}; restart {failures} of {max_failures} from the last checkpoint")
        if news.end is not None:
            return _report(news.end)
        if not runs:
            raise _failure(fitting.error, failures) from fitting.error
        if received() and not news.training:
            raise Interrupted(f"stopped before a step was made; {ADVICE}", received())


def _report(end: End) -> str:
    if end.signal_number:
        raise Interrupted(end.error, end.signal_number)
    if end.error:
        raise KpdetectError(end.error)
    return end.report or ""


def _failure(error: BaseException | None, failures: int) -> KpdetectError:
    """The error of a training that Ray has given up. Tracebacks of the workers are logged."""
    if isinstance(error, WorkerGroupError):
        if not any(is_death(each) for each in error.worker_failures.values()):
            _LOG.error(str(error))
        number = f" (failure number {failures})" if failures > 1 else ""
        return KpdetectError(f"{reason_of(error.worker_failures)}{number}; {ADVICE}")
    return KpdetectError(f"Ray Train ended: {one_line(error or RuntimeError('without a result'))}; {ADVICE}")


def reason_of(failures: Mapping[int, BaseException]) -> str:
    """Why a training failed, as one line: the worker that died, or else the first one with an error.

    Args:
        failures: The errors by the numbers of their processes. A process whose connection to a dead one broke has one
            too.
    """
    number = min(failures, key=lambda each: (not is_death(failures[each]), each))
    return f"process {number} ended: {one_line(failures[number])}"


def is_death(error: BaseException) -> bool:
    """Whether an error of Ray Train means that a worker's process or machine is gone."""
    return isinstance(getattr(error, "health_check_failure", error), RayActorError)


def one_line(error: BaseException) -> str:
    """An error of a worker or of Ray Train as one line that is safe to print."""
    cause: BaseException = getattr(error, "health_check_failure", getattr(error, "controller_failure", error))
    if isinstance(cause, RayActorError):
        return printable(death_reason(cause))
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return printable(f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__)


def warn_of_missing_resources(resources: Mapping[str, float], workers: int, available: Mapping[str, float]) -> None:
    """Logs what the cluster lacks: it may grow, or Ray waits for other jobs to end.

    Args:
        resources: The resources of each worker.
        workers: The number of workers.
        available: Result of ``ray.cluster_resources()``.
    """
    for name, each in resources.items():
        if workers * each > available.get(name, 0):
            _LOG.warning(
                f"{workers} workers need {workers * each:g} {name}, and Ray has {available.get(name, 0):g}: waiting "
                "for more machines; see --workers and --resources-per-worker"
            )


@contextmanager
def state_folder(folder: Path, shared: bool) -> Iterator[Path]:
    """A folder for the state of Ray Train, removed at the end.

    Args:
        folder: The run folder.
        shared: The folder must be on all machines, as the run folder must. Ray Train checks that.
    """
    if not shared:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary, "ray")
        return
    state = folder.with_name(f".{folder.name}.ray")
    state.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield state
    finally:
        shutil.rmtree(state, ignore_errors=True)
