"""Arrays that lie on the GPU already: other libraries' as images, and results handed to them."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from scrfd_trt._cuda import driver
from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.memory import DeviceBuffer
from scrfd_trt._cuda.stream import Stream
from scrfd_trt.errors import DeviceError, ImageError, MissingDependencyError

BYTE = np.dtype(np.uint8)


class DeviceImage:
    """An image on the GPU, in somebody else's memory, which is read where it lies.

    Parameters
    ----------
    image
        Anything with DLPack or ``__cuda_array_interface__``: ``(H, W, 3)``, ``(H, W, 4)``, ``(H, W, 1)`` or ``(H, W)``
        uint8, with any strides.
    device
        The GPU that it must lie on.
    stream
        The work that will read it is put into this stream; it is made to wait for what the library that made the image
        still has to do, as the two protocols ask.

    Attributes
    ----------
    address : int
        Of the first element.
    shape : tuple of int
        As given.
    strides : tuple of int
        In bytes.

    Raises
    ------
    ImageError
        If it is no such image.
    DeviceError
        If it lies on another GPU.
    MissingDependencyError
        Without cuda.core.
    """

    def __init__(self, image: Any, device: Device, stream: Stream) -> None:
        plain = None if hasattr(image, "__dlpack__") else _plain(image)
        if plain is not None and _ordinal_of(plain["data"][0]) == device.index:
            self.address = plain["data"][0]
            self.shape: tuple[int, ...] = tuple(plain["shape"])
            strides = plain.get("strides")
            self.strides: tuple[int, ...] = _steps(self.shape) if strides is None else tuple(strides)
            self._owner: Any = (image, plain)
            return
        view = _view(image, stream)
        if view.device_id != device.index:
            raise DeviceError(f"the image lies on cuda:{view.device_id}, and the detector runs on cuda:{device.index}")
        if view.dtype != BYTE:
            raise ImageError(f"the image on the GPU has element type {view.dtype}; uint8 from 0 to 255 is wanted there")
        self.address = int(view.ptr)
        self.shape = tuple(view.shape)
        self.strides = tuple(view.strides) if view.strides is not None else _steps(self.shape)
        self._owner = (image, view)


def _plain(image: Any) -> dict[str, Any] | None:
    """Return an array's ``__cuda_array_interface__`` where there is nothing to wait for and nothing to convert.

    All else, and all that is wrong, is cuda.core's, which takes several times as long.
    """
    try:
        about: dict[str, Any] = image.__cuda_array_interface__
        is_plain = about["typestr"] == "|u1" and about.get("stream") is None and about.get("mask") is None
        return about if is_plain and isinstance(about["data"][0], int) and about["shape"] else None
    except Exception:  # noqa: BLE001 - somebody else's property; cuda.core tells what is wrong
        return None


def _ordinal_of(address: int) -> int:
    """Return the number of the GPU that an address belongs to, -1 where it belongs to none."""
    cuda = driver.bindings()
    kind = cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    status, number = cuda.cuPointerGetAttribute(kind, address)
    return -1 if status else int(number)


@cache
def _views() -> Any:
    try:
        from cuda.core.utils import StridedMemoryView  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            f'arrays on the GPU need cuda-core 1.2 or newer ({error}): pip install "scrfd-trt[cuda]"'
        ) from error
    return StridedMemoryView


def _view(image: Any, stream: Stream) -> Any:
    views = _views()
    try:
        # Zero stands for no stream in DLPack, and 1 for the default one.
        return views.from_any_interface(image, stream_ptr=stream.handle or 1)
    except Exception as error:
        text = " ".join(str(error).split())
        raise ImageError(f"the image of type {type(image).__name__} cannot be read on the GPU: {text}") from error


@lru_cache(maxsize=256)
def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the steps in bytes, which for uint8 are those in elements, of an array in C order."""
    steps, step = [], 1
    for side in reversed(shape):
        steps.append(step)
        step *= side
    return tuple(reversed(steps))


def export(memory: DeviceBuffer, start: int, shape: tuple[int, ...], strides: tuple[int, ...], *, owner: object) -> Any:
    """Hand a part of GPU memory out as an array.

    Parameters
    ----------
    memory
        Where it lies.
    start
        Of the first element, in bytes.
    shape, strides
        In elements of float32.
    owner
        Stays alive as long as the array, and whatever is made of it, does.

    Returns
    -------
    cuda.core.utils.StridedMemoryView
        With ``__dlpack__``: ``torch.from_dlpack`` and ``cupy.from_dlpack`` take it without a copy.
    """
    views = _views()
    from cuda.core import Buffer  # noqa: PLC0415 - optional, and slow to import

    buffer = Buffer.from_handle(memory.handle + start, memory.size - start, owner=owner)
    return views.from_buffer(buffer, shape, strides, dtype=np.dtype(np.float32))
