"""The pipeline on a GPU: prepares images, and starts and awaits runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _forks
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.finalizers import close_when_dropped, wait_for_dropped
from scrfd_trt._cuda.interop import DeviceImage, gpu_of
from scrfd_trt._cuda.memory import pinned_array
from scrfd_trt._cuda.stream import borrow_stream, create_event, create_stream
from scrfd_trt._detections import Detections
from scrfd_trt._engine.loaded_engine import ContextPool, LoadedEngine
from scrfd_trt._image_arrays import YUVImage, as_color, check_nv12, check_yuv, is_on_gpu
from scrfd_trt._passes import Look, as_look
from scrfd_trt._pipelines.base import Outcome, all_found
from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.frames import check_device_image, check_device_planes, host_arrays
from scrfd_trt._pipelines.cuda.pool import SLOTS, SlotPool
from scrfd_trt._pipelines.cuda.resources import make_resources
from scrfd_trt._pipelines.cuda.slot import Slot
from scrfd_trt._pipelines.cuda.slot_memory import Helpers
from scrfd_trt._pipelines.cuda.views import Lanes
from scrfd_trt._pipelines.streaming import Pending, Runs, Workers, in_order, in_place
from scrfd_trt.errors import OptionError, out_of_memory

if TYPE_CHECKING:
    from cuda.core import Event

    from scrfd_trt._options import DetectorOptions

Images = Sequence[Any]
Finish = Callable[[Slot], list[Any]]  # a method of the slot that waits for a run and returns its results


class CudaPipeline:
    """Letterbox, inference, decoding and NMS on a GPU; ``reopen`` opens the engine, ``stream`` is the caller's."""

    parallel = 1
    cuts_padding = False
    takes_looks = True

    def __init__(self, reopen: Callable[[], LoadedEngine], options: DetectorOptions, *, stream: Any = None) -> None:
        wait_for_dropped()  # it may hold the memory that is needed here
        self.options = options
        self._sees_whole = not as_look(None, options).has_views
        self._workers = Workers(SLOTS)
        self._lock = _forks.Lock()
        with ExitStack() as stack:
            engine = reopen()
            contexts = ContextPool(engine, reopen)
            stack.callback(contexts.close)
            helpers = stack.enter_context(Helpers())
            self.device = device = engine.device
            inference_done = stack.enter_context(closing(create_event(device)))
            self._resources = shared = make_resources(engine, contexts, options, helpers, inference_done)
            borrowed = None if stream is None else stack.enter_context(closing(borrow_stream(stream, device)))
            capture_stream = stack.enter_context(closing(create_stream(device)))
            self._input_stream = stack.enter_context(closing(create_stream(device)))
            lanes = stack.enter_context(closing(Lanes(self._resources, capture_stream)))
            self._pool = SlotPool(self._resources, borrowed, capture_stream, lanes, stack.pop_all())
        self.layout, self.scales, self.max_batch = shared.layout, shared.scales, shared.max_batch
        self.description, self.runtime = shared.description, str(engine.flavour)
        self._finalizer = close_when_dropped(self, self._pool.close)
        _forks.register(self)

    @property
    def frame_device(self) -> str:
        """Device in whose memory the frames of a video may lie."""
        return f"cuda:{self.device.index}"

    @property
    def in_flight(self) -> int:
        """Runs whose results have not been read, and those that have not started."""
        return self._pool.in_flight + self._workers.pending

    def prepare_image(self, image: Any) -> Any:
        if isinstance(image, YUVImage):
            if not (is_on_gpu(image.y) or is_on_gpu(image.uv)):
                return check_yuv(image)
            check_device_planes(image)
            return image
        if is_on_gpu(image):
            check_device_image(image, self.options.color)
            return image
        return check_nv12(image) if self.options.color == "nv12" else as_color(image)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        self._pool.check_open()
        return pinned_array(shape, self.device)

    def detect(
        self, images: Images, threshold: float, max_faces: int | None, event: Event | None = None
    ) -> list[Detections]:
        """Detect as :meth:`Pipeline.detect` says, after an event if one is given."""
        return all_found(self._run_all(images, threshold, max_faces, Slot.finish, event))

    def detect_on_gpu(self, images: Images, threshold: float, max_faces: int | None) -> list[DeviceDetections]:
        """Detect as :meth:`detect` does, and leave the results on the GPU."""
        return self._run_all(images, threshold, max_faces, Slot.finish_on_gpu)

    def submit(self, images: Images, threshold: float, max_faces: int | None) -> Future[list[Detections]]:
        self._pool.check_open()
        ordered, event = self._order(images)
        return self._workers.submit(self.detect, ordered, threshold, max_faces, event)

    def _order(self, images: Images) -> tuple[Images, Event | None]:
        """Return the images, and an event in the caller's order after which those on the GPU may be read."""
        if all(host_arrays(image) for image in images):
            return images, None
        with self._lock, self.device.current():
            self._pool.check_not_closing()
            ordered = [image if host_arrays(image) else self._borrow(image) for image in images]
            event = create_event(self.device)
            call("recording a CUDA event", self._input_stream.record, event)
        return ordered, event

    def _borrow(self, image: Any) -> DeviceImage | YUVImage | Look:
        if isinstance(image, Look):
            return replace(image, image=self._borrow(image.image))
        if not isinstance(image, YUVImage):
            return DeviceImage(image, self.device, self._input_stream)
        y, uv = (DeviceImage(plane, self.device, self._input_stream, is_plane=True) for plane in (image.y, image.uv))
        return replace(image, y=y, uv=uv)

    def _run_all(
        self, images: Images, threshold: float, max_faces: int | None, finish: Finish, event: Event | None = None
    ) -> list[Any]:
        """Run batch by batch."""
        step = self._resources.max_batch
        found: list[Any] = []
        for start in range(0, len(images), step):
            kinds = self._kinds(images[start : start + step])
            runs = [(self._run(some, threshold, max_faces, finish, event), places) for some, places in kinds]
            found += runs[0][0] if len(runs) == 1 else in_place(runs)
        return found

    def _kinds(self, images: Images) -> list[tuple[Images, Sequence[int]]]:
        """Return the images that are seen as a whole, and looks at the others; with their places if there are both."""
        if self._sees_whole and Look not in map(type, images):
            return [(images, ())]
        looks = [as_look(image, self.options) for image in images]
        kinds: tuple[dict[int, Any], dict[int, Any]] = {}, {}
        for place, look in enumerate(looks):
            kinds[look.has_views][place] = look if look.has_views else look.image
        return [(list(kind.values()), list(kind)) for kind in kinds if kind]

    def _run(
        self, images: Images, threshold: float, max_faces: int | None, finish: Finish, event: Event | None = None
    ) -> list[Any]:
        slot = self._pool.acquire()
        try:
            with self.device.current():
                if event is not None:
                    slot.wait_for(event)
                slot.start(images, threshold, max_faces, on_gpu=finish is not Slot.finish)
                return finish(slot)
        except MemoryError as error:
            raise out_of_memory("detecting faces") from error
        finally:
            self._pool.release(slot)

    def start(self, images: Images, threshold: float, max_faces: int | None) -> Pending[Outcome]:
        kinds = self._kinds(images)
        if len(kinds) == 1:
            return self._start(kinds[0][0], threshold, max_faces)
        return Runs((self._start(some, threshold, max_faces), places) for some, places in kinds)

    def _start(self, images: Images, threshold: float, max_faces: int | None) -> Pending[Outcome]:
        slot = self._pool.acquire()
        try:
            with self.device.current():
                slot.start(images, threshold, max_faces, in_background=True)
            return self._pool.start(slot)
        except BaseException:
            with self.device.current():
                slot.abandon()
            self._pool.release(slot)
            raise

    @contextmanager
    def borrow_slot(self) -> Iterator[Slot]:
        """Yield a slot for measurements; wait if all are in use."""
        slot = self._pool.acquire()
        try:
            yield slot
        finally:
            self._pool.release(slot)

    def close(self) -> None:
        """Free everything after all runs have ended; a second call does nothing."""
        with self._lock:
            is_first = self._pool.begin_closing()
        if not is_first:
            return
        self._workers.close()
        self._finalizer.detach()
        self._pool.close()

    def _after_fork(self) -> None:
        """Refuse all calls and free nothing: a forked process cannot use its parent's GPU."""
        self._finalizer.detach()
        self._pool._after_fork()


class SpreadPipeline:
    """One pipeline a GPU, which it closes, with the same options; OptionError if their sizes differ."""

    cuts_padding = False
    takes_looks = True

    def __init__(self, pipelines: Sequence[CudaPipeline]) -> None:
        self._pipelines = {pipeline.device.index: pipeline for pipeline in pipelines}
        self._first = first = pipelines[0]
        self.layout, self.scales = first.layout, first.scales
        if any(pipeline.scales != self.scales for pipeline in pipelines):
            raise OptionError(
                "scales: the engines of these GPUs run at different sizes; choose some that all have", fields=["scales"]
            )
        self.max_batch = min(pipeline.max_batch for pipeline in pipelines)
        self.parallel = len(pipelines)
        kinds = Counter((pipeline.runtime, pipeline.device.gpu.name) for pipeline in pipelines)
        self.description = ", ".join(f"{runtime} on {count} × {name}" for (runtime, name), count in kinds.items())
        self._workers = Workers(1)
        self._turns = cycle(pipelines)

    @property
    def frame_device(self) -> str:
        """Device in whose memory the frames of a video may lie; each video gets another one."""
        return next(self._turns).frame_device

    def prepare_image(self, image: Any) -> Any:
        return self._first.prepare_image(image)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return self._first.pinned(shape)

    def detect(self, images: Images, threshold: float, max_faces: int | None) -> list[Detections]:
        if len(images) <= self.max_batch:
            return in_place(self._call(CudaPipeline.detect, images, threshold, max_faces))
        limits, in_flight = (threshold, max_faces), SLOTS * self.parallel
        return all_found(in_order(lambda batch: self.start(batch, *limits), images, self.max_batch, in_flight))

    def detect_on_gpu(self, images: Images, threshold: float, max_faces: int | None) -> list[DeviceDetections]:
        """Detect as :meth:`detect` does, and leave the results on the GPU that computed them."""
        return in_place(self._call(CudaPipeline.detect_on_gpu, images, threshold, max_faces))

    def submit(self, images: Images, threshold: float, max_faces: int | None) -> Future[list[Detections]]:
        runs = Runs(self._call(CudaPipeline.submit, images, threshold, max_faces))
        if len(runs.parts) == 1:
            return cast("Future[list[Detections]]", runs.parts[0][0])
        return self._workers.submit(runs.result)

    def start(self, images: Images, threshold: float, max_faces: int | None) -> Pending[Outcome]:
        return Runs(self._call(CudaPipeline.start, images, threshold, max_faces))

    def _call(self, method: Callable[..., Any], images: Images, *limits: Any) -> Iterator[tuple[Any, list[int]]]:
        """Call a method of the pipelines for what each GPU processes."""
        for index, places in self._shares(images).items():
            yield method(self._pipelines[index], [images[place] for place in places], *limits), places

    def _shares(self, images: Images) -> dict[int, list[int]]:
        """Return the places of the images that each GPU processes."""
        shares: defaultdict[int, list[int]] = defaultdict(list)
        planned: Counter[int] = Counter()
        for first in range(0, len(images), self.max_batch):
            idle = min(self._pipelines, key=lambda index: self._pipelines[index].in_flight + planned[index])
            planned[idle] += 1
            for place in range(first, min(first + self.max_batch, len(images))):
                home = _home(images[place])
                shares[home if home in self._pipelines else idle].append(place)
        return shares

    def close(self) -> None:
        """Close all pipelines, even if one raises; a second call does nothing."""
        with ExitStack() as stack:
            stack.callback(self._workers.close)
            for pipeline in self._pipelines.values():
                stack.callback(pipeline.close)


def _home(image: Any) -> int | None:
    """Return the number of the GPU that an image is on; None for the host."""
    image = image.image if isinstance(image, Look) else image
    array = image.y if isinstance(image, YUVImage) else image
    return None if isinstance(array, np.ndarray) else gpu_of(array)
