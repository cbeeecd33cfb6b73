"""Copies of the host's images to the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Device, DeviceBuffer, PinnedBuffer, Stream
from scrfd_trt.cuda.driver import call
from scrfd_trt.cuda.pinned import is_pinned

PIECE = 512 * 1024
"""Bytes of a large image that are sent at a time, so that the next are copied while these are on their way."""

SHARE = 4 * 1024 * 1024
"""Bytes from which on copying is worth another thread."""

ALIGNMENT = 256


class Upload:
    """GPU memory for images of the host, page-locked memory that they go through, and the copies between these.

    Parameters
    ----------
    device
        The GPU.
    helpers
        Threads that help to copy.
    threads
        How many.
    """

    def __init__(self, device: Device, helpers: Executor, threads: int) -> None:
        self._device, self._helpers, self._threads = device, helpers, threads
        self._memory: DeviceBuffer | None = None
        self._pinned: PinnedBuffer | None = None
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._starts: list[int] = []
        self._shapes: list[tuple[int, ...]] = []

    def reserve(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Make room for images; nothing may be under way.

        Raises
        ------
        BackendError
            If there is not enough memory; what was there has been given back then.
        """
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

    def copy(self, images: Sequence[NDArray[np.uint8]], stream: Stream) -> list[int]:
        """Put copies of images to the GPU into a stream, with the device current.

        Parameters
        ----------
        images
            Those that there was made room for, the bytes of each row side by side. Those in page-locked memory are
            copied from where they are and must not be changed until the copies are done; the others may be changed as
            soon as this returns.
        stream
            Nothing that reads earlier images may be under way in another one.

        Returns
        -------
        list of int
            The address of each on the GPU, its rows end to end.
        """
        if self._memory is None:
            return []
        base = self._memory.handle
        ordinary = []
        for image, start in zip(images, self._starts, strict=True):
            # What NumPy or OpenCV took for itself is not page-locked, and asking the driver takes its time.
            if image.flags.owndata or not image.flags.c_contiguous:
                ordinary.append((image, start))
                continue
            source = image.__array_interface__["data"][0]
            if is_pinned(image, source):
                self._send(source, base + start, image.nbytes, stream)
            else:
                ordinary.append((image, start))
        if len(ordinary) == 1:
            self._copy_in_pieces(*ordinary[0], stream)
        elif ordinary:
            self._copy_in_shares(ordinary, stream)
        return [base + start for start in self._starts]

    def _copy_in_pieces(self, image: NDArray[np.uint8], start: int, stream: Stream) -> None:
        rows = max(1, PIECE // image[0].nbytes)
        for top in range(0, len(image), rows):
            part = image[top : top + rows]
            self._through(part, start + top * image[0].nbytes, stream)

    def _copy_in_shares(self, images: list[tuple[NDArray[np.uint8], int]], stream: Stream) -> None:
        """Let several threads copy, and send what each one has done."""
        total = sum(image.nbytes for image, _ in images)
        shares = min(self._threads + 1, 1 + total // SHARE, len(images))
        parts = [images[len(images) * k // shares : len(images) * (k + 1) // shares] for k in range(shares)]
        helping = [self._helpers.submit(self._stage, part) for part in parts[1:]]
        try:
            self._stage(parts[0])
            self._send_staged(parts[0], stream)
        finally:
            done = [helper.result() for helper in helping]
        for _, part in zip(done, parts[1:], strict=True):
            self._send_staged(part, stream)

    def _stage(self, images: list[tuple[NDArray[np.uint8], int]]) -> None:
        for image, start in images:
            np.copyto(self._bytes[start : start + image.nbytes].reshape(image.shape), image)

    def _send_staged(self, images: list[tuple[NDArray[np.uint8], int]], stream: Stream) -> None:
        """Send neighbours together."""
        begin = end = -ALIGNMENT
        for image, start in images:
            if start - end >= ALIGNMENT:  # an image that was sent from where it is lies between them
                self._send_range(begin, end, stream)
                begin = start
            end = start + image.nbytes
        self._send_range(begin, end, stream)

    def _through(self, part: NDArray[np.uint8], start: int, stream: Stream) -> None:
        end = start + part.nbytes
        np.copyto(self._bytes[start:end].reshape(part.shape), part)
        self._send_range(start, end, stream)

    def _send_range(self, begin: int, end: int, stream: Stream) -> None:
        if end > begin and self._memory is not None and self._pinned is not None:
            self._send(self._pinned.handle + begin, self._memory.handle + begin, end - begin, stream)

    @staticmethod
    def _send(source: int, target: int, size: int, stream: Stream) -> None:
        call("cuMemcpyHtoDAsync", target, source, size, stream.handle, doing="copying an image to the GPU")

    def _grow(self, size: int) -> None:
        self.close()
        self._memory = DeviceBuffer(size, self._device)
        try:
            self._pinned = PinnedBuffer(size, self._device)
        except BaseException:
            self.close()
            raise
        self._bytes = self._pinned.view((size,), np.uint8)

    def close(self) -> None:
        """Give the memory back; a second call does nothing. Nothing may be under way."""
        memory, pinned, self._memory, self._pinned = self._memory, self._pinned, None, None
        self._bytes, self._shapes = np.empty(0, np.uint8), []
        with ExitStack() as closing:
            for each in (memory, pinned):
                if each is not None:
                    closing.callback(each.close)
