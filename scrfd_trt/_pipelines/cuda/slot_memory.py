"""The memory of a slot: buffers, the parameters of the kernels, and uploads of images."""

from __future__ import annotations

import itertools
import math
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _devices
from scrfd_trt._cuda import driver
from scrfd_trt._cuda.driver import Device, call
from scrfd_trt._cuda.kernels import BATCH, BOX_BYTES, CANDIDATES, FRAME, HEADER, RESULT_BYTES, ROW, fits, frame_bytes
from scrfd_trt._cuda.memory import free, gpu_memory, pinned_address, pinned_memory, view
from scrfd_trt._heads import output_shapes
from scrfd_trt._passes import warn_if_thin
from scrfd_trt._pipelines.cuda.frames import Geometry
from scrfd_trt._pipelines.streaming import THREADS

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream

    from scrfd_trt._pipelines.cuda.resources import PipelineResources

ALIGNMENT = 256  # bytes; TensorRT requires it of all addresses
ADDRESSES = struct.Struct("<QQ")  # the first fields of the record of an image
MAX_HELPERS = 7  # threads of one pipeline that help to copy images; more are faster only where little else runs
PIECE_BYTES = 1024 * 1024  # part of a large image that is sent at a time, so that the next part is copied meanwhile
HELPER_BYTES = 3 * 512 * 1024  # size of a batch per additional thread that helps to copy it


Placed = tuple[NDArray[np.uint8], int]  # an image, and its offset in the memory in bytes
GAP = np.zeros((1, ALIGNMENT), np.uint8)
MAX_BLOCK = 2**30


class Helpers(ThreadPoolExecutor):
    """Threads that help to copy images: half of the usable cores for each GPU."""

    def __init__(self) -> None:
        cores = _devices.usable_cores() // max(1, len(_devices.driver().gpus))
        self.count = max(1, min(MAX_HELPERS, cores // 2))
        super().__init__(self.count, f"{THREADS} copying")


class Arena:
    """GPU memory, and page-locked memory for parameters and ``kept`` results; ``…_at`` are addresses."""

    parameters: NDArray[np.uint8]  # records of one run, on the host
    results: NDArray[np.float32]  # (images, HEADER + CANDIDATES · ROW), on the host; the GPU writes them
    headers: NDArray[np.int32]  # (images, 3) of results
    boxes: NDArray[np.float32]  # (images, CANDIDATES, 4) of results
    scores: NDArray[np.float32]  # (images, CANDIDATES) of results
    landmarks: NDArray[np.float32]  # (images, CANDIDATES, 5, 2) of results

    def __init__(
        self, resources: PipelineResources, stream: Stream, stack: ExitStack, *, kept: int | None = None
    ) -> None:
        device, images = resources.device, kept or resources.max_batch
        sizes = _sizes(resources)
        starts = list(itertools.accumulate(map(_aligned, sizes), initial=0))
        memory = gpu_memory(starts.pop(), device, stream)
        stack.callback(free, memory)
        addresses = iter([int(memory.handle) + start for start in starts])
        self.parameters_at, self.workspace_at = next(addresses), next(addresses)
        self.inputs_at = [next(addresses) for _ in resources.scales]
        self.outputs_at = [[next(addresses) for _ in resources.engine.outputs] for _ in resources.scales]
        parameters = pinned_memory(sizes[0], device, stream)
        stack.callback(free, parameters)
        results = pinned_memory(images * RESULT_BYTES, device, stream)
        stack.callback(free, results)
        self.pinned_parameters_at, self.results_at = int(parameters.handle), int(results.handle)
        self.parameters = view(parameters, (sizes[0],), np.uint8)
        self.results = view(results, (images, HEADER + CANDIDATES * ROW), np.float32)
        self.headers = self.results.view(np.int32)[:, :3]
        rows = self.results[:, HEADER:].reshape(images, CANDIDATES, ROW)
        self.boxes, self.scores = rows[..., :4], rows[..., 4]
        self.landmarks = rows[..., 5:15].reshape(images, CANDIDATES, 5, 2)

    def drop_arrays(self) -> None:
        """Drop the arrays, which must not be used once the memory is freed."""
        self.parameters, self.results = np.empty(0, np.uint8), np.empty((0, 0), np.float32)
        self.headers = np.empty((0, 3), np.int32)
        self.boxes = self.scores = self.landmarks = self.results


def _sizes(resources: PipelineResources) -> list[int]:
    """Return the bytes of parameters, workspace, the input of each pass, and the outputs of each pass."""
    engine, images = resources.engine, resources.max_batch
    sizes = [BATCH.size + images * frame_bytes(len(resources.scales)), images * CANDIDATES * BOX_BYTES]
    item = np.dtype(engine.input.dtype).itemsize
    sizes += [resources.engine_batch * 3 * math.prod(scale) * item for scale in resources.scales]
    for scale in resources.scales:
        shapes = output_shapes(resources.layout, resources.engine_batch, scale)
        sizes += [
            math.prod(shapes[index][0]) * np.dtype(output.dtype).itemsize for index, output in enumerate(engine.outputs)
        ]
    return sizes


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Parameters:
    """Writes the parameters of the kernels into ``memory``, which each run copies to the GPU."""

    def __init__(self, resources: PipelineResources, memory: memoryview) -> None:
        self._memory = memory
        self._scales, self._iou = resources.scales, resources.options.iou
        self._size = frame_bytes(len(resources.scales))
        self._all_padded = (1 << len(resources.scales)) - 1
        self._batch: tuple[int, float, int] | None = None
        self._resized: list[tuple[tuple[int, int], ...]] = []
        self._written: list[Geometry | None] = []  # of each image, if its record is valid but for the addresses
        self.forget(resources.max_batch)

    def forget(self, images: int) -> None:
        """Assume nothing about the content of the model input and of the records."""
        self._batch = None
        self._resized = [()] * images
        self._written = [None] * images

    def drop_memory(self) -> None:
        """Drop the memory, which must not be used once it is freed."""
        self._memory = memoryview(b"")

    def set_batch(self, results_at: int, threshold: float, max_faces: int) -> None:
        batch = (results_at, threshold, max_faces)
        if batch != self._batch:
            BATCH.pack_into(self._memory, 0, results_at, threshold, self._iou, max_faces, CANDIDATES)
            self._batch = batch

    def set_image(self, index: int, geometry: Geometry, address: int, chroma: int) -> None:
        start = BATCH.size + index * self._size
        if geometry == self._written[index]:
            ADDRESSES.pack_into(self._memory, start, address, chroma)
            return
        size = geometry.size
        warn_if_thin(size, self._scales)
        fitted, resized = fits(size, self._scales)
        padded = self._padded(self._resized[index], resized)
        FRAME.pack_into(self._memory, start, address, chroma, *geometry, padded)
        self._memory[start + FRAME.size : start + self._size] = fitted
        self._resized[index] = resized
        self._written[index] = geometry if padded == self._all_padded else None

    def _padded(self, before: tuple[tuple[int, int], ...], resized: tuple[tuple[int, int], ...]) -> int:
        """Return the passes, as bits, whose input already holds the padding from the previous run."""
        if resized == before:
            return self._all_padded
        return sum((one == other) << number for number, (one, other) in enumerate(zip(resized, before, strict=False)))


class Upload:
    """Copies images from the host to the GPU in ``stream``, through page-locked memory, with the help of threads."""

    def __init__(self, device: Device, stream: Stream, helpers: Helpers) -> None:
        self._device, self._stream, self._helpers = device, stream, helpers
        self._memory: Buffer | None = None
        self._pinned: Buffer | None = None
        self._target = self._source = 0
        # As scrfd_trt._cuda.memory.copy does, with the handle that the driver takes without a conversion.
        self._copy, self._handle = driver.bindings().cuMemcpyAsync, stream.handle
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._starts: list[int] = []
        self._shapes: list[tuple[int, ...]] = []
        self._helping: list[Future[None]] = []
        self._lock = threading.Lock()
        self._unfinished = 0
        self._then: Callable[[], None] = lambda: None
        self._locked: list[int | None] = []

    def reserve(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Allocate memory for images; no run may be in flight. After an error, the previous memory is freed."""
        shapes = [image.shape for image in images]
        if shapes == self._shapes:
            return
        self._shapes = []
        starts, end = [], 0
        for image in images:
            starts.append(end)
            end += _aligned(image.nbytes)
        if end and (self._memory is None or self._memory.size < end):
            self._grow(end)
        self._shapes, self._starts = shapes, starts

    def addresses(self, images: Sequence[NDArray[np.uint8]]) -> list[int]:
        """Return where the GPU reads reserved images: a small one in page-locked memory, which saves a copy."""
        self._locked = [pinned_address(image) for image in images]
        if self._reads_host(images):
            return [self._locked[0] or self._source]
        return [self._target + start for start in self._starts]

    def _reads_host(self, images: Sequence[NDArray[np.uint8]]) -> bool:
        return len(images) == 1 and images[0].nbytes <= PIECE_BYTES

    def copy(self, images: Sequence[NDArray[np.uint8]], then: Callable[[], None], *, in_background: bool) -> None:
        """Copy reserved images to the GPU, perhaps in other threads, and call ``then``, which starts the run."""
        ordinary: list[Placed] = []
        for image, start, source in zip(images, self._starts, self._locked, strict=True):
            if source is None:
                ordinary.append((image, start))
            elif not self._reads_host(images):
                self._send(start, source, image.nbytes)
        if len(ordinary) < 2:
            for image, start in ordinary:
                self._copy_in_pieces(image, start, is_sent=not self._reads_host(images))
            then()
            return
        size = sum(image.nbytes for image, _ in ordinary)
        shares = min(size // HELPER_BYTES, len(ordinary) - 1, self._helpers.count)
        in_background = in_background and shares > 0
        shares += not in_background
        parts = [ordinary[len(ordinary) * k // shares : len(ordinary) * (k + 1) // shares] for k in range(shares)]
        self._unfinished, self._then, self._helping = shares, then, []
        for part in parts[not in_background :]:
            self._helping.append(self._helpers.submit(self._copy_part, part))
        if not in_background:
            self._copy_part(parts[0])
            for helper, part in zip(reversed(self._helping), reversed(parts), strict=False):
                if helper.cancel():  # all threads are busy
                    self._copy_part(part)
            self.wait()

    def _copy_in_pieces(self, image: NDArray[np.uint8], start: int, *, is_sent: bool) -> None:
        for piece in _pieces(image):
            self._stage(piece, start)
            if is_sent:
                self._send(start, self._source + start, piece.nbytes)
            start += piece.nbytes

    def _copy_part(self, images: list[Placed]) -> None:
        """Copy some of the images; start the run after the last ones."""
        self._stage_all(images)
        with self._device.current():
            self._send_all(images)
            with self._lock:
                self._unfinished -= 1
                is_last = self._unfinished == 0
            if is_last:
                self._then()

    def is_done(self) -> bool:
        """Return whether :meth:`wait` does not wait."""
        return all(helper.done() for helper in self._helping)

    def wait(self) -> None:
        """Wait until the run is started; raise the error that prevented it."""
        if not self._helping:
            return
        begun = [helper for helper in self._helping if not helper.cancelled()]
        wait(begun)
        self._helping = []
        for helper in begun:
            helper.result()

    def _stage_all(self, images: list[Placed]) -> None:
        """Copy images to page-locked memory, in one call if possible: each call waits for Python's lock at its end."""
        if not (_is_block(images) and all(image.flags.c_contiguous for image, _ in images)):
            for image, start in images:
                self._stage(image, start)
            return
        rows = []
        for image, _ in images:
            rows += [image.reshape(1, -1), GAP[:, : _aligned(image.nbytes) - image.nbytes]]
        first, end = _span(images)
        cv2.hconcat([row for row in rows[:-1] if row.size], self._bytes[first:end].reshape(1, -1))

    def _send_all(self, images: list[Placed]) -> None:
        for block in [images] if _is_block(images) else [[each] for each in images]:
            first, end = _span(block)
            self._send(first, self._source + first, end - first)

    def _stage(self, image: NDArray[np.uint8], start: int) -> None:
        """Copy an image to page-locked memory by a function that OpenCV runs in threads and that changes nothing."""
        target = self._bytes[start : start + image.nbytes].reshape(image.shape)
        cv2.threshold(image, 0, 0, cv2.THRESH_TOZERO, dst=target)

    def _send(self, start: int, source: int, size: int) -> None:
        call("copying an image to the GPU", self._copy, self._target + start, source, size, self._handle)

    def _grow(self, size: int) -> None:
        self.close()
        self._memory = gpu_memory(size, self._device, self._stream)
        try:
            self._pinned = pinned_memory(size, self._device, self._stream)
        except BaseException:
            self.close()
            raise
        self._target, self._source = int(self._memory.handle), int(self._pinned.handle)
        self._bytes = view(self._pinned, (size,), np.uint8)

    def close(self) -> None:
        """Free the memory, which no run may use; :meth:`reserve` may be called again."""
        with suppress(Exception):
            self.wait()
        self._shapes, self._bytes = [], np.empty(0, np.uint8)
        memory, self._memory = self._memory, None
        pinned, self._pinned = self._pinned, None
        try:
            if memory is not None:
                free(memory)
        finally:
            if pinned is not None:
                free(pinned)


def _span(images: list[Placed]) -> tuple[int, int]:
    """Return the offsets of the first byte of images, and of the byte after the last one."""
    (_, first), (last, start) = images[0], images[-1]
    return first, start + last.nbytes


def _is_block(images: list[Placed]) -> bool:
    """Whether there is nothing between images, and OpenCV can count their bytes."""
    first, end = _span(images)
    return _aligned(end - first) == sum(_aligned(image.nbytes) for image, _ in images) <= MAX_BLOCK


def _pieces(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Split an image into pieces of whole rows."""
    step = max(1, PIECE_BYTES // (image.nbytes // len(image)))
    return (image[first : first + step] for first in range(0, len(image), step))
