"""Read the tags of TIFF directories, which EXIF and MPF use as well; damaged ones give what can be read."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scrfd_trt.errors import ImageError

TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "2I", 6: "b", 7: "s", 8: "h", 9: "i", 10: "2i", 11: "f", 12: "d"}
TYPES |= {13: "I", 16: "Q", 17: "q", 18: "Q"}
"""Struct codes by the numbers of TIFF types; a rational number is two integers."""
MAX_ENTRIES = 1_000_000
"""Entries of all directories of a file."""
ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")
"""The first bytes of TIFF and BigTIFF, little and big endian."""


@dataclass(frozen=True)
class Directory:
    """The tags of one directory, and where it lies."""

    offset: int
    entries: dict[int, tuple[int, int, int, str]]
    """By tag: position of its value, number of values, size of all values in bytes, struct code of one."""
    next_offset: int
    data: bytes
    order: str
    is_cut_off: bool = False
    """Whether entries are missing."""

    @property
    def is_big(self) -> bool:
        """Whether the data is BigTIFF."""
        return self.data[2:4] in {b"+\0", b"\0+"}

    def values(self, tag: int, longest: int = 1 << 20) -> tuple[Any, ...]:
        """Return the values of a tag; empty if it is missing, cut off, or has more than ``longest`` bytes."""
        at, count, size, code = self.entries.get(tag, (0, 0, 0, "B"))
        if not 0 < size <= longest or at + size > len(self.data):
            return ()
        if code == "s":
            return (self.data[at : at + size],)
        return struct.unpack_from(
            f"{self.order}{count * len(code.lstrip('2')) * (2 if '2' in code else 1)}{code[-1]}", self.data, at
        )

    def numbers(self, tag: int, longest: int = 1 << 20) -> tuple[float, ...]:
        """Return the values of a tag as :meth:`values` does; empty if they are no numbers."""
        values = self.values(tag, longest)
        return () if values and isinstance(values[0], bytes) else values

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag as an integer."""
        values = self.numbers(tag)
        return int(values[0]) if values and math.isfinite(values[0]) else default

    def content(self, tag: int, longest: int = 1 << 24) -> bytes:
        """Return the bytes of a tag's values of any type; empty if it is missing, cut off or too long."""
        at, _, size, _ = self.entries.get(tag, (0, 0, 0, "B"))
        return self.data[at : at + size] if size <= longest and at + size <= len(self.data) else b""

    @property
    def orientation(self) -> int:
        """The orientation 1 to 8; 1 if it is missing or invalid."""
        value = self.number(ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1

    @property
    def resolution(self) -> tuple[float, float] | None:
        """Dots per inch along x and y as stored; None if they are missing."""
        unit = {2: 1.0, 3: 2.54}.get(self.number(RESOLUTION_UNIT, 2), 0.0)
        x, y = self.ratio(X_RESOLUTION) * unit, self.ratio(Y_RESOLUTION) * unit
        return (x, y) if x > 0 and y > 0 else None

    def ratio(self, tag: int) -> float:
        """Return the first value of a tag as a number; 0 if it is missing or infinite."""
        values = self.numbers(tag)
        if self.entries.get(tag, (0, 0, 0, "B"))[3].startswith("2"):
            return values[0] / values[1] if len(values) > 1 and values[1] else 0.0
        return values[0] if values and math.isfinite(values[0]) else 0.0


def directories(data: bytes) -> Iterator[Directory]:
    """Yield the main directories of TIFF data in their order; none if it does not start like TIFF."""
    if not data.startswith(SIGNATURES):
        return
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in {b"+\0", b"\0+"}
    first, code = (8, "Q") if big else (4, "I")
    if len(data) < first + struct.calcsize(code):
        return
    (offset,) = struct.unpack_from(order + code, data, first)
    seen: set[int] = set()
    total = 0
    while offset and offset not in seen:
        seen.add(offset)
        directory = _directory(data, offset, order, big)
        if directory is None:
            return
        total += len(directory.entries) + 1
        if total > MAX_ENTRIES:
            raise ImageError(f"the image has more than {MAX_ENTRIES:,} tags: convert it to PNG")
        yield directory
        offset = directory.next_offset


def _directory(data: bytes, offset: int, order: str, big: bool) -> Directory | None:
    head, entry, inline, pointer = ("Q", "HHQ", 8, "Q") if big else ("H", "HHI", 4, "I")
    start = offset + struct.calcsize("<" + head)
    if start > len(data):
        return None
    (count,) = struct.unpack_from(order + head, data, offset)
    fixed = struct.calcsize("<" + entry)
    width = fixed + inline
    promised, count = count, min(count, (len(data) - start) // width)
    entries: dict[int, tuple[int, int, int, str]] = {}
    for at in range(start, start + count * width, width):
        tag, kind, number = struct.unpack_from(order + entry, data, at)
        code = TYPES.get(kind, "B")
        size = number * struct.calcsize(f"<{code}")
        at += fixed  # noqa: PLW2901 - the value follows
        where = at if size <= inline else struct.unpack_from(order + pointer, data, at)[0]
        entries.setdefault(tag, (where, number, size, code))
    end = start + count * width
    after = struct.unpack_from(order + pointer, data, end)[0] if end + inline <= len(data) else 0
    return Directory(offset, entries, after, data, order, count < promised)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation 1 to 8 of EXIF data, with or without its prefix; 1 if it is missing or invalid."""
    directory = next(directories(exif.removeprefix(b"Exif\0\0")), None)
    return directory.orientation if directory else 1


def exif_resolution(exif: bytes) -> tuple[float, float] | None:
    """Return the dots per inch of EXIF data, with or without its prefix, along x and y of the image as stored."""
    directory = next(directories(exif.removeprefix(b"Exif\0\0")), None)
    return directory.resolution if directory else None
