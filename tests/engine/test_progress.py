"""TensorRT's nested phases as one fraction, and cancellable work."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from scrfd_trt._engine.flavours import subclass
from scrfd_trt._engine.progress import PhaseMonitor, Phases, run_cancellable, stage

pytestmark = pytest.mark.slow


def test_fraction_of_nested_phases_never_decreases() -> None:
    phases = Phases()
    seen = []

    def read() -> None:
        seen.append(phases.read()[0])

    phases.start("Building engine", None, 4)
    read()
    phases.complete("Building engine", 0)
    read()
    for name in ("Optimizing graph", "Timing", "Writing"):
        phases.start(name, "Building engine", 10)
        for step in range(10):
            phases.start("Tactics", name, 2)
            phases.complete("Tactics", 0)
            read()
            phases.finish("Tactics")
            phases.complete(name, step)
            read()
        phases.finish(name)
        read()
    assert 0.25 < seen[-1] < 0.5
    for step in range(1, 4):
        phases.complete("Building engine", step)
        read()
    phases.finish("Building engine")
    read()
    assert seen == sorted(seen)
    assert len(set(seen)) > 30
    assert seen[0] == 0
    assert seen[-1] == 1


def test_innermost_phase_is_reported_with_its_steps() -> None:
    phases = Phases()
    assert phases.read() == (0.0, "")
    phases.start("Building engine", None, 2)
    phases.start("Timing tactics", "Building engine", 3)
    phases.complete("Timing tactics", 0)
    assert phases.read()[1] == "Timing tactics 1/3"


def test_unknown_phases_are_ignored() -> None:
    phases = Phases()
    phases.complete("x", 3)
    phases.finish("x")
    phases.start("a", "unknown", 0)
    phases.start("b", "b", 1)
    phases.complete("a", 7)
    assert 0 <= phases.read()[0] <= 1


def test_monitor_is_a_tensorrt_monitor_and_cancels() -> None:
    class Base:
        made = False

        def __init__(self) -> None:
            self.made = True

    cancelled = threading.Event()
    monitor = subclass(PhaseMonitor, Base)(Phases(), cancelled)
    assert isinstance(monitor, Base)
    assert isinstance(monitor, PhaseMonitor)
    assert monitor.made
    monitor.phase_start("a", None, 2)
    assert monitor.step_complete("a", 0) is True
    cancelled.set()
    assert monitor.step_complete("a", 1) is False
    monitor.phase_finish("a")


def test_failing_stage_ends() -> None:
    events: list[Any] = []

    class Told:
        def phase(self, *what: Any) -> None:
            events.append(what)

        def step(self, *what: Any) -> None: ...

        def done(self) -> None:
            events.append("done")

    with pytest.raises(ZeroDivisionError), stage(Told(), "dividing", 3):
        _ = 1 / 0
    assert events == [("dividing", 3), "done"]


def test_errors_of_the_work_are_raised() -> None:
    def fail() -> int:
        raise ZeroDivisionError("here")

    polls: list[int] = []

    def poll() -> None:
        polls.append(1)

    with pytest.raises(ZeroDivisionError, match="here"):
        run_cancellable(fail, poll=poll, cancel=polls.clear, can_cancel=True)
    assert run_cancellable(lambda: 3, poll=poll, cancel=polls.clear, can_cancel=True) == 3
    assert polls


def test_interruption_waits_for_cancellable_work() -> None:
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


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX signals")
def test_ctrl_c_ends_process_with_uncancellable_work(popen: Callable[..., subprocess.Popen[str]]) -> None:
    process = popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stdout, stderr = process.communicate(timeout=120)
    assert stdout.split() == ["cancelled", "interrupted"]
    assert stderr == ""
    assert process.returncode == 130
