"""Owns training in several processes on JAX: what they agree on, and how they end when one of them is gone."""

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
from kpdetect.training.distributed import meeting
from kpdetect.training.distributed.meeting import Meeting
from kpdetect.training.distributed.processes import Place, Processes

LOOK_SECONDS = 1.0  # between two looks at the others
GRACE_SECONDS = 5.0  # for the main thread to end by itself, once it is known that a process is gone
PARTING_SECONDS = 60.0  # for the slowest machine to come to the end of the training
GOING_SECONDS = 10.0  # that the first waits for the others to go, since its own end would tear them down
PREPARING_SECONDS = 24 * 3600.0  # decoding all faces may take long; a process that dies meanwhile is noticed
AGAIN = "start all of them again with --resume"
SETTINGS, STOP, ENDED, GONE = "settings", "stop", "ended", "gone"  # what there is to tell


class Together(Processes):
    """One of several processes that train together.

    Args:
        place: Which of them this is.
        meeting: What they hear each other by.
        folder: For copies of the first one's files.
    """

    def __init__(self, place: Place, meeting: Meeting, folder: Path) -> None:
        super().__init__(place)
        self.meeting, self.folder = meeting, folder

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """See `Processes`."""
        self.meeting.tell(SETTINGS, json.dumps(settings))
        self.meeting.wait_for_all(SETTINGS, PREPARING_SECONDS)
        every = {number: json.loads(text) for number, text in self.meeting.told(SETTINGS).items()}
        for number, theirs in every.items():
            differing = [name for name, value in every[0].items() if theirs.get(name) != value]
            if differing:
                listed = "; ".join(f"{name}: {theirs.get(name)!r}, not {every[0][name]!r}" for name in differing)
                raise KpdetectError(f"process {number} was started with other settings than process 0: {listed}")

    def shared_file(self, file: Path | None) -> Path | None:
        """See `Processes`."""
        content = self._from_first(b"" if file is None else file.read_bytes())
        if self.place.first or not content:
            return file
        copy = self.folder / "copy.npz"
        copy.write_bytes(content)
        return copy

    def _from_first(self, content: bytes) -> bytes:
        """What the first process has, over the net that carries the gradients."""
        from jax.experimental.multihost_utils import broadcast_one_to_all

        size = int(broadcast_one_to_all(np.array(len(content))))
        padded = np.frombuffer(content if self.place.first else bytes(size), np.uint8)
        return np.asarray(broadcast_one_to_all(padded), np.uint8).tobytes() if size else b""

    def agreed(self, stopped: Callable[[], int], steps_done: Callable[[], int]) -> Callable[[], int]:
        """See `Processes`.

        No process can be done with a step before all others have begun it, for the loss is that of the whole batch. So
        a signal that one tells of after a step is known to all after the next one.
        """
        asked: list[int] = []

        def agree() -> int:
            here = steps_done()
            known = [text.split() for text in self.meeting.told(STOP).values()]
            numbers = [int(number) for steps, number in known if int(steps) < here]
            if not numbers and not asked and stopped():
                asked.append(stopped())
                self.meeting.tell(STOP, f"{here} {stopped()}")
            return max(numbers, default=0)

        return agree


@contextlib.contextmanager
def trained_together(place: Place) -> Iterator[Together]:
    """Meets the other processes, and parts from them when the block ends, however it ends.

    Raises:
        KpdetectError: They do not meet, or one of them is gone.
    """
    with meeting.met(place) as met, tempfile.TemporaryDirectory() as folder:
        watch = Watch(met)
        reason: str | None = None
        try:
            yield Together(place, met, Path(folder))
        except Interrupted:  # all of them, after the same step
            raise
        except (KpdetectError, KeyboardInterrupt) as error:
            reason = str(error) or "it was interrupted"
            raise
        except Exception as error:
            # What fails where the others hang on it fails because one of them is gone; only the watch knows which.
            found = watch.found(meeting.HEARTBEAT_SECONDS + GRACE_SECONDS)
            reason = found or f"{type(error).__name__}: {error}"
            if found is None:
                raise
            raise KpdetectError(found) from error
        finally:
            watch.stop()
            _part(met, reason, watch.lost)
            watch.join()


def _part(met: Meeting, reason: str | None, lost: set[int]) -> None:
    """Leaves the others: together with them where all went well, else with a word to them why."""
    import jax

    with contextlib.suppress(RuntimeError, ValueError):  # nobody may be there to be told
        if reason is None:
            met.wait_for_all("parting", PARTING_SECONDS)
        else:
            met.tell(ENDED, reason)
        if met.place.first:
            _let_go(met, set(range(1, met.place.count)) - lost)
        else:
            met.tell(GONE, "")
    with contextlib.suppress(RuntimeError, ValueError):
        jax.distributed.shutdown()


def _let_go(met: Meeting, others: set[int]) -> None:
    """Waits until the others have gone, or for `GOING_SECONDS`."""
    until = time.monotonic() + GOING_SECONDS
    while time.monotonic() < until and not others <= set(met.told(GONE)):
        time.sleep(0.05)
    time.sleep(0.5)  # between a process's word that it goes and its going


class Watch:
    """A thread that looks whether all processes are there, and ends this one if one is not.

    A process that is killed is noticed by those that wait for its part of a sum, since its connections break; but not
    which one it was, and one whose machine or network is gone breaks nothing.

    Attributes:
        lost: Who is gone.
    """

    def __init__(self, met: Meeting) -> None:
        self.lost: set[int] = set()
        self._meeting, self._text = met, ""
        self._known, self._over, self._left = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()

    def found(self, seconds: float) -> str | None:
        """Waits for its finding: who is gone, and what to do."""
        until = time.monotonic() + seconds
        while not self._known.wait(LOOK_SECONDS / 4) and time.monotonic() < until:
            with contextlib.suppress(RuntimeError, ValueError):  # of one that has ended with a word, nobody need wait
                if text := self._word_of_others():
                    return text
        return self._text or None

    def stop(self) -> None:
        """Ends nobody any more; the others, who wait for an answer, are answered until this process has left them."""
        self._over.set()

    def join(self) -> None:
        """Waits until the thread has ended, once this process has left: Python must not end amid a call of C++."""
        self._left.set()
        self._thread.join(GOING_SECONDS)

    def _look(self) -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # this process has left, or the first is gone
            while not self._left.wait(LOOK_SECONDS):
                text = self._finding()
                if text and not self._over.is_set() and not self._known.is_set():
                    self._text = text
                    self._known.set()
                    threading.Timer(GRACE_SECONDS, self._end).start()

    def _end(self) -> None:
        if not self._over.is_set():
            self._meeting.end(self._text)

    def _finding(self) -> str:
        self.lost = self._meeting.absent() - {self._meeting.place.number}
        if text := self._word_of_others():
            return text
        if not self.lost:
            return ""
        who = " and ".join(f"process {number}" for number in sorted(self.lost))
        return (
            f"{who} of {self._meeting.place.count} is gone, without a word for {meeting.HEARTBEAT_SECONDS} seconds: "
            f"killed, or its machine or network failed; {AGAIN}, or fewer, and the training goes on from its last state"
        )

    def _word_of_others(self) -> str:
        """What one that has ended said last; nothing while all go on."""
        place = self._meeting.place
        ended = {number: text for number, text in self._meeting.told(ENDED).items() if number != place.number}
        if not ended:
            return ""
        number, text = min(ended.items())
        self.lost |= set(ended)
        return f"process {number} of {place.count} has ended: {text}; when that is put right, {AGAIN}"
