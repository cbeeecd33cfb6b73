"""Runs that are under way."""

from __future__ import annotations

import threading
from collections.abc import Callable

from scrfd_trt.cuda import Device
from scrfd_trt.detections import Detections
from scrfd_trt.errors import ClosedError
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
        Takes the slot back, once it is done.
    """

    def __init__(self, slot: Slot, device: Device, give_back: Callable[[Run, Slot], None]) -> None:
        self._slot: Slot | None = slot
        self._device = device
        self._give_back = give_back
        self._lock = threading.Lock()

    def done(self) -> bool:
        """Whether :meth:`result` would not wait."""
        with self._lock, self._device.current():
            return self._slot is None or self._slot.is_done()

    def result(self) -> list[Detections]:
        """Wait for the run, and return the faces of each image.

        Raises
        ------
        BackendError
            If it failed.
        ClosedError
            If the detector was closed meanwhile, or this was called before.
        """
        with self._lock:
            slot, self._slot = self._slot, None
            if slot is None:
                raise ClosedError("the detector was closed while the run was under way; open a new one")
            try:
                with self._device.current():
                    return slot.finish()
            finally:
                self._give_back(self, slot)

    def abandon(self) -> None:
        """Wait for the run and drop what it found; nothing happens where somebody has it already."""
        with self._lock:
            slot, self._slot = self._slot, None
            if slot is None:
                return
            try:
                with self._device.current():
                    slot.abandon()
            finally:
                self._give_back(self, slot)
