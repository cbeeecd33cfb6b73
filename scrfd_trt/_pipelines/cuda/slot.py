"""What one run at a time needs: memory, a stream, and a program for each batch size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.interop import DeviceImage
from scrfd_trt._cuda.kernels import HEADER, NO_LIMIT, RESULT_BYTES
from scrfd_trt._cuda.memory import copy, free, gpu_memory
from scrfd_trt._cuda.stream import is_done, synchronize
from scrfd_trt._decode import Candidates, decode
from scrfd_trt._detections import Detections
from scrfd_trt._image_arrays import YUVImage, from_nv12, from_yuv
from scrfd_trt._letterbox import Letterbox
from scrfd_trt._passes import Look
from scrfd_trt._pipelines.base import Outcome, all_found, least_score, look_again, merge_passes
from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections, copy_detections, upload_detections
from scrfd_trt._pipelines.cuda.frames import Located, host_arrays, of_device_planes, of_host, of_tensor, to_host
from scrfd_trt._pipelines.cuda.program import Program, Programs
from scrfd_trt._pipelines.cuda.resources import PipelineResources
from scrfd_trt._pipelines.cuda.slot_memory import Parameters, Upload
from scrfd_trt._pipelines.cuda.views import Lanes, ViewRun, plan
from scrfd_trt.errors import BackendError, ScrfdError

if TYPE_CHECKING:
    from cuda.core import Buffer, Event, Stream

log = logging.getLogger("scrfd_trt")


class Slot:
    """Memory, a stream of its own and programs for one run at a time; the device must be current in all methods."""

    def __init__(self, resources: PipelineResources, stream: Stream, capture_stream: Stream, lanes: Lanes) -> None:
        self._resources, self._stream, self._capture_stream = resources, stream, capture_stream
        self._program: Program  # of the current run
        self._is_running = False
        self._lanes = lanes
        self._views: ViewRun | None = None
        self._looks: list[Look] = []  # options of the images of the current run, if it sees views of them
        self._batch = (0, 0.0, NO_LIMIT)  # address of the results, threshold and max_faces of the current run
        self._images: list[Any] = []  # the GPU may read them until the run is done
        self._device_images: list[DeviceImage] = []
        self._waited: set[int] = set()  # streams that the current run waits for
        self._sizes: list[tuple[int, int]] = []
        self._errors: dict[int, ScrfdError] = {}  # of images that the current run leaves out, by their places
        self._outputs: dict[int, list[NDArray[Any]]] = {}  # of the model by pass, where they were needed on the host
        self._color = resources.options.color
        self._has_landmarks = resources.layout.landmarks is not None
        self._device_results: Buffer | None = None
        self.failure = ""
        with ExitStack() as stack:
            stack.callback(stream.close)
            self._upload = Upload(resources.device, stream, resources.helpers)
            stack.callback(self._upload.close)
            self._programs = Programs(resources, stream, stack)
            self._arena = self._programs.arena
            self._parameters = Parameters(resources, memoryview(self._arena.parameters.data))
            self._owned = stack.pop_all()

    def start(
        self,
        images: Sequence[Any],
        threshold: float,
        max_faces: int | None,
        *,
        on_gpu: bool = False,
        in_background: bool = False,
    ) -> None:
        """Start a run on up to ``max_batch`` images that must not change before it is finished; threads may do it."""
        # An image on the GPU that cannot be read is left out, and its error is its result.
        if self._is_running:  # an interrupted run may still use the memory
            self._synchronize()
            self._is_running = False
        max_batch = self._resources.max_batch
        if len(images) > max_batch:
            raise BackendError(f"{len(images)} images are too many for one run; the maximum is {max_batch}")
        looks = [image for image in images if isinstance(image, Look)]
        images = self._readable([look.image for look in looks] or images)
        self._looks = [look for place, look in enumerate(looks) if place not in self._errors]
        if not images:
            return
        on_host = [array for image in images for array in host_arrays(image)]
        if on_host:
            self._upload.reserve(on_host)
        placed = self._placed(images, self._upload.addresses(on_host) if on_host else [])
        self._sizes = [image.geometry.size for image in placed]
        if any(map(self._has_views, placed, self._looks)):
            run = self._prepare_views(placed, least_score(self._looks, threshold))
        else:
            self._looks, self._program = [], self.program(len(images))
            run = partial(self._program.start, self._stream)
        at = self._results_at(on_gpu=on_gpu and not self._looks)
        self._batch = (at, threshold, min(max_faces or NO_LIMIT, NO_LIMIT))
        self._images = images
        self._is_running = True
        try:
            if not self._looks:
                self._parameters.set_batch(*self._batch)
                for index, image in enumerate(placed):
                    self._parameters.set_image(index, *image)
            if on_host:
                self._upload.copy(on_host, run, in_background=in_background)
            else:
                run()
        except BaseException as error:
            self._fail(error)
            self.abandon()
            raise

    def wait_for(self, event: Event) -> None:
        """Let the next run wait for an event of another stream."""
        call("letting one stream wait for another", self._stream.wait, event)

    def is_done(self) -> bool:
        return self._upload.is_done() and is_done(self._stream)

    def finish(self) -> list[Outcome]:
        """Wait for the run, and return the detections of each image, or its error."""
        errors, self._errors = self._errors, {}
        found = self._finish_views() if self._looks else self._finish_images()
        self._outputs = {}
        for place, error in errors.items():  # ascending
            found.insert(place, error)
        return found

    def _has_views(self, image: Located, look: Look) -> bool:
        """Return whether there is more than the one view of an ordinary run."""
        return len(plan(image.geometry, self._resources.scales, look.min_face, look.rotations).views) > 1

    def _prepare_views(self, placed: Sequence[Located], threshold: float) -> Callable[[], None]:
        """Return the function that starts the run."""
        if self._views is None:
            self._views = ViewRun(self._resources, self._lanes, self._stream)
            self._owned.callback(self._views.close)
        self._views.prepare(placed, self._looks, threshold)
        return self._views.start

    def _finish_views(self) -> list[Outcome]:
        self._synchronize()
        assert self._views is not None  # noqa: S101 - since the run has started
        _, threshold, max_faces = self._batch
        outcomes, looks = self._views.outcomes(threshold), self._looks
        images, device_images = self._images, self._device_images
        self._wait()
        found: list[Outcome] = []
        for image, look, (faces, every) in zip(images, looks, outcomes, strict=True):
            if isinstance(faces, ScrfdError):
                found.append(faces)
            elif look.rotations:
                read, limits = partial(self._to_host, image, look), (self._resources.options.iou, max_faces)
                found.append(look_again(read, faces, every, partial(self._find_again, threshold), limits))
            else:
                found.append(faces[:max_faces])
        device_images.clear()  # only now
        return found

    def _to_host(self, image: Any, look: Look) -> NDArray[np.uint8]:
        """Return an image of the last run as color."""
        if isinstance(image, Located):
            image = to_host(image, look.image, self._stream)
        if isinstance(image, YUVImage):
            return from_yuv(image, self._color)
        return from_nv12(image) if self._color == "nv12" and image.ndim == 2 else image

    def _find_again(self, threshold: float, sheets: Sequence[Look]) -> list[Outcome]:
        """Detect faces in images that are made from those of the last run."""
        found: list[Outcome] = []
        for start in range(0, len(sheets), self._resources.max_batch):
            self.start([sheet.image for sheet in sheets[start : start + self._resources.max_batch]], threshold, None)
            found += self.finish()
        return found

    def _finish_images(self) -> list[Outcome]:
        self._wait()
        found: list[Outcome] = []
        for index, (candidates, faces, invalid) in enumerate(self._arena.headers[: len(self._sizes)].tolist()):
            if faces < 0:
                found.append(self._finish_on_host(index, candidates))
            elif invalid:
                found.append(self._resources.invalid_values())
            else:
                found.append(self._read(index, faces))
        return found

    def finish_on_gpu(self) -> list[DeviceDetections]:
        """Wait for the run, and return the detections of each image on the GPU; raise an image's error."""
        if self._looks:
            device, found_on_host = self._resources.device, all_found(self.finish())
            return [upload_detections(faces, device, self._stream) for faces in found_on_host]
        self._wait()
        if self._errors:
            raise self._errors.pop(min(self._errors))
        images = range(len(self._sizes))
        for index in images:
            offset, size = index * RESULT_BYTES, 4 * HEADER
            target, source = self._arena.results_at + offset, self._batch[0] + offset
            copy("reading the number of faces", target, source, size, self._stream)
        synchronize(self._stream)
        found: list[DeviceDetections] = []
        try:
            for index in images:
                found.append(self._copy_on_gpu(index))  # noqa: PERF401 - an error would drop what copies still write to
        finally:
            synchronize(self._stream)
        return found

    def abandon(self) -> None:
        """Wait for the run, and drop its results."""
        with suppress(Exception):
            self._synchronize()
        self._is_running = False
        self._images, self._device_images, self._errors = [], [], {}

    def program(self, images: int) -> Program:
        """Return the program for this batch size; prepare it if the slot does not have it."""
        return self._programs.get(images, self._resources.scales)

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        if self._is_running:
            self._is_running = False
            try:
                self._synchronize()
                self._images, self._device_images = [], []
            except ScrfdError as error:
                log.debug("closing after a failed run: %s", str(error))
        self._parameters.drop_memory()
        self._arena.drop_arrays()
        self._owned.close()

    def _results_at(self, *, on_gpu: bool) -> int:
        if not on_gpu:
            return self._arena.results_at
        if self._device_results is None:
            size = self._resources.max_batch * RESULT_BYTES
            self._device_results = gpu_memory(size, self._resources.device, self._stream)
            self._owned.callback(free, self._device_results)
        return int(self._device_results.handle)

    def _placed(self, images: Sequence[Any], addresses: list[int]) -> list[Located]:
        """Return where images are on the GPU; ``addresses`` are those of the host's images there."""
        copied, placed = iter(addresses), []
        for image in images:
            if isinstance(image, Located):
                placed.append(image)
                continue
            geometry, address = of_host(image, self._color), next(copied)
            chroma = next(copied) if isinstance(image, YUVImage) else geometry.chroma(address)
            placed.append(Located(geometry, address, chroma))
        return placed

    def _readable(self, images: Sequence[Any]) -> list[Any]:
        """Return the readable images, those on the GPU as :class:`Located` behind their work; note others' errors."""
        self._sizes, self._device_images, self._errors, self._waited = [], [], {}, set()
        readable = []
        for place, image in enumerate(images):
            try:
                readable.append(image if host_arrays(image) else self._locate(image))
            except ScrfdError as error:  # noqa: PERF203 - images on the GPU can fail one by one
                self._synchronize()  # raises if it is the GPU that failed
                self._errors[place] = error
        return readable

    def _locate(self, image: Any) -> Located:
        if isinstance(image, YUVImage):
            y, uv = (self._borrow(plane, is_plane=True) for plane in (image.y, image.uv))
            return Located(of_device_planes(image, y, uv), y.address, uv.address)
        borrowed = self._borrow(image)
        geometry = of_tensor(borrowed.shape, borrowed.strides, self._color)
        return Located(geometry, borrowed.address, geometry.chroma(borrowed.address))

    def _borrow(self, image: Any, *, is_plane: bool = False) -> DeviceImage:
        """Order the run behind the work that makes an image on the GPU, and keep the image alive until it is done."""
        borrowed: DeviceImage = image
        if not isinstance(image, DeviceImage):
            borrowed = DeviceImage(image, self._resources.device, self._stream, self._waited, is_plane=is_plane)
        self._device_images.append(borrowed)
        return borrowed

    def _synchronize(self) -> None:
        try:
            self._upload.wait()
            synchronize(self._stream)
        except BaseException as error:
            self._fail(error)
            raise

    def _wait(self) -> None:
        self._synchronize()
        self._is_running = False
        self._images, self._device_images = [], []
        self._outputs = {}
        if self._looks:
            self._lanes.capture()
        elif self._sizes and not self._program.capture_tried:
            with self._resources.setup_lock:
                self._program.capture(self._capture_stream)

    def _fail(self, error: BaseException) -> None:
        """Note that the content of the GPU memory is unknown, and that the GPU failed."""
        self._parameters.forget(self._resources.max_batch)
        if isinstance(error, BackendError):
            self.failure = str(error)

    def _read(self, index: int, faces: int) -> Detections:
        arena = self._arena
        return Detections._unchecked(
            arena.boxes[index, :faces].copy(),
            arena.scores[index, :faces].copy(),
            arena.landmarks[index, :faces].copy() if self._has_landmarks else None,
            image_size=self._sizes[index],
        )

    def _finish_on_host(self, index: int, candidates: int) -> Outcome:
        resources, size, (_, threshold, max_faces) = self._resources, self._sizes[index], self._batch
        log.info(
            "%d rows are above the threshold %g, more than the GPU can process; the CPU decodes them, which is slower",
            candidates,
            threshold,
        )
        passes = [self._candidates(number, index, threshold) for number in range(len(resources.scales))]
        return merge_passes(passes, resources.options.iou, max_faces, size, resources.description)

    def _candidates(self, number: int, index: int, threshold: float) -> Candidates:
        """Decode the candidates of one image in a pass on the host."""
        layout, scale = self._resources.layout, self._resources.scales[number]
        if number not in self._outputs:
            self._outputs[number] = self._program.outputs(number, self._stream)
        box = Letterbox.fit(self._sizes[index], scale)
        return decode(layout, self._outputs[number], index, scale, threshold).to_source(box)

    def _copy_on_gpu(self, index: int) -> DeviceDetections:
        candidates, faces, invalid = self._arena.headers[index].tolist()
        if faces < 0:
            raise BackendError(
                f"{candidates} rows are above the threshold {self._batch[1]:g}, more than the GPU can process; raise "
                "the threshold, or call detect_batch"
            )
        if invalid:
            raise self._resources.invalid_values()
        rows = self._batch[0] + index * RESULT_BYTES + 4 * HEADER
        device, size = self._resources.device, self._sizes[index]
        return copy_detections(rows, faces, size, device, self._stream, landmarks=self._has_landmarks)
