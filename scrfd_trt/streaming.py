"""Keep some batches under way, and hand their results out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Protocol, TypeVar

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
    An error of ``items`` is raised after the results of all items before it. When the caller stops early, what is under
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
            pending.append(submit(group))
            while pending and (len(pending) >= in_flight or pending[0].done()):
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
        if failure is not None:
            raise failure
    finally:
        for each in pending:
            with suppress(Exception):
                each.result()


def _next(source: Iterator[Item], batch: int) -> tuple[list[Item], BaseException | None]:
    """Read a batch, and the error that cut it short."""
    group: list[Item] = []
    try:
        group.extend(islice(source, batch))
    except Exception as error:  # noqa: BLE001 - it is raised again, in its turn
        return group, error
    return group, None
