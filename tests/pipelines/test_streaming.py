from __future__ import annotations

from concurrent.futures import Future

import pytest

from scrfd_trt._pipelines.streaming import in_order
from scrfd_trt.errors import ClosedError


class Later:
    """Results that are available once they are requested."""

    def __init__(self, group, log):
        self.group, self.log = group, log

    def done(self):
        return False

    def result(self):
        self.log.append(("result", self.group))
        if "bad" in self.group:
            raise ValueError(self.group)
        return [item * 10 for item in self.group]


def run(items, batch, in_flight, log=None):
    log = [] if log is None else log

    def submit(group):
        log.append(("submit", group))
        return Later(group, log)

    return in_order(submit, items, batch, in_flight)


@pytest.mark.parametrize("batch", [1, 2, 3, 10, 50])
@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_results_are_in_order(batch, in_flight):
    assert list(run(range(23), batch, in_flight)) == [item * 10 for item in range(23)]


def test_items_are_read_no_further_ahead_than_in_flight():
    read = []

    def items():
        for number in range(100):
            read.append(number)
            yield number

    results = run(items(), 4, 3)
    assert read == []
    next(results)
    assert len(read) == 12
    for _ in range(4):
        next(results)
    assert len(read) == 16


def test_finished_results_are_yielded_at_once():
    class Done(Later):
        def done(self):
            return True

    log = []
    results = in_order(lambda group: Done(group, log), iter(range(10)), 1, 5)
    assert next(results) == 0
    assert log == [("result", [0])]


def test_error_of_the_items_is_raised_after_the_results_before_it():
    def items():
        yield from range(5)
        raise OSError("the video ends early")

    results = run(items(), 2, 3)
    assert [next(results) for _ in range(5)] == [0, 10, 20, 30, 40]
    with pytest.raises(OSError, match="the video ends early"):
        next(results)


def test_error_of_submit_is_raised_after_the_batches_before_it():
    def submit(group):
        if 4 in group:
            raise ValueError("no image")
        return Later(group, [])

    results = in_order(submit, range(9), 2, 3)
    assert [next(results) for _ in range(4)] == [0, 10, 20, 30]
    with pytest.raises(ValueError, match="no image"):
        next(results)


def test_batches_in_flight_are_waited_for_after_an_error():
    log = []
    results = run([1, "bad", 3, 4, 5, 6], 1, 3, log)
    assert next(results) == 10
    with pytest.raises(ValueError, match="bad"):
        next(results)
    submitted = [group for event, group in log if event == "submit"]
    assert [group for event, group in log if event == "result"] == submitted


def test_closing_early_waits_for_batches_in_flight():
    log = []
    results = run(range(20), 2, 3, log)
    next(results)
    results.close()
    submitted = [group for event, group in log if event == "submit"]
    assert [group for event, group in log if event == "result"] == submitted
    assert len(submitted) == 3


def test_batches_that_a_closed_detector_dropped_raise_closed_error():
    future = Future()
    future.set_exception(ClosedError("closed"))
    with pytest.raises(ClosedError):
        list(in_order(lambda group: future, [1], 1, 1))
