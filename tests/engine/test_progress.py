"""TensorRT's nested phases as one number, its messages, and work that Ctrl-C can end."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scrfd_trt._engine import logs
from scrfd_trt._engine.progress import PhaseMonitor, Phases, monitor_for, run_cancellable, stage


def test_nested_phases_make_one_number_that_never_falls() -> None:
    phases = Phases()
    seen = []

    def look() -> None:
        seen.append(phases.read()[0])

    phases.start("Building engine", None, 4)
    look()
    phases.complete("Building engine", 0)
    look()
    for name in ("Optimizing graph", "Timing", "Writing"):
        phases.start(name, "Building engine", 10)
        for step in range(10):
            phases.start("Tactics", name, 2)
            phases.complete("Tactics", 0)
            look()
            phases.finish("Tactics")
            phases.complete(name, step)
            look()
        phases.finish(name)
        look()
    assert 0.25 < seen[-1] < 0.5
    for step in range(1, 4):
        phases.complete("Building engine", step)
        look()
    phases.finish("Building engine")
    look()
    assert seen == sorted(seen)
    assert len(set(seen)) > 30
    assert seen[0] == 0
    assert seen[-1] == 1


def test_the_innermost_phase_is_told_with_its_steps() -> None:
    phases = Phases()
    assert phases.read() == (0.0, "")
    phases.start("Building engine", None, 2)
    phases.start("Timing tactics", "Building engine", 3)
    phases.complete("Timing tactics", 0)
    assert phases.read()[1] == "Timing tactics 1/3"


def test_phases_that_were_never_begun_do_no_harm() -> None:
    phases = Phases()
    phases.complete("x", 3)
    phases.finish("x")
    phases.start("a", "unknown", 0)
    phases.start("b", "b", 1)
    phases.complete("a", 7)
    assert 0 <= phases.read()[0] <= 1


def test_a_monitor_is_one_of_tensorrts_own_and_stops_when_told() -> None:
    class Base:
        made = False

        def __init__(self) -> None:
            self.made = True

    cancelled = threading.Event()
    monitor = monitor_for(Base, Phases(), cancelled)
    assert isinstance(monitor, Base)
    assert isinstance(monitor, PhaseMonitor)
    assert monitor.made
    monitor.phase_start("a", None, 2)
    assert monitor.step_complete("a", 0) is True
    cancelled.set()
    assert monitor.step_complete("a", 1) is False
    monitor.phase_finish("a")


def test_a_stage_ends_also_when_it_fails() -> None:
    told: list[Any] = []

    class Told:
        def phase(self, *what: Any) -> None:
            told.append(what)

        def step(self, *what: Any) -> None: ...

        def done(self) -> None:
            told.append("done")

    with pytest.raises(ZeroDivisionError), stage(Told(), "dividing", 3):
        _ = 1 / 0
    assert told == [("dividing", 3), "done"]


def test_errors_of_work_are_raised_where_it_is_waited_for() -> None:
    def fail() -> int:
        raise ZeroDivisionError("here")

    polls: list[int] = []

    def poll() -> None:
        polls.append(1)

    with pytest.raises(ZeroDivisionError, match="here"):
        run_cancellable(fail, poll=poll, cancel=polls.clear, can_cancel=True)
    assert run_cancellable(lambda: 3, poll=poll, cancel=polls.clear, can_cancel=True) == 3
    assert polls


def test_an_interruption_waits_for_work_that_can_be_stopped() -> None:
    stop, ended = threading.Event(), threading.Event()

    def work() -> None:
        stop.wait(10)
        time.sleep(0.2)
        ended.set()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cancellable(work, poll=interrupt, cancel=stop.set, can_cancel=True)
    assert ended.is_set()


CTRL_C = """
import os, signal, threading, time
from scrfd_trt._engine.progress import run_cancellable
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    run_cancellable(lambda: time.sleep(600), poll=lambda: None, cancel=lambda: print("cancelled"), can_cancel=False)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way there")
def test_ctrl_c_ends_a_process_whose_work_cannot_be_stopped(popen: Callable[..., subprocess.Popen[str]]) -> None:
    process = popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stdout, stderr = process.communicate(timeout=60)
    assert stdout.split() == ["cancelled", "interrupted"]
    assert stderr == ""
    assert process.returncode == 130


class Severity:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    module = types.ModuleType("tensorrt_of_this_test")
    module.ILogger = type("ILogger", (), {})  # type: ignore[attr-defined]
    yield module
    logs._loggers.pop(module.__name__, None)


def test_messages_are_kept_while_somebody_listens(module: types.ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "scrfd_trt.tensorrt")
    logger = logs.logger(module)
    assert logs.logger(module) is logger
    logger.log(Severity("ERROR"), "before")
    with logs.listen(module) as outer, logs.listen(module) as inner:
        logger.log(Severity("WARNING"), "a warning")
        logger.log(Severity("INTERNAL_ERROR"), "the cause")
        logger.log(Severity("ERROR"), "a consequence")
        logger.log(Severity("VERBOSE"), "chatter")
    logger.log(Severity("ERROR"), "after")
    assert outer.errors == inner.errors == ["the cause", "a consequence"]
    assert outer.warnings == ["a warning"]
    assert outer.reason() == "the cause"
    assert "a warning" in caplog.text
    assert "chatter" not in caplog.text


def test_without_an_error_the_last_warning_is_the_reason() -> None:
    messages = logs.Messages()
    assert messages.reason() == "no reason given"
    assert messages.reason("nothing") == "nothing"
    messages.add("WARNING", "first")
    messages.add("WARNING", "CUDA initialization failure with error: 35")
    assert messages.reason() == "CUDA initialization failure with error: 35"


@pytest.mark.parametrize(
    ("message", "clean"),
    [
        (
            "[network.cpp::validate::3014] Error Code 4: Internal Error (fp16 is not configured in the builder)",
            "Internal Error (fp16 is not configured in the builder)",
        ),
        (
            "IBuilder::build: Error Code 6: API Usage Error (Unable to load libnvinfer.so In Impl at /a/b.cpp:305)",
            "API Usage Error (Unable to load libnvinfer.so)",
        ),
        ("two\n  lines", "two lines"),
    ],
)
def test_messages_lose_the_places_in_tensorrts_source(message: str, clean: str) -> None:
    assert logs.clean(message) == clean
