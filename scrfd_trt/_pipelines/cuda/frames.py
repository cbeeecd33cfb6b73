"""How images lie in memory, as the kernels read them."""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any, NamedTuple

from scrfd_trt._cuda.interop import DeviceImage
from scrfd_trt._image_arrays import CHANNELS_FIRST, check_nv12_shape
from scrfd_trt.errors import ImageError, one_line

MAX_STRIDE = MAX_SIDE = 2**31 - 1
"""Maximum distance of columns and channels in bytes, and maximum side in pixels; the kernels store them as int32."""

MAX_ROW_STRIDE = 2**63 - 1


class Geometry(NamedTuple):
    """Strides in bytes, and size in pixels."""

    row: int
    column: int
    channel: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height


@lru_cache(maxsize=256)
def packed(shape: tuple[int, ...], color: str) -> Geometry:
    """Return the geometry of a contiguous image on the host: ``(H, W, 3)``, or an NV12 frame."""
    if color == "nv12":
        rows, width = shape
        return Geometry(width, 1, 1, width, rows * 2 // 3)
    height, width, _ = shape
    return Geometry(3 * width, 3, 1, width, height)


def of_device(image: DeviceImage, color: str) -> Geometry:
    """Return the geometry of an image on the GPU; raise ImageError for a shape that is not an image."""
    return _geometry(image.shape, image.strides, color)


def check_device_image(image: Any, color: str) -> None:
    """Raise ImageError if an array on the GPU has a shape or type attribute that is not that of an image."""
    try:
        shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
        sides = None if shape is None else tuple(map(operator.index, shape))
        kind = "uint8" if dtype is None else str(dtype)
    except Exception as error:
        raise ImageError(f"the image of type {type(image).__name__} cannot be read: {one_line(error)}") from error
    if sides is not None:
        _geometry(sides, (0,) * len(sides), color)
    if not kind.endswith("uint8"):
        raise ImageError(f"the image on the GPU has element type {dtype}; it must be uint8 from 0 to 255")


@lru_cache(maxsize=256)
def _geometry(shape: tuple[int, ...], strides: tuple[int, ...], color: str) -> Geometry:
    if len(shape) != len(strides) or any(not 0 <= side <= MAX_SIDE for side in shape):
        raise ImageError(f"the image on the GPU has shape {shape} and strides {strides}, which is not an image")
    if color == "nv12":
        if len(shape) == 3 and shape[2] == 1:
            shape = shape[:2]
        check_nv12_shape(shape)
        return _checked(Geometry(strides[0], strides[1], 1, shape[1], shape[0] * 2 // 3), strides)
    if len(shape) not in {2, 3} or 0 in shape or (len(shape) == 3 and shape[2] not in CHANNELS_FIRST):
        raise ImageError(_no_image(shape))
    # The kernels read the one channel of a grey image three times, and never the alpha channel.
    channel = strides[2] if len(shape) == 3 and shape[2] > 1 else 0
    return _checked(Geometry(strides[0], strides[1], channel, shape[1], shape[0]), strides)


def _checked(geometry: Geometry, strides: tuple[int, ...]) -> Geometry:
    if max(abs(geometry.column), abs(geometry.channel)) > MAX_STRIDE or abs(geometry.row) > MAX_ROW_STRIDE:
        raise ImageError(
            f"the image on the GPU has strides {strides}, but at most {MAX_STRIDE} bytes are supported; copy it first"
        )
    return geometry


def _no_image(shape: tuple[int, ...]) -> str:
    hint = "(H, W, 3), (H, W, 4) or (H, W) is required"
    if len(shape) == 3 and shape[0] in CHANNELS_FIRST:
        return f"the image on the GPU has shape {shape}, channels first: {hint}; pass a view, such as .permute(1, 2, 0)"
    return f"the image on the GPU has shape {shape}: {hint}"
