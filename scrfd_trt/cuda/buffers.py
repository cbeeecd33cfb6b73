"""Memory on the GPU, and memory of the host that the GPU copies from and to at full speed."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scrfd_trt.cuda.device import Device
from scrfd_trt.cuda.driver import call
from scrfd_trt.cuda.resource import Resource
from scrfd_trt.cuda.stream import Stream
from scrfd_trt.errors import BackendError

PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE: page-locked for every GPU of the process
MIB = 2**20


class PinnedBuffer(Resource):
    """Page-locked memory of the host.

    Parameters
    ----------
    size
        Bytes, at least 1.
    device
        The GPU that will copy from or to it.

    Raises
    ------
    BackendError
        If there is not enough memory.
    """

    def __init__(self, size: int, device: Device) -> None:
        with device.current():
            address = call("cuMemHostAlloc", size, PORTABLE, doing=f"page-locking {size / MIB:.1f} MiB of host memory")
        super().__init__(int(address))
        self.size = size
        self._device = device

    def view(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Look at the beginning of the memory as an array.

        Parameters
        ----------
        shape
            Of the array.
        dtype
            Of its elements.

        Returns
        -------
        numpy.ndarray
            No copy: it must not be touched after ``close()``, nor while the GPU copies.

        Raises
        ------
        BackendError
            If the array is larger than the memory.
        ClosedError
            After ``close()``.
        """
        kind = np.dtype(dtype)
        needed = math.prod(shape) * kind.itemsize
        if needed > self.size:
            raise BackendError(f"an array of {needed} bytes does not fit into a page-locked buffer of {self.size}")
        memory = (ctypes.c_ubyte * needed).from_address(self.handle)
        array: NDArray[Any] = np.ctypeslib.as_array(memory).view(kind).reshape(shape)
        return array

    def _release(self, handle: int) -> None:
        with self._device.current():
            call("cuMemFreeHost", handle, doing="giving host memory back")


class DeviceBuffer(Resource):
    """Memory on the GPU; ``handle`` is its address there.

    Parameters
    ----------
    size
        Bytes, at least 1.
    device
        The GPU.

    Attributes
    ----------
    size : int
        As given.
    device : Device
        As given.

    Raises
    ------
    BackendError
        If there is not enough memory.
    """

    def __init__(self, size: int, device: Device) -> None:
        with device.current():
            doing = f"reserving {size / MIB:.1f} MiB on cuda:{device.index}"
            super().__init__(int(call("cuMemAlloc", size, doing=doing)))
        self.size = size
        self.device = device

    def upload(self, source: PinnedBuffer, size: int, stream: Stream) -> None:
        """Put a copy of the first ``size`` bytes of host memory into the stream, with the device current.

        Both sides must stay as they are until it is done.
        """
        self._check(source, size)
        call("cuMemcpyHtoDAsync", self.handle, source.handle, size, stream.handle, doing="copying to the GPU")

    def download(self, target: PinnedBuffer, size: int, stream: Stream) -> None:
        """Put a copy of the first ``size`` bytes to host memory into the stream, with the device current.

        Both sides must stay as they are until it is done.
        """
        self._check(target, size)
        call("cuMemcpyDtoHAsync", target.handle, self.handle, size, stream.handle, doing="copying from the GPU")

    def _check(self, other: PinnedBuffer, size: int) -> None:
        if size > min(self.size, other.size):
            raise BackendError(f"cannot copy {size} bytes between buffers of {self.size} and {other.size}")

    def _release(self, handle: int) -> None:
        with self.device.current():
            call("cuMemFree", handle, doing="giving GPU memory back")
