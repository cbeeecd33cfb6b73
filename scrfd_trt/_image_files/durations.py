"""Read how long the frames of an animation are shown, without decoding them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from scrfd_trt._image_files.blocks import palette_bytes, skip_blocks
from scrfd_trt._image_files.boxes import find_box
from scrfd_trt._image_files.embed import png_chunks, webp_chunks
from scrfd_trt._image_files.frames import ImageFile


def frame_seconds(file: ImageFile) -> list[float]:
    """Return the seconds of each frame, as many as the file says; 0 where it says nothing."""
    reader = READERS.get(file.kind)
    found = [] if reader is None else list(islice(reader(file.data), file.count))
    return found + [0.0] * (file.count - len(found))


def _png_seconds(data: bytes) -> Iterator[float]:
    for name, content in png_chunks(data):
        if name == b"fcTL" and len(content) >= 24:
            top, below = int.from_bytes(content[20:22], "big"), int.from_bytes(content[22:24], "big")
            yield top / (below or 100)


def _webp_seconds(data: bytes) -> Iterator[float]:
    for name, content in webp_chunks(data):
        if name == b"ANMF":
            yield int.from_bytes(content[12:15], "little") / 1000


def _gif_seconds(data: bytes) -> Iterator[float]:
    at, seconds = 13 + palette_bytes(data[10:11]), 0.0
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x21:
            if data[at + 1 : at + 2] == b"\xf9":
                seconds = int.from_bytes(data[at + 4 : at + 6], "little") / 100
            at = skip_blocks(data, at + 2)
        elif data[at] == 0x2C:
            yield seconds
            seconds = 0.0
            at = skip_blocks(data, at + 11 + palette_bytes(data[at + 9 : at + 10]))
        else:
            at += 1


def _avif_seconds(data: bytes) -> Iterator[float]:
    media = find_box(data, b"moov", b"trak", b"mdia")
    header = None if media is None else find_box(data, b"mdhd", start=media[0], end=media[1])
    times = None if media is None else find_box(data, b"minf", b"stbl", b"stts", start=media[0], end=media[1])
    if header is None or times is None:
        return
    at = header[0] + (20 if data[header[0]] == 1 else 12)
    scale = int.from_bytes(data[at : at + 4], "big") or 1
    for entry in range(times[0] + 8, times[1] - 7, 8):
        number, ticks = (int.from_bytes(data[entry + part : entry + part + 4], "big") for part in (0, 4))
        for _ in range(number):
            yield ticks / scale


READERS: Mapping[str, Callable[[bytes], Iterator[float]]] = {
    "png": _png_seconds, "webp": _webp_seconds, "gif": _gif_seconds, "avif": _avif_seconds,
}  # fmt: skip
