"""Training in several processes on JAX: shared settings and files, and how they end when one of them is gone."""

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.errors import Interrupted, KpdetectError
from kpdetect.training.distributed import coordination
from kpdetect.training.distributed.coordination import Coordinator
from kpdetect.training.distributed.processes import Place, Processes

POLL_SECONDS = 1.0  # between two checks of the other processes
GRACE_SECONDS = 5.0  # for the main thread to end by itself, once a process is known to be gone
FINISH_SECONDS = 60.0  # for the slowest machine to reach the end of the training
LEAVE_SECONDS = 10.0  # process 0 waits this long for the others to leave: its own end would abort them
PREPARE_SECONDS = 24 * 3600.0  # decoding all faces may take long; a process that ends meanwhile is noticed
RESTART = "start all processes again with --resume"
SETTINGS, STOP, ENDED, GONE = "settings", "stop", "ended", "gone"  # topics of messages


class JaxProcesses(Processes):
    """Several processes that train together on JAX.

    Args:
        place: The place of this process.
        coordinator: Messages between the processes.
        folder: Folder for copies of the files of process 0.
    """

    def __init__(self, place: Place, coordinator: Coordinator, folder: Path) -> None:
        super().__init__(place)
        self.coordinator, self.folder = coordinator, folder

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """See `Processes.check_same`."""
        self.coordinator.publish(SETTINGS, json.dumps(settings))
        self.coordinator.wait_for_all(SETTINGS, PREPARE_SECONDS)
        settings_of = {number: json.loads(text) for number, text in self.coordinator.published(SETTINGS).items()}
        for number, theirs in settings_of.items():
            differing = [name for name, value in settings_of[0].items() if theirs.get(name) != value]
            if differing:
                listed = "; ".join(f"{name}: {theirs.get(name)!r}, not {settings_of[0][name]!r}" for name in differing)
                raise KpdetectError(f"process {number} has other settings than process 0: {listed}")

    def shared_file(self, file: Path | None) -> Path | None:
        """See `Processes.shared_file`."""
        content = self._broadcast(b"" if file is None else file.read_bytes())
        if self.place.first or not content:
            return file
        copy = self.folder / "copy.npz"
        copy.write_bytes(content)
        return copy

    def _broadcast(self, content: bytes) -> bytes:
        """The bytes of process 0, sent over the connections that carry the gradients."""
        from jax.experimental.multihost_utils import broadcast_one_to_all

        size = int(broadcast_one_to_all(np.array(len(content))))
        padded = np.frombuffer(content if self.place.first else bytes(size), np.uint8)
        return np.asarray(broadcast_one_to_all(padded), np.uint8).tobytes() if size else b""

    def agreed(self, stopped: Callable[[], int], steps_done: Callable[[], int]) -> Callable[[], int]:
        """See `Processes.agreed`.

        The loss is that of the whole batch, so no process finishes a step before all others have started it. A signal
        that one process publishes after a step is therefore known to all after the next one.
        """
        sent: list[int] = []

        def agreed_signal() -> int:
            here = steps_done()
            messages = [text.split() for text in self.coordinator.published(STOP).values()]
            numbers = [int(number) for steps, number in messages if int(steps) < here]
            if not numbers and not sent and stopped():
                sent.append(stopped())
                self.coordinator.publish(STOP, f"{here} {stopped()}")
            return max(numbers, default=0)

        return agreed_signal


@contextlib.contextmanager
def connected_processes(place: Place) -> Iterator[JaxProcesses]:
    """Connects to the other processes, and disconnects when the block ends, also after an error.

    Raises:
        KpdetectError: The processes cannot connect, or one of them is gone.
    """
    with coordination.connected(place) as coordinator, tempfile.TemporaryDirectory() as folder:
        watch = Watch(coordinator)
        reason: str | None = None
        try:
            yield JaxProcesses(place, coordinator, Path(folder))
        except Interrupted:  # all of them, after the same step
            raise
        except (KpdetectError, KeyboardInterrupt) as error:
            reason = str(error) or "interrupted"
            raise
        except Exception as error:
            # JAX raises errors of its own when a process is gone; only the watch knows which one.
            found = watch.found(coordination.HEARTBEAT_SECONDS + GRACE_SECONDS)
            reason = found or f"{type(error).__name__}: {error}"
            if found is None:
                raise
            raise KpdetectError(found) from error
        finally:
            watch.stop()
            _leave(coordinator, reason, watch.lost)
            watch.join()


def _leave(coordinator: Coordinator, reason: str | None, lost: set[int]) -> None:
    """Disconnects: together with the others after a success, else with a message that states the reason."""
    import jax

    with contextlib.suppress(RuntimeError, ValueError):  # the others may be gone
        if reason is None:
            coordinator.wait_for_all("finish", FINISH_SECONDS)
        else:
            coordinator.publish(ENDED, reason)
        if coordinator.place.first:
            _wait_until_gone(coordinator, set(range(1, coordinator.place.count)) - lost)
        else:
            coordinator.publish(GONE, "")
    with contextlib.suppress(RuntimeError, ValueError):
        jax.distributed.shutdown()


def _wait_until_gone(coordinator: Coordinator, others: set[int]) -> None:
    """Waits until the others have disconnected, at most `LEAVE_SECONDS`."""
    until = time.monotonic() + LEAVE_SECONDS
    while time.monotonic() < until and not others <= set(coordinator.published(GONE)):
        time.sleep(0.05)
    time.sleep(0.5)  # between a process's message and its disconnection


class Watch:
    """A thread that checks whether all processes are alive, and ends this one if one is not.

    JAX notices a killed process by its broken connections, but does not report which one it was, and notices nothing if
    a machine or network fails.

    Attributes:
        lost: Numbers of processes that are gone.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self.lost: set[int] = set()
        self._coordinator, self._text = coordinator, ""
        self._known, self._over, self._left = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def found(self, seconds: float) -> str | None:
        """Waits until a process is known to be gone; returns the message, or None."""
        until = time.monotonic() + seconds
        while not self._known.wait(POLL_SECONDS / 4) and time.monotonic() < until:
            with contextlib.suppress(RuntimeError, ValueError):  # a process that left a message needs no waiting
                if text := self._message_of_others():
                    return text
        return self._text or None

    def stop(self) -> None:
        """Stops ending this process; the thread goes on answering the others until `join`."""
        self._over.set()

    def join(self) -> None:
        """Waits for the thread after disconnecting: Python must not exit during a call of C++."""
        self._left.set()
        self._thread.join(LEAVE_SECONDS)

    def _run(self) -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # this process has disconnected, or process 0 is gone
            while not self._left.wait(POLL_SECONDS):
                text = self._problem()
                if text and not self._over.is_set() and not self._known.is_set():
                    self._text = text
                    self._known.set()
                    threading.Timer(GRACE_SECONDS, self._exit).start()

    def _exit(self) -> None:
        if not self._over.is_set():
            self._coordinator.exit(self._text)

    def _problem(self) -> str:
        self.lost = self._coordinator.missing() - {self._coordinator.place.number}
        if text := self._message_of_others():
            return text
        if not self.lost:
            return ""
        who = " and ".join(f"process {number}" for number in sorted(self.lost))
        seconds = coordination.HEARTBEAT_SECONDS
        return (
            f"{who} of {self._coordinator.place.count} is gone: no heartbeat for {seconds} seconds. It was killed, "
            f"or its machine or network failed; {RESTART}, or fewer, to continue from the last checkpoint"
        )

    def _message_of_others(self) -> str:
        """The message of a process that ended; empty while all are running."""
        place = self._coordinator.place
        ended = {number: text for number, text in self._coordinator.published(ENDED).items() if number != place.number}
        if not ended:
            return ""
        number, text = min(ended.items())
        self.lost |= set(ended)
        return f"process {number} of {place.count} ended: {text}; once that is fixed, {RESTART}"
