"""How images lie in memory, as the kernels read them."""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.interop import DeviceImage, steps, type_name
from scrfd_trt._cuda.kernels import FORMATS, MIRRORED_X, MIRRORED_Y, ODD_COLUMN, ODD_ROW, TRANSPOSED
from scrfd_trt._cuda.memory import copy
from scrfd_trt._cuda.stream import synchronize
from scrfd_trt._image_arrays import (
    CHANNELS_FIRST,
    YUVCoefficients,
    YUVImage,
    check_nv12_shape,
    check_yuv_planes,
    explain_shape,
    is_channels_first,
    is_on_gpu,
    yuv_coefficients,
)
from scrfd_trt._letterbox import TURNED_ASIDE
from scrfd_trt._passes import Look
from scrfd_trt.errors import ImageError, one_line

if TYPE_CHECKING:
    from cuda.core import Stream

MAX_STRIDE = MAX_SIDE = 2**31 - 1
"""Maximum distance of columns and channels in bytes, and maximum side in pixels; the kernels store them as int32."""

MAX_ROW_STRIDE = 2**63 - 1


NO_YUV = YUVCoefficients(0, 0, 0, 0, 0, 0)


class Geometry(NamedTuple):
    """Strides in bytes, size in pixels, and format; the fields of a record of an image behind its addresses."""

    row: int
    chroma_row: int
    column: int
    channel: int
    chroma_column: int
    chroma_channel: int
    width: int
    height: int
    format: int
    black: int
    luma: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def chroma(self, address: int) -> int:
        """Return the address of the chroma rows that follow the luma rows in one array."""
        return address + self.height * self.row

    def turned(self, window: tuple[int, int, int, int], rotation: int) -> tuple[Geometry, int, int, int]:
        """Return a window, turned clockwise, as an image: geometry, offsets of both addresses in bytes, and flags."""
        x, y, width, height = window
        falls_x, falls_y, is_aside = rotation in {180, 270}, rotation in {90, 180}, rotation in TURNED_ASIDE
        # Along x and y of the image: the first place, whether places fall, and the strides of both planes.
        axes = [
            (x + falls_x * (width - 1), falls_x, self.column, self.chroma_column),
            (y + falls_y * (height - 1), falls_y, self.row, self.chroma_row),
        ]
        luma = sum(first * stride for first, _, stride, _ in axes)
        chroma = sum(first // 2 * stride for first, *_, stride in axes)
        flags, strides = is_aside << TRANSPOSED, []
        bits = (ODD_COLUMN, MIRRORED_X), (ODD_ROW, MIRRORED_Y)
        for (first, falls, *both), (odd, mirrored) in zip(axes[::-1] if is_aside else axes, bits, strict=True):
            flags |= (first % 2 != falls) << odd | falls << mirrored
            strides.append([-stride if falls else stride for stride in both])
        (column, chroma_column), (row, chroma_row) = strides
        sides = (height, width) if is_aside else (width, height)
        turned = Geometry(row, chroma_row, column, self.channel, chroma_column, self.chroma_channel, *sides, *self[8:])
        return _checked(turned, turned[:6]), luma, chroma, flags


class Located(NamedTuple):
    """An image on the GPU, and the addresses of its pixels or planes."""

    geometry: Geometry
    address: int
    chroma: int


def of_host(image: Any, color: str) -> Geometry:
    """Return the geometry of a prepared image on the host as it is copied to the GPU, with contiguous rows."""
    if not isinstance(image, YUVImage):
        is_frame = color == "nv12" and image.ndim == 2  # the parts that are looked at again are not
        return of_strides(image.shape, steps(image.shape, 1), color if is_frame or color != "nv12" else "bgr")
    y, uv, item = image.y.shape, image.uv.shape, image.y.itemsize
    return of_planes(y, steps(y, item), steps(uv, item), (image.matrix, image.full_range, 8 * item))


def to_host(image: Located, given: Any, stream: Stream) -> Any:
    """Return an image on the GPU as one on the host, ``(H, W, 3)`` or a YUVImage as ``given``."""
    geometry, (width, height) = image.geometry, image.geometry.size
    if geometry.format < FORMATS["nv12"]:
        strides = (geometry.row, geometry.column, geometry.channel)
        return _download(image.address, (height, width, 3), strides, np.uint8, stream)
    kind = np.uint16 if geometry.format == FORMATS["p010"] else np.uint8
    y = _download(image.address, (height, width), (geometry.row, geometry.column), kind, stream)
    strides, sides = (geometry.chroma_row, geometry.chroma_column, geometry.chroma_channel), (height + 1, width + 1)
    uv = _download(image.chroma, (*(side // 2 for side in sides), 2), strides, kind, stream)
    return replace(given, y=y, uv=uv) if isinstance(given, YUVImage) else YUVImage(y, uv)


def _download(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], kind: type[np.generic], stream: Stream
) -> NDArray[Any]:
    """Return a copy of an array on the GPU, of all bytes from its first one to its last one."""
    reach = [(side - 1) * stride for side, stride in zip(shape, strides, strict=True)]
    before = -sum(min(0, each) for each in reach)
    memory = np.empty(sum(map(abs, reach)) + np.dtype(kind).itemsize, np.uint8)
    copy("copying an image from the GPU", memory.ctypes.data, address - before, memory.nbytes, stream)
    synchronize(stream)
    return np.ascontiguousarray(np.ndarray(shape, kind, memory, before, strides))


def of_device_planes(image: YUVImage, y: DeviceImage, uv: DeviceImage) -> Geometry:
    """Return the geometry of planes on the GPU; raise ImageError if they are not NV12 or P010."""
    check_yuv_planes(y.shape, uv.shape, y.dtype, uv.dtype)
    return of_planes(y.shape, y.strides, uv.strides, (image.matrix, image.full_range, 8 * y.item))


@lru_cache(maxsize=256)
def of_planes(
    shape: tuple[int, ...], y: tuple[int, ...], uv: tuple[int, ...], color: tuple[str, bool, int]
) -> Geometry:
    """Return the geometry of checked planes: shape of luma, strides in bytes, and matrix, range and bits in memory."""
    matrix, full_range, bits = color
    if bits > 8 and any(stride % 2 for stride in (*y, *uv)):
        raise ImageError(f"the planes on the GPU have strides {y} and {uv} in bytes, which must be even")
    kind, levels = (FORMATS["p010"], 10) if bits > 8 else (FORMATS["nv12"], 8)
    coefficients = yuv_coefficients(matrix, full_range, levels)
    strides = (y[0], uv[0], y[1], 0, uv[1], uv[2])
    return _checked(Geometry(*strides, shape[1], shape[0], kind, *coefficients), (y, uv))


def host_arrays(image: Any) -> list[NDArray[np.uint8]]:
    """Return what of a prepared image has to be copied to the GPU, as uint8 with contiguous rows."""
    if isinstance(image, np.ndarray):
        return [image]
    if isinstance(image, Look):
        return host_arrays(image.image)
    if isinstance(image, YUVImage) and isinstance(image.y, np.ndarray):
        return [image.y.view(np.uint8), image.uv.view(np.uint8)]
    return []


def check_device_planes(image: YUVImage) -> None:
    """Raise ImageError if the planes are not both on the GPU, or have attributes that are not those of NV12 or P010."""
    if not (is_on_gpu(image.y) and is_on_gpu(image.uv)):
        raise ImageError("one plane of the YUVImage is on the GPU, and the other is not")
    (y, y_kind), (uv, uv_kind) = (_attributes(plane, "a plane") for plane in (image.y, image.uv))
    if y is not None and uv is not None:
        kinds = (y_kind, uv_kind) if y_kind and uv_kind else ("uint8", "uint8")
        check_yuv_planes(y, uv, *kinds)


def check_device_image(image: Any, color: str) -> None:
    """Raise ImageError if an array on the GPU has a shape or type attribute that is not that of an image."""
    sides, kind = _attributes(image, "the image")
    if sides is not None:
        of_tensor(sides, (0,) * len(sides), color)
    if kind not in {"", "uint8"}:
        raise ImageError(f"the image on the GPU has element type {kind}; it must be uint8 from 0 to 255")


def _attributes(array: Any, what: str) -> tuple[tuple[int, ...] | None, str]:
    """Return shape and element type of an array as it says, None and an empty string if it does not."""
    try:
        shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
        sides = None if shape is None else tuple(map(operator.index, shape))
        return sides, "" if dtype is None else type_name(dtype)
    except Exception as error:
        raise ImageError(f"{what} of type {type(array).__name__} cannot be read: {one_line(error)}") from error


@lru_cache(maxsize=256)
def of_tensor(shape: tuple[int, ...], strides: tuple[int, ...], color: str) -> Geometry:
    """Return the geometry of an image on the GPU, ``(H, W, C)`` or ``(C, H, W)``; errors as :func:`of_strides`."""
    if color != "nv12" and len(shape) == len(strides) and is_channels_first(shape):
        shape, strides = shape[1:] + shape[:1], strides[1:] + strides[:1]
    return of_strides(shape, strides, color)


@lru_cache(maxsize=256)
def of_strides(shape: tuple[int, ...], strides: tuple[int, ...], color: str) -> Geometry:
    """Return the geometry of an image on the GPU; raise ImageError for a shape that is not an image."""
    if len(shape) != len(strides) or any(not 0 <= side <= MAX_SIDE for side in shape):
        raise ImageError(f"the image on the GPU has shape {shape} and strides {strides}, which is not an image")
    if color == "nv12":
        if len(shape) == 3 and shape[2] == 1:
            shape = shape[:2]
        check_nv12_shape(shape)
        row, column, *_ = strides
        planes = (shape[0] * 2 // 3, shape[1]), (row, column), (row, 2 * column, column)
        return of_planes(*planes, ("bt601", False, 8))
    if len(shape) not in {2, 3} or 0 in shape or (len(shape) == 3 and shape[2] not in CHANNELS_FIRST):
        raise ImageError(explain_shape("the image on the GPU", shape))
    # The kernels read the one channel of a grey image three times, and never the alpha channel.
    channel = strides[2] if len(shape) == 3 and shape[2] > 1 else 0
    (height, width), (row, column) = shape[:2], strides[:2]
    return _checked(Geometry(row, 0, column, channel, 0, 0, width, height, FORMATS[color], *NO_YUV), strides)


def _checked(geometry: Geometry, strides: tuple[Any, ...]) -> Geometry:
    rows, columns = geometry[:2], geometry[2:6]
    if max(map(abs, columns)) > MAX_STRIDE or max(map(abs, rows)) > MAX_ROW_STRIDE:
        raise ImageError(
            f"the image on the GPU has strides {strides}, but at most {MAX_STRIDE} bytes are supported; copy it first"
        )
    return geometry
