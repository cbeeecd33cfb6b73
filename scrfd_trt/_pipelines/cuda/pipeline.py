"""The pipeline on a GPU: lends slots to whoever detects, and closes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda import Device, Event, Stream
from scrfd_trt._cuda import kernels as gpu_kernels
from scrfd_trt._cuda.interop import DeviceImage
from scrfd_trt._cuda.memory import pinned_array
from scrfd_trt._cuda.records import LEVELS
from scrfd_trt._detections import Detections
from scrfd_trt._engine.loaded_engine import ContextPool, LoadedEngine
from scrfd_trt._heads import HeadLayout
from scrfd_trt._images import as_color, check_nv12, is_on_gpu
from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.frames import check_device_image
from scrfd_trt._pipelines.cuda.resources import HELPERS, PipelineResources, images_at_once, places_for
from scrfd_trt._pipelines.cuda.slot import Slot
from scrfd_trt._pipelines.scales import choose_scales
from scrfd_trt._pipelines.streaming import Pending
from scrfd_trt.errors import BackendError, ClosedError, OptionError, ScrfdError

if TYPE_CHECKING:
    from scrfd_trt._options import DetectorOptions


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
        self.options = options
        self._idle: list[Slot] = []
        self._made = self._waiting = 0
        self._free = threading.Condition()
        self._closing = self._closed = False
        self._runs: set[Run] = set()
        self._broken = ""
        self._workers: ThreadPoolExecutor | None = None
        with ExitStack() as opening:
            engine = reopen()
            contexts = ContextPool(engine, reopen)
            opening.callback(contexts.close)
            helpers = opening.enter_context(ThreadPoolExecutor(HELPERS, "scrfd_trt copying"))
            turn = opening.enter_context(Event(engine.device))
            self._setting = _settle(engine, contexts, options, helpers, turn)
            self.device = engine.device
            with self.device.current():
                self._lent = None if stream is None else opening.enter_context(Stream.borrow(stream, self.device))
                self._capturing = opening.enter_context(Stream.create(self.device))
                self._intake = opening.enter_context(Stream.create(self.device))
            self._open = opening.pop_all()
        self._intake_lock = threading.Lock()

    @property
    def layout(self) -> HeadLayout:
        return self._setting.layout

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        return self._setting.scales

    @property
    def images_at_once(self) -> int:
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
        self._check_open()
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
        try:
            with self._free:
                self._check_not_closing()
                if self._workers is None:
                    self._workers = ThreadPoolExecutor(SLOTS, "scrfd_trt")
                future = self._workers.submit(self._detect_ordered, ordered, event, threshold, max_faces)
        except BaseException:
            if event is not None:
                event.close()
            raise
        if event is not None:
            future.add_done_callback(lambda _: event.close())
        return future

    def _in_order(self, images: Sequence[Any]) -> tuple[Sequence[Any], Event | None]:
        """Settle in the caller's thread from when on images on the GPU may be read, and mark that in a stream."""
        self._check_open()
        if all(isinstance(image, np.ndarray) for image in images):
            return images, None
        with self._intake_lock, self.device.current():
            self._check_not_closing()
            ordered = [
                image if isinstance(image, np.ndarray) else DeviceImage(image, self.device, self._intake)
                for image in images
            ]
            event = Event(self.device)
            event.record(self._intake)
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
        slot = self._acquire()
        try:
            with self.device.current():
                if event is not None:
                    slot.wait_for(event)
                slot.start(images, threshold, max_faces, on_gpu=finish is not Slot.finish)
                return finish(slot)
        finally:
            self.give_back(slot)

    def start(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> Pending[Detections]:
        """Put a run on its way; see :meth:`scrfd_trt._pipelines.base.Pipeline.start`."""
        # A slot is made where none is free: to wait for one could take for ever, where this thread itself has them all.
        slot = self._acquire(wait=False)
        try:
            with self.device.current():
                slot.start(images, threshold, max_faces)
            run = Run(slot, self.device, self._end)
            with self._free:
                self._check_not_closing()
                self._runs.add(run)
                self._free.notify_all()  # its slot does not count any more, so that another may be made
        except BaseException:
            with self.device.current():
                slot.abandon()
            self.give_back(slot)
            raise
        return run

    def _end(self, run: Run, slot: Slot) -> None:
        """Take back the slot of a run, and let go of one that only the stream needed."""
        with self._free:
            self._runs.discard(run)
            if len(self._idle) < SLOTS:
                self.give_back(slot)
                return
        try:
            with self.device.current():
                slot.close()
        finally:
            with self._free:  # only now, so that close() waits for it
                self._made -= 1
                self._broken = self._broken or slot.broken
                self._free.notify_all()

    @contextmanager
    def borrow_slot(self) -> Iterator[Slot]:
        """Lend a slot to measure or look into; wait where all are in use."""
        slot = self._acquire()
        try:
            yield slot
        finally:
            self.give_back(slot)

    def _acquire(self, *, wait: bool = True) -> Slot:
        """Take the slot that was used last; where all are in use, wait for one or make another."""
        try:
            slot = self._idle.pop()  # atomic, as is append()
        except IndexError:
            slot = self._wait_for_slot(wait=wait)
        if self._closed or self._broken:
            self._release(slot)
            self._check_usable()
        return slot

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

    def give_back(self, slot: Slot) -> None:
        """Take a slot back whose run is done or has failed."""
        self._broken = self._broken or slot.broken
        self._release(slot)

    def _release(self, slot: Slot) -> None:
        self._idle.append(slot)
        if self._waiting:
            with self._free:
                self._free.notify_all()

    def _new_slot(self) -> Slot:
        with self.device.current():
            stream = Stream.create(self.device) if self._lent is None else Stream.borrow(self._lent, self.device)
            return Slot(self._setting, stream, self._capturing)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the detector was closed; open a new one")

    def _check_not_closing(self) -> None:
        if self._closing:
            raise ClosedError("the detector was closed; open a new one")

    def _check_usable(self) -> None:
        self._check_open()
        if self._broken:
            raise BackendError(
                f"an earlier run failed, and nothing can be run until it is opened again: {self._broken}"
            )

    def close(self) -> None:
        """Give everything back, after the runs under way; a second call does nothing."""
        with self._free, self._intake_lock:
            if self._closing:
                return
            self._closing = True
        for run in list(self._runs):  # of streams that nobody reads to their end
            run.abandon()
        if self._workers is not None:
            with suppress(RuntimeError):  # a worker that closes, from a future's callback, cannot wait for itself
                self._workers.shutdown(cancel_futures=True)
        slots = self._take_all_back()
        try:
            with self.device.current(), self._open:
                for slot in slots:
                    self._open.callback(slot.close)
        except ScrfdError as error:
            if not self._broken:
                raise
            log.debug("closing after a failed run: %s", str(error))

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


def _settle(
    engine: LoadedEngine, contexts: ContextPool, options: DetectorOptions, helpers: Executor, turn: Event
) -> PipelineResources:
    layout = engine.layout
    scales = choose_scales(engine.input.shape, options.scales, engine.ranges)
    if len(scales) * len(layout.strides) > LEVELS:
        raise OptionError(f"scales: a GPU takes at most {LEVELS // len(layout.strides)} sizes at a time")
    batch = engine.input.shape[0] if layout.has_batch_axis else 1
    images = images_at_once(engine.ranges, scales, batch, options.max_batch)
    places = max(places_for(engine.ranges, scale, count)[0] for scale in scales for count in range(1, images + 1))
    kernels = gpu_kernels.load(engine.device)
    return PipelineResources(engine, contexts, kernels, layout, scales, options, images, places, helpers, turn)
