"""The slots of a pipeline: created on demand, used by one run at a time, and freed together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from scrfd_trt import _forks
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.stream import borrow_stream, create_stream
from scrfd_trt._pipelines.base import Outcome
from scrfd_trt._pipelines.cuda.resources import PipelineResources
from scrfd_trt._pipelines.cuda.slot import Slot
from scrfd_trt._pipelines.cuda.views import Lanes
from scrfd_trt.errors import BackendError, ClosedError, ScrfdError, without_frames

if TYPE_CHECKING:
    from cuda.core import Stream

log = logging.getLogger("scrfd_trt")

INHERITED = (
    "the detector was opened before this process was forked, and a forked process cannot use the GPU of its parent; "
    "start processes with spawn, and open a detector in each"
)

SLOTS = 3  # concurrent runs: while one is copied to the GPU, another is computed, and the results of a third are read


class SlotPool:
    """Owns all that a pipeline has on the GPU, and outlives one that is dropped; ``owned`` is closed last."""

    def __init__(
        self,
        resources: PipelineResources,
        stream: Stream | None,
        capture_stream: Stream,
        lanes: Lanes,
        owned: ExitStack,
    ) -> None:
        self._resources, self._stream, self._capture_stream, self._lanes = resources, stream, capture_stream, lanes
        self._owned = owned
        self._idle: list[Slot] = []
        self._runs: dict[Run, None] = {}  # in the order of their starts
        self._count = self._waiting = 0
        self._changed = threading.Condition()
        self._closing = self._closed = False
        self._why_closed = "the detector was closed; open a new one"
        self._failure = ""

    def acquire(self) -> Slot:
        """Return the slot that was used last; if all are in use, create another, or wait for one."""
        try:
            slot = self._idle.pop()  # atomic, as is append()
        except IndexError:
            slot = self._wait_for_slot()
        if self._closed or self._failure:
            self._add_idle(slot)
            self._check_usable()
        return slot

    def release(self, slot: Slot) -> None:
        """Take back a slot whose run has finished or failed."""
        self._failure = self._failure or slot.failure
        self._add_idle(slot)

    def start(self, slot: Slot) -> Run:
        """Return the run that was started in a slot; its end releases the slot."""
        run = Run(slot, self._resources.device, self)
        with self._changed:
            self.check_not_closing()
            self._runs[run] = None
            self._changed.notify_all()  # who waits for a slot may end the run
        return run

    @property
    def in_flight(self) -> int:
        """Slots in use, also by runs that are done, but whose results have not been read."""
        return self._count - len(self._idle)

    def begin_closing(self) -> bool:
        """Reject further runs; return False if a call did so before."""
        with self._changed:
            before, self._closing = self._closing, True
        return not before

    def check_not_closing(self) -> None:
        if self._closing:
            raise ClosedError(self._why_closed)

    def check_open(self) -> None:
        if self._closed:
            raise ClosedError(self._why_closed)

    def close(self) -> None:
        """Free everything after all runs have ended; a second call does nothing."""
        self.begin_closing()
        for run in list(self._runs):  # those of streams of results that are not read to their end
            run.abandon()
        slots = self._collect()
        try:
            with self._resources.device.current(), self._owned:
                for slot in slots:
                    self._owned.callback(slot.close)
        except ScrfdError as error:
            if not self._failure:
                raise
            log.debug("closing after a failed run: %s", str(error))

    def _after_fork(self) -> None:
        """Refuse all calls and free nothing in a forked process."""
        _forks.never_free(self)
        self._changed = threading.Condition()
        self._closing = self._closed = True
        self._why_closed = INHERITED
        for run in self._runs:
            run._after_fork()

    def _wait_for_slot(self) -> Slot:
        while (found := self._idle_slot_or_run()) is not None:
            if isinstance(found, Slot):
                return found
            found.settle()
        try:
            return self._new_slot()
        except BaseException:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()
            raise

    def _idle_slot_or_run(self) -> Slot | Run | None:
        """Return an idle slot, None to create one, or the run started first: its reader may be the caller itself."""
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    self._check_usable()
                    if self._idle:
                        with suppress(IndexError):  # another thread may be faster
                            return self._idle.pop()
                    if self._count < SLOTS:
                        self._count += 1
                        return None
                    if self._runs:
                        return next(iter(self._runs))
                    self._changed.wait()
            finally:
                self._waiting -= 1

    def _new_slot(self) -> Slot:
        device = self._resources.device
        with device.current():
            stream = create_stream(device) if self._stream is None else borrow_stream(self._stream, device)
            return Slot(self._resources, stream, self._capture_stream, self._lanes)

    def _add_idle(self, slot: Slot) -> None:
        self._idle.append(slot)
        if self._waiting:
            with self._changed:
                self._changed.notify_all()

    def _end(self, run: Run, slot: Slot) -> None:
        """Take back the slot of a run."""
        with self._changed:
            self._runs.pop(run, None)
            self.release(slot)

    def _check_usable(self) -> None:
        self.check_open()
        if self._failure:
            raise BackendError(
                f"an earlier run failed, so this detector cannot be used; open a new one: {self._failure}"
            )

    def _collect(self) -> list[Slot]:
        """Wait for every slot, and leave none to later calls."""
        slots: list[Slot] = []
        with self._changed:
            self._closed = True
            self._waiting += 1
            self._changed.notify_all()
            while self._count:
                if not self._idle:
                    self._changed.wait()
                    continue
                with suppress(IndexError):  # another thread may be faster
                    slots.append(self._idle.pop())
                    self._count -= 1
        return slots


class Run:
    """A run that was started in a slot, which the pool takes back at its end."""

    def __init__(self, slot: Slot, device: Device, pool: SlotPool) -> None:
        self._slot: Slot | None = slot
        self._device = device
        self._pool = pool
        self._settled: list[Outcome] | Exception | None = None  # what result() returns or raises, if the slot is back
        self._lock = threading.RLock()  # the garbage collector may end the same run in the thread that holds it

    def done(self) -> bool:
        """Return whether :meth:`result` returns without waiting."""
        if not self._lock.acquire(blocking=False):
            return False  # another thread waits for the run
        try:
            if self._slot is None:
                return True
            with self._device.current():
                return self._slot.is_done()
        finally:
            self._lock.release()

    def settle(self) -> None:
        """Wait, and keep the results for :meth:`result`, so that the slot is free for another run."""
        with self._lock:
            try:
                self._settled = self._end(Slot.finish) or self._settled
            except Exception as error:  # noqa: BLE001 - raised by result()
                self._settled = without_frames(error)

    def result(self) -> list[Outcome]:
        """Wait, then return the result of each image; raise ClosedError if the detector was closed meanwhile."""
        with self._lock:
            found = self._end(Slot.finish)
            settled, self._settled = self._settled, None
        if found is None and (settled is None or self._pool._closing):
            raise ClosedError("the detector was closed during this run; open a new one")
        if isinstance(settled, Exception):
            raise settled
        return found or settled or []

    def abandon(self) -> None:
        """Wait for the run and drop its results; do nothing if it has ended."""
        self._end(Slot.abandon)
        self._settled = None

    def _after_fork(self) -> None:
        """Forget the run in a forked process."""
        self._lock = threading.RLock()
        if self._slot is not None:
            _forks.never_free(self._slot)
            self._slot = None

    def _end(self, end: Callable[[Slot], list[Outcome] | None]) -> list[Outcome] | None:
        with self._lock:
            slot, self._slot = self._slot, None
            if slot is None:
                return None
            try:
                with self._device.current():
                    return end(slot)
            finally:
                self._pool._end(self, slot)
