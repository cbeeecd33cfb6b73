"""The records that kernels.cu reads and writes, byte for byte as its structs lie in memory."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from scrfd_trt._heads import HeadLayout
from scrfd_trt._letterbox import Letterbox

BATCH = struct.Struct("<Qffii")
FRAME = struct.Struct("<QqiiiiiI")
FIT = struct.Struct("<ddiiff")
LEVEL = struct.Struct("<QQQiiiiii")
HEADS = struct.Struct("<iiii")

LEVELS = 40
"""Most strides of all passes together."""

CANDIDATES = 4096
"""Most rows above the threshold that an image may have to be finished on the GPU."""

ROW = 16
"""Floats of one face: box 4, score 1, landmarks 10, and its place among all rows."""

HEADER = 16
"""Floats before the first face; as int32: candidates, faces (-1 where candidates do not fit), and whether numbers are
none of a face."""

RESULT_BYTES = 4 * (HEADER + CANDIDATES * ROW)
"""Room of one image's faces; as much is written as there are."""

BOX_BYTES = 16

FORMATS: dict[str, int] = {"bgr": 0, "rgb": 1, "nv12": 2}
NO_LIMIT = 2**31 - 1


def frame_bytes(passes: int) -> int:
    """Return the size of one image's record with its fits."""
    return FRAME.size + passes * FIT.size


@lru_cache(maxsize=1024)
def fits(size: tuple[int, int], scales: tuple[tuple[int, int], ...]) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Tell how an image of (width, height) lies in the input of each pass.

    Returns
    -------
    tuple
        The records, and the scaled width and height in each pass.
    """
    boxes = [Letterbox.fit(size, scale) for scale in scales]
    records = []
    for box in boxes:
        across, down = box.scale
        records.append(FIT.pack(1.0 / across, 1.0 / down, *box.resized, 1.0 / across, 1.0 / down))
    return b"".join(records), tuple(box.resized for box in boxes)


def heads(
    layout: HeadLayout,
    scales: Sequence[tuple[int, int]],
    addresses: Sequence[Sequence[int]],
    dtypes: Sequence[str],
) -> bytes:
    """Tell where the outputs of all passes lie.

    Parameters
    ----------
    layout
        The network's.
    scales
        Width and height of each pass.
    addresses
        Of each pass's outputs on the GPU, in the network's own order.
    dtypes
        ``float32`` or ``float16``, of the outputs in the same order.
    """
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
