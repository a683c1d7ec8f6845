"""The training function that Ray Train runs in each worker."""

import contextlib
import dataclasses
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
import ray.train

from kpdetect.core.errors import Interrupted, KpdetectError
from kpdetect.core.keras_backend import JAX, choose_backend
from kpdetect.core.log import show_messages
from kpdetect.recipes import TrainOptions
from kpdetect.training.distributed.caller import End, Relay
from kpdetect.training.distributed.processes import Place


@dataclass(frozen=True)
class WorkerJob:
    """What each worker needs to know.

    Attributes:
        options: The options of the command.
        folder: The working folder of the command, to which paths are relative.
        caller: Handle of the actor `kpdetect.training.distributed.caller.Caller`.
        terminal: Whether the command's stderr is a terminal.
        on_cpu: Whether JAX shall use no GPU or TPU.
    """

    options: TrainOptions
    folder: str
    caller: Any
    terminal: bool
    on_cpu: bool


def train_on_worker(config: dict[str, Any]) -> None:
    """Trains as one of the workers. Process 0 reports how the training ended.

    An error that the user can fix ends the training: it is reported by the worker that found it. Any other exception
    makes Ray Train restart the workers.

    Args:
        config: The `WorkerJob` as ``job``, as Ray Train passes it.
    """
    job: WorkerJob = config["job"]
    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size())
    with _output(job, place):
        end = _end_of_training(job, place)
    if end.error or place.first:
        ray.get(job.caller.finish.remote(end))


def _end_of_training(job: WorkerJob, place: Place) -> End:
    try:
        _prepare_process(job)
        from kpdetect.training.distributed.jax_processes import connected

        with connected(place, job.caller) as processes:
            from kpdetect.training.run import run_training  # imports Keras, after JAX has been connected

            resumes = place.first and ray.get(job.caller.begin.remote())
            resumes = ray.train.collective.broadcast_from_rank_zero(resumes)
            options = dataclasses.replace(job.options, resume=True, overwrite=False) if resumes else job.options
            return End(report=run_training(options, processes=processes).report)
    except Interrupted as stop:
        return End(error=str(stop), signal_number=stop.status - 128)
    except KpdetectError as error:
        return End(error=str(error))
    except OSError as error:
        if error.filename is None:
            raise
        return End(error=f"{socket.gethostname()}: {error.filename}: {error.strerror}")


def _prepare_process(job: WorkerJob) -> None:
    """Chooses folder, Keras' backend and JAX' device.

    Raises:
        KpdetectError: The working folder is missing on this machine.
        MissingExtra: TensorFlow or JAX is missing on this machine.
    """
    try:
        os.chdir(job.folder)
    except OSError as error:
        raise KpdetectError(
            f"{socket.gethostname()}: {job.folder}: {error.strerror}; each machine needs all files under the same paths"
        ) from error
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("JAX_CPU_COLLECTIVES_IMPLEMENTATION", "gloo")
    if job.on_cpu:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    logging.getLogger("jax").setLevel(logging.WARNING)  # it reports its connections
    choose_backend(JAX)


@contextlib.contextmanager
def _output(job: WorkerJob, place: Place) -> Iterator[None]:
    """Sends the output of process 0 to the command; that of the others stays in Ray's log files."""
    show_messages()
    if not place.first:
        yield
        return
    relay = Relay(job.caller, job.terminal)
    try:
        with contextlib.redirect_stderr(relay), contextlib.redirect_stdout(relay):
            yield
    finally:
        relay.stop()
