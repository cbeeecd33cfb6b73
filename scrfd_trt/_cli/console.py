"""Messages on stderr, results on stdout."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, NoReturn, TypeVar, get_args

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from scrfd_trt._jobs.profile import Profile, Stage, profiled
from scrfd_trt.errors import OutputError

T = TypeVar("T")
STDERR = Console(stderr=True, soft_wrap=True, highlight=False)
"""The only console on stderr, so that messages appear above a progress bar instead of in it."""

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
LEVELS = {"note": "info"}  # levels of JSON messages by kinds, where they differ
MIN_WIDTH, MAX_WIDTH = 80, 1000  # columns of tables; those of single lines may be wider than the terminal
BROKEN_PIPE = 141  # exit code that shells report for a program ended by SIGPIPE: 128 + 13
STDERR_NUMBER = 2

_subject: ContextVar[str] = ContextVar("subject", default="")
_muted: ContextVar[bool] = ContextVar("muted", default=False)
_relay: Callable[[str, str], object] | None = None
as_json = False  # whether messages are JSON objects, with their fields and without progress bars


def shows_bars() -> bool:
    """Return whether progress bars can be shown."""
    return STDERR.is_terminal and not as_json


def error(text: object) -> None:
    """Print ``error: …`` on one line."""
    message("error", text)


def warning(text: object) -> None:
    """Print ``warning: …`` on one line, after the subject of :func:`about`."""
    message("warning", _with_subject(text))


def note(text: object) -> None:
    """Print ``note: …`` on one line."""
    message("note", text)


def listing(kind: str, heading: str, items: Iterable[object]) -> None:
    """Print ``error: HEADING:`` or the same of another kind, and each item on a line of its own."""
    if as_json:
        _print_json(kind, heading, items=[str(item) for item in items])
        return
    message(kind, f"{heading}:")
    for item in items:
        plain(f"- {item}".replace("- -: ", "- standard input: ", 1))


def plain(text: object) -> None:
    """Print one line on stderr without a label."""
    stderr_line(printable(text))


def stderr_line(text: str) -> None:
    """Print one line on stderr unchanged, leading spaces included."""
    if as_json:
        _print_json("note", text)
    else:
        STDERR.print(Text(text))


def block(lines: Iterable[str]) -> None:
    """Print lines on stderr; in JSON, those after a line with a colon that begin with spaces are its ``items``."""
    groups: list[list[str]] = []
    for line in lines:
        if as_json and groups and line.startswith("  "):
            groups[-1].append(" ".join(line.split()))
        else:
            groups.append([line])
    for line, *items in groups:
        _print_json("note", line.rstrip(":"), items=items) if items else stderr_line(line)


def progress_line(progress: str, **fields: Any) -> None:
    """Print progress or a summary as a JSON object on stderr."""
    if as_json:
        _print_json("note", progress, progress=progress, **fields)
    else:
        stderr_line(json.dumps({"progress": progress, **fields}))


def _print_json(kind: str, text: str, **fields: Any) -> None:
    """Print a message as one JSON object: time, level, text and fields."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    found = {"time": now, "level": LEVELS.get(kind, kind), "message": text.strip(), **fields}
    STDERR.print(Text(json.dumps(found, default=str)))


def printable(text: object) -> str:
    """Return a text on one line, with control and unprintable characters escaped."""
    joined = " ".join(str(text).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)


def count(number: int, noun: str) -> str:
    """Return ``1 face`` or ``2 faces``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def about(subject: object) -> AbstractContextManager[None]:
    """Put a subject, such as an image's path, before all warnings in the block."""
    return _set(_subject, str(subject))


def muted() -> AbstractContextManager[None]:
    """Drop warnings of the library in the block, because they were printed before."""
    return _set(_muted, True)


@contextmanager
def _set(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@contextmanager
def logged(*, quiet: bool = False, verbose: bool = False, profile: bool = False) -> Iterator[None]:
    """Print the library's log on stderr in the block: warnings, errors only or all; then the times of stages."""
    logger = logging.getLogger("scrfd_trt")
    level, propagate = logger.level, logger.propagate
    handler = _LogLines()
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    logger.propagate = False
    try:
        with _profiled() if profile else nullcontext():
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def _profiled() -> Iterator[None]:
    with profiled() as profile:
        try:
            yield
        finally:
            if profile.seconds:  # a usage error is raised before any work
                _print_profile(profile)


def _print_profile(profile: Profile) -> None:
    elapsed = profile.elapsed
    if as_json:
        progress_line("profile", seconds={**profile.seconds, "the run": elapsed})
        return
    rows = table("stage", ">seconds", ">of the run")
    for stage in get_args(Stage):
        if seconds := profile.seconds.get(stage):
            rows.add_row(stage, f"{seconds:.2f}", f"{seconds / elapsed:.0%}")
    rows.add_row("the run", f"{elapsed:.2f}", "", style="bold")
    STDERR.print(rows)
    plain("Stages overlap and may use several threads; the run waits for those near or above 100%.")


def is_quiet() -> bool:
    """Return whether :func:`logged` prints errors only."""
    return logging.getLogger("scrfd_trt").getEffectiveLevel() >= logging.ERROR


def is_verbose() -> bool:
    """Return whether :func:`logged` prints all messages."""
    return logging.getLogger("scrfd_trt").getEffectiveLevel() <= logging.INFO


class _LogLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if _muted.get() and record.levelno < logging.ERROR:
            return
        kind = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        message(kind if kind in STYLES else "error", _with_subject(record.getMessage()))


def _with_subject(text: object) -> str:
    subject = _subject.get()
    return f"{subject}: {text}" if subject and not str(text).startswith(f"{subject}: ") else str(text)


@contextmanager
def relayed(send: Callable[[str, str], object]) -> Iterator[None]:
    """Pass the kind and text of messages on in the block, instead of printing them."""
    global _relay  # noqa: PLW0603 - messages come from many threads, which inherit no context
    before, _relay = _relay, send
    try:
        yield
    finally:
        _relay = before


def message(kind: str, text: object) -> None:
    """Print a message of a kind, ``error`` for example, on one line."""
    if _relay is not None:
        _relay(kind, str(text))
        return
    if as_json:
        subject = _subject.get()
        _print_json(kind, str(text), **({"input": subject} if subject else {}))
        return
    STDERR.print(Text.assemble((f"{kind}:", STYLES[kind]), " ", printable(text)))


def write(text: str) -> None:
    """Write results to stdout and flush them; raise OutputError if that fails, and Exit if a pipe is closed."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise_stdout_error(error)


def raise_stdout_error(error: OSError) -> NoReturn:
    """Raise OutputError for an error of stdout, or Exit for a closed pipe."""
    _discard_buffered()
    if isinstance(sys.stdout, _ClosedStdout):
        raise OutputError(
            "standard output is closed, and results go there; leave it open or redirect it to a file"
        ) from error
    # Windows reports EINVAL for a broken pipe.
    if error.errno in {errno.EPIPE, errno.EINVAL}:
        raise typer.Exit(BROKEN_PIPE) from error
    raise OutputError(f"cannot write to standard output: {error.strerror}; the results are incomplete") from error


def flush_stdout() -> bool:
    """Write what is left in the buffer of stdout; after an error, print it and return False."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        try:
            raise_stdout_error(problem)
        except OutputError as refused:
            error(refused)
        except typer.Exit:
            pass
        return False
    return True


def show(renderable: RenderableType) -> None:
    """Write a rich table or text to stdout, in colours on a terminal."""
    write(render(renderable))


def print_line(text: str, style: str = "") -> None:
    """Write one line to stdout without wrapping, for paths and commands that people copy."""
    write(render(Text(text, style=style), wrap=False))


def write_json(value: object, indent: int | None = 2) -> None:
    """Write a value to stdout as JSON, on one line without ``indent``."""
    write(json.dumps(value, indent=indent, default=str) + "\n")


def table(*columns: str, **settings: Any) -> Table:
    """Return an empty table in the style of all results; columns do not wrap, and ``>`` aligns one to the right."""
    made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, **settings)
    for name in columns:
        made.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    return made


def render(renderable: RenderableType, *, plain: bool = False, wrap: bool = True) -> str:
    """Return a rich table or text as lines; ``plain`` means no colours, for files."""
    console = Console(highlight=False, no_color=plain or None, force_terminal=False if plain else None)
    # Wrapped numbers remain readable; cut ones do not.
    console.width = max(console.width, MIN_WIDTH, _needed_width(console, renderable))
    with console.capture() as captured:
        console.print(renderable, soft_wrap=not wrap)
    return "\n".join(line.rstrip() for line in captured.get().split("\n"))


def _needed_width(console: Console, renderable: RenderableType) -> int:
    """Return the width below which cells of a table of single lines are cut."""
    if not isinstance(renderable, Table) or not all(column.no_wrap for column in renderable.columns):
        return 0
    return Measurement.get(console, console.options.update(max_width=MAX_WIDTH), renderable).minimum


class _ClosedStdout(io.TextIOBase):
    """Standard output of a program that was started with it closed: writing is an error."""

    def write(self, text: str, /) -> int:
        if text:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return 0


def open_closed_streams() -> None:
    """Connect closed standard streams to the null device: the next file would get stderr's number, and messages."""
    if sys.stdout is None:  # Python's sign of a closed stream
        sys.stdout = _ClosedStdout()
    # The system assigns the lowest free number.
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR_NUMBER:
        pass
    os.close(number)


def escape_unencodable() -> None:
    """Print characters that stdout or stderr cannot encode as escapes instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _discard_buffered() -> None:
    """Redirect stdout to the null device, because Python writes its buffer again at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):  # stdout is closed or not a file
        return
