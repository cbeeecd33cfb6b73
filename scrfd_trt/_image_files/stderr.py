"""Catch what OpenCV's libraries write to stderr: libjpeg reports corrupt data in no other way.

The process has one stderr, so all threads share the file that takes its place. If several calls ran while something was
written that matters, each of them runs again while no other one does.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from scrfd_trt import _forks

Result = TypeVar("Result")

DATA_LOSS = re.compile(r"corrupt|premature|error", re.IGNORECASE)
"""Matches messages of libjpeg, libpng and libtiff about lost pixels; others are about colour profiles and tags."""
HARMLESS = re.compile(
    r"\b\d extraneous bytes before marker 0xd9|Bad value \d+ for \"Orientation\"|premature end of JPEG file",
    re.IGNORECASE,
)
"""Messages about data that every viewer ignores, or that the readers of the formats report."""


def data_loss(lines: list[str]) -> list[str]:
    """Return the messages that are about lost pixels."""
    return [line for line in lines if DATA_LOSS.search(line) and not HARMLESS.search(line)]


class _Redirection:
    """The file in the place of stderr; raises OSError in a process without stderr."""

    def __init__(self) -> None:
        if sys.stderr is not None:  # None in a program started with stderr closed
            sys.stderr.flush()
        self.stderr = os.dup(2)
        try:
            self._file = _memory_file()
        except BaseException:
            os.close(self.stderr)
            raise
        try:
            os.dup2(self._file.fileno(), 2)
        except BaseException:  # a signal, whose message must be seen
            self.close()
            raise

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def read(self, start: int) -> list[str]:
        """Return lines without OpenCV's prefixes and without harmless warnings."""
        if CAN_READ_ASIDE:
            data = os.pread(self._file.fileno(), self.size, start)
        else:  # this moves the position for writing meanwhile
            self._file.seek(start)
            data = self._file.read()
        return [*filter(None, map(_without_prefix, data.decode(errors="replace").splitlines()))]

    def close(self) -> None:
        os.dup2(self.stderr, 2)
        os.close(self.stderr)
        self._file.close()


CAN_READ_ASIDE = hasattr(os, "pread")


def _memory_file() -> Any:
    """Return a file without a name; on Linux it needs no folder that can be written to."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("scrfd-trt"), "w+b", 0)
    return tempfile.TemporaryFile(buffering=0)


def _without_prefix(line: str) -> str:
    """Remove ``[ WARN:0@1.2] global file.cpp:34 function``; return nothing for a harmless warning."""
    text = re.sub(r"^\[[^\]]*\] global \S+ \S+ ", "", line.strip())
    text = re.sub(r"^.*error: \([^)]*\) (.*?)( in function '.*)?$", r"error: \1", text)
    return "" if re.search(r"warning|iCCP|onnxruntime", text, re.IGNORECASE) else text


class _SharedStderr:
    def __init__(self) -> None:
        self._redirection: _Redirection | None = None
        self._after_fork()
        _forks.register(self)

    def _after_fork(self) -> None:
        if self._redirection is not None:
            self._redirection.close()
        self._redirection = None
        self._changed = threading.Condition()
        self._users = self._running = self._begun = self._waiting = 0
        self._is_alone = False

    @contextmanager
    def used(self) -> Iterator[_Redirection | None]:
        """Redirect stderr until the last of all such blocks ends; None in a process without stderr."""
        with self._changed:
            if not self._users:
                try:
                    self._redirection = _Redirection()
                except OSError:
                    self._redirection = None
            self._users += 1
            redirection = self._redirection
        try:
            yield redirection
        finally:
            with self._changed:
                if redirection is self._redirection:  # else it has been ended
                    self._users -= 1
                    if not self._users and redirection is not None:
                        self._redirection = None
                        redirection.close()

    def end(self) -> None:
        """End a redirection that a signal has left behind, unless calls are running."""
        with self._changed:
            if self._redirection is not None and not self._running:
                redirection, self._redirection, self._users = self._redirection, None, 0
                redirection.close()

    @contextmanager
    def call(self, *, alone: bool = False) -> Iterator[Callable[[], tuple[list[str], bool]]]:
        """Yield what was written since, and whether only this block can have caused it; ``alone`` waits for that."""
        with self._changed:
            self._waiting += alone
            try:
                self._changed.wait_for(lambda: not (self._running if alone else self._is_alone or self._waiting))
            finally:
                self._waiting -= alone
            self._is_alone, is_first = alone, not self._running
            self._running += 1
            self._begun += 1
            begun = self._begun
        try:
            with self.used() as redirection:
                start = 0 if redirection is None else redirection.size

                def written() -> tuple[list[str], bool]:
                    if redirection is None or redirection.size == start:
                        return [], True
                    is_only = is_first and begun == self._begun
                    return redirection.read(start) if is_only or CAN_READ_ASIDE else ["error"], is_only

                yield written
        finally:
            with self._changed:
                self._running -= 1
                self._is_alone = False
                self._changed.notify_all()


_STDERR = _SharedStderr()


def watched(call: Callable[[], Result | None]) -> tuple[Result | None, list[str]]:
    """Return the result of a call of OpenCV, and its messages if pixels are lost; run it again alone if unsure."""
    for alone in (False, True):
        with _STDERR.call(alone=alone) as written:
            result = call()
            lines, is_only = written()
        if result is not None and not data_loss(lines):
            return result, []
        if is_only:
            break
    return result, lines


@contextmanager
def dropped_stderr() -> Iterator[None]:
    """Drop what is written to stderr in the block."""
    with _STDERR.call():
        yield


@contextmanager
def redirected_stderr() -> Iterator[None]:
    """Let threads call OpenCV in the block while others print: what Python writes still goes to stderr."""
    stream = sys.stderr
    try:
        with _STDERR.used() as redirection:
            if redirection is None or not _is_stderr(stream):
                yield
                return
            with os.fdopen(os.dup(redirection.stderr), "w", 1, stream.encoding, stream.errors) as sys.stderr:
                yield
    finally:
        sys.stderr = stream
        _STDERR.end()


def _is_stderr(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 2)
    except (AttributeError, OSError, ValueError):  # None, closed, or in memory
        return False
