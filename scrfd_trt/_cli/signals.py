"""Signals end the process at once while packages load, and raise an exception later, so that work is cleaned up."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

TYPE_CHECKING = False  # the typing module takes longer to import than all of these
if TYPE_CHECKING:
    from typing import Any

SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Windows has no SIGHUP."""
STOP_CODES = tuple(128 + number for number in SIGNALS)
REPEAT_SECONDS = 1.0
"""A closing terminal sends several signals in this time; the later ones would interrupt the cleanup."""
REPEAT_DELAY = 0.01

_received: int | None = None
_raised_at = -REPEAT_SECONDS


class StoppedError(KeyboardInterrupt):
    """A signal stops the program; the same cleanup runs for each."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_at_once() -> None:
    """Let signals end the process without an exception, which imports may swallow; ignored signals stay ignored."""
    _replace(signal.SIG_DFL, _exit)
    _replace(signal.default_int_handler, _exit)
    _replace(_raise, _exit)


def raise_from_now_on() -> None:
    """Raise :class:`StoppedError` on signals, if :func:`exit_at_once` was called before."""
    _replace(_exit, _raise)
    sys.unraisablehook = _raise_again


def received() -> int | None:
    """Return the signal that raised StoppedError last, also where other code turned that into another error."""
    return _received


def forget() -> None:
    """Say that the command ends normally after a signal."""
    global _received  # noqa: PLW0603 - a process has one set of signal handlers
    _received = None


def name(number: int) -> str:
    """Return ``Ctrl-C``, ``SIGTERM`` or ``SIGHUP``."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _replace(old: Any, new: Any) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is old:
            with suppress(ValueError):  # only the main thread can set handlers
                signal.signal(number, new)


def _exit(number: int, _frame: FrameType | None) -> None:
    with suppress(OSError):  # the terminal may be closed
        os.write(2, f"error: stopped by {name(number)}\n".encode())
    os._exit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> None:
    global _received, _raised_at
    now = time.monotonic()
    if now - _raised_at >= REPEAT_SECONDS:
        _received, _raised_at = number, now
        raise StoppedError(number)


def _raise_again(unraisable: Any) -> None:
    """Raise a stop again that came in a finalizer, where Python prints exceptions and goes on."""
    if isinstance(unraisable.exc_value, StoppedError):
        _thread.start_new_thread(_repeat, (unraisable.exc_value.number,))
    else:
        sys.__unraisablehook__(unraisable)


def _repeat(number: int) -> None:
    """Repeat a signal shortly after, when the main thread has left the finalizer."""
    global _raised_at  # noqa: PLW0603
    time.sleep(REPEAT_DELAY)
    _raised_at = -REPEAT_SECONDS
    _thread.interrupt_main(signal.Signals(number))
