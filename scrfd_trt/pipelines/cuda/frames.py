"""How an image lies in memory, as the kernels read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Event
from scrfd_trt.cuda.arrays import DeviceImage
from scrfd_trt.cuda.records import FORMATS, FRAME
from scrfd_trt.errors import ImageError
from scrfd_trt.images import CHANNELS_FIRST, check_nv12_shape


@dataclass(frozen=True)
class Ready:
    """An image on the GPU, and the mark from which on it may be read.

    Attributes
    ----------
    image
        The image.
    event
        Recorded behind what the library that made it still has to do.
    """

    image: DeviceImage
    event: Event


@dataclass(frozen=True)
class Geometry:
    """How an image lies in memory.

    Attributes
    ----------
    size
        Width and height in pixels.
    row, column, channel
        Steps in bytes.
    """

    size: tuple[int, int]
    row: int
    column: int
    channel: int

    def record(self, address: int, color: str, padded: int) -> bytes:
        """Pack the record that the kernels read.

        Parameters
        ----------
        address
            Of the first pixel on the GPU.
        color
            ``bgr``, ``rgb`` or ``nv12``.
        padded
            Bit p: the padding of pass p lies in the network's input already.
        """
        return FRAME.pack(address, self.row, self.column, self.channel, *self.size, FORMATS[color], padded)


def packed(image: NDArray[np.uint8], color: str) -> Geometry:
    """Return the geometry of an image of the host, ``(H, W, 3)`` or an NV12 frame, once its rows lie end to end."""
    if color == "nv12":
        rows, width = image.shape
        return Geometry((width, rows * 2 // 3), width, 1, 1)
    height, width = image.shape[:2]
    return Geometry((width, height), 3 * width, 3, 1)


def of_device(image: DeviceImage, color: str) -> Geometry:
    """Return the geometry of an image on the GPU.

    Raises
    ------
    ImageError
        If its shape is none of an image.
    """
    shape: tuple[int, ...] = image.shape
    steps: tuple[int, ...] = image.strides
    if color == "nv12":
        if len(shape) == 3 and shape[2] == 1:
            shape = shape[:2]
        check_nv12_shape(shape)
        return Geometry((shape[1], shape[0] * 2 // 3), steps[0], steps[1], 1)
    if len(shape) not in {2, 3} or 0 in shape or (len(shape) == 3 and shape[2] not in CHANNELS_FIRST):
        raise ImageError(_no_image(shape))
    # Grey images are read three times over; of images with alpha, the alpha is not read.
    channel = steps[2] if len(shape) == 3 and shape[2] > 1 else 0
    return Geometry((shape[1], shape[0]), steps[0], steps[1], channel)


def _no_image(shape: tuple[int, ...]) -> str:
    hint = "(H, W, 3), (H, W, 4) or (H, W) is wanted"
    if len(shape) == 3 and shape[0] in CHANNELS_FIRST:
        return f"the image on the GPU has shape {shape}, channels first: {hint}; a view will do: .permute(1, 2, 0)"
    return f"the image on the GPU has shape {shape}: {hint}"


def is_host(image: Any) -> bool:
    """Whether an image lies in the host's memory."""
    return isinstance(image, np.ndarray)
