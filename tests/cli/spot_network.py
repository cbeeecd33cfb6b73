"""A fake model that detects the white spot of an image as its face; as a program, ``scrfd-trt`` with this model."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import SCRFDDetector, models
from scrfd_trt._tensors import TensorSpec

STRIDES = (8, 16, 32)
WIDTHS = {"score": 1, "bbox": 4, "kps": 10}
WHITE = 0.9
SCORE = 0.875
POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
"""The landmarks, in widths and heights of the box."""


class SpotBackend:
    """A SCRFD network with a batch axis and a free size, whose face is the bounding box of all white pixels."""

    description = "a stand-in"
    input = TensorSpec("input", (None, 3, None, None))
    ranges = ()
    outputs = tuple(TensorSpec(f"{name}_{s}", (None, None, width)) for name, width in WIDTHS.items() for s in STRIDES)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.closed = False

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        time.sleep(self.seconds)
        batch, _, height, width = blob.shape
        found = {
            f"{name}_{s}": np.zeros((batch, 2 * (-(-height // s)) * (-(-width // s)), columns), np.float32)
            for name, columns in WIDTHS.items()
            for s in STRIDES
        }
        for image in range(batch):
            self._mark(blob[image], image, found)
        return [found[tensor.name] for tensor in self.outputs]

    def _mark(self, planes: NDArray[np.float32], image: int, found: dict[str, NDArray[np.float32]]) -> None:
        rows, columns = np.nonzero((planes > WHITE).all(axis=0))
        if not len(rows):
            return
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
        cell = ((box[:2] + box[2:]) / 16).astype(int)
        center = cell * 8
        row = 2 * (cell[1] * -(-planes.shape[2] // 8) + cell[0])
        points = box[:2] + POINTS * (box[2:] - box[:2])
        found["score_8"][image, row] = SCORE
        found["bbox_8"][image, row] = [*(center - box[:2]) / 8, *(box[2:] - center) / 8]
        found["kps_8"][image, row] = ((points - center) / 8).ravel()

    def close(self) -> None:
        self.closed = True


def stand_in(seconds: float = 0.0) -> classmethod[SCRFDDetector, Any, SCRFDDetector]:
    """Return a replacement for ``SCRFDDetector.from_pretrained``."""

    def from_pretrained(
        cls: type[SCRFDDetector],
        /,
        name: str = "500m_bnkps",
        *,
        device: str = "auto",
        progress: object = None,
        **options: Any,
    ) -> SCRFDDetector:
        models.get(name)
        return cls.from_backend(SpotBackend(seconds), **options)

    return classmethod(from_pretrained)


if __name__ == "__main__":
    os.environ["SPOT_SECONDS"] = sys.argv.pop(1)
if __name__ in {"__main__", "__mp_main__"}:  # the second name is that in processes which it starts
    SCRFDDetector.from_pretrained = stand_in(float(os.environ["SPOT_SECONDS"]))  # type: ignore[method-assign,assignment]
if __name__ == "__main__":
    from scrfd_trt._cli import main

    main()
