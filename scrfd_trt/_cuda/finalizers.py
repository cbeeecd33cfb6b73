"""Close what is dropped without ``close()``, in a thread of its own.

The garbage collector runs in any thread, which may hold a lock or capture a graph, so it must not wait there.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from scrfd_trt import _forks
from scrfd_trt._cuda.driver import RelaxedCapture
from scrfd_trt.errors import ScrfdError

log = logging.getLogger("scrfd_trt")

Close = Callable[[], object]

_under_way: list[_thread.LockType] = []
_exiting = threading.Event()


def close_when_dropped(owner: object, close: Close) -> weakref.finalize[Any, Any]:
    """Call a function that does not refer to ``owner`` in another thread once that is dropped, but not in a fork."""
    finalizer = weakref.finalize(owner, _start, close, os.getpid())
    finalizer.atexit = False
    return finalizer


def wait_for_dropped() -> None:
    """Wait until everything that was dropped is closed."""
    for lock in tuple(_under_way):
        with lock:
            pass


def _start(close: Close, process: int) -> None:
    if os.getpid() != process:
        _forks.never_free(close)  # a forked process cannot use its parent's GPU, nor free what is on it
        return
    lock, closes = _thread.allocate_lock(), [close]
    lock.acquire()
    _under_way.append(lock)
    if _exiting.is_set():  # Python does not wait for further threads
        _close(closes, lock)
        return
    try:
        # Thread.start() waits for the new thread, which needs a lock that the caller may hold.
        _thread.start_new_thread(_start_thread, (closes, lock))
    except RuntimeError:  # the limit of threads is reached
        _close(closes, lock)


def _start_thread(closes: list[Close], lock: _thread.LockType) -> None:
    """Close in a thread that the threading module knows; of others it would keep a record after they have ended."""
    try:
        threading.Thread(target=_close, args=(closes, lock), name="scrfd_trt closing", daemon=True).start()
    except RuntimeError:
        _close(closes, lock)


def _close(closes: list[Close], lock: _thread.LockType) -> None:
    try:
        with RelaxedCapture():
            closes.pop()()  # nothing refers to what is closed when the lock is released
    except ScrfdError as error:
        log.debug("closing what was dropped: %s", str(error))
    finally:
        _under_way.remove(lock)
        lock.release()


def _exit() -> None:
    _exiting.set()
    wait_for_dropped()


atexit.register(_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_under_way.clear)  # its threads run in the parent only
