"""The block of memory that tells the kernels of a run's images, written only where it differs from the run before."""

from __future__ import annotations

import struct

from scrfd_trt.cuda.records import BATCH, FORMATS, FRAME, fits, frame_bytes
from scrfd_trt.pipelines.cuda.frames import Geometry
from scrfd_trt.pipelines.cuda.setting import Setting
from scrfd_trt.pipelines.scales import warn_if_thin

ADDRESS = struct.Struct("<Q")  # what a frame's record begins with


class Parameters:
    """What the kernels are told.

    Parameters
    ----------
    setting
        Of the pipeline.
    memory
        The block, which the GPU is given a copy of at each run.
    """

    def __init__(self, setting: Setting, memory: memoryview) -> None:
        self._memory = memory
        self._scales, self._iou = setting.scales, setting.options.iou
        self._format = FORMATS[setting.options.color]
        self._size = frame_bytes(len(setting.scales))
        self._all_padded = (1 << len(setting.scales)) - 1
        self._run: tuple[int, float, int] | None = None
        self._resized: list[tuple[tuple[int, int], ...]] = []
        self._settled: list[Geometry | None] = []
        self.forget(setting.images)

    def forget(self, images: int) -> None:
        """Take nothing for granted of what lies in so many places of the network's input."""
        self._run = None
        self._resized = [()] * images
        self._settled = [None] * images

    def release(self) -> None:
        """Let go of the block, which must not be touched once the memory is given back."""
        self._memory = memoryview(b"")

    def set_run(self, results_at: int, threshold: float, limit: int) -> None:
        """Tell where results go, the lowest score, and the most faces of an image."""
        run = (results_at, threshold, limit)
        if run != self._run:
            BATCH.pack_into(self._memory, 0, results_at, threshold, self._iou, limit, 0)
            self._run = run

    def set_image(self, place: int, geometry: Geometry, address: int) -> None:
        """Tell of an image of the batch: how it lies in memory, and where."""
        start = BATCH.size + place * self._size
        if geometry == self._settled[place]:
            ADDRESS.pack_into(self._memory, start, address)
            return
        size = geometry.size
        warn_if_thin(size, self._scales)
        fitted, resized = fits(size, self._scales)
        padded = self._padded(self._resized[place], resized)
        FRAME.pack_into(self._memory, start, address, *geometry, self._format, padded)
        self._memory[start + FRAME.size : start + self._size] = fitted
        self._resized[place] = resized
        self._settled[place] = geometry if padded == self._all_padded else None

    def _padded(self, before: tuple[tuple[int, int], ...], resized: tuple[tuple[int, int], ...]) -> int:
        """Return the passes, as bits, whose padding lies in the network's input from the run before."""
        if resized == before:
            return self._all_padded
        return sum((one == other) << number for number, (one, other) in enumerate(zip(resized, before, strict=False)))
