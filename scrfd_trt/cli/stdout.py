"""What goes to stdout: results, and nothing else."""

from __future__ import annotations

import errno
import os
import sys

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from scrfd_trt.errors import OutputError

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


def line(text: str, style: str = "") -> None:
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
