"""Calls in forked processes, where threads would spend their time on waiting for Python's lock."""

from __future__ import annotations

import gc
import multiprocessing
import queue
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import cv2

SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}


class LostProcessError(RuntimeError):
    """A process ended in the middle of a call."""


class ForkedCalls:
    """Calls of one function in several processes; a thread waits for a free one."""

    def __init__(self, free: queue.SimpleQueue[Connection]) -> None:
        self._free = free

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, whose arguments and result are pickled; raise LostProcessError if its process dies."""
        connection = self._free.get()
        try:
            connection.send(arguments)
            return connection.recv()
        except (EOFError, OSError) as error:
            raise LostProcessError from error
        finally:
            self._free.put(connection)


@contextmanager
def forked(function: Callable[..., Any], count: int) -> Iterator[ForkedCalls]:
    """Fork processes that call a function, with all that it uses as it is now; they end with the block.

    They must use no GPU, and end, too, if this process dies.
    """
    free: queue.SimpleQueue[Connection] = queue.SimpleQueue()
    ends: list[Connection] = []
    processes = []
    context = multiprocessing.get_context("fork")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until a child has its own handlers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of forks in a process with threads
            for _ in range(count):
                here, there = context.Pipe()
                ends.append(here)
                process = context.Process(target=_serve, args=(function, there, ends), daemon=True)
                process.start()
                there.close()
                free.put(here)
                processes.append(process)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield ForkedCalls(free)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for end in ends:
            end.close()
        for process in processes:
            process.join()


def _serve(function: Callable[..., Any], connection: Connection, others: Sequence[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    for number in SIGNALS - {signal.SIGINT}:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for other in others:  # so that the end of the parent is noticed
        other.close()
    gc.freeze()  # objects on a GPU are the parent's
    cv2.setNumThreads(0)  # its threads are the parent's
    with suppress(EOFError, OSError):
        while True:
            connection.send(function(*connection.recv()))
