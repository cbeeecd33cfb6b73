"""Arrays of other libraries on the GPU as images, and results on the GPU as arrays for other libraries."""

from __future__ import annotations

import itertools
import operator
import re
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from scrfd_trt._cuda import driver
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.stream import DEFAULT_STREAM, handle_of, wait_for_default_stream
from scrfd_trt.errors import DeviceError, ImageError, one_line

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream
    from cuda.core.utils import StridedMemoryView

TYPES = {"|u1": "uint8", "<u1": "uint8", "<u2": "uint16", "|u2": "uint16"}
"""Element types of images, and of 10-bit planes, by their names in ``__cuda_array_interface__``."""
ITEM_BYTES = {"uint8": 1, "uint16": 2}


class DeviceImage:
    """An image or plane on the GPU in another library's memory; ``stream`` waits for it, and for ``waited`` already."""

    def __init__(
        self, image: Any, device: Device, stream: Stream, waited: set[int] | None = None, *, is_plane: bool = False
    ) -> None:
        plain = None if hasattr(image, "__dlpack__") else _plain(image)
        if plain is not None and _home_of(image, plain) == device.index:
            if plain.get("stream") is not None and DEFAULT_STREAM not in (waited or ()):
                wait_for_default_stream(device, stream)
                (set() if waited is None else waited).add(DEFAULT_STREAM)
            self.address, self.readonly = plain["data"][0], bool(plain["data"][1])
            self.shape: tuple[int, ...] = tuple(plain["shape"])
            self.dtype, strides = TYPES[plain["typestr"]], plain.get("strides")
            self.strides: tuple[int, ...] = tuple(strides) if strides is not None else steps(self.shape, self.item)
            self._owner: Any = (image, plain)
        else:
            self._read(image, _view(image, stream), device)
        if self.dtype != "uint8" and not (is_plane and self.dtype in ITEM_BYTES and self.address % self.item == 0):
            raise ImageError(f"the image on the GPU has element type {self.dtype}; it must be uint8 from 0 to 255")

    @property
    def item(self) -> int:
        """Bytes of one element."""
        return ITEM_BYTES.get(self.dtype, 1)

    def _read(self, image: Any, view: StridedMemoryView, device: Device) -> None:
        if view.device_id != device.index:
            raise DeviceError(f"the image is on cuda:{view.device_id}, and the detector runs on cuda:{device.index}")
        self.dtype = str(view.dtype)
        about = {"data": (view.ptr,), "shape": view.shape, "strides": view.strides}
        if not _is_consistent(about):
            raise ImageError(
                f"the image of type {type(image).__name__} has an invalid address, shape {view.shape} or strides "
                f"{view.strides}"
            )
        self.address, self.readonly = int(view.ptr), bool(view.readonly)
        self.shape = tuple(view.shape)
        strides = view.strides  # in elements
        self.strides = steps(self.shape, self.item) if strides is None else tuple(n * self.item for n in strides)
        self._owner = (image, view)


def gpu_of(image: Any) -> int | None:
    """Return the number of the GPU that an array is on; None if it does not say so."""
    try:
        where = getattr(image, "__dlpack_device__", None)
        return int(where()[1]) if where is not None else _home_of(image, image.__cuda_array_interface__)
    except Exception:  # noqa: BLE001 - a foreign object; the run reports what is wrong
        return None


def type_name(dtype: Any) -> str:
    """Return NumPy's name of an element type, however a library spells it: ``|u1``, ``torch.uint8``, NumPy's own."""
    try:
        name: str = np.dtype(dtype).name
    except TypeError:
        name = str((re.findall(r"\w+", str(dtype)) or [""])[-1])
    return name


def export(memory: Buffer, start: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> StridedMemoryView:
    """Return a part of GPU memory as an array of float32 with DLPack; ``start`` is in bytes, the rest in elements."""
    core = driver.core()
    part = core.Buffer.from_handle(int(memory.handle) + start, memory.size - start, owner=memory)
    dtype = np.dtype(np.float32)
    array: StridedMemoryView = core.utils.StridedMemoryView.from_buffer(part, shape, strides, dtype=dtype)
    return array


def _plain(image: Any) -> dict[str, Any] | None:
    """Return an array's ``__cuda_array_interface__`` if cuda.core, which is slower, is not needed to read it."""
    try:
        about: dict[str, Any] = image.__cuda_array_interface__
        is_known = about["typestr"] in TYPES and about.get("stream") in (None, 0, DEFAULT_STREAM)
        is_plain = is_known and about.get("mask") is None
        return about if is_plain and _is_consistent(about) else None
    except Exception:  # noqa: BLE001 - a property of another library's object; cuda.core reports what is wrong
        return None


def _is_consistent(about: dict[str, Any]) -> bool:
    """Whether shape, strides and address are such as an array can have."""
    shape, strides, address = about["shape"], about.get("strides"), about["data"][0]
    try:
        sides = (*shape, *(() if strides is None else strides))
        return bool(
            shape
            and all(isinstance(side, int) and abs(side) < 2**63 for side in sides)
            and min(shape) >= 0
            and len(sides) in {len(shape), 2 * len(shape)}
            and isinstance(address, int)
            and 0 < address < 2**64
        )
    except TypeError:
        return False


def _home_of(image: Any, about: dict[str, Any]) -> int:
    """Return the number of the GPU that an array is on; frames of videos know it, and asking takes time."""
    known: int | None = getattr(image, "known_gpu", None)
    return _ordinal_of(about["data"][0]) if known is None else known


def _ordinal_of(address: int) -> int:
    """Return the number of the GPU that an address belongs to, -1 if it belongs to none."""
    cuda = driver.bindings()
    kind = cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    status, number = cuda.cuPointerGetAttribute(kind, address)
    return -1 if status else int(number)


def _view(image: Any, stream: Stream) -> Any:
    views = driver.core().utils.StridedMemoryView
    try:
        source = image if hasattr(image, "__dlpack__") else _tidied(image.__cuda_array_interface__)
        # 0 is no stream in DLPack, and 1 the default stream.
        return views.from_any_interface(source, stream_ptr=handle_of(stream) or 1)
    except Exception as error:
        kind = type(image).__name__
        raise ImageError(f"the image of type {kind} cannot be read on the GPU: {one_line(error)}") from error


def _tidied(about: dict[str, Any]) -> Any:
    """Return an object with this ``__cuda_array_interface__``, with tuples for the lists of PyNvVideoCodec's planes."""
    tidy = {name: tuple(value) if isinstance(value, list) else value for name, value in about.items()}
    return SimpleNamespace(__cuda_array_interface__=tidy)


@lru_cache(maxsize=256)
def steps(shape: tuple[int, ...], item: int) -> tuple[int, ...]:
    """Return the strides in bytes of an array in C order whose elements have ``item`` bytes."""
    strides = itertools.accumulate(reversed(shape[1:]), operator.mul, initial=item)
    return tuple(strides)[::-1]
