"""Memory on both sides of the bus for all inputs or all outputs of an engine, copied in one go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Device, DeviceBuffer, PinnedBuffer, Stream
from scrfd_trt.errors import ClosedError
from scrfd_trt.tensors import TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

ALIGNMENT = 256
"""Bytes; TensorRT wants this of all memory that it is handed."""


class Staging:
    """One piece of page-locked memory and one of GPU memory, in which tensors lie one after the other.

    A context manager. The memory grows when it has to, and is given back by ``close()``.

    Parameters
    ----------
    tensors
        What lies in it.
    device
        The GPU.
    """

    def __init__(self, tensors: Sequence[TensorSpec], device: Device) -> None:
        self._dtypes = [np.dtype(tensor.dtype) for tensor in tensors]
        self._device = device
        self._shapes: list[tuple[int, ...]] = []
        self._starts: list[int] = []
        self._size = 0
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._host: PinnedBuffer | None = None
        self._gpu: DeviceBuffer | None = None

    def prepare(self, shapes: Sequence[tuple[int, ...]]) -> list[int]:
        """Make room for arrays of these shapes, and return their addresses on the GPU.

        Memory that is there is used again if it is large enough; nothing may be under way in it.

        Raises
        ------
        BackendError
            If there is not enough memory; what was there has been given back then.
        """
        if self._gpu is None or list(shapes) != self._shapes:
            self._lay_out(shapes)
        _, gpu = self._both()
        return [gpu.handle + start for start in self._starts]

    def arrays(self) -> list[NDArray[Any]]:
        """Return the host's side as arrays of the shapes last prepared for; they are no copies."""
        self._both()
        return self._cut(self._memory)

    def copies(self) -> list[NDArray[Any]]:
        """Return copies of :meth:`arrays`."""
        self._both()
        return self._cut(self._memory.copy())

    def upload(self, stream: Stream) -> None:
        """Put a copy to the GPU into the stream."""
        host, gpu = self._both()
        gpu.upload(host, self._size, stream)

    def download(self, stream: Stream) -> None:
        """Put a copy from the GPU into the stream."""
        host, gpu = self._both()
        gpu.download(host, self._size, stream)

    def close(self) -> None:
        """Give the memory back; :meth:`prepare` makes it anew."""
        host, gpu, self._host, self._gpu = self._host, self._gpu, None, None
        self._memory = np.empty(0, np.uint8)
        try:
            if host is not None:
                host.close()
        finally:
            if gpu is not None:
                gpu.close()

    def _lay_out(self, shapes: Sequence[tuple[int, ...]]) -> None:
        starts, end = [], 0
        for shape, dtype in zip(shapes, self._dtypes, strict=True):
            starts.append(end)
            end += -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        if self._host is None or self._gpu is None or self._gpu.size < end:
            self.close()
            self._host = PinnedBuffer(end, self._device)
            try:
                self._gpu = DeviceBuffer(end, self._device)
            except BaseException:
                self.close()
                raise
        self._shapes, self._starts, self._size = list(shapes), starts, end
        self._memory = self._host.view((end,), np.uint8)

    def _cut(self, memory: NDArray[np.uint8]) -> list[NDArray[Any]]:
        found = []
        for start, shape, dtype in zip(self._starts, self._shapes, self._dtypes, strict=True):
            stop = start + math.prod(shape) * dtype.itemsize
            found.append(memory[start:stop].view(dtype).reshape(shape))
        return found

    def _both(self) -> tuple[PinnedBuffer, DeviceBuffer]:
        if self._host is None or self._gpu is None:
            raise ClosedError("this memory was closed, or never prepared; prepare it first")
        return self._host, self._gpu

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
