"""Images of different requests in shared batches, the memory of those that are decoded, and the detector's state."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._devices import all_gpus, parse, usable_cores
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._inputs import Picture
from scrfd_trt.errors import ScrfdError

BROKEN = 3  # batches that fail one after the other, until the service says that it is not healthy
BATCHES_IN_FLIGHT = 3  # on each GPU; on the CPU, one runs and one waits


class _Waiting(NamedTuple):
    image: Picture
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

    async def detect(self, pixels: NDArray[Any], threshold: float | None) -> Detections:
        """Return the faces in an image; raise the error of its run."""
        found: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(Picture(pixels.nbytes, lambda: pixels), threshold, found))
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

    def take(self, size: int, _pixels: int) -> Any:
        """Wait until bytes are free, and take them; return what to give back."""
        with self._changed:
            self._changed.wait_for(lambda: not self.used or self.used + size <= self._limit)
            self.used += size
        return size

    def put(self, _taken: Any, frame: ImageFrame) -> tuple[ImageFrame, Any]:
        """Return a frame, and what the detector takes."""
        return frame, frame.visible()

    def give(self, size: Any) -> None:
        """Give bytes back."""
        with self._changed:
            self.used -= size
            self._changed.notify_all()


class State(NamedTuple):
    """What the probes and the metrics say about the detector; ``gpus`` are the bytes in use on each."""

    is_broken: bool
    image_bytes: float
    busy_seconds: float
    gpus: dict[int, float]


class Engine:
    """A detector of this process: its batches, memory and state; ``about`` describes it."""

    def __init__(self, detector: SCRFDDetector, observe: Callable[[int], object], limit: int) -> None:
        self._detector, self.batches, self.room = detector, Batches(detector, observe), Room(limit)
        options = detector.options.model_dump(mode="json", include={"threshold", "iou", "min_face", "rotations"})
        sizes = {"scales": detector.scales, "max_batch": detector._pipeline.max_batch}
        self.about = {"device": detector.device, "description": detector.description, **sizes, **options}
        self._gpus: dict[int, Any] = {}
        if (kind := parse(detector.device))[0] != "cpu":
            from scrfd_trt._cuda.driver import Device  # noqa: PLC0415 - loads the modules of CUDA

            numbers = [gpu.index for gpu in all_gpus()] if kind[0] == "all" else [kind[1] or 0]
            self._gpus = {number: Device(number) for number in numbers}

    async def start(self) -> None:
        """Start nothing: the detector is open."""

    def state(self) -> State:
        """Return what the probes and the metrics say."""
        is_broken = self.batches.failures >= BROKEN or self._detector._model.is_closed
        gpus = {number: _used_memory(device) for number, device in self._gpus.items()}
        return State(is_broken, self.room.used, self.batches.busy_seconds, gpus)


def _used_memory(device: Any) -> float:
    try:
        with device.current():
            free, total = device.memory()
    except ScrfdError:  # of a GPU that failed; the probes report it
        return float("nan")
    return float(total - free)
