"""Read and write directories of tags, as TIFF, EXIF and MPF have them; damaged ones give what can be read."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scrfd_trt.errors import ImageError

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "2I", 6: "b", 7: "s", 8: "h", 9: "i", 10: "2i", 11: "f", 12: "d"}
TYPES |= {13: "I", 16: "Q", 17: "q", 18: "Q"}
"""Struct codes by the numbers of TIFF types; a rational number is two integers."""
MAX_ENTRIES = 1_000_000  # entries of all directories of a file
ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")
"""The first bytes of TIFF and BigTIFF, little and big endian."""
HEADER = b"II*\0\x08\0\0\0"  # the header of little-endian data whose first directory follows


class Tag(NamedTuple):
    """The value of a tag: TIFF type, number of values, and bytes."""

    type: int
    number: int
    data: bytes


Tags = dict[int, Tag]


@dataclass(frozen=True)
class Directory:
    """The tags of one directory, and where it lies."""

    data: bytes
    offset: int = 0
    entries: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    """By tag: position of its value, number of values, size of all values in bytes, type."""
    next_offset: int = 0
    order: str = "<"
    is_cut_off: bool = False  # whether entries are missing

    @property
    def is_big(self) -> bool:
        """Whether the data is BigTIFF."""
        return self.data[2:4] in {b"+\0", b"\0+"}

    def content(self, tag: int, longest: int = 1 << 24) -> bytes:
        """Return the bytes of a tag's values of any type; empty if it is missing, cut off or too long."""
        at, _, size, _ = self.entries.get(tag, (0, 0, 0, BYTE))
        return self.data[at : at + size] if size <= longest and at + size <= len(self.data) else b""

    def numbers(self, tag: int, longest: int = 1 << 20) -> tuple[Any, ...]:
        """Return the values of a tag, fractions as quotients; empty if they are missing, cut off or no numbers."""
        content, code = self.content(tag, longest), self.code(tag)
        if code == "s" or not content:
            return ()
        values = struct.unpack(f"{self.order}{len(content) // struct.calcsize('<' + code[-1])}{code[-1]}", content)
        if not code.startswith("2"):
            return values
        return tuple(top / below if below else math.nan for top, below in zip(values[::2], values[1::2], strict=True))

    def code(self, tag: int) -> str:
        """Return the struct code of a tag's values."""
        return TYPES.get(self.entries.get(tag, (0, 0, 0, BYTE))[3], "B")

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag as an integer."""
        values = self.numbers(tag)
        return int(values[0]) if values and math.isfinite(values[0]) else default

    def child(self, tag: int) -> Directory:
        """Return the directory that a tag points to; one without tags if there is none."""
        offset = self.number(tag)
        return (_directory(self.data, offset, self.order, self.is_big) if offset > 0 else None) or Directory(self.data)

    def tags(self) -> Tags:
        """Return all tags with their values."""
        return {tag: Tag(kind, number, self.content(tag)) for tag, (_, number, _, kind) in self.entries.items()}

    @property
    def orientation(self) -> int:
        """The orientation 1 to 8; 1 if it is missing or invalid."""
        value = self.number(ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1

    @property
    def resolution(self) -> tuple[float, float] | None:
        """Dots per inch along x and y as stored; None if they are missing."""
        unit = {2: 1.0, 3: 2.54}.get(self.number(RESOLUTION_UNIT, 2), 0.0)
        x, y = ((*self.numbers(tag), 0.0)[0] * unit for tag in (X_RESOLUTION, Y_RESOLUTION))
        return (x, y) if 0 < x < math.inf and 0 < y < math.inf else None


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


def first_directory(exif: bytes) -> Directory:
    """Return the first directory of EXIF data, with or without its prefix; one without tags if there is none."""
    data = exif.removeprefix(b"Exif\0\0")
    return next(directories(data), Directory(data))


def _directory(data: bytes, offset: int, order: str, big: bool) -> Directory | None:
    head, entry, inline, pointer = ("Q", "HHQ", 8, "Q") if big else ("H", "HHI", 4, "I")
    start = offset + struct.calcsize("<" + head)
    if start > len(data):
        return None
    (count,) = struct.unpack_from(order + head, data, offset)
    fixed = struct.calcsize("<" + entry)
    width = fixed + inline
    promised, count = count, min(count, (len(data) - start) // width)
    entries: dict[int, tuple[int, int, int, int]] = {}
    for at in range(start, start + count * width, width):
        tag, kind, number = struct.unpack_from(order + entry, data, at)
        size = number * struct.calcsize("<" + TYPES.get(kind, "B"))
        where = at + fixed if size <= inline else struct.unpack_from(order + pointer, data, at + fixed)[0]
        entries.setdefault(tag, (where, number, size, kind))
    end = start + count * width
    after = struct.unpack_from(order + pointer, data, end)[0] if end + inline <= len(data) else 0
    return Directory(data, offset, entries, after, order, count < promised)


def ascii_tag(value: str) -> Tag:
    """Return a text; readers take other than ASCII characters as UTF-8."""
    data = value.encode() + b"\0"
    return Tag(ASCII, len(data), data)


def rational_tag(*fractions: tuple[int, int]) -> Tag:
    """Return fractions of numbers from 0 to 2³² − 1."""
    data = b"".join(min(number, 2**32 - 1).to_bytes(4, "little") for pair in fractions for number in pair)
    return Tag(RATIONAL, len(fractions), data)


def resolution_tags(resolution: tuple[float, float] | None) -> Tags:
    """Return the tags of a resolution in dots per inch."""
    if resolution is None:
        return {}
    x, y = (rational_tag((round(value * 1000), 1000)) for value in resolution)
    return {X_RESOLUTION: x, Y_RESOLUTION: y, RESOLUTION_UNIT: Tag(SHORT, 1, b"\2\0")}


def directory_bytes(tags: Tags, at: int, children: Mapping[int, Tags]) -> bytes:
    """Return a little-endian directory, the last of its chain, and its long values and child directories."""
    tags = {**tags, **{tag: Tag(LONG, 1, b"\0" * 4) for tag, child in children.items() if child}}
    entries, values = len(tags).to_bytes(2, "little"), b""
    end = at + 2 + 12 * len(tags) + 4
    for number, tag in sorted(tags.items()):
        data = tag.data
        if children.get(number):
            data = (end + len(values)).to_bytes(4, "little")
            values += directory_bytes(children[number], end + len(values), {})
        elif len(data) > 4:
            data = (end + len(values)).to_bytes(4, "little")
            values += tag.data + b"\0" * (len(tag.data) % 2)
        entries += struct.pack("<HHI", number, tag.type, tag.number) + data.ljust(4, b"\0")
    return entries + b"\0" * 4 + values
