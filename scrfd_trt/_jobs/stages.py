"""Stages of a job on threads of their own, with bounded queues between them."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_END = object()
JOB = "scrfd-trt-job"


@contextmanager
def prefetched(items: Iterable[Item], size: int = 4) -> Iterator[Iterator[Item]]:
    """Iterate over ``items`` on another thread, up to ``size`` ahead; raise their error in its turn."""
    prefetcher = _Prefetcher(items, size)
    try:
        prefetcher.thread.start()
        yield iter(prefetcher)
    finally:
        prefetcher.close()


class _Prefetcher(Generic[Item]):
    def __init__(self, items: Iterable[Item], size: int) -> None:
        self._items = items
        self._queue: queue.Queue[object] = queue.Queue(size)
        self._stop, self._done = threading.Event(), threading.Event()
        self._has_begun = False
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="scrfd-trt-video", daemon=True)

    def _run(self) -> None:
        with self._lock:
            if self._stop.is_set():
                return
            self._has_begun = True
        try:
            self._read()
        finally:
            self._done.set()

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - raised where the items are consumed
            self._error = error
        self._put(_END)

    def _put(self, item: object) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[Item]:
        while (item := self._queue.get()) is not _END:
            yield item  # type: ignore[misc]
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        # An interrupt in start() may leave no thread to wait for; one that begins later does nothing.
        with self._lock:
            self._stop.set()
        if self._has_begun:
            self._wait()

    def _wait(self) -> None:
        try:
            self._done.wait()
        except KeyboardInterrupt:  # wait all the same: the caller closes what the thread reads
            self._wait()
            raise


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of up to ``size`` items; those before an error come first."""
    group: list[Item] = []
    try:
        for item in items:
            group.append(item)
            if len(group) == size:
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


class ByteBudget:
    """Bytes that items in flight may take together, granted in the order of their turns, which count from 0."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = self._turn = 0
        self._is_short = self._is_closed = False
        self._changed = threading.Condition()

    def take(self, turn: int, size: int) -> None:
        """Wait for the turn, which each must take, and until the bytes are free; CancelledError after ``close()``."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._turn >= turn)
            if self._turn > turn:
                return
            while not self._is_closed and self._used and self._used + size > self._limit:
                self._is_short = True
                self._changed.notify_all()
                self._changed.wait()
            if self._is_closed:
                raise CancelledError
            self._is_short = False
            self._used += size
            self._turn += 1
            self._changed.notify_all()

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._used -= size
            self._is_short = False  # whoever waits finds it out again
            self._changed.notify_all()

    def wait(self, turn: int, future: Future[Any]) -> bool:
        """Wait until a future is done; return False if its turn waits for bytes instead."""
        future.add_done_callback(lambda _: self.give(0))
        with self._changed:
            self._changed.wait_for(lambda: future.done() or (self._is_short and self._turn == turn))
        return future.done()

    def close(self) -> None:
        """Let all that wait raise CancelledError."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class OrderedMap(Iterator[Result], Generic[Item, Result]):
    """The results of calls for items in several threads, in the order of the items."""

    def __init__(
        self, function: Callable[[Item], Result], items: Iterable[Item], executor: ThreadPoolExecutor, ahead: int
    ) -> None:
        self._function, self._items, self._executor, self._ahead = function, iter(items), executor, ahead
        self._futures: deque[Future[Result]] = deque()
        self._is_read = False
        self._failure: Exception | None = None

    def head(self) -> Future[Result] | None:
        """Start one more call, and others while the next result is not there; return its future, or None at the end."""
        while not self._is_read and len(self._futures) < self._ahead:
            try:
                item = next(self._items)
            except Exception as error:  # noqa: BLE001 - raised after the results of the items before
                self._is_read, self._failure = True, None if isinstance(error, StopIteration) else error
                break
            self._futures.append(self._executor.submit(copy_context().run, self._function, item))
            if self._futures[0].done():
                break
        return self._futures[0] if self._futures else None

    def __next__(self) -> Result:
        if self.head() is not None:
            return self._futures.popleft().result()
        failure, self._failure = self._failure or StopIteration(), None
        try:
            raise failure
        finally:  # its traceback keeps this frame alive, and those of the callers with their items
            del failure


@contextmanager
def mapped(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Iterator[OrderedMap[Item, Result]]:
    """Call a function for items in threads, up to ``ahead`` of the results, which come in order; end the calls."""
    executor = ThreadPoolExecutor(workers, JOB)
    try:
        yield OrderedMap(function, items, executor, ahead)
    finally:  # the garbage collector may end the block in one of these threads
        executor.shutdown(not threading.current_thread().name.startswith(JOB), cancel_futures=True)
