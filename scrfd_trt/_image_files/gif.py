"""Read GIF files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from scrfd_trt._image_files.frames import SMALL_FRAME, ImageFile, Limits, check_header, check_total
from scrfd_trt._image_files.pillow_codec import animation_file

EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B
BLOCK = re.compile(rb"[!,;]")


@dataclass
class GifHeader:
    """What the blocks of a GIF file say."""

    size: tuple[int, int] = (0, 0)  # of the screen, or of the first frame if it is larger
    frames: int = 0
    damage: str = ""


def blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield kind, start and end of each block up to the trailer; the last one may be cut off."""
    at = 13 + _palette_bytes(data[10:11])
    while at < len(data):
        kind, start = data[at], at
        if kind == TRAILER:
            yield kind, at, at + 1
            return
        if kind not in {EXTENSION, IMAGE}:
            found = BLOCK.search(data, at + 1)  # viewers skip other bytes between blocks
            at = found.start() if found else len(data)
            continue
        at += 2 if kind == EXTENSION else 11 + _palette_bytes(data[at + 9 : at + 10])
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        yield kind, start, at


def _palette_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def read_header(data: bytes, max_frames: int = 1 << 20) -> GifHeader:
    """Walk through a GIF file to its end, or until it has more frames than ``max_frames``; damage is recorded."""
    header, end = GifHeader(damage=f"cut off after {len(data):,} bytes"), 0
    header.size = (int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    for kind, start, end in blocks(data):  # noqa: B007 - the last end is used below
        if kind == TRAILER:
            header.damage = "" if header.frames else "damaged: it has no frame"
        if kind == IMAGE:
            left, top, width, height = (
                int.from_bytes(data[start + at : start + at + 2], "little") for at in (1, 3, 5, 7)
            )
            header.frames += 1
            if header.frames == 1:
                header.size = (max(header.size[0], left + width), max(header.size[1], top + height))
            if header.frames > max_frames:
                break
    if header.frames and end == len(data):  # perhaps the last byte of the file is missing
        header.damage = ""
    return header


def open_gif(data: bytes, limits: Limits) -> ImageFile:
    """Read the blocks of a GIF file."""
    header = read_header(data, limits.total_pixels // SMALL_FRAME)
    check_header(header.size if header.frames else (0, 0), limits, header.damage)
    check_total([header.size] * header.frames, limits)
    file = animation_file("gif", data, header.frames, header.size)
    file.add_damage(header.damage)
    return file


def frame_seconds(data: bytes) -> Iterator[float]:
    """Yield how long each frame is shown."""
    seconds = 0.0
    for kind, start, _ in blocks(data):
        if kind == IMAGE:
            yield seconds
            seconds = 0.0
        elif data[start + 1 : start + 2] == b"\xf9":
            seconds = int.from_bytes(data[start + 4 : start + 6], "little") / 100
