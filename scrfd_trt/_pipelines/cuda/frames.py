"""How an image lies in memory, as the kernels read it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from scrfd_trt._cuda.interop import DeviceImage
from scrfd_trt._images import CHANNELS_FIRST, check_nv12_shape
from scrfd_trt.errors import ImageError

FARTHEST = 2**31 - 1
"""Bytes between columns or channels, as the kernels keep them."""


class Geometry(NamedTuple):
    """How an image lies in memory.

    Attributes
    ----------
    row, column, channel
        Steps in bytes.
    width, height
        In pixels.
    """

    row: int
    column: int
    channel: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@lru_cache(maxsize=256)
def packed(shape: tuple[int, ...], color: str) -> Geometry:
    """Return the geometry of an image of the host, ``(H, W, 3)`` or an NV12 frame, whose rows lie end to end."""
    if color == "nv12":
        rows, width = shape
        return Geometry(width, 1, 1, width, rows * 2 // 3)
    height, width, _ = shape
    return Geometry(3 * width, 3, 1, width, height)


def check_device_image(image: Any, color: str) -> None:
    """Check shape and element type of an array on the GPU, as far as it tells them itself.

    Raises
    ------
    ImageError
        If it is no image.
    """
    shape, kind = getattr(image, "shape", None), getattr(image, "dtype", None)
    if shape is not None:
        _laid_out(tuple(shape), (0,) * len(shape), color)
    if kind is not None and not str(kind).endswith("uint8"):
        raise ImageError(f"the image on the GPU has element type {kind}; it must be uint8 from 0 to 255")


def of_device(image: DeviceImage, color: str) -> Geometry:
    """Return the geometry of an image on the GPU.

    Raises
    ------
    ImageError
        If its shape is none of an image.
    """
    return _laid_out(image.shape, image.strides, color)


@lru_cache(maxsize=256)
def _laid_out(shape: tuple[int, ...], steps: tuple[int, ...], color: str) -> Geometry:
    if color == "nv12":
        if len(shape) == 3 and shape[2] == 1:
            shape = shape[:2]
        check_nv12_shape(shape)
        return Geometry(steps[0], steps[1], 1, shape[1], shape[0] * 2 // 3)
    if len(shape) not in {2, 3} or 0 in shape or (len(shape) == 3 and shape[2] not in CHANNELS_FIRST):
        raise ImageError(_no_image(shape))
    # Grey images are read three times over; of images with alpha, the alpha is not read.
    channel = steps[2] if len(shape) == 3 and shape[2] > 1 else 0
    if max(abs(steps[1]), abs(channel)) > FARTHEST:
        raise ImageError(
            f"the image on the GPU has strides {steps}, further apart than {FARTHEST} bytes; copy it first"
        )
    return Geometry(steps[0], steps[1], channel, shape[1], shape[0])


def _no_image(shape: tuple[int, ...]) -> str:
    hint = "(H, W, 3), (H, W, 4) or (H, W) is wanted"
    if len(shape) == 3 and shape[0] in CHANNELS_FIRST:
        return f"the image on the GPU has shape {shape}, channels first: {hint}; a view will do: .permute(1, 2, 0)"
    return f"the image on the GPU has shape {shape}: {hint}"
