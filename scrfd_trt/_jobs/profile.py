"""Measure how long each stage of a job works, for a profile; costs nothing unless it is started."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Literal, TypeVar

Stage = Literal["read", "decode", "detect", "track", "draw", "encode", "write"]
Item = TypeVar("Item")


class Profile:
    """Seconds that each stage worked, summed over all threads."""

    def __init__(self) -> None:
        self.seconds: defaultdict[Stage, float] = defaultdict(float)
        self._start = perf_counter()
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self._start

    def add(self, stage: Stage, seconds: float) -> None:
        with self._lock:
            self.seconds[stage] += seconds


_active: Profile | None = None
_inner = threading.local()  # ``seconds`` is the time of the blocks in the current one


@contextmanager
def profiled() -> Iterator[Profile]:
    """Measure all stages of this process until the block ends; blocks do not nest."""
    global _active  # noqa: PLW0603 - stages run in many threads, which inherit no context
    _active = Profile()
    try:
        yield _active
    finally:
        _active = None


def add_measured(seconds: Mapping[Stage, float]) -> None:
    """Add what another process measured."""
    for stage, more in seconds.items():
        if _active is not None:
            _active.add(stage, more)


def measured(stage: Stage | None) -> AbstractContextManager[None]:
    """Add the time of a block to a stage, without that of such blocks in it; None: to none, such as to wait."""
    return _NOTHING if _active is None else _measured(stage, _active)


_NOTHING = nullcontext()


@contextmanager
def _measured(stage: Stage | None, profile: Profile) -> Iterator[None]:
    outer, _inner.seconds = getattr(_inner, "seconds", 0.0), 0.0
    start = perf_counter()
    try:
        yield
    finally:
        elapsed = perf_counter() - start
        if stage is not None:
            profile.add(stage, elapsed - _inner.seconds)
        _inner.seconds = outer + elapsed


def measured_items(stage: Stage | None, items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, and add the time that each takes to arrive to a stage."""
    source = iter(items)
    while True:
        with measured(stage):
            try:
                item = next(source)
            except StopIteration:
                return
        yield item
