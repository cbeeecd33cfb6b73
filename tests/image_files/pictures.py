"""Image files for tests, made with OpenCV, Pillow and bytes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

Array = NDArray[np.uint8]

HAS_AVIF = "avif" in features.modules and bool(features.check("avif"))
CORNERS = np.zeros((40, 64, 3), np.uint8)
"""A picture whose corners have four colours: red, green, blue and white."""
CORNERS[:20, :32], CORNERS[:20, 32:], CORNERS[20:, :32], CORNERS[20:, 32:] = (0, 0, 255), (0, 255, 0), (255, 0, 0), 255
NOISE: Array = np.random.default_rng(5).integers(0, 256, (40, 60, 3)).astype(np.uint8)
STORED = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.transpose(1, 0, 2),
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: np.rot90(seen, 2).transpose(1, 0, 2),
    8: lambda seen: np.rot90(seen, -1),
}
"""How a picture is stored under each EXIF orientation."""


def pillow(image: Array) -> Image.Image:
    """Return a Pillow image of BGR or BGRA pixels."""
    order = [2, 1, 0, 3][: image.shape[2]] if image.ndim == 3 else ...
    return Image.fromarray(np.ascontiguousarray(image[..., order]))


def encoded(suffix: str, image: Array = NOISE, *options: int) -> bytes:
    """Return what OpenCV writes."""
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def saved(image: Image.Image | Array, kind: str, **options: Any) -> bytes:
    """Return what Pillow writes."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else pillow(image)).save(file, kind, **options)
    return file.getvalue()


def exif(tag: int = 0x0112, value: int = 6, order: str = "<", kind: int = 3) -> bytes:
    """Return EXIF data with one tag."""
    short = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
    start = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + start + struct.pack(order + "IHHHI", 8, 1, tag, kind, 1) + short + bytes(4)


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Put segments at the start of a JPEG."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *chunks: bytes, content: bytes = bytes(100)) -> bytes:
    """Return a PNG with the right checksums that promises more pixels than it holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    )


def tiff_of(tags: list[tuple[int, int, int, int]], content: bytes = b"", order: str = "<") -> bytes:
    """Return a TIFF of one directory at byte 8 with tag, type, count and value; ``content`` follows at byte 1000."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    entries = b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + (struct.pack(order + "HH", value, 0) if kind == 3 and count == 1 else struct.pack(order + "I", value))
        for tag, kind, count, value in sorted(tags)
    )
    return (start + struct.pack(order + "H", len(tags)) + entries + bytes(4)).ljust(1000, b"\0") + content
