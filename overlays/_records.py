"""What an overlay draws on the GPU: one record a face, byte for byte the ``Face`` of ``_gpu.cu``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overlays._geometry import Image

FLAT, MOSAIC, BLUR, PICTURE, PATCH = range(5)
SHAPES = {"ellipse": 0, "aligned": 0, "rectangle": 1}

FACE = np.dtype([
    ("pixels", "u8"), ("center", "f8", 2), ("ratio", "f8", 2), ("row", "i4"), ("cells", "i4"),
    ("region", "i4", 4), ("whole", "i4", 4), ("grid", "i4", 2), ("first_tile", "i4"), ("tiles_across", "i4"),
    ("kind", "i4"), ("shape", "i4"), ("linear", "i4"), ("clear", "i4"), ("half", "f4", 2),
    ("turn", "f4", 2), ("feather", "f4"), ("opacity", "f4"), ("color", "f4", 3), ("sigma", "f4", 2), ("warp", "f4", 6),
], align=True)  # fmt: skip


class GpuFaces(NamedTuple):
    """The faces that an overlay draws on the GPU, in drawing order; ``pixels`` of the records number the pictures."""

    records: NDArray[Any]
    pictures: Sequence[Image] = ()


def clip_boxes(boxes: NDArray[np.float64], size: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the pixels of an image that boxes ``(N, 4)`` touch, as :meth:`Box.clip`, and which of them have any."""
    low, high = np.floor(np.maximum(boxes[:, :2], 0.0)), np.ceil(np.minimum(boxes[:, 2:], size))
    kept = np.asarray((boxes[:, :2] < boxes[:, 2:]).all(1) & (low < high).all(1))
    return np.concatenate([low, high], 1)[kept].astype(np.int32), kept
