"""Iteration on another thread, ahead of the consumer."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from scrfd_trt._jobs.stages import prefetched


def test_order_is_kept() -> None:
    with prefetched(range(100), 3) as items:
        assert list(items) == list(range(100))


def test_error_is_raised_in_its_turn() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise RuntimeError("over")

    seen = []
    with prefetched(broken()) as items, pytest.raises(RuntimeError, match="over"):
        seen.extend(iter(items))
    threads = [thread.name for thread in threading.enumerate()]
    assert "scrfd-trt-video" not in threads


def test_thread_ends_with_block_and_reads_only_a_few_items_ahead() -> None:
    read = []

    def endless() -> Iterator[int]:
        for number in range(10**9):
            read.append(number)
            yield number

    with prefetched(endless(), 4) as items:
        assert next(items) == 0
    assert len(read) < 10
    assert "scrfd-trt-video" not in [thread.name for thread in threading.enumerate()]


def test_nothing_is_read_after_interrupted_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt may come while the thread starts; the thread must not use items that are closed by then."""
    start, let_go, read = threading.Thread.start, threading.Event(), []

    def late(thread: threading.Thread) -> None:
        run = thread.run
        monkeypatch.setattr(thread, "run", lambda: (let_go.wait(20), run()))
        start(thread)
        raise KeyboardInterrupt

    def items() -> Iterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", late)
        with pytest.raises(KeyboardInterrupt), prefetched(items()):
            pass
    running = [thread for thread in threading.enumerate() if thread.name == "scrfd-trt-video"]
    let_go.set()
    for thread in running:
        thread.join(120)
    assert running
    assert read == []


def test_second_interrupt_waits_for_item_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, let_go, read = threading.Event(), threading.Event(), []

    def items() -> Iterator[int]:
        yield 0
        reading.set()
        let_go.wait(20)
        read.append("to its end")
        yield 1

    wait = threading.Event.wait

    def again(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread() and not let_go.is_set():
            let_go.set()
            raise KeyboardInterrupt
        return wait(event, timeout)

    def stopped() -> None:
        with prefetched(items()) as running:
            assert next(running) == 0
            wait(reading, 20)
            monkeypatch.setattr(threading.Event, "wait", again)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert read == ["to its end"]
