"""Messages between processes through JAX' coordination service, which process 0 runs."""

import contextlib
import dataclasses
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kpdetect.core.errors import KpdetectError
from kpdetect.core.options import quietly
from kpdetect.training.distributed.abort_message import AbortMessage
from kpdetect.training.distributed.processes import Place

JOIN_SECONDS = 300.0  # JAX' default; the machines of a cluster start at different times
HEARTBEAT_SECONDS = 30  # a process that was silent for this long counts as gone; JAX' default is 100
STATUS = 2  # exit status of an error


@dataclass(frozen=True)
class Coordinator:
    """Publishes and reads messages of the processes, one message per topic and process.

    Attributes:
        place: The place of this process.
        client: JAX' client; None until connected.
        stderr: A file descriptor of stderr that is not redirected.
        abort_message: Message to print if JAX aborts this process; None for process 0, which is never aborted.
    """

    place: Place
    client: Any
    stderr: int
    abort_message: AbortMessage | None

    def publish(self, topic: str, text: str) -> None:
        """Publishes a message, replacing this process's earlier one of the same topic."""
        self.client.key_value_set(f"kpdetect/{topic}/{self.place.number}", text, allow_overwrite=True)

    def published(self, topic: str) -> dict[int, str]:
        """The messages of a topic, by process number."""
        found = self.client.key_value_dir_get(f"kpdetect/{topic}/")
        return {int(key.rsplit("/", 1)[1]): text for key, text in found}

    def wait_for_all(self, what: str, seconds: float) -> None:
        """Waits until all processes have called this with the same `what`, which can be used once."""
        self.client.wait_at_barrier(f"kpdetect/{what}", round(1000 * seconds))

    def missing(self) -> set[int]:
        """Numbers of processes that are gone. Waits until all others ask too, or were silent `HEARTBEAT_SECONDS`."""
        numbers = range(self.place.count)
        return set(numbers) - set(self.client.get_live_nodes(list(numbers)))

    def exit(self, text: str) -> None:
        """Ends this process at once with a line on stderr, from any thread."""
        if self.abort_message is not None:
            self.abort_message.cancel()
        os.write(self.stderr, f"kpdetect: {text}\n".encode())
        os._exit(STATUS)


@contextlib.contextmanager
def connected(place: Place) -> Iterator[Coordinator]:
    """Connects to the other processes.

    JAX is configured not to abort the others when a process is gone; they end by themselves, with a message. Only the
    end of process 0, which runs the service, makes JAX abort them.

    Raises:
        KpdetectError: The address is not valid, or process 0 cannot listen there.
    """
    _check_address(place)
    abort_message, stderr = None if place.first else AbortMessage(), os.dup(2)
    coordinator = Coordinator(place, None, stderr, abort_message)
    try:
        if abort_message is not None:
            abort_message.set(f"kpdetect: {_not_connected(place)}")
        with quietly(f"joining {place.address} as {place}"), _time_limit(JOIN_SECONDS, coordinator):
            client = _client(place)
        if abort_message is not None:
            abort_message.set(
                f"kpdetect: {place} was aborted: it was killed, or process 0 ({place.address}) is gone; see its "
                "message, and start all processes again with --resume"
            )
        yield dataclasses.replace(coordinator, client=client)
    finally:
        os.close(stderr)
        if abort_message is not None:
            abort_message.cancel()


def _check_address(place: Place) -> None:
    host, _, port = place.address.rpartition(":")
    if not host or not port.isdecimal():
        raise KpdetectError(f"--coordinator: expected HOST:PORT of process 0, received {place.address}")
    try:
        socket.getaddrinfo(host, int(port))
    except (OSError, OverflowError) as error:
        raise KpdetectError(f"--coordinator {place.address}: unknown host: {error}") from error


def _client(place: Place) -> Any:
    """Connects to JAX' service; process 0 starts it."""
    import jax
    from jax._src import distributed  # its key-value store has no public name yet; Orbax imports it from here too

    jax.config.update("jax_enable_recoverability", True)
    try:
        with _default_interrupt_handler():
            jax.distributed.initialize(
                place.address,
                place.count,
                place.number,
                initialization_timeout=round(
                    2 * JOIN_SECONDS
                ),  # `_time_limit` comes first: JAX would print a stack dump
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
    except RuntimeError as error:
        raise KpdetectError(
            f"--coordinator {place.address}: {place} cannot connect: {str(error).splitlines()[0]}"
            f"{'; the port may be in use' * place.first}"
        ) from error
    return distributed.global_state.client


@contextlib.contextmanager
def _default_interrupt_handler() -> Iterator[None]:
    """Lets Ctrl-C end the process at once; Python's handler would wait for C++ to return, maybe minutes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _time_limit(seconds: float, coordinator: Coordinator) -> Iterator[None]:
    """Ends the process from another thread if the block takes longer."""
    timer = threading.Timer(seconds, coordinator.exit, [_not_connected(coordinator.place)])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _not_connected(place: Place) -> str:
    return (
        f"{place} could not connect to the others at {place.address} within {JOIN_SECONDS:.0f} seconds: start all "
        "processes, each with its own --process-id, and check that they can reach that port of process 0"
    )
