"""Runs that are under way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from scrfd_trt.cuda import Device
from scrfd_trt.detections import Detections
from scrfd_trt.pipelines.cuda.slot import Slot


class Run:
    """A run that was started in a slot.

    Parameters
    ----------
    slot
        Where it is under way.
    device
        The GPU.
    give_back
        Takes the slot back.
    """

    def __init__(self, slot: Slot, device: Device, give_back: Callable[[Slot], None]) -> None:
        self._slot: Slot | None = slot
        self._device = device
        self._give_back = give_back
        self._found: list[Detections] = []

    def done(self) -> bool:
        """Whether :meth:`result` would not wait."""
        if self._slot is None:
            return True
        with self._device.current():
            return self._slot.is_done()

    def result(self) -> list[Detections]:
        """Wait for the run, and return the faces of each image."""
        slot, self._slot = self._slot, None
        if slot is not None:
            try:
                with self._device.current():
                    self._found = slot.finish()
            finally:
                self._give_back(slot)
        return self._found


class Runs:
    """Several runs, one after the other.

    Parameters
    ----------
    runs
        In order.
    """

    def __init__(self, runs: list[Run]) -> None:
        self._runs = runs

    def done(self) -> bool:
        """Whether :meth:`result` would not wait."""
        return all(run.done() for run in self._runs)

    def result(self) -> list[Detections]:
        """Wait for all of them, and return the faces of each image.

        All slots are given back, also where a run fails.
        """
        with ExitStack() as waiting:
            for run in self._runs:
                waiting.callback(run.result)
        return [faces for run in self._runs for faces in run.result()]
