"""Renewal of locks and interpreters in forked child processes.

A child process has only the thread that forked it. A lock that another thread held stays locked in the child, and the
threads of an interpreter are gone. So the child makes new ones.
"""

import functools
import os
import weakref
from typing import Any, Protocol


class Renewable(Protocol):
    """An object with locks or threads."""

    def renew(self) -> None:
        """Replaces them; called in the child process before any other code, while it has a single thread."""


_objects: "weakref.WeakSet[Any]" = weakref.WeakSet()
_abandoned: list[Any] = []


def renew_after_fork(obj: Renewable) -> None:
    """Calls ``obj.renew()`` in each child that this process forks, as long as the object exists.

    Args:
        obj: Anything with a method ``renew``.

    Example:
        ``renew_after_fork(self)`` in ``__init__``, and ``def renew(self): self._lock = threading.Lock()``
    """
    _register_once()
    _objects.add(obj)


def abandon(obj: Any) -> None:
    """Keeps an object of the parent process, since its destructor would wait for threads that are gone."""
    if obj is not None:
        _abandoned.append(obj)


@functools.lru_cache(maxsize=1)
def _register_once() -> None:
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=_renew_all)


def _renew_all() -> None:
    for obj in list(_objects):
        obj.renew()
