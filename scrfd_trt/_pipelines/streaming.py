"""Keep some batches under way, and hand their results out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import islice
from typing import Protocol, TypeVar

from scrfd_trt.errors import ClosedError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pending(Protocol[Result]):
    """Results that are under way: a future of them, or a run on a GPU."""

    def done(self) -> bool:
        """Whether :meth:`result` would not wait."""
        ...

    def result(self) -> list[Result]:
        """Wait for the results, and return or raise what came out."""
        ...


def in_order(
    submit: Callable[[list[Item]], Pending[Result]], items: Iterable[Item], batch: int, in_flight: int
) -> Iterator[Result]:
    """Submit items in batches and yield their results in order.

    Parameters
    ----------
    submit
        Takes a batch and puts it on its way.
    items
        Are read no further ahead than ``in_flight`` batches.
    batch
        Items at a time; the last batch may be smaller.
    in_flight
        Most batches under way.

    Yields
    ------
    object
        One an item.

    Notes
    -----
    An error of ``items`` is raised after the results of all items before it, and one of ``submit`` after those of all
    batches before it. When the caller stops early, what is under
    way is waited for, so that nothing reads an item any more.
    """
    pending: deque[Pending[Result]] = deque()
    source = iter(items)
    failure: BaseException | None = None
    try:
        while failure is None:
            group, failure = _next(source, batch)
            if not group:
                break
            try:
                pending.append(submit(group))
            except Exception as error:  # noqa: BLE001 - it is raised in its turn
                failure = error
            while pending and (len(pending) >= in_flight or pending[0].done()):
                yield from _result(pending.popleft())
        while pending:
            yield from _result(pending.popleft())
        if failure is not None:
            raise failure
    finally:
        for each in pending:
            with suppress(Exception, CancelledError):
                each.result()


def _next(source: Iterator[Item], batch: int) -> tuple[list[Item], BaseException | None]:
    """Read a batch, and the error that cut it short."""
    group: list[Item] = []
    try:
        group.extend(islice(source, batch))
    except Exception as error:  # noqa: BLE001 - it is raised again, in its turn
        return group, error
    return group, None


def _result(pending: Pending[Result]) -> list[Result]:
    try:
        return pending.result()
    except CancelledError as error:
        raise ClosedError("the detector was closed while images were under way; open a new one") from error
