"""Owns how processes meet and hear each other: JAX' coordination service, which the first of them runs."""

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
from kpdetect.training.distributed.last_words import LastWords
from kpdetect.training.distributed.processes import Place

JOIN_SECONDS = 300.0  # JAX' own default; the machines of a cluster do not start at once
HEARTBEAT_SECONDS = 30  # one that was not heard of for so long counts as gone; JAX' own default is 100
STATUS = 2  # as of every error that is told in a line


@dataclass(frozen=True)
class Meeting:
    """What the processes tell each other, a line a topic each.

    Attributes:
        place: Which of them this is.
        client: JAX' own; None while it joins.
        stderr: A file descriptor that nothing holds back.
        last_words: What is said should this process end without a word; None for the first, which nobody ends.
    """

    place: Place
    client: Any
    stderr: int
    last_words: LastWords | None

    def tell(self, topic: str, text: str) -> None:
        """Tells the others; what was told of the topic before is forgotten."""
        self.client.key_value_set(f"kpdetect/{topic}/{self.place.number}", text, allow_overwrite=True)

    def told(self, topic: str) -> dict[int, str]:
        """What each has told of a topic, by its number."""
        found = self.client.key_value_dir_get(f"kpdetect/{topic}/")
        return {int(key.rsplit("/", 1)[1]): text for key, text in found}

    def wait_for_all(self, what: str, seconds: float) -> None:
        """Waits until all have come to the same line of the program; each `what` can be waited for once."""
        self.client.wait_at_barrier(f"kpdetect/{what}", round(1000 * seconds))

    def absent(self) -> set[int]:
        """Who is gone; waits until all others ask too, or have not been heard of for `HEARTBEAT_SECONDS`."""
        everybody = range(self.place.count)
        return set(everybody) - set(self.client.get_live_nodes(list(everybody)))

    def end(self, text: str) -> None:
        """Ends this process at once, with a line on stderr, from whichever thread."""
        if self.last_words is not None:
            self.last_words.take_back()
        os.write(self.stderr, f"kpdetect: {text}\n".encode())
        os._exit(STATUS)


@contextlib.contextmanager
def met(place: Place) -> Iterator[Meeting]:
    """Meets the other processes.

    JAX is told that processes may be gone without its ending the others: they end by themselves then, and with a
    message. Only the end of the first one, which runs the service, makes JAX end the others.

    Raises:
        KpdetectError: The first one's address is none, or it cannot listen there.
    """
    _check_address(place)
    last_words, stderr = None if place.first else LastWords(), os.dup(2)
    meeting = Meeting(place, None, stderr, last_words)
    try:
        if last_words is not None:
            last_words.leave(f"kpdetect: {_not_met(place)}")
        with quietly(f"joining {place.address} as {place}"), _no_longer_than(JOIN_SECONDS, meeting):
            client = _client(place)
        if last_words is not None:
            last_words.leave(
                f"kpdetect: {place} has ended at once: it was killed, or process 0 ({place.address}) is gone: look "
                "what that says, and start all of them again with --resume"
            )
        yield dataclasses.replace(meeting, client=client)
    finally:
        os.close(stderr)
        if last_words is not None:
            last_words.take_back()


def _check_address(place: Place) -> None:
    host, _, port = place.address.rpartition(":")
    if not host or not port.isdecimal():
        raise KpdetectError(f"--coordinator: expected HOST:PORT, where process 0 listens, received {place.address}")
    try:
        socket.getaddrinfo(host, int(port))
    except (OSError, OverflowError) as error:
        raise KpdetectError(f"--coordinator {place.address}: no machine is known by that name: {error}") from error


def _client(place: Place) -> Any:
    """Joins JAX' service; the first process begins it."""
    import jax
    from jax._src import distributed  # its store of words has no public name yet; Orbax takes it from here too

    jax.config.update("jax_enable_recoverability", True)
    try:
        with _ended_by_interrupts():
            jax.distributed.initialize(
                place.address,
                place.count,
                place.number,
                initialization_timeout=round(2 * JOIN_SECONDS),  # ours comes first: JAX would end in a stack dump
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
    except RuntimeError as error:
        raise KpdetectError(
            f"--coordinator {place.address}: {place} cannot begin: {str(error).splitlines()[0]}"
            f"{'; is the port taken?' * place.first}"
        ) from error
    return distributed.global_state.client


@contextlib.contextmanager
def _ended_by_interrupts() -> Iterator[None]:
    """Lets Ctrl-C end the process at once: Python would act on it only when C++ returns, maybe minutes later."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _no_longer_than(seconds: float, meeting: Meeting) -> Iterator[None]:
    """Ends the process, from a thread of its own, if the block takes longer."""
    timer = threading.Timer(seconds, meeting.end, [_not_met(meeting.place)])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _not_met(place: Place) -> str:
    return (
        f"{place} has not met the others at {place.address} within {JOIN_SECONDS:.0f} seconds: start all of them, each "
        "with its own --process-id, and make sure that they reach that port of process 0"
    )
