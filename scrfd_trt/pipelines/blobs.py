"""Network inputs that are used again: a fresh array of megabytes costs more than filling it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.letterbox import Letterbox, normalize_into


class Blob:
    """One network input, and what it still holds of the images before.

    Parameters
    ----------
    shape
        ``(B, 3, H, W)``.

    Attributes
    ----------
    array
        ``shape`` float32, C-contiguous.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array: NDArray[np.float32] = np.zeros(shape, np.float32)
        self._resized: list[tuple[int, int] | None] = [None] * shape[0]

    def fill(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Letterbox], color: Literal["bgr", "rgb"]
    ) -> None:
        """Letterbox images into the first places; what lies in the others stays."""
        for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
            padded = self._resized[index] == box.resized
            self._resized[index] = None
            normalize_into(self.array[index], image, box, color, padded=padded)
            self._resized[index] = box.resized


class BlobPool:
    """Lends blobs; of each shape as many exist as were ever lent at one time.

    Threads may borrow at the same time: ``list.append`` and ``list.pop`` are atomic.
    """

    def __init__(self) -> None:
        self._idle: dict[tuple[int, ...], list[Blob]] = {}

    @contextmanager
    def borrow(self, shape: tuple[int, ...]) -> Iterator[Blob]:
        """Lend a blob of this shape, with anything in it."""
        idle = self._idle.setdefault(shape, [])
        try:
            blob = idle.pop()
        except IndexError:
            blob = Blob(shape)
        try:
            yield blob
        finally:
            idle.append(blob)

    def clear(self) -> None:
        """Let go of all blobs that are not lent."""
        self._idle.clear()
