"""Ordered calls in several threads, and the bytes that their items may take."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress

import pytest

from scrfd_trt._jobs.stages import ByteBudget, mapped


def test_results_come_in_order_whatever_takes_longest() -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (7 - number % 8))
        return number * number

    with mapped(work, range(40), workers=5, ahead=9) as results:
        assert list(results) == [number * number for number in range(40)]


def test_items_are_taken_only_so_far_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    with mapped(lambda number: number, items(), workers=2, ahead=6) as results:
        for number in results:
            assert len(taken) <= number + 7
    assert len(taken) == 50


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise LookupError

    def work(number: int) -> int:
        time.sleep(0.02 if number < 2 else 0.0)
        return 1 // (number - 7)

    with mapped(work, items(), workers=3, ahead=8) as results:
        assert [next(results) for _ in range(3)] == [-1, -1, -1]
        with pytest.raises(LookupError):
            next(results)
    with mapped(work, range(6, 9), workers=3, ahead=8) as results:
        assert next(results) == -1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert next(results) == 1


def test_what_a_caller_held_is_freed_without_the_garbage_collector() -> None:
    class Batch:
        pass

    def use(items: Iterable[int]) -> weakref.ref[Batch]:
        batch = Batch()
        with mapped(str, items, workers=1, ahead=2) as results, suppress(ZeroDivisionError):
            assert list(results) == ["1", "2", "3"]
        return weakref.ref(batch)

    gc.disable()
    try:
        assert use([1, 2, 3])() is None
        assert use(1 // number for number in (1, 0))() is None
    finally:
        gc.enable()


def test_no_call_begins_after_the_block() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.02)

    with mapped(work, range(99), workers=2, ahead=50) as results:
        next(results)
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scrfd-trt-job")]


def test_bytes_are_granted_in_order_and_within_the_limit() -> None:
    budget, alive, most = ByteBudget(100), 0, 0
    granted: list[int] = []
    sizes = [30, 60, 30, 250, 10, 10, 90, 5]

    def take(turn: int) -> int:
        nonlocal alive, most
        time.sleep(0.001 * (turn % 3))
        budget.take(turn, sizes[turn])
        budget.take(turn, 0)
        granted.append(turn)
        alive += sizes[turn]
        most = max(most, alive if sizes[turn] != 250 else alive - 150)
        return turn

    with mapped(take, range(8), workers=8, ahead=8) as results:
        for turn in results:
            alive -= sizes[turn]
            budget.give(sizes[turn])
    assert granted == [*range(8)]
    assert most <= 100


def test_who_waits_for_bytes_learns_it() -> None:
    budget = ByteBudget(10)
    budget.take(0, 8)
    with ThreadPoolExecutor(2) as threads:
        second = threads.submit(budget.take, 1, 1)
        assert budget.wait(1, second)
        third = threads.submit(budget.take, 2, 5)
        assert not budget.wait(2, third)
        budget.give(8)
        assert budget.wait(2, third)
        fourth = threads.submit(budget.take, 3, 9)
        assert not budget.wait(3, fourth)
        budget.close()
        with pytest.raises(CancelledError):
            fourth.result()
