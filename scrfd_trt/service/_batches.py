"""Images of different requests in shared batches, and the memory of those that are decoded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._devices import usable_cores
from scrfd_trt.errors import ScrfdError

BATCHES_IN_FLIGHT = 3  # on each GPU; on the CPU, one runs and one waits


class _Waiting(NamedTuple):
    image: Any
    threshold: float | None
    found: asyncio.Future[Detections]
    alone: bool = False


class Batches:
    """Runs images that wait together, as soon as the detector takes another batch. For one event loop."""

    def __init__(self, detector: SCRFDDetector, observe: Callable[[int], object]) -> None:
        self._detector, self._observe = detector, observe
        pipeline, on_cpu = detector._pipeline, detector.device == "cpu"
        self._size = min(pipeline.max_batch, usable_cores()) if on_cpu else pipeline.max_batch * pipeline.parallel
        self._in_flight = 2 if on_cpu else BATCHES_IN_FLIGHT
        self.capacity = self._size * (self._in_flight + 1) + usable_cores()  # images that are decoded at a time
        self._waiting: deque[_Waiting] = deque()
        self._running, self._began, self._busy = 0, 0.0, 0.0
        self.failures = 0  # batches that failed since the last that did not

    @property
    def busy_seconds(self) -> float:
        """Seconds in which at least one batch was with the detector."""
        return self._busy + (time.monotonic() - self._began if self._running else 0.0)

    async def detect(self, image: Any, threshold: float | None) -> Detections:
        """Return the faces in an image; raise the error of its run."""
        found: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(image, threshold, found))
        self._start()
        return await found

    def _start(self) -> None:
        while self._waiting and self._running < self._in_flight:
            if not (batch := self._next_batch()):
                continue
            if not self._running:
                self._began = time.monotonic()
            self._running += 1
            self._observe(len(batch))
            try:
                run = self._detector.submit([each.image for each in batch], threshold=batch[0].threshold)
            except ScrfdError as error:
                run = Future()
                run.set_exception(error)
            run.add_done_callback(partial(_call, asyncio.get_running_loop(), partial(self._end, batch)))

    def _next_batch(self) -> list[_Waiting]:
        """Take what runs next: images with the threshold of the first, so that no threshold changes others' results."""
        batch: list[_Waiting] = []
        others: list[_Waiting] = []
        while self._waiting and len(batch) < self._size:
            one = self._waiting.popleft()
            if one.found.done():  # its request was given up
                continue
            if batch and (one.alone or batch[0].alone or one.threshold != batch[0].threshold):
                others.append(one)
            else:
                batch.append(one)
        self._waiting.extendleft(reversed(others))
        return batch

    def _end(self, batch: list[_Waiting], run: Future[list[Detections]]) -> None:
        self._running -= 1
        if not self._running:
            self._busy += time.monotonic() - self._began
        error = run.exception()
        self.failures = self.failures + 1 if error else 0
        if error and len(batch) > 1:  # the others of the batch are not to blame
            self._waiting.extendleft(reversed([each._replace(alone=True) for each in batch]))
        else:
            results = [None] if error else run.result()
            for each, found in zip(batch, results, strict=True):
                if each.found.done():
                    continue
                if error:
                    each.found.set_exception(error)
                elif found is not None:
                    each.found.set_result(found)
        self._start()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(function, *arguments)


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
