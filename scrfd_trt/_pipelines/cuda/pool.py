"""The slots of a pipeline: made when needed, lent to one run at a time, and freed together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.stream import borrow_stream, create_stream
from scrfd_trt._detections import Detections
from scrfd_trt._pipelines.cuda.resources import PipelineResources
from scrfd_trt._pipelines.cuda.slot import Slot
from scrfd_trt.errors import BackendError, ClosedError, ScrfdError

if TYPE_CHECKING:
    from cuda.core import Stream


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


log = logging.getLogger("scrfd_trt")

SLOTS = 3
"""Runs at a time: while one is copied in, another is on the GPU, and a third is read."""


class SlotPool:
    """Owns all that a pipeline has on the GPU. It does not refer to the pipeline, and outlives one that is dropped.

    Parameters
    ----------
    setting
        Of the pipeline.
    lent
        The caller's stream, which all slots work in; None makes a stream for each.
    capturing
        A stream that nobody else uses, to capture in.
    owned
        Is closed with the pool, after the slots.
    """

    def __init__(self, setting: PipelineResources, lent: Stream | None, capturing: Stream, owned: ExitStack) -> None:
        self._setting, self._lent, self._capturing, self._owned = setting, lent, capturing, owned
        self._idle: list[Slot] = []
        self._runs: set[Run] = set()
        self._made = self._waiting = 0
        self._free = threading.Condition()
        self._closing = self._closed = False
        self._broken = ""

    def acquire(self, *, wait: bool = True) -> Slot:
        """Return the slot that was used last; if all are in use, wait for one or make another.

        Raises
        ------
        ClosedError
            After :meth:`close`.
        BackendError
            If an earlier run failed on the GPU, or there is not enough memory.
        """
        try:
            slot = self._idle.pop()  # atomic, as is append()
        except IndexError:
            slot = self._wait_for_slot(wait=wait)
        if self._closed or self._broken:
            self._release(slot)
            self._check_usable()
        return slot

    def give_back(self, slot: Slot) -> None:
        """Take a slot back whose run is done or has failed."""
        self._broken = self._broken or slot.broken
        self._release(slot)

    def start(self, slot: Slot) -> Run:
        """Return the run that was started in a slot; the slot is given back when the run ends."""
        run = Run(slot, self._setting.device, self._end)
        with self._free:
            self.check_not_closing()
            self._runs.add(run)
            self._free.notify_all()  # its slot does not count any more, so that another may be made
        return run

    def begin_closing(self) -> bool:
        """Refuse further runs; return False if that was done before."""
        with self._free:
            before, self._closing = self._closing, True
        return not before

    def check_not_closing(self) -> None:
        """Raise ClosedError if no more runs may be started."""
        if self._closing:
            raise ClosedError("the detector was closed; open a new one")

    def check_open(self) -> None:
        """Raise ClosedError after :meth:`close`."""
        if self._closed:
            raise ClosedError("the detector was closed; open a new one")

    def close(self) -> None:
        """Free everything after the runs under way; a second call does nothing."""
        self.begin_closing()
        for run in list(self._runs):  # of streams of results that are not read to their end
            run.abandon()
        slots = self._take_all_back()
        try:
            with self._setting.device.current(), self._owned:
                for slot in slots:
                    self._owned.callback(slot.close)
        except ScrfdError as error:
            if not self._broken:
                raise
            log.debug("closing after a failed run: %s", str(error))

    def _wait_for_slot(self, *, wait: bool) -> Slot:
        with self._free:
            self._waiting += 1
            try:
                while True:
                    self._check_usable()
                    if self._idle:
                        with suppress(IndexError):  # another thread may be quicker
                            return self._idle.pop()
                    # Slots of started runs do not count: whoever started them may be the one that waits.
                    if self._made - len(self._runs) < SLOTS or not wait:
                        self._made += 1
                        break
                    self._free.wait()
            finally:
                self._waiting -= 1
        try:
            return self._new_slot()
        except BaseException:
            with self._free:
                self._made -= 1
                self._free.notify_all()
            raise

    def _new_slot(self) -> Slot:
        device = self._setting.device
        with device.current():
            stream = create_stream(device) if self._lent is None else borrow_stream(self._lent, device)
            return Slot(self._setting, stream, self._capturing)

    def _release(self, slot: Slot) -> None:
        self._idle.append(slot)
        if self._waiting:
            with self._free:
                self._free.notify_all()

    def _end(self, run: Run, slot: Slot) -> None:
        """Take back the slot of a run, and free one that only the stream of results needed."""
        with self._free:
            self._runs.discard(run)
            if len(self._idle) < SLOTS:
                self.give_back(slot)
                return
        try:
            with self._setting.device.current():
                slot.close()
        finally:
            with self._free:  # only now, so that close() waits for it
                self._made -= 1
                self._broken = self._broken or slot.broken
                self._free.notify_all()

    def _check_usable(self) -> None:
        self.check_open()
        if self._broken:
            raise BackendError(
                f"an earlier run failed, and nothing can be run until it is opened again: {self._broken}"
            )

    def _take_all_back(self) -> list[Slot]:
        """Wait for every slot that was made; whoever comes later finds none."""
        slots: list[Slot] = []
        with self._free:
            self._closed = True
            self._waiting += 1
            self._free.notify_all()
            while self._made:
                if not self._idle:  # whoever has it gives it back
                    self._free.wait()
                    continue
                with suppress(IndexError):  # another thread may be quicker
                    slots.append(self._idle.pop())
                    self._made -= 1
        return slots
