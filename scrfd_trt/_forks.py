"""Tell objects in a forked process that threads, locks and libraries of its parent are not theirs."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """An object that must change in a forked process."""

    def _after_fork(self) -> None:
        """Replace threads and locks of the parent. It is called in the child, where only this thread runs."""


_registered: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(item: Forkable) -> None:
    """Call ``_after_fork()`` of an object in each forked process, as long as the object lives."""
    _registered.add(item)


def never_free(item: object) -> None:
    """Keep an object until the process ends, also while Python exits: its destructor would wait for lost threads."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))


def _after_fork_in_child() -> None:
    for item in tuple(_registered):
        item._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
