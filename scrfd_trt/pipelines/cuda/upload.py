"""Copies of the host's images to the GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Device, DeviceBuffer, PinnedBuffer, Stream
from scrfd_trt.cuda.driver import prepare
from scrfd_trt.cuda.pinned import pinned_address

PIECE = 1024 * 1024
"""Bytes of a large image that are sent at a time, so that the next are copied while these are on their way."""

SHARE = 3 * 512 * 1024
"""Bytes of several images from which on copying is worth another thread."""

ALIGNMENT = 256

Placed = tuple[NDArray[np.uint8], int]
"""An image, and where it starts in the memory."""


class Upload:
    """GPU memory for images of the host, page-locked memory that they go through, and the copies between these.

    Parameters
    ----------
    device
        The GPU.
    helpers
        Threads that help to copy several images.
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
        self._send = prepare("cuMemcpyHtoDAsync", doing="copying an image to the GPU")

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
            source = pinned_address(image)
            if source is None:
                ordinary.append((image, start))
            else:
                self._send(base + start, source, image.nbytes, stream.handle)
        if len(ordinary) > 1:
            self._copy_in_shares(ordinary, stream)
        elif ordinary:
            self._copy_in_pieces(*ordinary[0], stream)
        return [base + start for start in self._starts]

    def _copy_in_pieces(self, image: NDArray[np.uint8], start: int, stream: Stream) -> None:
        for piece in _pieces(image):
            self._stage(piece, start)
            self._send_staged(start, piece.nbytes, stream)
            start += piece.nbytes

    def _copy_in_shares(self, images: list[Placed], stream: Stream) -> None:
        """Let several threads copy, each its own images, and send what each one has done."""
        total = sum(image.nbytes for image, _ in images)
        shares = min(self._threads, total // SHARE, len(images) - 1) + 1
        parts = [images[len(images) * k // shares : len(images) * (k + 1) // shares] for k in range(shares)]
        self._helping = [self._helpers.submit(self._stage_all, part) for part in parts[1:]]
        for image, start in parts[0]:
            self._stage(image, start)
            self._send_staged(start, image.nbytes, stream)
        for helper, part in zip(self._helping, parts[1:], strict=True):
            helper.result()
            for image, start in part:
                self._send_staged(start, image.nbytes, stream)
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

    def _send_staged(self, start: int, size: int, stream: Stream) -> None:
        assert self._memory is not None  # noqa: S101 - room was made
        assert self._pinned is not None  # noqa: S101
        self._send(self._memory.handle + start, self._pinned.handle + start, size, stream.handle)

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
        """Give the memory back; nothing may be under way. It may be used again after that."""
        self._wait_for_helpers()
        self._shapes, self._bytes = [], np.empty(0, np.uint8)
        memory, self._memory = self._memory, None
        pinned, self._pinned = self._pinned, None
        try:
            if memory is not None:
                memory.close()
        finally:
            if pinned is not None:
                pinned.close()


def _pieces(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Cut an image into pieces of whole rows."""
    step = max(1, PIECE // (image.nbytes // len(image)))
    return (image[first : first + step] for first in range(0, len(image), step))
