"""What goes to stdout: results, and nothing else."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from scrfd_trt.errors import OutputError

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


def stderr_line(text: str) -> None:
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


BROKEN_PIPE = 141
"""What a shell says of a program that SIGPIPE ended: 128 + 13."""

LAST_STANDARD = 2
"""Number of stderr."""

LEAST_WIDTH = 80
"""Columns that tables are made for."""


def write(text: str) -> None:
    """Write results and flush them, so that nothing of them is lost later.

    Raises
    ------
    OutputError
        If stdout cannot be written to, a full disk say, or is closed.
    typer.Exit
        If its reader has gone, as ``head -1`` does.
    """
    if sys.stdout is None:  # as Python starts with stdout closed
        raise OutputError("standard output is closed, and results go there; leave it open, or send it into a file")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _drop_the_rest()
        # Windows gives EINVAL where the reader has gone.
        if error.errno in {errno.EPIPE, errno.EINVAL}:
            raise typer.Exit(BROKEN_PIPE) from error
        raise OutputError(f"cannot write to standard output: {error.strerror}; nothing more was written") from error


def show(what: RenderableType) -> None:
    """Write a table or a text of rich, in colours where stdout is a terminal."""
    write(render(what))


def print_line(text: str, style: str = "") -> None:
    """Write one line that is not wrapped, since it holds a path or a command that people copy."""
    write(render(Text(text, style=style), wrap=False))


def render(what: RenderableType, *, plain: bool = False, wrap: bool = True) -> str:
    """Turn a table or a text of rich into lines.

    Parameters
    ----------
    what
        Anything that rich prints.
    plain
        For a file: no colours, whatever stdout is.
    wrap
        Break lines that are longer than the terminal is wide.
    """
    console = Console(highlight=False, no_color=plain or None, force_terminal=False if plain else None)
    # Numbers that a narrow terminal breaks into two lines can be read; numbers that are cut cannot.
    console.width = max(console.width, LEAST_WIDTH)
    with console.capture() as captured:
        console.print(what, soft_wrap=not wrap)
    return "\n".join(line.rstrip() for line in captured.get().split("\n"))


def is_terminal() -> bool:
    """Tell whether a person sees what goes to stdout."""
    return sys.stdout is not None and sys.stdout.isatty()


def fill_closed() -> None:
    """Put nothing where stdin, stdout or stderr is closed: the next file to be opened would get its number.

    What FFmpeg or OpenCV write to stderr would then go into that file.
    """
    # The lowest number that is free is given out first.
    while (number := os.open(os.devnull, os.O_RDWR)) <= LAST_STANDARD:
        pass
    os.close(number)


def survive_any_text() -> None:
    """Keep a file name that stdout's or stderr's encoding has no letters for from ending the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _drop_the_rest() -> None:
    """Let what is still buffered go nowhere, for Python would try to write it again at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # stdout is closed, or no file at all
        return
