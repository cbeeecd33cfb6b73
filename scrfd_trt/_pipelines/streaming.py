"""Keep several batches in flight, in threads of their own, and yield their results in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from scrfd_trt import _forks
from scrfd_trt.errors import BackendError, ClosedError, ScrfdError, one_line, without_frames

THREADS = "scrfd_trt"  # how the names of threads begin that runs need
Item = TypeVar("Item")
Result = TypeVar("Result")


class Pending(Protocol[Result]):
    """Results in flight: a future, or a run on a GPU."""

    def done(self) -> bool:
        """Return whether :meth:`result` returns without waiting."""

    def result(self) -> list[Result]:
        """Wait, then return the results or raise the error."""


class Runs:
    """Runs of parts of one batch as one run. Each part is a run and the places of its images in the batch."""

    def __init__(self, parts: Iterable[tuple[Pending[Any], Sequence[int]]]) -> None:
        self.parts: list[tuple[Pending[Any], Sequence[int]]] = []
        with self._ended_on_error():
            self.parts.extend(parts)  # those before an error, too

    def done(self) -> bool:
        return all(run.done() for run, _ in self.parts)

    def cancel(self) -> None:
        for run, _ in self.parts:
            _cancel(run)

    def result(self) -> list[Any]:
        with self._ended_on_error():
            return in_place((run.result(), places) for run, places in self.parts)

    @contextmanager
    def _ended_on_error(self) -> Iterator[None]:
        """Let no run read its images after an error."""
        try:
            yield
        except BaseException:
            _end([run for run, _ in self.parts])
            raise


def in_place(parts: Iterable[tuple[Sequence[Result], Sequence[int]]]) -> list[Result]:
    """Return the results of all parts in the order of their places."""
    found = {place: result for results, places in parts for place, result in zip(places, results, strict=True)}
    return [found[place] for place in range(len(found))]


def _cancel(run: Any) -> None:
    """Cancel a run if it has not started; those on a GPU have."""
    getattr(run, "cancel", bool)()


def _end(runs: Collection[Pending[Any]]) -> None:
    """Cancel runs that have not started, and wait for the others."""
    for run in runs:
        _cancel(run)
    for run in runs:
        with suppress(Exception):
            run.result()


def _start_good(submit: Callable[[list[Item]], Pending[Any]], items: list[Item]) -> Runs:
    """Start a run of those items that are no errors; errors are their own results."""
    places: tuple[list[int], list[int]] = [], []
    for place, item in enumerate(items):
        places[isinstance(item, ScrfdError)].append(place)
    good, bad = ([items[place] for place in some] for some in places)
    known: Future[list[Any]] = Future()
    known.set_result(bad)
    return Runs(zip([known, submit(good)] if good else [known], reversed(places), strict=False))


def in_order(
    submit: Callable[[list[Item]], Pending[Result]],
    items: Iterable[Item],
    batch: int,
    in_flight: int,
    *,
    return_errors: bool = False,
    max_bytes: int | None = None,
) -> Iterator[Result]:
    """Submit items in batches of up to ``batch``, and yield one result per item, in order.

    At most ``in_flight`` batches are in flight, and items are read no further ahead. An error of ``items`` is raised
    after the results of all items before it, an error of ``submit`` after those of all batches before it. A result that
    is a ScrfdError is raised, or yielded with ``return_errors``; items that are errors are then their own results. If
    the caller stops early, batches in flight are waited for, so that nothing reads an item afterwards. ``max_bytes``
    ends a batch of arrays early.
    """
    start = partial(_start_good, submit) if return_errors else submit
    pending: deque[Pending[Result]] = deque()
    source = iter(items)
    failure: BaseException | None = None
    try:
        while failure is None:
            group, failure = _read(source, batch, max_bytes)
            if not group:
                break
            try:
                pending.append(start(group))
            except Exception as error:  # noqa: BLE001 - raised after the earlier results
                failure = error
            while pending and (len(pending) >= in_flight or pending[0].done()):
                yield from _results(pending.popleft(), return_errors=return_errors)
        while pending:
            yield from _results(pending.popleft(), return_errors=return_errors)
        if failure is not None:
            raise failure
    finally:
        if threading.current_thread().name.startswith(THREADS):
            # The garbage collector drops this stream. It must not wait in a thread that the runs need.
            threading.Thread(target=_end, args=(pending,)).start()
        else:
            _end(pending)


def _results(run: Pending[Any], *, return_errors: bool) -> Iterator[Any]:
    for result in run.result():
        if not isinstance(result, ScrfdError):
            yield result
        elif return_errors:
            yield without_frames(result)
        else:
            try:
                raise result
            finally:  # its traceback keeps this frame alive
                del result


def _read(source: Iterator[Item], batch: int, max_bytes: int | None) -> tuple[list[Item], BaseException | None]:
    """Read a batch; return it with the error that cut it short."""
    group: list[Item] = []
    size = 0
    try:
        for item in islice(source, batch):
            group.append(item)
            size += getattr(item, "nbytes", 0)
            if max_bytes is not None and size >= max_bytes:
                break
    except Exception as error:  # noqa: BLE001 - raised after the earlier results
        return group, error
    return group, None


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
