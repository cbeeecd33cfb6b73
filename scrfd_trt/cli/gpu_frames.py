"""Copies of one image in each kind of memory that ``scrfd-trt bench`` measures with."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cuda import Device, DeviceBuffer
from scrfd_trt.cuda.driver import call
from scrfd_trt.detector import SCRFDDetector

Source = Literal["gpu", "torch", "pinned", "numpy"]
SOURCES: tuple[Source, ...] = get_args(Source)


class OnGpu:
    """A copy of an image in the GPU's memory, with nothing to wait for and no conversion."""

    def __init__(self, image: NDArray[np.uint8], memory: DeviceBuffer) -> None:
        with memory.device.current():
            call("cuMemcpyHtoD", memory.handle, image.ctypes.data, image.nbytes, doing="copying an image to the GPU")
        self.__cuda_array_interface__ = {
            "shape": image.shape,
            "typestr": "|u1",
            "data": (memory.handle, False),
            "strides": None,
            "version": 3,
        }


class Frames:
    """Copies of one image in each kind of memory, as many as a program would have under way.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8.
    count
        How many of each.
    detector
        On the GPU.
    opening
        Gives the GPU's memory back when it is closed.
    """

    def __init__(
        self, image: NDArray[np.uint8], count: int, *, detector: SCRFDDetector, device: Device, opening: ExitStack
    ) -> None:
        self.numpy: list[Any] = [image.copy() for _ in range(count)]
        self.pinned: list[Any] = [detector.pinned(image.shape) for _ in range(count)]
        for each in self.pinned:
            each[:] = image
        self.gpu: list[Any] = [
            OnGpu(image, opening.enter_context(DeviceBuffer(image.nbytes, device))) for _ in range(count)
        ]
        self.torch = _tensors(image, device)

    def of(self, source: Source) -> list[Any]:
        """Return those of one kind; there are none of PyTorch's where that is not installed."""
        kinds: dict[Source, list[Any]] = {
            "gpu": self.gpu,
            "torch": self.torch,
            "pinned": self.pinned,
            "numpy": self.numpy,
        }
        return kinds[source]


def _tensors(image: NDArray[np.uint8], device: Device) -> list[Any]:
    try:
        torch: Any = import_module("torch")
    except (ImportError, OSError):  # the latter where libraries of it are missing
        return []
    if not torch.cuda.is_available():
        return []
    found = [torch.from_numpy(image).to(f"cuda:{device.index}") for _ in range(2)]
    torch.cuda.synchronize(device.index)
    return found
