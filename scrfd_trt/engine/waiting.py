"""Work in another thread, so that Ctrl-C reaches the one that waits for it at once.

TensorRT builds for minutes in one call. Made on the main thread, that call would keep Python from looking at signals
until it has ended.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

PAUSE = 0.1
INTERRUPTED = 130
"""What a shell says of a program that Ctrl-C ended: 128 + 2."""


class _Work(threading.Thread, Generic[Result]):
    def __init__(self, work: Callable[[], Result]) -> None:
        super().__init__(name="scrfd_trt build", daemon=True)
        self._do = work
        self.result: list[Result] = []
        self.error: BaseException | None = None
        # An interrupted join() takes the thread for ended in Python 3.12 and before; this does not.
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            self.result.append(self._do())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            self.error = error
        finally:
            self.ended.set()


def wait_for(
    work: Callable[[], Result], *, tell: Callable[[], None], cancel: Callable[[], None], stops: Callable[[], bool]
) -> Result:
    """Do some work in another thread and wait for its result.

    Parameters
    ----------
    work
        What to do.
    tell
        Called several times a second while it is done.
    cancel
        Asks the work to stop, when the wait is interrupted or ``tell`` has failed.
    stops
        Whether work that was asked to stop will do so soon. Then the interruption is passed on once it has; otherwise
        at once, and the work goes on in the background for nothing.

    Returns
    -------
    Result
        Of the work. Its errors are raised here.
    """
    thread = _Work(work)
    thread.start()
    try:
        going_on = True
        while going_on:
            going_on = not thread.ended.wait(PAUSE)
            tell()
    except BaseException:
        cancel()
        atexit.register(_leave, thread.ended)
        if stops():
            thread.ended.wait()
        raise
    if thread.error is not None:
        raise thread.error
    return thread.result[0]


def _leave(ended: threading.Event) -> None:
    """End the process here if work that nobody waits for is still in native code.

    Python's own end would take away what that code stands on, and crash.
    """
    if not ended.is_set():
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(INTERRUPTED)
