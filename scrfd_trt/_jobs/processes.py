"""Calls in other processes, where threads would spend their time on waiting for Python's lock."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import queue
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import cv2

Target = Callable[[Connection], None]
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, KEPT_BYTES = -1, -3, 1 << 25  # of malloc.h; more is refused
SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}


class LostProcessError(RuntimeError):
    """A process ended; the text says how. ``in_call`` is whether it had begun with the call."""

    def __init__(self, code: int | None, *, in_call: bool) -> None:
        super().__init__(signal.Signals(-code).name if code is not None and code < 0 else f"code {code}")
        self.in_call = in_call


class Report(NamedTuple):
    """What a call says before its answer."""

    kind: str
    values: tuple[Any, ...]


class _Process:
    """A process that serves one end of a pipe; ``number`` counts from 0."""

    def __init__(self, context: Any, target: Target, number: int) -> None:
        self._context, self._target, self.number = context, target, number
        self.connection: Connection | None = None
        self._process: Any = None
        self._is_replaced = context.get_start_method() == "spawn"
        self.is_lost = False
        """Whether it ended, and is not replaced."""

    def start(self) -> None:
        self.connection, there = self._context.Pipe()
        self._process = self._context.Process(target=self._target, args=(there,), daemon=True)
        try:
            with there, blocked_signals():  # until a child has its own handlers
                self._process.start()
        except OSError:
            self.hang_up()
            self.connection = None
            raise

    def call(self, *arguments: Any, report: Callable[[Report], None] | None = None) -> Any:
        """Call the function, whose arguments and result are pickled; raise LostProcessError if the process dies."""
        if self._is_replaced and not self._process.is_alive():
            self.close()
            self.start()
        assert self.connection is not None  # noqa: S101
        has_begun = False
        try:
            self.connection.send(arguments)
            self.connection.recv()  # a process that has just died accepts a call, but does not confirm it
            has_begun = True
            while isinstance(answer := self.connection.recv(), Report):
                if report is not None:
                    report(answer)
        except (EOFError, OSError) as error:
            self._process.join()  # to know its exit code
            self.is_lost = not self._is_replaced
            raise LostProcessError(self._process.exitcode, in_call=has_begun) from error
        return answer

    def hang_up(self) -> None:
        """Let the process end, which notices at its next message."""
        if self.connection is not None:
            self.connection.close()

    def close(self) -> None:
        """Wait for the end of the process."""
        self.hang_up()
        if self.connection is not None:
            self._process.join()
        self.connection = None


class Calls:
    """Calls in several processes; a thread waits for a free one."""

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._processes: list[_Process] = []

    @property
    def left(self) -> int:
        """Number of processes that can be called."""
        return sum(not process.is_lost for process in self._processes)

    def add(self, context: Any, target: Target) -> None:
        """Start a process."""
        process = _Process(context, target, len(self._processes))
        self._processes.append(process)
        process.start()
        self._free.put(process)

    @contextmanager
    def process(self) -> Iterator[_Process | None]:
        """Wait for a free process; yield None if none is left."""
        process = self._free.get()
        try:
            yield None if process.is_lost else process
        finally:
            if not process.is_lost or not self.left:
                self._free.put(process)  # a lost one is found by all others that wait

    def hang_up(self) -> None:
        """Close this end of all pipes, also in a fork, so that the end of the parent is noticed."""
        for process in self._processes:
            process.hang_up()

    def close(self) -> None:
        """Let the processes end at the same time, and wait for them."""
        self.hang_up()
        for process in self._processes:
            process.close()


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Block signals within the block, as a process that starts in it does until it has its own handlers."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def unblock_signals() -> None:
    """Receive signals in a new process, which has its own handlers now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def serve(connection: Connection, function: Callable[..., Any]) -> None:
    """Answer calls until the other process closes its end, or dies."""
    with suppress(EOFError, OSError):
        while True:
            arguments = connection.recv()
            connection.send(None)  # it has begun
            connection.send(function(*arguments))


@contextmanager
def spawned(targets: Sequence[Target]) -> Iterator[Calls]:
    """Start new Python processes, whose targets are pickled and :func:`serve`; those that die are replaced."""
    with closing(Calls()) as calls:
        for target in targets:
            calls.add(multiprocessing.get_context("spawn"), target)
        yield calls


@contextmanager
def forked(function: Callable[..., Any], count: int) -> Iterator[Calls]:
    """Fork processes that call a function with what it uses, but no GPU; they end with the block, or with this one."""
    with closing(Calls()) as calls:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of forks in a process with threads
            for _ in range(count):
                calls.add(multiprocessing.get_context("fork"), partial(_serve_forked, function, calls))
        yield calls


def _serve_forked(function: Callable[..., Any], calls: Calls, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    for number in SIGNALS - {signal.SIGINT}:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, signal.SIG_DFL)
    unblock_signals()
    calls.hang_up()
    gc.freeze()  # objects on a GPU are the parent's
    cv2.setNumThreads(0)  # its threads are the parent's
    _keep_freed_memory()
    serve(connection, function)


def _keep_freed_memory() -> None:
    """Let the C library reuse what large arrays leave: on the first thread, each new one costs as much as decoding."""
    if set_option := getattr(ctypes.pythonapi, "mallopt", None):
        for name, size in ((M_MMAP_THRESHOLD, KEPT_BYTES), (M_TRIM_THRESHOLD, 8 * KEPT_BYTES)):
            set_option(name, size)
