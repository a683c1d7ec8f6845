"""Messages between the command ``train`` and its workers, through an actor of Ray on the machine of the command."""

import io
import threading
from dataclasses import dataclass
from typing import Any

import ray

SECONDS_BETWEEN_TEXTS = 0.2


@dataclass(frozen=True)
class End:
    """How a training ended.

    Attributes:
        report: The report to print; None unless the training was completed.
        error: What the user can fix; empty if there is nothing.
        signal_number: The signal that stopped the training, its state saved; 0 for none.
    """

    report: str | None = None
    error: str = ""
    signal_number: int = 0


@dataclass(frozen=True)
class News:
    """What happened on the workers since the last question.

    Attributes:
        text: What process 0 printed.
        failures: Why workers ended that were then replaced, one line per restart.
        training: Whether steps are being made, after which a signal stops the training with its state saved.
        end: How the training ended; None while it runs.
    """

    text: str
    failures: tuple[str, ...]
    training: bool
    end: End | None


class Caller:
    """The actor. The workers, Ray's controller and the command call it; a call takes about a millisecond."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._failures: list[str] = []
        self._attempts, self._signal_number = 0, 0
        self._run_started, self._training = False, False
        self._end: End | None = None

    def begin(self) -> bool:
        """Process 0 starts, for the first time or again; returns whether there is a run to resume."""
        self._training = False
        return self._run_started

    def run_started(self) -> None:
        """See `Processes.run_started`."""
        self._run_started = True

    def training_started(self) -> None:
        """Process 0 makes steps from now on, and asks for signals."""
        self._training = True

    def signal_number(self) -> int:
        """The signal that the command received; 0 for none. Asked by process 0 between two steps."""
        return self._signal_number

    def write(self, text: str) -> None:
        """Adds to the output of process 0."""
        self._texts.append(text)

    def failed(self, reason: str) -> None:
        """Adds a failure of a worker."""
        self._training = False
        self._failures.append(reason)

    def finish(self, end: End) -> None:
        """Ends the training; the first end counts."""
        self._end = self._end or end

    def news(self, signal_number: int) -> News:
        """What happened since the last question.

        Args:
            signal_number: The signal that the command received so far; 0 for none.
        """
        self._signal_number = signal_number
        news = News("".join(self._texts), tuple(self._failures), self._training, self._end)
        self._texts.clear()
        self._failures.clear()
        return news


class Relay(io.TextIOBase):
    """A text stream whose content appears in the terminal of the command.

    Args:
        caller: Handle of the actor `Caller`.
        terminal: Whether the command's stderr is a terminal.
    """

    def __init__(self, caller: Any, terminal: bool) -> None:
        super().__init__()
        self._caller, self._terminal = caller, terminal
        self._parts: list[str] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        """Whether the command's stderr is a terminal, which shows progress bars."""
        return self._terminal

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """Adds text, which is sent a few times per second."""
        with self._lock:
            self._parts.append(text)
        return len(text)

    def send(self) -> None:
        """Sends what was written, and waits until it has arrived."""
        with self._lock:
            text = "".join(self._parts)
            self._parts.clear()
            if text:
                ray.get(self._caller.write.remote(text))

    def stop(self) -> None:
        """Sends the rest and ends the thread."""
        self._closing.set()
        self._thread.join()
        self.send()

    def _run(self) -> None:
        while not self._closing.wait(SECONDS_BETWEEN_TEXTS):
            self.send()
