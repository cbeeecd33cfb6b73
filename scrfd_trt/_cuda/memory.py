"""Arrays in page-locked memory, which the GPU copies from at full speed and without the processor's help."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scrfd_trt._cuda import driver
from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.driver import Resource, call
from scrfd_trt._cuda.stream import Stream
from scrfd_trt.errors import BackendError, OptionError, ScrfdError

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


class _Memory:
    """What an array's ``base`` keeps alive."""

    def __init__(self, buffer: PinnedBuffer, size: int) -> None:
        self.address, self.size = buffer.handle, size
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (buffer.handle, False), "version": 3}
        weakref.finalize(self, _free, buffer)


def _free(buffer: PinnedBuffer) -> None:
    try:
        buffer.close()
    except ScrfdError:
        return  # the process is ending, or the GPU is lost: nothing is left to give back


def pinned_array(shape: tuple[int, ...], device: Device) -> NDArray[np.uint8]:
    """Make an array of uint8 in page-locked memory, which is given back when nobody uses the array any more.

    Parameters
    ----------
    shape
        Each side at least 1.
    device
        A GPU that will copy from it.

    Raises
    ------
    OptionError
        If it is no shape.
    BackendError
        If there is not enough memory.
    """
    if not shape or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in shape):
        raise OptionError(f"shape must be whole numbers of at least 1, not {shape!r}")
    size = math.prod(shape)
    array: NDArray[np.uint8] = np.asarray(_Memory(PinnedBuffer(size, device), size)).reshape(shape)
    return array


def pinned_address(array: NDArray[Any]) -> int | None:
    """Return the address of an array's first byte where all of it lies in page-locked memory, with a device current.

    Parameters
    ----------
    array
        Of the host.

    Returns
    -------
    int or None
        None where it lies in ordinary memory, or its bytes not end to end.
    """
    # What NumPy or OpenCV took for itself is not page-locked, and asking the driver takes its time.
    base: Any = array.base
    if base is None or not array.flags.c_contiguous:
        return None
    memory = base if type(base) is _Memory else getattr(base, "base", None)
    if type(memory) is _Memory and array.nbytes == memory.size:
        return memory.address
    address: int = array.__array_interface__["data"][0]
    known = type(memory) is _Memory or (_is_pinned(address) and _is_pinned(address + array.nbytes - 1))
    return address if known else None


def _is_pinned(address: int) -> bool:
    cuda = driver.bindings()
    status, kind = cuda.cuPointerGetAttribute(cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address)
    return not status and int(kind) == int(cuda.CUmemorytype.CU_MEMORYTYPE_HOST)
