"""Stages of a job on threads of their own, with bounded queues between them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
_END = object()


@contextmanager
def prefetched(items: Iterable[Item], size: int = 4) -> Iterator[Iterator[Item]]:
    """Iterate over ``items`` on another thread, up to ``size`` ahead; raise their error in its turn.

    Only that thread uses ``items`` until the block is left.
    """
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
