"""Copies of the host's images to the GPU."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda import driver
from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import call
from scrfd_trt._cuda.memory import free, gpu_memory, pinned_address, pinned_memory, view
from scrfd_trt._cuda.records import (
    BATCH,
    BOX_BYTES,
    CANDIDATES,
    FORMATS,
    FRAME,
    HEADER,
    RESULT_BYTES,
    ROW,
    fits,
    frame_bytes,
)
from scrfd_trt._heads import output_sizes
from scrfd_trt._pipelines.cuda.frames import Geometry
from scrfd_trt._pipelines.cuda.resources import PipelineResources
from scrfd_trt._pipelines.scales import warn_if_thin

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream

ALIGNMENT = 256
"""Bytes; TensorRT wants this of all memory that it is handed."""


class Arena:
    """GPU memory for inputs, outputs and what the kernels need, and page-locked memory for parameters and results.

    Parameters
    ----------
    setting
        Of the pipeline.
    stream
        What the runs are put into; its work is waited for before the memory is freed.
    opening
        Frees the memory when it is closed.

    Attributes
    ----------
    parameters : numpy.ndarray
        Bytes of one run's records, on the host.
    results : numpy.ndarray
        ``(images, HEADER + CANDIDATES · ROW)`` float32 on the host, which the GPU writes to.
    headers : numpy.ndarray
        ``(images, 3)`` int32 of these.
    boxes, scores, landmarks : numpy.ndarray
        ``(images, CANDIDATES, 4)``, ``(images, CANDIDATES)`` and ``(images, CANDIDATES, 5, 2)`` of these.
    pinned_parameters_at, results_at : int
        Addresses of parameters and results on the host.
    parameters_at, workspace_at : int
        Addresses on the GPU.
    inputs_at : list of int
        Of the network's input in each pass.
    outputs_at : list of list of int
        Of its outputs in each pass.
    """

    def __init__(self, setting: PipelineResources, stream: Stream, opening: ExitStack) -> None:
        sizes = _sizes(setting)
        starts = list(itertools.accumulate((_aligned(size) for size in sizes), initial=0))
        memory = gpu_memory(starts.pop(), setting.device, stream)
        opening.callback(free, memory)
        addresses = iter([int(memory.handle) + start for start in starts])
        self.parameters_at, self.workspace_at = next(addresses), next(addresses)
        self.inputs_at = [next(addresses) for _ in setting.scales]
        self.outputs_at = [[next(addresses) for _ in setting.engine.outputs] for _ in setting.scales]
        parameters = pinned_memory(sizes[0], setting.device, stream)
        opening.callback(free, parameters)
        results = pinned_memory(setting.images * RESULT_BYTES, setting.device, stream)
        opening.callback(free, results)
        self.parameters: NDArray[np.uint8] = view(parameters, (sizes[0],), np.uint8)
        self.results: NDArray[np.float32] = view(results, (setting.images, HEADER + CANDIDATES * ROW), np.float32)
        self.headers: NDArray[np.int32] = self.results.view(np.int32)[:, :3]
        rows = self.results[:, HEADER:].reshape(setting.images, CANDIDATES, ROW)
        self.boxes, self.scores = rows[..., :4], rows[..., 4]
        self.landmarks = rows[..., 5:15].reshape(setting.images, CANDIDATES, 5, 2)
        self.pinned_parameters_at, self.results_at = int(parameters.handle), int(results.handle)

    def forget(self) -> None:
        """Let go of the arrays, which must not be touched once the memory is given back."""
        self.parameters, self.results = np.empty(0, np.uint8), np.empty((0, 0), np.float32)
        self.headers = np.empty((0, 3), np.int32)
        self.boxes = self.scores = self.landmarks = self.results


def _sizes(setting: PipelineResources) -> list[int]:
    """Return the bytes of each part: parameters, workspace, inputs and outputs."""
    parameters = BATCH.size + setting.images * frame_bytes(len(setting.scales))
    sizes = [parameters, setting.images * CANDIDATES * BOX_BYTES]
    item = np.dtype(setting.engine.input.dtype).itemsize
    sizes += [setting.places * 3 * math.prod(scale) * item for scale in setting.scales]
    for scale in setting.scales:
        values = output_sizes(setting.layout, setting.places, scale)
        sizes += [
            values[index][0] * np.dtype(output.dtype).itemsize for index, output in enumerate(setting.engine.outputs)
        ]
    return sizes


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


ADDRESS = struct.Struct("<Q")  # what a frame's record begins with


class Parameters:
    """What the kernels are told.

    Parameters
    ----------
    setting
        Of the pipeline.
    memory
        The block, which the GPU is given a copy of at each run.
    """

    def __init__(self, setting: PipelineResources, memory: memoryview) -> None:
        self._memory = memory
        self._scales, self._iou = setting.scales, setting.options.iou
        self._format = FORMATS[setting.options.color]
        self._size = frame_bytes(len(setting.scales))
        self._all_padded = (1 << len(setting.scales)) - 1
        self._run: tuple[int, float, int] | None = None
        self._resized: list[tuple[tuple[int, int], ...]] = []
        self._settled: list[Geometry | None] = []
        self.forget(setting.images)

    def forget(self, images: int) -> None:
        """Take nothing for granted of what lies in so many places of the network's input."""
        self._run = None
        self._resized = [()] * images
        self._settled = [None] * images

    def release(self) -> None:
        """Let go of the block, which must not be touched once the memory is given back."""
        self._memory = memoryview(b"")

    def set_run(self, results_at: int, threshold: float, limit: int) -> None:
        """Tell where results go, the lowest score, and the most faces of an image."""
        run = (results_at, threshold, limit)
        if run != self._run:
            BATCH.pack_into(self._memory, 0, results_at, threshold, self._iou, limit, 0)
            self._run = run

    def set_image(self, place: int, geometry: Geometry, address: int) -> None:
        """Tell of an image of the batch: how it lies in memory, and where."""
        start = BATCH.size + place * self._size
        if geometry == self._settled[place]:
            ADDRESS.pack_into(self._memory, start, address)
            return
        size = geometry.size
        warn_if_thin(size, self._scales)
        fitted, resized = fits(size, self._scales)
        padded = self._padded(self._resized[place], resized)
        FRAME.pack_into(self._memory, start, address, *geometry, self._format, padded)
        self._memory[start + FRAME.size : start + self._size] = fitted
        self._resized[place] = resized
        self._settled[place] = geometry if padded == self._all_padded else None

    def _padded(self, before: tuple[tuple[int, int], ...], resized: tuple[tuple[int, int], ...]) -> int:
        """Return the passes, as bits, whose padding lies in the network's input from the run before."""
        if resized == before:
            return self._all_padded
        return sum((one == other) << number for number, (one, other) in enumerate(zip(resized, before, strict=False)))


PIECE = 1024 * 1024
"""Bytes of a large image that are sent at a time, so that the next are copied while these are on their way."""

SHARE = 3 * 512 * 1024
"""Bytes of several images from which on copying is worth another thread."""


Placed = tuple[NDArray[np.uint8], int]
"""An image, and where it starts in the memory."""


class Upload:
    """GPU memory for images of the host, page-locked memory that they go through, and the copies between these.

    Parameters
    ----------
    device
        The GPU.
    stream
        The copies are put into it.
    helpers
        Threads that help to copy several images.
    threads
        How many.
    """

    def __init__(self, device: Device, stream: Stream, helpers: Executor, threads: int) -> None:
        self._device, self._stream, self._helpers, self._threads = device, stream, helpers, threads
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
        """Make room for images; nothing may be under way.

        Raises
        ------
        BackendError
            If there is not enough memory; what was there has been given back then.
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
            end += -(-image.nbytes // ALIGNMENT) * ALIGNMENT
        if end and (self._memory is None or self._memory.size < end):
            self._grow(end)
        self._shapes, self._starts = shapes, starts

    def copy(self, images: Sequence[NDArray[np.uint8]]) -> list[int]:
        """Put copies of images to the GPU into the stream, with the device current.

        Parameters
        ----------
        images
            Those that there was made room for, the bytes of each row side by side. Those in page-locked memory are
            copied from where they are and must not be changed until the copies are done; the others may be changed as
            soon as this returns.

        Returns
        -------
        list of int
            The address of each on the GPU, its rows end to end.
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
            self._copy_in_shares(ordinary)
        elif ordinary:
            self._copy_in_pieces(*ordinary[0])
        return [self._target + start for start in self._starts]

    def _copy_in_pieces(self, image: NDArray[np.uint8], start: int) -> None:
        for piece in _pieces(image):
            self._stage(piece, start)
            self._send(start, self._source + start, piece.nbytes)
            start += piece.nbytes

    def _copy_in_shares(self, images: list[Placed]) -> None:
        """Let several threads copy, each its own images, and send what each one has done."""
        total = sum(image.nbytes for image, _ in images)
        shares = min(self._threads, total // SHARE, len(images) - 1) + 1
        parts = [images[len(images) * k // shares : len(images) * (k + 1) // shares] for k in range(shares)]
        self._helping = [self._helpers.submit(self._stage_all, part) for part in parts[1:]]
        for image, start in parts[0]:
            self._stage(image, start)
            self._send(start, self._source + start, image.nbytes)
        for helper, part in zip(self._helping, parts[1:], strict=True):
            helper.result()
            for image, start in part:
                self._send(start, self._source + start, image.nbytes)
        self._helping = []

    def _wait_for_helpers(self) -> None:
        """Wait for those that an interrupted copy left at work in the memory."""
        wait(self._helping)
        self._helping = []

    def _stage_all(self, images: list[Placed]) -> None:
        for image, start in images:
            self._stage(image, start)

    def _stage(self, image: NDArray[np.uint8], start: int) -> None:
        """Copy an image into page-locked memory, with OpenCV's threads, which begin at once, where they are free.

        Zeroing what is not above 0 leaves all as it is. Of OpenCV's functions that do so, this one is shared among
        threads.
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
        """Give the memory back; nothing may be under way. It may be used again after that."""
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


def _pieces(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Cut an image into pieces of whole rows."""
    step = max(1, PIECE // (image.nbytes // len(image)))
    return (image[first : first + step] for first in range(0, len(image), step))
