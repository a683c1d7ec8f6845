"""Graceful stopping: SIGINT (Ctrl-C) and SIGTERM set a flag that a loop checks between two steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int]]:
    """Records SIGINT and SIGTERM instead of interrupting; a second signal raises `KeyboardInterrupt` at once.

    A loop finishes the step (a video frame, an optimiser step, a file) that it has begun, and then stops. Outside
    the main thread, where Python delivers no signals, the block runs unchanged.

    Example::

        with stop_on_signals() as received:
            for frame in frames:
                write(frame)
                if received():
                    break

    Yields:
        A function that returns the number of the signal received so far, 0 for none.

    Raises:
        KeyboardInterrupt: A second signal arrives.
    """
    received: list[int] = []

    def record(number: int, _: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {number: signal.signal(number, record) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # signal.signal works in the main thread only
        previous = {}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
