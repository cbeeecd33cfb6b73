"""Copies of the host's images to the GPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Device, DeviceBuffer, PinnedBuffer, Stream
from scrfd_trt.cuda.driver import call
from scrfd_trt.cuda.pinned import is_pinned

PIECE = 512 * 1024
"""Bytes that go through page-locked memory at a time, so that the next are copied while these are on their way."""

ALIGNMENT = 256


class Upload:
    """Page-locked memory and GPU memory that images go through; it grows when it has to.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pinned: PinnedBuffer | None = None
        self._memory: DeviceBuffer | None = None
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._at = self._pinned_at = 0

    def reserve(self, images: list[NDArray[np.uint8]]) -> list[int]:
        """Make room for images, and return where each one starts; nothing may be under way.

        Raises
        ------
        BackendError
            If there is not enough memory; what was there has been given back then.
        """
        starts, end = [], 0
        for image in images:
            starts.append(end)
            end += -(-image.size // ALIGNMENT) * ALIGNMENT
        if end and (self._memory is None or self._memory.size < end):
            self._grow(end)
        return starts

    def copy(self, images: list[NDArray[np.uint8]], starts: list[int], stream: Stream) -> list[int]:
        """Put copies of images to the GPU into a stream, with the device current.

        Parameters
        ----------
        images
            The bytes of each row side by side. Those in page-locked memory are copied from where they are and must not
            be changed until the copies are done; the others may be changed as soon as this returns.
        starts
            As :meth:`reserve` returned them.
        stream
            Nothing that reads earlier images may be under way in another one.

        Returns
        -------
        list of int
            The address of each on the GPU, its rows end to end.
        """
        staged = _Staged(self._pinned_at, self._at, stream)
        for image, start in zip(images, starts, strict=True):
            if image.flags.c_contiguous:
                source = image.__array_interface__["data"][0]
                if is_pinned(image, source):
                    _send(self._at + start, source, image.nbytes, stream)
                    continue
            self._stage(image, start, staged)
        staged.send()
        return [self._at + start for start in starts]

    def _stage(self, image: NDArray[np.uint8], start: int, staged: _Staged) -> None:
        row = image[0].nbytes
        rows = max(1, PIECE // row)
        for top in range(0, len(image), rows):
            part = image[top : top + rows]
            begin = start + top * row
            end = begin + part.nbytes
            np.copyto(self._bytes[begin:end].reshape(part.shape), part)
            staged.add(begin, end)

    def _grow(self, size: int) -> None:
        self.close()
        self._memory = DeviceBuffer(size, self._device)
        try:
            self._pinned = PinnedBuffer(size, self._device)
        except BaseException:
            self.close()
            raise
        self._bytes = self._pinned.view((size,), np.uint8)
        self._at, self._pinned_at = self._memory.handle, self._pinned.handle

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        pinned, memory, self._pinned, self._memory = self._pinned, self._memory, None, None
        self._bytes = np.empty(0, np.uint8)
        try:
            if pinned is not None:
                pinned.close()
        finally:
            if memory is not None:
                memory.close()


class _Staged:
    """A range of page-locked memory that is filled and not on its way yet; small images go together."""

    def __init__(self, source: int, target: int, stream: Stream) -> None:
        self._source, self._target, self._stream = source, target, stream
        self._begin = self._end = 0

    def add(self, begin: int, end: int) -> None:
        """Tell of a range that was filled, behind the one before."""
        if begin - self._end >= ALIGNMENT:  # an image that is copied from where it is lies between them
            self.send()
        if self._begin == self._end:
            self._begin = begin
        self._end = end
        if end - self._begin >= PIECE:
            self.send()

    def send(self) -> None:
        """Put a copy of what is there into the stream."""
        if self._end > self._begin:
            _send(self._target + self._begin, self._source + self._begin, self._end - self._begin, self._stream)
        self._begin = self._end


def _send(target: int, source: int, size: int, stream: Stream) -> None:
    call("cuMemcpyHtoDAsync", target, source, size, stream.handle, doing="copying an image to the GPU")
