"""How images lie in memory, as the kernels read them."""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.interop import DeviceImage, type_name
from scrfd_trt._cuda.records import FORMATS
from scrfd_trt._image_arrays import (
    CHANNELS_FIRST,
    YUVCoefficients,
    YUVImage,
    check_nv12_shape,
    check_yuv_planes,
    is_on_gpu,
    yuv_coefficients,
)
from scrfd_trt.errors import ImageError, one_line

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


def _of_color(strides: tuple[int, int, int], width: int, height: int, color: str) -> Geometry:
    row, column, channel = strides
    return Geometry(row, 0, column, channel, 0, 0, width, height, FORMATS[color], *NO_YUV)


def _of_nv12(row: int, column: int, width: int, rows: int) -> Geometry:
    coefficients = yuv_coefficients("bt601", False, 8)
    return Geometry(row, row, column, 0, 2 * column, column, width, rows * 2 // 3, FORMATS["nv12"], *coefficients)


@lru_cache(maxsize=256)
def packed(shape: tuple[int, ...], color: str) -> Geometry:
    """Return the geometry of a contiguous image on the host: ``(H, W, 3)``, or an NV12 frame."""
    if color == "nv12":
        rows, width = shape
        return _of_nv12(width, 1, width, rows)
    height, width, _ = shape
    return _of_color((3 * width, 3, 1), width, height, color)


def of_host_planes(image: YUVImage) -> Geometry:
    """Return the geometry of checked planes as they are copied to the GPU, with contiguous rows."""
    width, across, item = image.y.shape[1], image.uv.shape[1], image.y.itemsize
    return of_planes(image, (width * item, item), (2 * across * item, 2 * item, item))


def of_planes(image: YUVImage, y: tuple[int, ...], uv: tuple[int, ...]) -> Geometry:
    """Return the geometry of checked planes with strides in bytes."""
    height, width = image.y.shape[:2]
    return _of_planes((width, height), y, uv, (image.matrix, image.full_range, 8 if image.y.dtype == "uint8" else 10))


def of_device_planes(image: YUVImage, y: DeviceImage, uv: DeviceImage) -> Geometry:
    """Return the geometry of planes on the GPU; raise ImageError if they are not NV12 or P010."""
    check_yuv_planes(y.shape, uv.shape, y.dtype, uv.dtype)
    return of_planes(YUVImage(y, uv, image.matrix, image.full_range), y.strides, uv.strides)


@lru_cache(maxsize=256)
def _of_planes(
    size: tuple[int, int], y: tuple[int, ...], uv: tuple[int, ...], color: tuple[str, bool, int]
) -> Geometry:
    """Return the geometry of planes of a size in pixels, strides in bytes, and matrix, range and bits."""
    is_wide = color[2] > 8
    if is_wide and any(stride % 2 for stride in (*y, *uv)):
        raise ImageError(f"the planes on the GPU have strides {y} and {uv} in bytes, which must be even")
    strides = (y[0], uv[0], y[1], 0, uv[1], uv[2])
    return _checked(
        Geometry(*strides, *size, FORMATS["p010" if is_wide else "nv12"], *yuv_coefficients(*color)), (y, uv)
    )


def host_arrays(image: Any) -> list[NDArray[np.uint8]]:
    """Return what of a prepared image has to be copied to the GPU, as uint8 with contiguous rows."""
    if isinstance(image, np.ndarray):
        return [image]
    if isinstance(image, YUVImage) and isinstance(image.y, np.ndarray):
        return [image.y.view(np.uint8), image.uv.view(np.uint8)]
    return []


def of_device(image: DeviceImage, color: str) -> Geometry:
    """Return the geometry of an image on the GPU; raise ImageError for a shape that is not an image."""
    return of_strides(image.shape, image.strides, color)


def check_device_planes(image: YUVImage) -> None:
    """Raise ImageError if the planes are not both on the GPU, or have attributes that are not those of NV12 or P010."""
    sides, kinds = [], []
    for plane in (image.y, image.uv):
        if not is_on_gpu(plane):
            raise ImageError("one plane of the YUVImage is on the GPU, and the other is not")
        try:
            shape = getattr(plane, "shape", None)
            sides.append(None if shape is None else tuple(map(operator.index, shape)))
            kinds.append(getattr(plane, "dtype", None))
        except Exception as error:
            raise ImageError(f"a plane of type {type(plane).__name__} cannot be read: {one_line(error)}") from error
    y, uv = sides
    if y is not None and uv is not None:
        known = not any(kind is None for kind in kinds)
        y_kind, uv_kind = map(type_name, kinds if known else ("uint8", "uint8"))
        check_yuv_planes(y, uv, y_kind, uv_kind)


def check_device_image(image: Any, color: str) -> None:
    """Raise ImageError if an array on the GPU has a shape or type attribute that is not that of an image."""
    try:
        shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
        sides = None if shape is None else tuple(map(operator.index, shape))
        kind = type_name("uint8" if dtype is None else dtype)
    except Exception as error:
        raise ImageError(f"the image of type {type(image).__name__} cannot be read: {one_line(error)}") from error
    if sides is not None:
        of_strides(sides, (0,) * len(sides), color)
    if kind != "uint8":
        raise ImageError(f"the image on the GPU has element type {kind}; it must be uint8 from 0 to 255")


@lru_cache(maxsize=256)
def of_strides(shape: tuple[int, ...], strides: tuple[int, ...], color: str) -> Geometry:
    if len(shape) != len(strides) or any(not 0 <= side <= MAX_SIDE for side in shape):
        raise ImageError(f"the image on the GPU has shape {shape} and strides {strides}, which is not an image")
    if color == "nv12":
        if len(shape) == 3 and shape[2] == 1:
            shape = shape[:2]
        check_nv12_shape(shape)
        return _checked(_of_nv12(strides[0], strides[1], shape[1], shape[0]), strides)
    if len(shape) not in {2, 3} or 0 in shape or (len(shape) == 3 and shape[2] not in CHANNELS_FIRST):
        raise ImageError(_no_image(shape))
    # The kernels read the one channel of a grey image three times, and never the alpha channel.
    channel = strides[2] if len(shape) == 3 and shape[2] > 1 else 0
    return _checked(_of_color((strides[0], strides[1], channel), shape[1], shape[0], color), strides)


def _checked(geometry: Geometry, strides: tuple[Any, ...]) -> Geometry:
    rows, columns = geometry[:2], geometry[2:6]
    if max(map(abs, columns)) > MAX_STRIDE or max(map(abs, rows)) > MAX_ROW_STRIDE:
        raise ImageError(
            f"the image on the GPU has strides {strides}, but at most {MAX_STRIDE} bytes are supported; copy it first"
        )
    return geometry


def _no_image(shape: tuple[int, ...]) -> str:
    hint = "(H, W, 3), (H, W, 4) or (H, W) is required"
    if len(shape) == 3 and shape[0] in CHANNELS_FIRST:
        return f"the image on the GPU has shape {shape}, channels first: {hint}; pass a view, such as .permute(1, 2, 0)"
    return f"the image on the GPU has shape {shape}: {hint}"
