"""The pipeline on a GPU: prepares images, and starts and awaits runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _forks
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.finalizers import close_when_dropped, wait_for_dropped
from scrfd_trt._cuda.interop import DeviceImage
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
from scrfd_trt._pipelines.streaming import Pending, Runs, Workers, in_place
from scrfd_trt.errors import out_of_memory

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
