"""Owns stopping when asked to: Ctrl-C and SIGTERM let what is under way be finished and saved."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int]]:
    """Gives a function that tells which of SIGINT (Ctrl-C) and SIGTERM came, 0 for none; a second interrupts at once.

    So a frame or a step is always finished, and the files after it; an interruption amid them could leave a video
    without its index, which nothing plays.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, where no signal arrives anyway
        before = {}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
