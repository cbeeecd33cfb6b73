"""Detections that stay on the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.interop import export
from scrfd_trt._cuda.kernels import ROW
from scrfd_trt._cuda.memory import copy, gpu_memory
from scrfd_trt._cuda.stream import synchronize
from scrfd_trt._decode import Candidates
from scrfd_trt._detections import Detections
from scrfd_trt._formats import count_faces

if TYPE_CHECKING:
    from cuda.core import Buffer, Stream


class DeviceDetections:
    """The faces of one image in GPU memory, sorted by descending score.

    :meth:`scrfd_trt.SCRFDDetector.detect_on_gpu` returns them. The memory is freed when neither this object nor any
    array made from it is in use.

    Parameters
    ----------
    memory
        Rows of 16 float32: box 4, score 1, landmarks 10, and one internal value.
    count
        Number of faces.
    device
        The GPU.
    image_size
        Width and height of the image in pixels.
    landmarks
        Whether the model has landmarks.

    Attributes
    ----------
    image_size : tuple of int
        As given.

    Notes
    -----
    All work is done, so no stream has to wait. ``boxes``, ``scores`` and ``landmarks`` support DLPack:
    ``torch.from_dlpack(found.boxes)``. They are views of one array, and not C-contiguous.
    """

    def __init__(
        self, memory: Buffer, count: int, device: Device, image_size: tuple[int, int], *, landmarks: bool
    ) -> None:
        self._memory = memory
        self._count = count
        self._device = device
        self._has_landmarks = landmarks
        self.image_size = image_size

    def __len__(self) -> int:
        return self._count

    @property
    def boxes(self) -> Any:
        """``(N, 4)`` float32 x1, y1, x2, y2 in source pixels."""
        return self._view(0, (self._count, 4), (ROW, 1))

    @property
    def scores(self) -> Any:
        """``(N,)`` float32, descending."""
        return self._view(4, (self._count,), (ROW,))

    @property
    def landmarks(self) -> Any:
        """``(N, 5, 2)`` float32 x and y in source pixels, or None for a model without landmarks."""
        return self._view(5, (self._count, 5, 2), (ROW, 2, 1)) if self._has_landmarks else None

    def to_host(self) -> Detections:
        """Return a copy on the host."""
        rows = np.empty((self._count, ROW), np.float32)
        if self._count:
            with self._device.current():
                copy("copying faces from the GPU", rows.ctypes.data, int(self._memory.handle), rows.nbytes)
        points = rows[:, 5:15].reshape(-1, 5, 2) if self._has_landmarks else None
        return Detections(rows[:, :4], rows[:, 4], points, image_size=self.image_size)._by_score()

    def _view(self, first: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        return export(self._memory, 4 * first, shape, strides)

    def __repr__(self) -> str:
        width, height = self.image_size
        return f"<DeviceDetections {count_faces(self._count)} in {width}×{height}, on the GPU>"


def copy_detections(
    address: int, count: int, image_size: tuple[int, int], device: Device, stream: Stream, *, landmarks: bool
) -> DeviceDetections:
    """Enqueue a copy of the rows at an address; the result is valid once the stream's work is done."""
    memory = gpu_memory(max(count, 1) * ROW * 4, device)
    if count:
        copy("copying faces", int(memory.handle), address, count * ROW * 4, stream)
    return DeviceDetections(memory, count, device, image_size, landmarks=landmarks)


def upload_detections(faces: Detections, device: Device, stream: Stream) -> DeviceDetections:
    """Return detections of the host on the GPU."""
    rows, has_landmarks = rows_of(faces), faces.landmarks is not None
    found = copy_detections(rows.ctypes.data, len(rows), faces.image_size, device, stream, landmarks=has_landmarks)
    synchronize(stream)
    return found


def rows_of(faces: Detections | Candidates) -> NDArray[np.float32]:
    """Return faces as the kernels write them."""
    rows = np.zeros((len(faces), ROW), np.float32)
    rows[:, :4], rows[:, 4] = faces.boxes, faces.scores
    if faces.landmarks is not None:
        rows[:, 5:15] = faces.landmarks.reshape(-1, 10)
    return rows
