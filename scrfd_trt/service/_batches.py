"""Images of different requests in shared batches, and the memory of those that are decoded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._devices import usable_cores

BATCHES_IN_FLIGHT = 3  # on each GPU; on the CPU, one runs and one waits


class _Waiting(NamedTuple):
    image: Any
    threshold: float | None
    found: asyncio.Future[Detections]


class Batches:
    """Runs images that wait together, as soon as the detector takes another batch. For one event loop."""

    def __init__(self, detector: SCRFDDetector, observe: Callable[[int], object]) -> None:
        self._detector, self._observe = detector, observe
        pipeline, on_cpu = detector._pipeline, detector.device == "cpu"
        self._size = min(pipeline.max_batch, usable_cores()) if on_cpu else pipeline.max_batch * pipeline.parallel
        self._in_flight = 2 if on_cpu else BATCHES_IN_FLIGHT
        self.capacity = self._size * (self._in_flight + 1) + usable_cores()  # images that are decoded at a time
        self._waiting: list[_Waiting] = []
        self._runs: set[asyncio.Task[None]] = set()
        self._began = self._busy = 0.0
        self.failures = 0  # batches that failed since the last that did not

    @property
    def busy_seconds(self) -> float:
        """Seconds in which at least one batch was with the detector."""
        return self._busy + (time.monotonic() - self._began if self._runs else 0.0)

    async def detect(self, image: Any, threshold: float | None) -> Detections:
        """Return the faces in an image; raise the error of its run."""
        found: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(image, threshold, found))
        if len(self._runs) < self._in_flight:
            self._began = self._began if self._runs else time.monotonic()
            run = asyncio.create_task(self._run(self._next_batch()))
            self._runs.add(run)
            run.add_done_callback(self._ended)
        return await found

    def _ended(self, run: asyncio.Task[None]) -> None:
        self._runs.remove(run)
        if not self._runs:
            self._busy += time.monotonic() - self._began

    async def _run(self, batch: list[_Waiting]) -> None:
        """Run a batch, and further ones until no image waits."""
        while batch:
            for one, result in zip(batch, await self._results(batch), strict=True):
                if one.found.done():
                    continue
                if isinstance(result, Exception):
                    one.found.set_exception(result)
                else:
                    one.found.set_result(result)
            batch = self._next_batch()

    def _next_batch(self) -> list[_Waiting]:
        """Take what runs next: images with the threshold of the first, so that no threshold changes others' results."""
        waiting = [one for one in self._waiting if not one.found.done()]  # the others' requests were given up
        batch = [one for one in waiting if one.threshold == waiting[0].threshold][: self._size]
        taken = set(map(id, batch))
        self._waiting = [one for one in waiting if id(one) not in taken]
        return batch

    async def _results(self, batch: list[_Waiting]) -> list[Any]:
        """Return the faces or the error of each image. If a batch fails, its images run one by one."""
        self._observe(len(batch))
        try:
            run = self._detector.submit([one.image for one in batch], threshold=batch[0].threshold)
            found = await asyncio.wrap_future(run)
        except Exception as error:  # noqa: BLE001 - raised where the image is waited for
            self.failures += 1
            return [error] if len(batch) == 1 else [(await self._results([one]))[0] for one in batch]
        self.failures = 0
        return found


class Room:
    """Bytes of memory for images in work. An image beyond the limit is granted alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self.used, self._changed = limit, 0, threading.Condition()

    def take(self, size: int) -> None:
        """Wait until bytes are free, and take them."""
        with self._changed:
            self._changed.wait_for(lambda: not self.used or self.used + size <= self._limit)
            self.used += size

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._changed:
            self.used -= size
            self._changed.notify_all()
