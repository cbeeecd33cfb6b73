"""Arrays in page-locked memory, which the GPU copies from at full speed and without the processor's help."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import driver
from scrfd_trt.cuda.buffers import PinnedBuffer
from scrfd_trt.cuda.device import Device
from scrfd_trt.errors import OptionError, ScrfdError


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
