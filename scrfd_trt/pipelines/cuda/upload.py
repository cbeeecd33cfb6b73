"""Copies of the host's images to the GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Device, DeviceBuffer, PinnedBuffer, Stream
from scrfd_trt.cuda.driver import call
from scrfd_trt.cuda.pinned import is_pinned

PIECE = 512 * 1024
"""Bytes of a large image that are sent at a time, so that the next are copied while these are on their way."""

SHARE = 3 * 512 * 1024
"""Bytes from which on copying is worth another thread."""

ALIGNMENT = 256

Placed = tuple[NDArray[np.uint8], int]
"""Some rows of an image, and where they start in the memory."""


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
        ordinary: list[Placed] = []
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
        total = sum(part.nbytes for part, _ in ordinary)
        shares = min(self._threads, total // SHARE) + 1
        if shares > 1:
            self._copy_in_shares([piece for placed in ordinary for piece in _pieces(*placed)], shares, stream)
        else:
            for placed in ordinary:
                for piece in _pieces(*placed):
                    self._stage([piece])
                    self._send_staged([piece], stream)
        return [base + start for start in self._starts]

    def _copy_in_shares(self, pieces: list[Placed], shares: int, stream: Stream) -> None:
        """Let several threads copy, and send what each one has done."""
        parts = [pieces[len(pieces) * k // shares : len(pieces) * (k + 1) // shares] for k in range(shares)]
        self._helping = [self._helpers.submit(self._stage, part) for part in parts[1:]]
        self._stage(parts[0])
        self._send_staged(parts[0], stream)
        for helper, part in zip(self._helping, parts[1:], strict=True):
            helper.result()
            self._send_staged(part, stream)
        self._helping = []

    def _wait_for_helpers(self) -> None:
        """Wait for those that an interrupted copy left at work in the memory."""
        wait(self._helping)
        self._helping = []

    def _stage(self, pieces: list[Placed]) -> None:
        for image, start in pieces:
            np.copyto(self._bytes[start : start + image.nbytes].reshape(image.shape), image)

    def _send_staged(self, pieces: list[Placed], stream: Stream) -> None:
        """Send neighbours together."""
        begin = end = -ALIGNMENT
        for image, start in pieces:
            if start - end >= ALIGNMENT:  # an image that was sent from where it is lies between them
                self._send_range(begin, end, stream)
                begin = start
            end = start + image.nbytes
        self._send_range(begin, end, stream)

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
        self._wait_for_helpers()
        memory, pinned, self._memory, self._pinned = self._memory, self._pinned, None, None
        self._bytes, self._shapes = np.empty(0, np.uint8), []
        with ExitStack() as closing:
            for each in (memory, pinned):
                if each is not None:
                    closing.callback(each.close)


def _pieces(image: NDArray[np.uint8], start: int) -> Iterator[Placed]:
    """Cut a large image into pieces of whole rows."""
    row = image[0].nbytes
    rows = max(1, PIECE // row)
    for top in range(0, len(image), rows):
        yield image[top : top + rows], start + top * row
