"""Threads for submitted batches: what happens at their end, and to futures that have not started."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import Future

import pytest

from scrfd_trt import BackendError, ClosedError
from scrfd_trt._pipelines.streaming import Workers

TIMEOUT = 30


@pytest.fixture
def busy():
    """Workers with one thread that is busy until the event is set."""
    workers, started, go_on = Workers(1), threading.Event(), threading.Event()
    running = workers.submit(lambda: (started.set(), go_on.wait(TIMEOUT))[1])
    assert started.wait(TIMEOUT)
    yield workers, running, go_on
    go_on.set()
    workers.close()


def closing(workers):
    thread = threading.Thread(target=workers.close)
    thread.start()
    return thread


def test_closing_waits_for_the_running_call_and_drops_the_others(busy):
    workers, running, go_on = busy
    waiting = [workers.submit(print) for _ in range(3)]
    thread = closing(workers)
    while not workers._closed:
        thread.join(0.001)
    with pytest.raises(ClosedError, match="closed"):
        workers.submit(print)
    assert not running.done()
    go_on.set()
    thread.join(TIMEOUT)
    assert running.result(TIMEOUT)
    for future in waiting:
        with pytest.raises(ClosedError):
            future.result(TIMEOUT)
        assert not future.cancelled()
    workers.close()  # a second time


def test_asyncio_does_not_take_closing_for_a_cancellation(busy):
    workers, _, go_on = busy

    async def wait_for_two():
        futures = [asyncio.wrap_future(workers.submit(print)) for _ in range(2)]
        asyncio.get_running_loop().call_later(0.01, lambda: (closing(workers), go_on.set()))
        return await asyncio.gather(*futures, return_exceptions=True)

    errors = asyncio.run(wait_for_two())
    assert [type(error) for error in errors] == [ClosedError] * 2


def test_cancelled_task_cancels_its_call(busy):
    workers, _, go_on = busy
    called = []

    async def give_up():
        task = asyncio.ensure_future(asyncio.wrap_future(workers.submit(called.append, 1)))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(give_up())
    go_on.set()
    workers.close()
    assert called == []
    assert not workers._pending


def test_callbacks_may_close_and_fail():
    workers = Workers(1)
    go_on, closed = threading.Event(), threading.Event()
    first = workers.submit(go_on.wait, TIMEOUT)
    first.add_done_callback(lambda _: (workers.close(), closed.set()))
    second = workers.submit(print)
    second.add_done_callback(lambda _: 1 / 0)  # concurrent.futures logs it
    go_on.set()
    assert first.result(TIMEOUT)
    assert closed.wait(TIMEOUT)
    with pytest.raises(ClosedError):
        second.result(TIMEOUT)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_errors_are_those_of_the_call(error):
    workers = Workers(1)

    def fail():
        raise error

    with pytest.raises(type(error)):
        workers.submit(fail).result(TIMEOUT)
    assert workers.submit(lambda: 5).result(TIMEOUT) == 5
    workers.close()


def test_finished_calls_leave_nothing_behind():
    class Item:
        pass

    workers, item = Workers(1), Item()
    dropped = weakref.ref(item)

    def fail(value):
        raise ValueError(value)

    gc.disable()
    try:
        for call in (lambda value: None, fail):
            future = workers.submit(call, item)
            future.exception(TIMEOUT)
            del future
        workers.submit(int).result(TIMEOUT)  # the thread has left the calls before
        del item
        assert dropped() is None
    finally:
        gc.enable()
    assert not workers._pending
    workers.close()


def test_call_without_a_thread_is_refused_and_never_made(monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    workers, called = Workers(1), []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(BackendError, match="can't start new thread"):
            workers.submit(called.append, 1)
    workers.submit(called.append, 2).result(TIMEOUT)
    assert called == [2]
    workers.close()


def test_call_is_pending_until_its_result_is_set(monkeypatch):
    """A process that is forked in between would wait for the result otherwise."""
    workers, pending, set_result = Workers(1), [], Future.set_result

    def observe(future, value):
        pending.append(future in workers._pending)
        set_result(future, value)

    monkeypatch.setattr(Future, "set_result", observe)
    workers.submit(int).result(TIMEOUT)
    workers.close()
    assert any(pending)  # threads of other executors may set results, too
    assert not workers._pending
