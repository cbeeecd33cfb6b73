"""Detections that stay on the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.interop import export
from scrfd_trt._cuda.memory import copy, gpu_memory
from scrfd_trt._cuda.records import ROW
from scrfd_trt._detections import Detections

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream


class DeviceDetections:
    """The faces of one image, in the GPU's memory, by falling score.

    Made by :meth:`scrfd_trt.SCRFDDetector.detect_on_gpu`. The memory is given back when neither this nor any array made
    of it is left.

    Parameters
    ----------
    memory
        Rows of 16 float32: box 4, score 1, landmarks 10, and one that means nothing to others.
    count
        How many.
    device
        The GPU.
    image_size
        Width and height of the image in pixels.
    landmarks
        Whether the network has landmarks.

    Attributes
    ----------
    image_size : tuple of int
        As given.

    Notes
    -----
    The work is done when this is handed out, so no stream has to wait for anything. ``boxes``, ``scores`` and
    ``landmarks`` have DLPack: ``torch.from_dlpack(found.boxes)``. They are views of one array, not C-contiguous.
    """

    def __init__(
        self, memory: Buffer, count: int, device: Device, image_size: tuple[int, int], *, landmarks: bool
    ) -> None:
        self._memory = memory
        self._count = count
        self._device = device
        self._has_landmarks = landmarks
        self.image_size = image_size

    @classmethod
    def copy(
        cls,
        address: int,
        count: int,
        image_size: tuple[int, int],
        *,
        device: Device,
        stream: Stream,
        landmarks: bool,
    ) -> DeviceDetections:
        """Put a copy of rows into a stream, which is to be waited for, with the device current."""
        memory = gpu_memory(max(count, 1) * ROW * 4, device)
        if count:
            copy("copying faces", int(memory.handle), address, count * ROW * 4, stream)
        return cls(memory, count, device, image_size, landmarks=landmarks)

    def __len__(self) -> int:
        return self._count

    @property
    def boxes(self) -> Any:
        """``(N, 4)`` float32 x1, y1, x2, y2 in source pixels."""
        return self._view(0, (self._count, 4), (ROW, 1))

    @property
    def scores(self) -> Any:
        """``(N,)`` float32, falling."""
        return self._view(4, (self._count,), (ROW,))

    @property
    def landmarks(self) -> Any:
        """``(N, 5, 2)`` float32 x and y in source pixels, or None for a network without landmarks."""
        return self._view(5, (self._count, 5, 2), (ROW, 2, 1)) if self._has_landmarks else None

    def to_host(self) -> Detections:
        """Copy to the host."""
        rows = np.empty((self._count, ROW), np.float32)
        if self._count:
            with self._device.current():
                copy("copying faces from the GPU", rows.ctypes.data, int(self._memory.handle), rows.nbytes)
        points = rows[:, 5:15].reshape(-1, 5, 2) if self._has_landmarks else None
        return Detections(rows[:, :4], rows[:, 4], points, image_size=self.image_size)

    def _view(self, first: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        return export(self._memory, 4 * first, shape, strides)

    def __repr__(self) -> str:
        width, height = self.image_size
        return f"<DeviceDetections {self._count} faces in {width}×{height}, on the GPU>"
