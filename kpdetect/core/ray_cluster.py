"""Starts Ray on this machine, or connects to a cluster, for labelling and training on several workers."""

import functools
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.exceptions import RayActorError

from kpdetect.core.atomic_write import is_running
from kpdetect.core.errors import KpdetectError
from kpdetect.core.options import quietly

STORE_BYTES = 100_000_000
"""Size of Ray's shared memory, near its minimum; the default is 30 % of the machine. Only names and counts pass it."""

CONNECT_SECONDS = 10

SESSION_PREFIX = "kpdetect-ray-"
LONGEST_PARENT = 20  # characters of the temporary folder's path; the names of Ray's sockets may have 107


@contextmanager
def ray_started(cpus: float, address: str | None = None) -> Iterator[None]:
    """Starts Ray on this machine, or connects to a cluster, and ends or disconnects it after the block.

    A Ray that is started here listens on 127.0.0.1 alone, and accepts only those who have its random token: Ray turns
    tokens on by itself, unless ``RAY_AUTH_MODE`` is ``disabled``.

    Args:
        cpus: The number of cores that a Ray on this machine distributes.
        address: The cluster's address; None starts Ray on this machine.

    Raises:
        KpdetectError: There is no cluster at the address, or Ray cannot be started.

    Example::

        with ray_started(cpus=2):
            ray.get(task.remote())
    """
    if address is not None:
        check_reachable(address)
    with ExitStack() as stack:
        stack.enter_context(environment(RAY_USAGE_STATS_ENABLED="0"))  # no usage reports to the makers of Ray
        options: dict[str, Any] = {}
        if address is None:
            stack.enter_context(environment(RAY_AUTH_TOKEN=session_token()))
            stack.enter_context(loopback_only())
            folder = stack.enter_context(session_folder())
            options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE_BYTES}
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
        # Else Ray prints to stdout, which is for results, why a worker died; `death_reason` is for that.
        ray._private.worker._worker_logs_enabled = False
        yield


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Sets environment variables in the block, except those that the user has set.

    >>> with environment(KPDETECT_EXAMPLE="1"):
    ...     os.environ["KPDETECT_EXAMPLE"]
    '1'
    """
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@functools.cache
def session_token() -> str:
    """The token of every Ray that this process starts: Ray reads it once per process."""
    return secrets.token_hex(32)


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


def check_reachable(address: str) -> None:
    """Checks that a server listens at the address: Ray itself waits for minutes and does not name the address.

    Raises:
        KpdetectError: Nobody listens there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():  # auto, or another name that Ray resolves
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise KpdetectError(f"--address {address}: expected a Ray cluster there: {error}") from error


def death_reason(error: RayActorError) -> str:
    """Ray's reason for the death of a worker, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if "Worker exit" in line), lines[-1] if lines else type(error).__name__)
    return reason.split(" Some common causes")[0]
