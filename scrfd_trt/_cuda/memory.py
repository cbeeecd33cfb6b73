"""GPU memory and page-locked host memory, as buffers of cuda.core that are freed when they are closed or dropped."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scrfd_trt._cuda import driver
from scrfd_trt._cuda.driver import Device, RelaxedCapture, call
from scrfd_trt._cuda.stream import handle_of
from scrfd_trt.errors import BackendError, OptionError, ScrfdError

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream

log = logging.getLogger("scrfd_trt")

PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE and CU_MEMHOSTREGISTER_PORTABLE: page-locked for every GPU of the process
MIB = 2**20


def gpu_memory(size: int, device: Device, stream: Stream | None = None) -> Buffer:
    """Return memory on the GPU, with the device current; it is freed when dropped, after the stream's work."""
    # cuda.core's pool would reuse it while another library still reads it; cuMemFree waits for all streams.
    cuda = driver.bindings()
    address = call(f"reserving {size / MIB:.1f} MiB on cuda:{device.index}", cuda.cuMemAlloc, size)
    return _buffer(size, _Allocation(address, cuda.cuMemFree, device, stream))


def pinned_memory(size: int, device: Device, stream: Stream | None = None) -> Buffer:
    """Return page-locked memory of the host, otherwise as :func:`gpu_memory`."""
    cuda = driver.bindings()
    address = call(f"page-locking {size / MIB:.1f} MiB of host memory", cuda.cuMemHostAlloc, size, PORTABLE)
    return _buffer(size, _Allocation(address, cuda.cuMemFreeHost, device, stream))


def free(buffer: Buffer) -> None:
    """Free memory at once, and not when it is dropped; raise BackendError if that fails."""
    allocation: _Allocation = buffer.owner
    buffer.close()
    allocation.free()


def view(buffer: Buffer, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return the beginning of page-locked memory, which the array keeps alive until :func:`free`, as an array."""
    kind = np.dtype(dtype)
    needed = math.prod(shape) * kind.itemsize
    if needed > buffer.size:
        raise BackendError(f"an array of {needed} bytes does not fit into a page-locked buffer of {buffer.size}")
    return np.asarray(_Pinned(buffer, needed)).view(kind).reshape(shape)


def copy(doing: str, target: int, source: int, size: int, stream: Stream | None = None) -> None:
    """Copy bytes between two addresses of host or GPU, with the device current; None waits for the copy."""
    # cuda.core needs a buffer for each part of a buffer, which takes 1.4 µs more (4.1 instead of 2.7 on an H200).
    if stream is None:
        call(doing, driver.bindings().cuMemcpy, target, source, size)
    else:
        call(doing, driver.bindings().cuMemcpyAsync, target, source, size, handle_of(stream))


def pinned_array(shape: tuple[int, ...], device: Device) -> NDArray[np.uint8]:
    """Return an array of uint8 in page-locked memory, which is freed with the last array that uses it."""
    if not shape or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in shape):
        raise OptionError(f"shape must be whole numbers of at least 1, not {shape!r}")
    with device.current():
        return view(pinned_memory(math.prod(shape), device), shape, np.uint8)


@contextmanager
def page_locked(blocks: Sequence[NDArray[np.uint8]], index: int) -> Iterator[None]:
    """Page-lock arrays of whole pages for GPUs, in another thread; those that cannot be are used as they are."""
    locked: list[int] = []
    ends = threading.Event()

    def lock() -> None:
        try:
            with Device(index).current(), RelaxedCapture():
                register = driver.bindings().cuMemHostRegister
                for block in blocks:
                    if ends.is_set():
                        break
                    call("page-locking shared memory", register, block.ctypes.data, block.nbytes, PORTABLE)
                    locked.append(block.ctypes.data)
        except ScrfdError as error:
            log.debug("%d of %d blocks of shared memory are page-locked: %s", len(locked), len(blocks), error)

    thread = threading.Thread(target=lock, name="scrfd-trt-job-lock")
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
        with suppress(ScrfdError), Device(index).current(), RelaxedCapture():  # the GPU may be lost
            for address in locked:
                call("releasing shared memory", driver.bindings().cuMemHostUnregister, address)


def pinned_address(array: NDArray[Any]) -> int | None:
    """Return the address of an array if it is contiguous and all of it is page-locked, with a device current."""
    # What NumPy or OpenCV allocated is not page-locked, and asking the driver takes time.
    base: Any = array.base
    if base is None or not array.flags.c_contiguous:
        return None
    memory = base if type(base) is _Pinned else getattr(base, "base", None)
    if type(memory) is _Pinned and array.nbytes == memory.size:
        return memory.address
    address: int = array.__array_interface__["data"][0]
    known = type(memory) is _Pinned or (_is_pinned(address) and _is_pinned(address + array.nbytes - 1))
    return address if known else None


class _Allocation:
    """Owns memory, and frees it when it is dropped, with the last buffer of it."""

    def __init__(self, address: Any, release: Callable[..., Any], device: Device, stream: Stream | None) -> None:
        self.address, self._release, self._device, self._stream = address, release, device, stream
        self._process = os.getpid()

    def free(self) -> None:
        address, self.address = self.address, None
        if address is not None and os.getpid() == self._process:  # the GPU of a forked process's parent is not its own
            with self._device.current(), RelaxedCapture():
                if self._stream is not None:
                    with suppress(ScrfdError):  # the work has failed, and does not use the memory any more
                        call("waiting for the GPU", self._stream.sync)
                call("freeing memory", self._release, address)

    def __del__(self) -> None:
        with suppress(ScrfdError):  # the process ends, or the GPU is lost: there is nothing left to free
            self.free()


class _Pinned:
    """The ``base`` of arrays in page-locked memory."""

    def __init__(self, buffer: Buffer, size: int) -> None:
        self.buffer, self.address, self.size = buffer, int(buffer.handle), size
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (self.address, False), "version": 3}


def _buffer(size: int, allocation: _Allocation) -> Buffer:
    buffer: Buffer = driver.core().Buffer.from_handle(int(allocation.address), size, owner=allocation)
    return buffer


def _is_pinned(address: int) -> bool:
    cuda = driver.bindings()
    status, kind = cuda.cuPointerGetAttribute(cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address)
    return not status and int(kind) == int(cuda.CUmemorytype.CU_MEMORYTYPE_HOST)
