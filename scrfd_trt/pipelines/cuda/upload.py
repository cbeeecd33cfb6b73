"""Copies of the host's images to the GPU."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Device, DeviceBuffer, Event, PinnedBuffer, Stream
from scrfd_trt.cuda.driver import call
from scrfd_trt.cuda.pinned import is_pinned

PIECE = 512 * 1024
"""Bytes that go through page-locked memory at a time, so that the next are copied while these are on their way."""

PIECES = 8
"""So few that they stay in the processor's cache: then no copy of the images goes through the host's memory again."""

ALIGNMENT = 256


class Upload:
    """GPU memory for images of the host, which grows when it has to, and the way into it.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: DeviceBuffer | None = None
        self._ring: Ring | None = None

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
            end += -(-image.nbytes // ALIGNMENT) * ALIGNMENT
        if images and self._ring is None:
            self._ring = Ring(self._device)
        if end and (self._memory is None or self._memory.size < end):
            memory, self._memory = self._memory, None
            if memory is not None:
                memory.close()
            self._memory = DeviceBuffer(end, self._device)
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
        if self._memory is None or self._ring is None:
            return []
        self._ring.forget()
        addresses = [self._memory.handle + start for start in starts]
        for image, address in zip(images, addresses, strict=True):
            whole = image if image.flags.c_contiguous else np.ascontiguousarray(image)
            source = whole.__array_interface__["data"][0]
            if whole is image and is_pinned(whole, source):
                _send(address, source, whole.nbytes, stream)
            else:
                self._ring.put(whole.reshape(-1), address, stream)
        self._ring.send(stream)
        return addresses

    def close(self) -> None:
        """Give the memory back; a second call does nothing. Nothing may be under way."""
        memory, ring, self._memory, self._ring = self._memory, self._ring, None, None
        with ExitStack() as closing:
            for each in (memory, ring):
                if each is not None:
                    closing.callback(each.close)


class Ring:
    """Page-locked memory in pieces that are filled and sent in turn; small images share one.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: Device) -> None:
        with ExitStack() as opening:
            pinned = opening.enter_context(PinnedBuffer(PIECES * PIECE, device))
            self._sent = [opening.enter_context(Event(device)) for _ in range(PIECES)]
            self._open = opening.pop_all()
        self._bytes: NDArray[np.uint8] = pinned.view((PIECES, PIECE), np.uint8)
        self._at = pinned.handle
        self._turn = self._filled = self._target = 0

    def put(self, data: NDArray[np.uint8], target: int, stream: Stream) -> None:
        """Copy bytes behind those before; each piece that is full is sent, with the device current.

        Parameters
        ----------
        data
            ``(N,)``.
        target
            Address on the GPU.
        stream
            What the copies are put into.
        """
        gap = target - (self._target + self._filled)
        if self._filled and 0 <= gap < ALIGNMENT and self._filled + gap < PIECE:
            self._filled += gap
        else:
            self.send(stream)
        done = 0
        while done < len(data):
            if not self._filled:
                self._sent[self._turn].synchronize()
                self._target = target + done
            count = min(PIECE - self._filled, len(data) - done)
            np.copyto(self._bytes[self._turn, self._filled : self._filled + count], data[done : done + count])
            self._filled += count
            done += count
            if self._filled == PIECE:
                self.send(stream)

    def forget(self) -> None:
        """Drop what an interrupted copy left."""
        self._filled = 0

    def send(self, stream: Stream) -> None:
        """Send what is there, and turn to the next piece."""
        if self._filled:
            _send(self._target, self._at + self._turn * PIECE, self._filled, stream)
            self._sent[self._turn].record(stream)
            self._turn = (self._turn + 1) % PIECES
            self._filled = 0

    def close(self) -> None:
        """Give the memory back; a second call does nothing. Nothing may be under way."""
        self._bytes = np.empty((0, 0), np.uint8)
        self._open.close()


def _send(target: int, source: int, size: int, stream: Stream) -> None:
    call("cuMemcpyHtoDAsync", target, source, size, stream.handle, doing="copying an image to the GPU")
