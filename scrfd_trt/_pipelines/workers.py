"""Threads that run submitted batches."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from scrfd_trt import _forks
from scrfd_trt._pipelines.streaming import THREADS
from scrfd_trt.errors import BackendError, ClosedError, one_line


class Workers:
    """Runs calls in up to ``count`` threads; calls that are dropped raise ClosedError, and not cancellation."""

    # asyncio takes a cancelled future for a cancelled task. A forked process starts threads of its own.

    def __init__(self, count: int) -> None:
        self._count = count
        self._executor: ThreadPoolExecutor | None = None
        self._lock = _forks.Lock()
        self._pending: set[Future[Any]] = set()
        self._closed = False
        _forks.register(self)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call a function in another thread; raise ClosedError after :meth:`close`, BackendError without a thread."""
        future: Future[Any] = Future()
        with self._lock:
            self._check_open()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._count, THREADS)
            self._pending.add(future)
            future.add_done_callback(self._pending.discard)
            try:
                self._executor.submit(self._run, [future], call, arguments)
            except RuntimeError as error:  # the limit of threads is reached, or Python exits
                future.cancel()  # the executor keeps the call
                raise BackendError(f"the run cannot be started in another thread: {one_line(error)}") from error
        return future

    @property
    def pending(self) -> int:
        """Calls that have not ended."""
        return len(self._pending)

    def close(self) -> None:
        """Wait for the running calls; those that have not started raise ClosedError."""
        with self._lock:
            self._closed = True
            executor = self._executor
        if executor is not None:
            with suppress(RuntimeError):  # a future's callback that closes runs in a worker, which cannot join itself
                executor.shutdown()

    def _after_fork(self) -> None:
        """Start threads anew, and let the futures of the parent raise ClosedError."""
        lost, self._pending, self._executor = self._pending, set(), None
        for future in lost:
            Future.__init__(future)  # its lock may be held, and its callbacks are the parent's
            future.set_exception(ClosedError("this run was submitted in the parent of this process; submit it again"))

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the detector was closed; open a new one")

    def _run(self, futures: list[Future[Any]], call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Run a call. Its future is taken out of a list, since the traceback of its error keeps all frames alive."""
        future = futures.pop()
        if not future.set_running_or_notify_cancel():
            return
        try:
            self._check_open()
            result = call(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised by the future
            future.set_exception(error)
            del future
        else:
            future.set_result(result)
