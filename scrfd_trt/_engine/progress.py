"""How far a build has come: what a progress bar is told, and TensorRT's nested phases as one number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from scrfd_trt._engine.flavours import subclass

STEPS = 1000
"""Steps of the stage in which TensorRT builds, where it tells how far it has come."""


class BuildProgress(Protocol):
    """What a build tells of its progress, always from the thread that asked for the build."""

    def phase(self, name: str, total: int | None, /) -> object:
        """Begin a stage.

        Parameters
        ----------
        name
            What is being done, a few words.
        total
            Steps that there are, or None where that is not known: then only the time that has passed can be shown.
        """

    def step(self, done: int, detail: str, /) -> object:
        """Tell how many steps of the stage are done, several times a second.

        Parameters
        ----------
        done
            0 up to the total; 0 where that is not known.
        detail
            What TensorRT is at, in its own words; may be empty.
        """

    def done(self) -> object:
        """End the stage that was begun last, however it ended."""


class NoProgress:
    """Progress that nobody looks at."""

    def phase(self, name: str, total: int | None, /) -> None:
        """Do nothing."""

    def step(self, done: int, detail: str, /) -> None:
        """Do nothing."""

    def done(self) -> None:
        """Do nothing."""


@contextmanager
def stage(progress: BuildProgress, name: str, total: int | None = None) -> Iterator[None]:
    """Tell of a stage at its begin and end."""
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
    ended: int = 0
    """Inner phases that have ended since the last step."""


class Phases:
    """TensorRT's phases, which lie within each other, each with steps of its own.

    How many inner phases a step will have is not known before; each is taken for half of what is left of the step.
    TensorRT calls from several threads of its own.
    """

    def __init__(self) -> None:
        self._open: list[_Phase] = []
        self._most = 0.0
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begin a phase within its parent."""
        with self._lock:
            self._open.append(_Phase(name, parent, max(steps, 1)))

    def complete(self, name: str, step: int) -> None:
        """Count a phase's steps up to this one, the first of which is 0, as done."""
        with self._lock:
            phase = self._find(name)
            if phase is not None and step >= phase.complete:
                phase.complete, phase.ended = min(step + 1, phase.steps), 0

    def finish(self, name: str) -> None:
        """End a phase."""
        with self._lock:
            phase = self._find(name)
            if phase is None:
                return
            self._open.remove(phase)
            around = self._find(phase.parent)
            if around is not None:
                around.ended += 1
            elif phase.parent is None:
                self._most = 1.0

    def read(self) -> tuple[float, str]:
        """Return how much is done, 0 to 1 and never less than before, and the innermost phase with its steps."""
        with self._lock:
            self._most = max(self._most, self._inner(None))
            last = self._open[-1] if self._open else None
            return self._most, f"{last.name} {last.complete}/{last.steps}" if last else ""

    def _find(self, name: str | None) -> _Phase | None:
        return next((phase for phase in reversed(self._open) if phase.name == name), None)

    def _inner(self, parent: str | None) -> float:
        """Return how far the open phases within ``parent`` are; the furthest one counts."""
        return max((self._fraction(phase) for phase in self._open if phase.parent == parent != phase.name), default=0.0)

    def _fraction(self, phase: _Phase) -> float:
        if phase.complete == phase.steps:
            return 1.0
        left = 0.5**phase.ended
        return (phase.complete + 1 - left + left / 2 * self._inner(phase.name)) / phase.steps


class PhaseMonitor:
    """The part of a TensorRT ``IProgressMonitor`` that is the same for all flavours.

    Parameters
    ----------
    phases
        Keeps what TensorRT tells.
    cancelled
        Once set, TensorRT is told to stop at its next step.
    """

    def __init__(self, phases: Phases, cancelled: threading.Event) -> None:
        self._phases = phases
        self._cancelled = cancelled
        super().__init__()

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Begin a phase."""
        self._phases.start(phase_name, parent_phase, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Count a step as done; False stops the build."""
        self._phases.complete(phase_name, step)
        return not self._cancelled.is_set()

    def phase_finish(self, phase_name: str) -> None:
        """End a phase."""
        self._phases.finish(phase_name)


def monitor_for(base: type[Any], phases: Phases, cancelled: threading.Event) -> Any:
    """Make a monitor that is one of a flavour's own ``IProgressMonitor`` class."""
    return subclass(PhaseMonitor, base)(phases, cancelled)
