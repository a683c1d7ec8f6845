"""The number of processors that this process may use, and work that is done ahead in threads, in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def available_processors() -> int:
    """The number of processors that this process may use: fewer than the machine has, for example in a container."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(run: Callable[[Item], Value], items: Iterable[Item], workers: int, ahead: int = 2) -> Iterator[Value]:
    """Calls a function for each item in threads, and yields the results in the order of the items.

    Args:
        run: The function; an exception of it is raised when its result is due.
        items: What to call it with; taken as threads become free.
        workers: The number of threads. With one, everything runs in the calling thread.
        ahead: The number of results per thread that may wait for earlier ones.

    Example:
        >>> list(in_order(lambda number: number**2, [1, 2, 3], workers=2))
        [1, 4, 9]
    """
    if workers <= 1:
        yield from map(run, items)
        return
    left = iter(items)
    waiting: deque[Future[Value]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        waiting.extend(pool.submit(run, item) for item in islice(left, workers * ahead))
        while waiting:
            value = waiting.popleft().result()
            waiting.extend(pool.submit(run, item) for item in islice(left, 1))
            yield value
    finally:
        pool.shutdown(cancel_futures=True)
