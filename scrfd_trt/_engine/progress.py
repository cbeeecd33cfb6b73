"""Progress of a build, and work in the background that can be cancelled."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

STEPS = 1000  # steps of the stage in which TensorRT builds, where it reports progress


class BuildProgress(Protocol):
    """Build-progress callbacks; all calls come from the thread that started the build."""

    def phase(self, name: str, total: int | None, /) -> object:
        """Begin a stage.

        Parameters
        ----------
        name
            What is done, in a few words.
        total
            Number of steps, or None if it is unknown: then only the elapsed time can be shown.
        """

    def step(self, done: int, detail: str, /) -> object:
        """Report the stage's progress, several times per second.

        Parameters
        ----------
        done
            Completed steps; 0 if the total is unknown.
        detail
            TensorRT's own name of what it does; may be empty.
        """

    def done(self) -> object:
        """End the current stage, also after an error."""


class NoProgress:
    """Progress that is not shown."""

    def phase(self, name: str, total: int | None, /) -> None: ...
    def step(self, done: int, detail: str, /) -> None: ...
    def done(self) -> None: ...


@contextmanager
def stage(progress: BuildProgress, name: str, total: int | None = None) -> Iterator[None]:
    progress.phase(name, total)
    try:
        yield
    finally:
        progress.done()


@dataclass
class _Phase:
    name: str
    parent: str | None
    steps: int
    complete: int = 0
    ended: int = 0  # inner phases since the last step


class Phases:
    """TensorRT's nested phases, from several threads, as one fraction; each inner one takes half of the rest."""

    def __init__(self) -> None:
        self._open: list[_Phase] = []
        self._max = 0.0
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._open.append(_Phase(name, parent, max(steps, 1)))

    def complete(self, name: str, step: int) -> None:
        """Mark a phase's steps up to this one, counted from 0, as complete."""
        with self._lock:
            phase = self._find(name)
            if phase is not None and step >= phase.complete:
                phase.complete, phase.ended = min(step + 1, phase.steps), 0

    def finish(self, name: str) -> None:
        with self._lock:
            phase = self._find(name)
            if phase is None:
                return
            self._open.remove(phase)
            around = self._find(phase.parent)
            if around is not None:
                around.ended += 1
            elif phase.parent is None:
                self._max = 1.0

    def read(self) -> tuple[float, str]:
        """Return the completed fraction, which never decreases, and the innermost phase with its steps."""
        with self._lock:
            self._max = max(self._max, self._inner(None))
            last = self._open[-1] if self._open else None
            return self._max, f"{last.name} {last.complete}/{last.steps}" if last else ""

    def _find(self, name: str | None) -> _Phase | None:
        return next((phase for phase in reversed(self._open) if phase.name == name), None)

    def _inner(self, parent: str | None) -> float:
        """Return the fraction of the most advanced open phase within ``parent``."""
        return max((self._fraction(phase) for phase in self._open if phase.parent == parent != phase.name), default=0.0)

    def _fraction(self, phase: _Phase) -> float:
        if phase.complete == phase.steps:
            return 1.0
        left = 0.5**phase.ended
        return (phase.complete + 1 - left + left / 2 * self._inner(phase.name)) / phase.steps


class PhaseMonitor:
    """The flavour-independent part of a TensorRT ``IProgressMonitor``: tracks phases, and cancels at the next step."""

    def __init__(self, phases: Phases, cancelled: threading.Event) -> None:
        self._phases, self._cancelled = phases, cancelled
        super().__init__()

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        self._phases.start(phase_name, parent_phase, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Mark a step as complete; return False to cancel the build."""
        self._phases.complete(phase_name, step)
        return not self._cancelled.is_set()

    def phase_finish(self, phase_name: str) -> None:
        self._phases.finish(phase_name)


Result = TypeVar("Result")

POLL_SECONDS = 0.1
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended: 128 + 2


def start(work: Callable[[], Result]) -> Future[Result]:
    """Start ``work`` in another thread; unlike for those of an executor, Python does not wait for it at exit."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by future.result()
            future.set_exception(error)

    threading.Thread(target=run, name="scrfd_trt build", daemon=True).start()
    return future


def run_cancellable(
    work: Callable[[], Result], *, poll: Callable[[], None], cancel: Callable[[], None], can_cancel: bool
) -> Result:
    """Run ``work`` in another thread; on an error of ``poll`` or an interrupt, cancel it, or leave it running."""
    future = start(work)
    try:
        running = True
        while running:
            running = bool(wait([future], POLL_SECONDS).not_done)
            poll()
    except BaseException:
        cancel()
        atexit.register(_exit_now, future)
        if can_cancel:
            wait([future])
        raise
    return future.result()


def _exit_now(work: Future[Any]) -> None:
    """End the process if abandoned work is still in native code: it would crash during Python's own shutdown."""
    if not work.done():
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(INTERRUPTED)
