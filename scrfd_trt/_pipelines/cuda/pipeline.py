"""The pipeline on a GPU: lends slots to whoever detects, and closes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda import kernels as gpu_kernels
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.dropping import close_when_dropped, wait_for_dropped
from scrfd_trt._cuda.interop import DeviceImage
from scrfd_trt._cuda.memory import pinned_array
from scrfd_trt._cuda.records import LEVELS
from scrfd_trt._cuda.stream import borrow_stream, create_event, create_stream
from scrfd_trt._detections import Detections
from scrfd_trt._engine.loaded_engine import ContextPool, LoadedEngine
from scrfd_trt._heads import HeadLayout
from scrfd_trt._images import as_color, check_nv12, is_on_gpu
from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.frames import check_device_image
from scrfd_trt._pipelines.cuda.pool import SLOTS, SlotPool
from scrfd_trt._pipelines.cuda.resources import HELPERS, PipelineResources, max_batch, places_for
from scrfd_trt._pipelines.cuda.slot import Slot
from scrfd_trt._pipelines.scales import choose_scales
from scrfd_trt._pipelines.streaming import Pending
from scrfd_trt.errors import OptionError

if TYPE_CHECKING:
    from cuda.core import Event

    from scrfd_trt._options import DetectorOptions


class CudaPipeline:
    """Letterbox, network, decoding and suppression on a GPU.

    Parameters
    ----------
    reopen
        Opens the engine; it is called once, and again where more execution contexts are needed than an engine has.
    options
        Of the detector.
    stream
        A CUDA stream to work in: anything with ``__cuda_stream__``, or a handle as an int. It must live as long as
        this. None makes a stream for each of the runs that go on at the same time.

    Attributes
    ----------
    options : DetectorOptions
        As given.
    device : scrfd_trt._cuda.Device
        The GPU.

    Raises
    ------
    ModelFormatError
        If the engine is none of a SCRFD network.
    OptionError
        If ``scales`` asks for a size that the engine does not take.
    MissingDependencyError
        Without cuda.core or NVRTC.
    BackendError
        If there is not enough memory, say.
    """

    def __init__(self, reopen: Callable[[], LoadedEngine], options: DetectorOptions, *, stream: Any = None) -> None:
        wait_for_dropped()  # it may hold the memory that is needed here
        self.options = options
        self._workers: ThreadPoolExecutor | None = None
        self._intake_lock = threading.Lock()
        with ExitStack() as opening:
            engine = reopen()
            contexts = ContextPool(engine, reopen)
            opening.callback(contexts.close)
            helpers = opening.enter_context(ThreadPoolExecutor(HELPERS, "scrfd_trt copying"))
            self.device = device = engine.device
            turn = opening.enter_context(closing(create_event(device)))
            self._setting = _settle(engine, contexts, options, helpers, turn)
            lent = None if stream is None else opening.enter_context(closing(borrow_stream(stream, device)))
            capturing = opening.enter_context(closing(create_stream(device)))
            self._intake = opening.enter_context(closing(create_stream(device)))
            self._pool = SlotPool(self._setting, lent, capturing, opening.pop_all())
        self._finalizer = close_when_dropped(self, self._pool.close)

    @property
    def layout(self) -> HeadLayout:
        return self._setting.layout

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        return self._setting.scales

    @property
    def max_batch(self) -> int:
        return self._setting.images

    @property
    def description(self) -> str:
        return self._setting.description

    def prepare_image(self, image: Any) -> Any:
        """Check an image, as ``Pipeline.prepare_image`` does. Images on the GPU stay where they are."""
        if is_on_gpu(image):
            check_device_image(image, self.options.color)
            return image
        return check_nv12(image) if self.options.color == "nv12" else as_color(image)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Make an array in page-locked memory; see :meth:`scrfd_trt._pipelines.base.Pipeline.pinned`."""
        self._pool.check_open()
        return pinned_array(shape, self.device)

    def detect(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> list[Detections]:
        """Find the faces of some images; see :meth:`scrfd_trt._pipelines.base.Pipeline.detect`."""
        if 0 < len(images) <= self._setting.images:
            return self._run(images, threshold, max_faces, Slot.finish)
        return [faces for part in self._parts(images) for faces in self._run(part, threshold, max_faces, Slot.finish)]

    def detect_on_gpu(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> list[DeviceDetections]:
        """Find the faces of some images and leave them on the GPU; otherwise as :meth:`detect`."""
        return [
            faces for part in self._parts(images) for faces in self._run(part, threshold, max_faces, Slot.finish_on_gpu)
        ]

    def submit(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> Future[list[Detections]]:
        """Find the faces in another thread; see :meth:`scrfd_trt._pipelines.base.Pipeline.submit`."""
        ordered, event = self._in_order(images)
        with self._intake_lock:
            self._pool.check_not_closing()
            if self._workers is None:
                self._workers = ThreadPoolExecutor(SLOTS, "scrfd_trt")
            return self._workers.submit(self._detect_ordered, ordered, event, threshold, max_faces)

    def _in_order(self, images: Sequence[Any]) -> tuple[Sequence[Any], Event | None]:
        """Settle in the caller's thread from when on images on the GPU may be read, and record that in an event."""
        self._pool.check_open()
        if all(isinstance(image, np.ndarray) for image in images):
            return images, None
        with self._intake_lock, self.device.current():
            self._pool.check_not_closing()
            ordered = [
                image if isinstance(image, np.ndarray) else DeviceImage(image, self.device, self._intake)
                for image in images
            ]
            event = create_event(self.device)
            call("recording a CUDA event", self._intake.record, event)
        return ordered, event

    def _detect_ordered(
        self, images: Sequence[Any], event: Event | None, threshold: float, max_faces: int | None
    ) -> list[Detections]:
        return [
            faces for part in self._parts(images) for faces in self._run(part, threshold, max_faces, Slot.finish, event)
        ]

    def _parts(self, images: Sequence[Any]) -> Iterator[Sequence[Any]]:
        most = self._setting.images
        for start in range(0, len(images), most):
            yield images[start : start + most]

    def _run(
        self,
        images: Sequence[Any],
        threshold: float,
        max_faces: int | None,
        finish: Callable[[Slot], list[Any]],
        event: Event | None = None,
    ) -> list[Any]:
        slot = self._pool.acquire()
        try:
            with self.device.current():
                if event is not None:
                    slot.wait_for(event)
                slot.start(images, threshold, max_faces, on_gpu=finish is not Slot.finish)
                return finish(slot)
        finally:
            self._pool.give_back(slot)

    def start(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> Pending[Detections]:
        """Start a run; see :meth:`scrfd_trt._pipelines.base.Pipeline.start`."""
        # A slot is made if none is free: to wait could take for ever if this thread itself has them all.
        slot = self._pool.acquire(wait=False)
        try:
            with self.device.current():
                slot.start(images, threshold, max_faces)
            return self._pool.start(slot)
        except BaseException:
            with self.device.current():
                slot.abandon()
            self._pool.give_back(slot)
            raise

    @contextmanager
    def borrow_slot(self) -> Iterator[Slot]:
        """Lend a slot to measure or look into; wait if all are in use."""
        slot = self._pool.acquire()
        try:
            yield slot
        finally:
            self._pool.give_back(slot)

    def close(self) -> None:
        """Free everything, after the runs under way; a second call does nothing."""
        with self._intake_lock:
            is_first = self._pool.begin_closing()
        if not is_first:
            return
        if self._workers is not None:
            with suppress(RuntimeError):  # a worker that closes, from a future's callback, cannot wait for itself
                self._workers.shutdown(cancel_futures=True)
        self._finalizer.detach()
        self._pool.close()


def _settle(
    engine: LoadedEngine, contexts: ContextPool, options: DetectorOptions, helpers: Executor, turn: Event
) -> PipelineResources:
    layout = engine.layout
    scales = choose_scales(engine.input.shape, options.scales, engine.ranges)
    if len(scales) * len(layout.strides) > LEVELS:
        raise OptionError(f"scales: a GPU takes at most {LEVELS // len(layout.strides)} sizes at a time")
    batch = engine.input.shape[0] if layout.has_batch_axis else 1
    images = max_batch(engine.ranges, scales, batch, options.max_batch)
    places = max(places_for(engine.ranges, scale, count)[0] for scale in scales for count in range(1, images + 1))
    kernels = gpu_kernels.load(engine.device)
    return PipelineResources(engine, contexts, kernels, layout, scales, options, images, places, helpers, turn)
