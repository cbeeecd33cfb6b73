"""What goes to stderr: errors, warnings, notes, progress bars and the library's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.text import Text

STDERR = Console(stderr=True, soft_wrap=True, highlight=False)
"""One console for all of stderr, so that messages stand above a progress bar and not in it."""

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}

_subject: ContextVar[str] = ContextVar("subject", default="")
_hushed: ContextVar[bool] = ContextVar("hushed", default=False)


def error(text: object) -> None:
    """Write ``error: …``, one line."""
    _write("error", text)


def warning(text: object) -> None:
    """Write ``warning: …``, one line; what :func:`about` names comes first."""
    _write("warning", _with_subject(text))


def note(text: object) -> None:
    """Write ``note: …``, one line."""
    _write("note", text)


def plain(text: object) -> None:
    """Write one line without a word before it."""
    STDERR.print(Text(printable(text)))


def line(text: str) -> None:
    """Write one line as it is, with the spaces at its beginning; for programs, and for columns."""
    STDERR.print(Text(text))


def printable(text: object) -> str:
    """Put a text on one line, with all that a terminal would act on, or that has no encoding, as escapes."""
    joined = " ".join(str(text).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)


@contextmanager
def about(subject: object) -> Iterator[None]:
    """Name what warnings are about while the block runs, an image say."""
    token = _subject.set(str(subject))
    try:
        yield
    finally:
        _subject.reset(token)


@contextmanager
def hushed() -> Iterator[None]:
    """Leave out warnings while the block runs, since all of them were given before."""
    token = _hushed.set(True)
    try:
        yield
    finally:
        _hushed.reset(token)


@contextmanager
def logged(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Show the library's log on stderr while the block runs.

    Parameters
    ----------
    quiet
        Errors only.
    verbose
        What the library chose, too.
    """
    logger = logging.getLogger("scrfd_trt")
    before = logger.level, logger.propagate
    handler = _LogLines()
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def is_quiet() -> bool:
    """Whether :func:`logged` shows errors only."""
    return logging.getLogger("scrfd_trt").getEffectiveLevel() >= logging.ERROR


class _LogLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if _hushed.get() and record.levelno < logging.ERROR:
            return
        kind = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        _write(kind if kind in STYLES else "error", _with_subject(record.getMessage()))


def _with_subject(text: object) -> str:
    subject = _subject.get()
    return f"{subject}: {text}" if subject else str(text)


def _write(kind: str, text: object) -> None:
    STDERR.print(Text.assemble((f"{kind}:", STYLES[kind]), " ", printable(text)))
