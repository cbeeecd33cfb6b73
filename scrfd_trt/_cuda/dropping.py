"""Close what is dropped without ``close()``, in a thread of its own.

The garbage collector runs in any thread, which may hold a lock or capture a graph. It must not wait there, nor free
what the GPU still uses. Therefore it only starts a thread, which closes as ``close()`` does.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any

from scrfd_trt._cuda.driver import RelaxedCapture
from scrfd_trt.errors import ScrfdError

log = logging.getLogger("scrfd_trt")

_under_way: list[_thread.LockType] = []


def close_when_dropped(owner: object, close: Callable[[], object]) -> weakref.finalize[Any, Any]:
    """Call a function in another thread once ``owner`` is dropped; the result's ``detach()`` cancels that.

    ``close`` must not refer to ``owner``, and must be allowed in any thread.
    """
    finalizer = weakref.finalize(owner, _start, close)
    finalizer.atexit = False
    return finalizer


def wait_for_dropped() -> None:
    """Wait until everything that was dropped is closed."""
    for lock in tuple(_under_way):
        with lock:
            pass


def _start(close: Callable[[], object]) -> None:
    lock, closes = _thread.allocate_lock(), [close]
    lock.acquire()
    _under_way.append(lock)
    try:
        # threading.Thread would wait for the new thread, which may wait for a lock of threading's own.
        _thread.start_new_thread(_close, (closes, lock))
    except RuntimeError:  # the limit of threads is reached
        _close(closes, lock)


def _close(closes: list[Callable[[], object]], lock: _thread.LockType) -> None:
    try:
        with RelaxedCapture():
            closes.pop()()  # nothing refers to what is closed when the lock is released
    except ScrfdError as error:
        log.debug("closing what was dropped: %s", str(error))
    finally:
        _under_way.remove(lock)
        lock.release()


atexit.register(wait_for_dropped)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_under_way.clear)  # its threads run in the parent only
