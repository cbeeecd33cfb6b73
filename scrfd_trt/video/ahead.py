"""Let an iterator run ahead on a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")

_END = object()


class _Ahead(Generic[Item]):
    def __init__(self, items: Iterable[Item], size: int) -> None:
        self._items = items
        self._queue: queue.Queue[object] = queue.Queue(size)
        self._stop, self._over = threading.Event(), threading.Event()
        self._began = False
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="scrfd-trt-video", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        with self._lock:
            if self._stop.is_set():
                return
            self._began = True
        try:
            self._read()
        finally:
            self._over.set()

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
            self._failure = error
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
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        # Where start() was interrupted, there may be no thread to join yet; one that begins later does nothing.
        with self._lock:
            self._stop.set()
        if self._began:
            self._wait()

    def _wait(self) -> None:
        try:
            self._over.wait()
        except KeyboardInterrupt:  # once more: what it reads must not be closed under it
            self._wait()
            raise


@contextmanager
def ahead(items: Iterable[Item], size: int = 4) -> Iterator[Iterator[Item]]:
    """Read items on a thread of its own while the block works on those before them.

    Parameters
    ----------
    items
        Are used by that thread alone until the block is left.
    size
        Most items that wait.

    Yields
    ------
    iterator
        The items in order; an error of theirs is raised in its turn.
    """
    running = _Ahead(items, size)
    try:
        running.start()
        yield iter(running)
    finally:
        running.close()
