"""Tell objects in a forked process that threads, locks and libraries of its parent are not theirs."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol


class Forkable(Protocol):
    """An object that must change in a forked process."""

    def _after_fork(self) -> None:
        """Replace threads and locks of the parent. It is called in the child, where only this thread runs."""


_registered: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(item: Forkable) -> None:
    """Call ``_after_fork()`` of an object in each forked process, as long as the object lives."""
    _registered.add(item)


class Lock:
    """A lock, ``threading.Lock`` or ``RLock``, that is free in a forked process even if it was held at the fork."""

    def __init__(self, make: Callable[[], AbstractContextManager[object]] = threading.Lock) -> None:
        self._make, self._lock = make, make()
        register(self)

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, *error: Any) -> None:
        with suppress(RuntimeError):  # this thread forked while it held the lock of the parent
            self._lock.__exit__(*error)

    def _after_fork(self) -> None:
        self._lock = self._make()


def never_free(item: object) -> None:
    """Keep an object until the process ends, also while Python exits: its destructor would wait for lost threads."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))


def _after_fork_in_child() -> None:
    for item in tuple(_registered):
        item._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
