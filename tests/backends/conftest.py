from __future__ import annotations

import numpy as np
import pytest

from scrfd_trt._tensors import TensorSpec

WIDTHS = {"score": 1, "bbox": 4, "kps": 10}


class FakeBackend:
    """A batched model of 64×64 pixels that detects faces where its input is bright."""

    description = "fake"
    input = TensorSpec("images", (None, 3, 64, 64))
    ranges = ()
    outputs = tuple(
        TensorSpec(f"{name}_{stride}", (None, None, width)) for name, width in WIDTHS.items() for stride in (8, 16, 32)
    )

    def __init__(self):
        self.closed = 0

    def run(self, blob):
        found = {}
        for stride in (8, 16, 32):
            bright = blob[:, 0, ::stride, ::stride].reshape(len(blob), -1).repeat(2, axis=1)
            found["score", stride] = (bright * 0.5 + 0.5).clip(0, 1)[..., None]
            found["bbox", stride] = np.full((*bright.shape, 4), 0.7, np.float32)
            found["kps", stride] = np.tile(np.arange(10, dtype=np.float32) / 10, (*bright.shape, 1))
        return [found[name, stride].astype(np.float32) for name in WIDTHS for stride in (8, 16, 32)]

    def close(self):
        self.closed += 1


@pytest.fixture
def fake():
    return FakeBackend()
