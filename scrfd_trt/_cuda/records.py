"""The records that kernels.cu reads and writes, byte for byte as its structs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from scrfd_trt._heads import HeadLayout
from scrfd_trt._letterbox import Letterbox

BATCH = struct.Struct("<Qffii")
FRAME = struct.Struct("<QQqqiiiiiiiiiiiiiI")
FIT = struct.Struct("<ddiiff")
LEVEL = struct.Struct("<QQQiiiiii")
HEADS = struct.Struct("<iiii")

LEVELS = 40
"""Maximum number of strides over all passes."""

CANDIDATES = 4096
"""Maximum number of rows above the threshold of an image that the GPU finishes."""

ROW = 16
"""Floats of one face: box 4, score 1, landmarks 10, and its index among all rows."""

HEADER = 16
"""Floats before the first face; as int32: candidates, faces (-1 if the candidates do not fit), and whether numbers
cannot be a face."""

RESULT_BYTES = 4 * (HEADER + CANDIDATES * ROW)
"""Room for the faces of one image; only as much is written as there are faces."""

BOX_BYTES = 16

ODD_COLUMN, ODD_ROW, MIRRORED_X, MIRRORED_Y, TRANSPOSED = range(1, 6)
"""Bits of a view in the last field of its record."""

FORMATS: dict[str, int] = {"bgr": 0, "rgb": 1, "nv12": 2, "p010": 3}
NO_LIMIT = 2**31 - 1


def frame_bytes(passes: int) -> int:
    """Return the size of the record of one image with its fits."""
    return FRAME.size + passes * FIT.size


@lru_cache(maxsize=1024)
def fits(size: tuple[int, int], scales: tuple[tuple[int, int], ...]) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Return how an image of (width, height) fits into the input of each pass: records, and its scaled size in each."""
    boxes = [Letterbox.fit(size, scale) for scale in scales]
    return b"".join(map(fit, boxes)), tuple(box.resized for box in boxes)


def fit(box: Letterbox) -> bytes:
    """Return the record of the placement of an image in an input."""
    across, down = box.scale
    return FIT.pack(1.0 / across, 1.0 / down, *box.resized, 1.0 / across, 1.0 / down)


def heads(
    layout: HeadLayout,
    scales: Sequence[tuple[int, int]],
    addresses: Sequence[Sequence[int]],
    dtypes: Sequence[str],
) -> bytes:
    """Return the record of the outputs of all passes, by their addresses and types in the order of the engine."""
    levels, first = [], 0
    none = (None,) * len(layout.strides)
    for number, (scale, outputs) in enumerate(zip(scales, addresses, strict=True)):
        columns = zip(layout.strides, layout.scores, layout.boxes, layout.landmarks or none, strict=True)
        for stride, *indices in columns:
            at = [0 if index is None else outputs[index] for index in indices]
            halves = [index is not None and dtypes[index] == "float16" for index in indices]
            rows, across = layout.rows(stride, scale), -(-scale[0] // stride)
            half = sum(bit << place for place, bit in enumerate(halves))
            levels.append(LEVEL.pack(*at, stride, across, rows, first, number, half))
            first += rows
    about = HEADS.pack(len(levels), layout.anchors, layout.kind == "grid", layout.landmarks is not None)
    return about + b"".join(levels).ljust(LEVELS * LEVEL.size, b"\0")
