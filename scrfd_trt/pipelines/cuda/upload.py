"""Copies of the host's images to the GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Device, DeviceBuffer, PinnedBuffer, Stream
from scrfd_trt.cuda.driver import prepare
from scrfd_trt.cuda.pinned import pinned_address

PIECE = 1024 * 1024
"""Bytes of a large image that are sent at a time, so that the next are copied while these are on their way."""

ALIGNMENT = 256


class Upload:
    """GPU memory for images of the host, page-locked memory that they go through, and the copies between these.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: DeviceBuffer | None = None
        self._pinned: PinnedBuffer | None = None
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._starts: list[int] = []
        self._shapes: list[tuple[int, ...]] = []
        self._send = prepare("cuMemcpyHtoDAsync", doing="copying an image to the GPU")

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
        addresses = [base + start for start in self._starts]
        for image, start, target in zip(images, self._starts, addresses, strict=True):
            source = pinned_address(image)
            if source is None:
                self._send_staged(image, start, target, stream)
            else:
                self._send(target, source, image.nbytes, stream.handle)
        return addresses

    def _send_staged(self, image: NDArray[np.uint8], start: int, target: int, stream: Stream) -> None:
        """Send an image through page-locked memory."""
        assert self._pinned is not None  # noqa: S101 - room was made
        source = self._pinned.handle + start
        for piece in _pieces(image):
            size = piece.nbytes
            _copy(piece, self._bytes[start : start + size].reshape(piece.shape))
            self._send(target, source, size, stream.handle)
            start, source, target = start + size, source + size, target + size

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
    """Cut an image into pieces of whole rows, ``(rows, bytes)``."""
    rows = image.reshape(len(image), -1)
    step = max(1, PIECE // rows.shape[1])
    return (rows[first : first + step] for first in range(0, len(rows), step))


def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Copy with all of OpenCV's threads, which wait for work in a loop and so begin at once.

    Zeroing what is not above 0 leaves all as it is. Of OpenCV's functions that do so, this one is shared among threads.
    """
    cv2.threshold(source, 0, 0, cv2.THRESH_TOZERO, dst=target)
