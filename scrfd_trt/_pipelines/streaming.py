"""Keep several batches in flight, and yield their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pending(Protocol[Result]):
    """Results in flight: a future, or a run on a GPU."""

    def done(self) -> bool:
        """Return whether :meth:`result` returns without waiting."""

    def result(self) -> list[Result]:
        """Wait, then return the results or raise the error."""


def in_order(
    submit: Callable[[list[Item]], Pending[Result]], items: Iterable[Item], batch: int, in_flight: int
) -> Iterator[Result]:
    """Submit items in batches of up to ``batch``, and yield one result per item, in order.

    At most ``in_flight`` batches are in flight, and items are read no further ahead. An error of ``items`` is raised
    after the results of all items before it, an error of ``submit`` after those of all batches before it. If the caller
    stops early, batches in flight are waited for, so that nothing reads an item afterwards.
    """
    pending: deque[Pending[Result]] = deque()
    source = iter(items)
    failure: BaseException | None = None
    try:
        while failure is None:
            group, failure = _read(source, batch)
            if not group:
                break
            try:
                pending.append(submit(group))
            except Exception as error:  # noqa: BLE001 - raised after the earlier results
                failure = error
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


def _read(source: Iterator[Item], batch: int) -> tuple[list[Item], BaseException | None]:
    """Read a batch; return it with the error that cut it short."""
    group: list[Item] = []
    try:
        group.extend(islice(source, batch))
    except Exception as error:  # noqa: BLE001 - raised after the earlier results
        return group, error
    return group, None
