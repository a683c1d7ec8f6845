"""Progress of long loops: a bar on a terminal, else a log message for each tenth."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

_LOG = logging.getLogger(__name__)

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 2.0
"""Least time between two lines, and before a bar is shown, so that short loops print none."""


class TenthLines:
    """Logs a line for each finished tenth of a loop, at most one per `SECONDS_BETWEEN_LINES`.

    Args:
        label: Start of each line.
        total: Number of steps of the loop.
        done: Steps that are done already.

    Example:
        >>> lines = TenthLines("caching", total=1000)
        >>> lines.update(100)  # logs a line if two seconds have passed
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label, self.total, self.first = label, total, done
        self.tenth = 10 * done // max(total, 1)
        self.started = self.printed = time.monotonic()

    def update(self, done: int, details: str = "") -> None:
        """Logs a line if another tenth is done.

        Args:
            done: Number of finished steps.
            details: More text for the line.
        """
        now, tenth = time.monotonic(), 10 * done // max(self.total, 1)
        if not self.tenth < tenth < 10 or now - self.printed < SECONDS_BETWEEN_LINES:
            return
        self.tenth, self.printed = tenth, now
        left = round((now - self.started) / (done - self.first) * (self.total - done))
        details = f"{details}, " if details else ""
        _LOG.info(f"{self.label}: {10 * tenth} %, {details}{left // 60}:{left % 60:02d} left")


def progress(items: Iterable[Item], label: str, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """Yields items and shows the progress: as a bar if stderr is a terminal, else as `TenthLines`.

    Args:
        items: What to yield.
        label: What is done, such as ``caching``.
        total: Number of items; by default, their length if they have one.
        unit: Unit of the bar's rate.

    Example:
        >>> list(progress([1, 2, 3], "counting"))
        [1, 2, 3]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from tqdm import tqdm  # imported only for terminals

        yield from tqdm(items, label, total, unit=unit, mininterval=0.5, delay=SECONDS_BETWEEN_LINES)
        return
    lines = TenthLines(label, total or 0)
    for done, item in enumerate(items, 1):
        yield item
        if total:
            lines.update(done)
