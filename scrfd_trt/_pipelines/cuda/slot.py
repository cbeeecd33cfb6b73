"""Room for one run at a time: its memory, its stream, and the work for each number of images."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.interop import DeviceImage
from scrfd_trt._cuda.memory import copy, free, gpu_memory
from scrfd_trt._cuda.records import HEADER, NO_LIMIT, RESULT_BYTES
from scrfd_trt._cuda.stream import is_done, synchronize
from scrfd_trt._decode import Candidates, decode
from scrfd_trt._detections import Detections
from scrfd_trt._letterbox import Letterbox
from scrfd_trt._pipelines.base import merge_passes
from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.frames import Geometry, of_device, packed
from scrfd_trt._pipelines.cuda.memory import Arena, Parameters, Upload
from scrfd_trt._pipelines.cuda.program import Program
from scrfd_trt._pipelines.cuda.resources import HELPERS, PipelineResources
from scrfd_trt.errors import BackendError, ScrfdError

if TYPE_CHECKING:
    from cuda.core import Buffer, Event, Stream

log = logging.getLogger("scrfd_trt")

PROGRAMS = 8
"""Numbers of images for which a slot keeps its work ready."""


class Slot:
    """Room for one run at a time.

    Parameters
    ----------
    setting
        Of the pipeline.
    stream
        What its runs are put into. It belongs to the slot from now on, and is closed with it.
    capturing
        A stream that nobody else uses, to capture in.
    """

    def __init__(self, setting: PipelineResources, stream: Stream, capturing: Stream) -> None:
        self._setting, self._stream, self._capturing = setting, stream, capturing
        self._programs: OrderedDict[int, Program] = OrderedDict()
        self._under_way = False
        self._sizes: list[tuple[int, int]] = []
        self._images: list[Any] = []
        self._borrowed: list[DeviceImage] = []
        self._fetched: dict[int, list[NDArray[Any]]] = {}
        self._how = (0, 0.0, NO_LIMIT)
        self._running: Program
        self._color = setting.options.color
        self._has_landmarks = setting.layout.landmarks is not None
        self._on_gpu: Buffer | None = None
        self.broken = ""
        with ExitStack() as opening:
            opening.callback(stream.close)
            self._upload = Upload(setting.device, stream, setting.helpers, HELPERS)
            opening.callback(self._upload.close)
            self._arena = Arena(setting, stream, opening)
            self._parameters = Parameters(setting, memoryview(self._arena.parameters.data))
            self._scratch = setting.engine.new_scratch(stream)
            if self._scratch is not None:
                opening.callback(free, self._scratch)
            opening.callback(self._drop_programs)
            self._open = opening.pop_all()

    def start(self, images: Sequence[Any], threshold: float, max_faces: int | None, *, on_gpu: bool = False) -> None:
        """Put a run on its way, with the device current.

        Parameters
        ----------
        images
            As many as the setting allows: arrays of the host, arrays on the GPU, or :class:`DeviceImage` that may be
            read. They must not be changed until :meth:`finish` or :meth:`finish_on_gpu` is done.
        threshold, max_faces
            As for the pipeline.
        on_gpu
            Whether :meth:`finish_on_gpu` is to end the run.
        """
        if self._under_way:  # an interrupted run may still use the memory
            synchronize(self._stream)
            self._under_way = False
        if len(images) > self._setting.images:
            raise BackendError(f"{len(images)} images are too many for one run, which takes {self._setting.images}")
        self._running = self.program(len(images))
        on_host = [image for image in images if isinstance(image, np.ndarray)]
        if on_host:
            self._upload.reserve(on_host)
        self._how = (self._results(on_gpu=on_gpu), threshold, min(max_faces or NO_LIMIT, NO_LIMIT))
        self._images = list(images)  # the GPU may read them until the run is done
        self._under_way = True
        try:
            self._describe(images, self._upload.copy(on_host) if on_host else [])
            self._running.start(self._stream)
        except BaseException as error:
            self._fail(error)
            self.abandon()
            raise

    def is_done(self) -> bool:
        """Whether the run is done, with the device current."""
        return is_done(self._stream)

    def finish(self) -> list[Detections]:
        """Wait for the run and return the faces of each image, with the device current."""
        self._wait()
        found = []
        for index, (candidates, faces, unsound) in enumerate(self._arena.headers[: len(self._sizes)].tolist()):
            if faces < 0:
                found.append(self._finish_on_host(index, candidates))
                continue
            if unsound:
                self._raise_invalid_values()
            found.append(self._read(index, faces))
        self._fetched = {}
        return found

    def abandon(self) -> None:
        """Wait for the run and drop what it found, with the device current."""
        try:
            synchronize(self._stream)
        except ScrfdError as error:
            self._fail(error)
        self._under_way = False
        self._images, self._borrowed = [], []

    def finish_on_gpu(self) -> list[DeviceDetections]:
        """Wait for the run, and leave the faces of each image on the GPU, with the device current.

        Raises
        ------
        BackendError
            If an image has more candidates than can be finished on the GPU.
        """
        self._wait()
        images = range(len(self._sizes))
        for index in images:
            at, size = index * RESULT_BYTES, 4 * HEADER
            target, source = self._arena.results_at + at, self._how[0] + at
            copy("reading the number of faces", target, source, size, self._stream)
        synchronize(self._stream)
        found = [self._copy_on_gpu(index) for index in images]
        synchronize(self._stream)
        return found

    def _results(self, *, on_gpu: bool) -> int:
        """Return the address that results go to."""
        if not on_gpu:
            return self._arena.results_at
        if self._on_gpu is None:
            self._on_gpu = gpu_memory(self._setting.images * RESULT_BYTES, self._setting.device, self._stream)
            self._open.callback(free, self._on_gpu)
        return int(self._on_gpu.handle)

    def _copy_on_gpu(self, index: int) -> DeviceDetections:
        candidates, faces, unsound = self._arena.headers[index].tolist()
        if faces < 0:
            raise BackendError(
                f"{candidates} rows are above the threshold {self._how[1]:g}, too many to be finished on the GPU; "
                "raise the threshold, or take the results on the host"
            )
        if unsound:
            self._raise_invalid_values()
        rows = self._how[0] + index * RESULT_BYTES + 4 * HEADER
        return DeviceDetections.copy(
            rows,
            faces,
            self._sizes[index],
            device=self._setting.device,
            stream=self._stream,
            landmarks=self._has_landmarks,
        )

    def wait_for(self, event: Event) -> None:
        """Let the next run wait for a mark in another stream, with the device current."""
        call("letting one stream wait for another", self._stream.wait, event)

    def read_input(self, number: int, images: int) -> NDArray[Any]:
        """Copy what the network was given last in a pass to the host, with the device current.

        Returns
        -------
        numpy.ndarray
            ``(images, 3, H, W)`` of the input's type.
        """
        width, height = self._setting.scales[number]
        array = np.empty((images, 3, height, width), self._setting.engine.input.dtype)
        doing = "copying the network's input from the GPU"
        copy(doing, array.ctypes.data, self._arena.inputs_at[number], array.nbytes, self._stream)
        synchronize(self._stream)
        return array

    def _wait(self) -> None:
        try:
            synchronize(self._stream)
        except BaseException as error:
            self._fail(error)
            raise
        self._under_way = False
        self._images, self._borrowed = [], []
        self._fetched = {}
        if not self._running.is_settled:
            with self._setting.preparing:
                self._running.capture(self._capturing)

    def _fail(self, error: BaseException) -> None:
        """Remember that the GPU failed, and that nobody knows what lies in its memory."""
        self._parameters.forget(self._setting.images)
        if isinstance(error, BackendError):
            self.broken = str(error)

    def _describe(self, images: Sequence[Any], copies: list[int]) -> None:
        """Tell the kernels of a run's images, given the addresses of the host's ones on the GPU."""
        self._parameters.set_run(*self._how)
        self._sizes, self._borrowed = [], []
        copied = iter(copies)
        for place, image in enumerate(images):
            if isinstance(image, np.ndarray):
                geometry, address = packed(image.shape, self._color), next(copied)
            else:
                geometry, address = self._borrow(image)
            self._parameters.set_image(place, geometry, address)
            self._sizes.append(geometry.size)

    def _borrow(self, image: Any) -> tuple[Geometry, int]:
        """Look at an image on the GPU, in order behind what made it, and keep it alive until the next run."""
        if not isinstance(image, DeviceImage):
            image = DeviceImage(image, self._setting.device, self._stream)
        self._borrowed.append(image)
        return of_device(image, self._color), image.address

    def _read(self, index: int, faces: int) -> Detections:
        arena = self._arena
        return Detections.unchecked(
            arena.boxes[index, :faces].copy(),
            arena.scores[index, :faces].copy(),
            arena.landmarks[index, :faces].copy() if self._has_landmarks else None,
            image_size=self._sizes[index],
        )

    def _finish_on_host(self, index: int, candidates: int) -> Detections:
        setting, size, (_, threshold, limit) = self._setting, self._sizes[index], self._how
        log.info(
            "%d rows are above the threshold %g, more than the GPU holds; the processor finishes, which takes longer",
            candidates,
            threshold,
        )
        passes = [self._candidates(number, index, threshold) for number in range(len(setting.scales))]
        return merge_passes(passes, setting.options.iou, limit, size, setting.description)

    def _candidates(self, number: int, index: int, threshold: float) -> Candidates:
        """Decode one image's candidates of a pass on the host."""
        setting, scale = self._setting, self._setting.scales[number]
        if number not in self._fetched:
            self._fetched[number] = self._running.outputs(number, self._stream)
        outputs = self._fetched[number]
        box = Letterbox.fit(self._sizes[index], scale)
        return decode(setting.layout, outputs, index, scale, threshold).to_source(box)

    def _raise_invalid_values(self) -> None:
        raise BackendError(
            f"{self._setting.description}: the model returned invalid values: numbers that are not finite, or "
            "scores above 1"
        )

    def program(self, images: int) -> Program:
        """Return the work for so many images, made ready where it is not yet."""
        program = self._programs.get(images)
        if program is None:
            with self._setting.preparing:
                if len(self._programs) == PROGRAMS:
                    self._programs.popitem(last=False)[1].close()
                program = Program(self._setting, self._arena, self._scratch, images, self._stream)
            self._programs[images] = program
        self._programs.move_to_end(images)
        return program

    def _drop_programs(self) -> None:
        with ExitStack() as closing:  # all of them, whatever one of them says
            while self._programs:
                closing.callback(self._programs.popitem()[1].close)

    def close(self) -> None:
        """Give all of it back, with the device current; a second call does nothing."""
        if self._under_way:
            self._under_way = False
            try:
                synchronize(self._stream)
                self._images, self._borrowed = [], []
            except ScrfdError as error:
                log.debug("closing after a failed run: %s", str(error))
        self._parameters.release()
        self._arena.forget()
        self._open.close()
