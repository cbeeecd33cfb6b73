"""How the program is stopped from outside: Ctrl-C, and the signals that ask a program to end, take one way out."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType

ASKED: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Sent by ``kill`` and by a terminal that is closed; Windows has no SIGHUP."""
CODES = tuple(128 + number for number in (signal.SIGINT, *ASKED))
"""What shells say of programs that these signals ended."""


class StoppedError(KeyboardInterrupt):
    """A signal asks the program to end; what Ctrl-C cleans up is cleaned up then, too.

    Parameters
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def heed_signals() -> None:
    """Raise :class:`StoppedError` when a signal asks the program to end; one that nohup ignores stays ignored."""
    stop = _Once()
    for number in ASKED:
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not the main thread, which alone may say so
                signal.signal(number, stop)


def code(stop: KeyboardInterrupt) -> int:
    """Return what a shell says of a program that the signal ended: 128 and its number."""
    return 128 + (stop.number if isinstance(stop, StoppedError) else int(signal.SIGINT))


def words(stop: KeyboardInterrupt) -> str:
    """Say in one line what stopped the program, and where as far as :func:`place` told."""
    by = signal.Signals(stop.number).name if isinstance(stop, StoppedError) else "Ctrl-C"
    subject, where = stop.args if len(stop.args) == 2 else ("", "")
    before, behind = f"{subject}: " if subject else "", f" {where}" if where else ""
    return f"{before}stopped by {by}{behind}; files that were not finished were not kept"


def place(stop: KeyboardInterrupt, subject: object, where: str) -> None:
    """Note what was being worked on.

    Parameters
    ----------
    stop
        Is on its way out.
    subject
        A file.
    where
        In it, in words that follow on "stopped by Ctrl-C".
    """
    stop.args = (str(subject), where)


class _Once:
    """Raises at the first signal; others, which a closing terminal sends along, would break the cleaning up."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self._asked:
            self._asked = True
            raise StoppedError(number)
