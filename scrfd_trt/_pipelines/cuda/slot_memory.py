"""The memory of a slot: buffers, the parameters of the kernels, and uploads of images."""

from __future__ import annotations

import itertools
import math
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _devices
from scrfd_trt._cuda import driver
from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.memory import free, gpu_memory, pinned_address, pinned_memory, view
from scrfd_trt._cuda.records import (
    BATCH,
    BOX_BYTES,
    CANDIDATES,
    FRAME,
    HEADER,
    RESULT_BYTES,
    ROW,
    fits,
    frame_bytes,
)
from scrfd_trt._heads import output_shapes
from scrfd_trt._pipelines.cuda.frames import Geometry
from scrfd_trt._pipelines.scales import warn_if_thin

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream

    from scrfd_trt._pipelines.cuda.resources import PipelineResources

ALIGNMENT = 256
"""Bytes; TensorRT requires it of all addresses."""

ADDRESSES = struct.Struct("<QQ")
"""The first fields of the record of an image."""

MAX_HELPERS = 7
"""Threads of one pipeline that help to copy images; more are faster only where little else runs."""

PIECE_BYTES = 1024 * 1024
"""Part of a large image that is sent at a time, so that the next part is copied meanwhile."""

HELPER_BYTES = 3 * 512 * 1024
"""Size of a batch per additional thread that helps to copy it."""


Placed = tuple[NDArray[np.uint8], int]
"""An image, and its offset in the memory in bytes."""

GAP = np.zeros((1, ALIGNMENT), np.uint8)
MAX_BLOCK = 2**30


class Helpers:
    """Threads that help to copy images, as far as they are idle: half of the cores of this machine for each GPU."""

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = max(1, min(MAX_HELPERS, cores // (2 * max(1, len(_devices.driver().gpus)))))
        self._threads, self._idle = ThreadPoolExecutor(count, "scrfd_trt copying"), threading.Semaphore(count)

    def reserve(self, wanted: int) -> int:
        """Return how many threads are idle, at most ``wanted``; :meth:`submit` must be called as often."""
        return next((count for count in range(wanted) if not self._idle.acquire(blocking=False)), wanted)

    def submit(self, work: Callable[[list[Placed]], None], images: list[Placed]) -> Future[None]:
        future = self._threads.submit(work, images)
        future.add_done_callback(lambda _: self._idle.release())
        return future

    def close(self) -> None:
        self._threads.shutdown()


class Arena:
    """GPU memory for inputs, outputs and workspace, and page-locked memory for parameters and results.

    ``stack`` frees the memory when it is closed, after the work in ``stream``. ``…_at`` are addresses.
    """

    parameters: NDArray[np.uint8]  # records of one run, on the host
    results: NDArray[np.float32]  # (images, HEADER + CANDIDATES · ROW), on the host; the GPU writes them
    headers: NDArray[np.int32]  # (images, 3) of results
    boxes: NDArray[np.float32]  # (images, CANDIDATES, 4) of results
    scores: NDArray[np.float32]  # (images, CANDIDATES) of results
    landmarks: NDArray[np.float32]  # (images, CANDIDATES, 5, 2) of results

    def __init__(self, resources: PipelineResources, stream: Stream, stack: ExitStack) -> None:
        device, images = resources.device, resources.max_batch
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
            BATCH.pack_into(self._memory, 0, results_at, threshold, self._iou, max_faces, 0)
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

    def reserve(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Allocate memory for images; no run may be in flight.

        Raises BackendError if there is not enough memory; the previous memory is freed then.
        """
        if self._helping:
            self._wait_for_helpers()
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

    def copy(self, images: Sequence[NDArray[np.uint8]]) -> list[int]:
        """Enqueue copies of reserved images with contiguous rows; return their addresses on the GPU.

        Page-locked images are copied directly, and must not be changed until the copies are done; others may be changed
        when this returns. The device must be current.
        """
        if self._memory is None:
            return []
        ordinary: list[Placed] = []
        for image, start in zip(images, self._starts, strict=True):
            source = pinned_address(image)
            if source is None:
                ordinary.append((image, start))
            else:
                self._send(start, source, image.nbytes)
        if len(ordinary) > 1:
            self._copy_with_helpers(ordinary)
        elif ordinary:
            self._copy_in_pieces(*ordinary[0])
        return [self._target + start for start in self._starts]

    def _copy_in_pieces(self, image: NDArray[np.uint8], start: int) -> None:
        for piece in _pieces(image):
            self._stage(piece, start)
            self._send(start, self._source + start, piece.nbytes)
            start += piece.nbytes

    def _copy_with_helpers(self, images: list[Placed]) -> None:
        """Let each thread stage some of the images, and send what a thread has staged."""
        wanted = min(sum(image.nbytes for image, _ in images) // HELPER_BYTES, len(images) - 1)
        shares = self._helpers.reserve(wanted) + 1
        parts = [images[len(images) * k // shares : len(images) * (k + 1) // shares] for k in range(shares)]
        self._helping = [self._helpers.submit(self._stage_all, part) for part in parts[1:]]
        self._stage_all(parts[0])
        self._send_all(parts[0])
        for helper, part in zip(self._helping, parts[1:], strict=True):
            helper.result()
            self._send_all(part)
        self._helping = []

    def _wait_for_helpers(self) -> None:
        """Wait for the helpers of an interrupted copy, which still write to the memory."""
        wait(self._helping)
        self._helping = []

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
        """Copy an image to page-locked memory with OpenCV's threads, which start at once.

        A threshold of 0 to zero changes nothing; among the functions with this property, OpenCV runs it in threads.
        """
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
        self._wait_for_helpers()
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
