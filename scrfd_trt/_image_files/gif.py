"""Walk through the blocks of a GIF file."""

from __future__ import annotations

import re
from dataclasses import dataclass

BLOCK = re.compile(rb"[!,;]")


@dataclass
class GifHeader:
    """What the blocks of a GIF file say."""

    size: tuple[int, int] = (0, 0)
    """Of the screen, or of the first frame if it is larger."""
    frames: int = 0
    damage: str = ""


def read_header(data: bytes, max_frames: int = 1 << 20) -> GifHeader:
    """Walk through a GIF file to its end, or until it has more frames than ``max_frames``; damage is recorded."""
    header = GifHeader(damage=f"cut off after {len(data):,} bytes")
    if len(data) < 13:
        return header
    header.size = (int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    at = 13 + _table_size(data[10])
    while at < len(data) and header.frames <= max_frames:
        block = data[at]
        if block == 0x3B:
            header.damage = "" if header.frames else "damaged: it has no frame"
            return header
        if block == 0x2C:
            if at + 10 >= len(data):
                header.frames += 1
                return header
            _add_frame(header, data[at + 1 : at + 9])
            at += 11 + _table_size(data[at + 9])
        elif block == 0x21:
            at += 2
        else:
            found = BLOCK.search(data, at + 1)  # viewers skip other bytes between blocks
            at = found.start() if found else len(data)
            continue
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    if header.frames and at == len(data):  # only the last byte of the file is missing
        header.damage = ""
    return header


def _add_frame(header: GifHeader, box: bytes) -> None:
    left, top, width, height = (int.from_bytes(box[at : at + 2], "little") for at in (0, 2, 4, 6))
    header.frames += 1
    if header.frames == 1:
        header.size = (max(header.size[0], left + width), max(header.size[1], top + height))


def _table_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
