"""Walk through the chunks of a PNG file."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE = 1 << 24
"""Decompressed bytes of a colour profile; the largest real ones have 4 million."""


@dataclass
class PngHeader:
    """What the chunks of a PNG file say."""

    size: tuple[int, int] = (0, 0)
    bits: int = 8
    color_type: int = 0
    frames: int = 0
    """Frames of an animation, whether or not the still image is one of them."""
    still_is_frame: bool = False
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    """The first chunk of each small kind."""
    damage: str = ""
    """Completes "the file is …"; empty for a complete file."""

    @property
    def has_alpha(self) -> bool:
        """Whether pixels can be transparent."""
        return bool(self.color_type & 4) or b"tRNS" in self.chunks


KEPT = (b"IHDR", b"tRNS", b"eXIf", b"iCCP", b"pHYs", b"acTL")


def read_header(data: bytes) -> PngHeader:
    """Walk through a PNG file; damage is recorded, and what is behind it is not read."""
    header, at = PngHeader(), len(SIGNATURE)
    view, pixels, controls = memoryview(data), False, 0
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            name = kind.decode("latin-1") if kind.isalpha() else "a chunk"
            header.damage = f"damaged between bytes {at:,} and {end:,}: wrong checksum in {name}"
            return header
        if kind in KEPT and kind not in header.chunks:
            header.chunks[kind] = data[at + 8 : end - 4]
        if kind == b"IHDR" and length >= 13 and not header.size[0]:
            header.size = struct.unpack_from(">2I", data, at + 8)
            header.bits, header.color_type = data[at + 16], data[at + 17]
        controls += kind == b"fcTL"
        if kind == b"IDAT" and not pixels:
            pixels, header.still_is_frame = True, controls > 0
        if kind == b"IEND":
            header.frames = controls if b"acTL" in header.chunks else 0
            header.damage = "" if pixels else "damaged: it has no pixels"
            return header
        at = end
    header.damage = f"cut off after {len(data):,} bytes"
    header.frames = controls if b"acTL" in header.chunks else 0
    return header


def mended(data: bytes) -> bytes:
    """Return the file with right checksums, its last chunk as long as what is there, and an end."""
    out, at = [SIGNATURE], len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        out.append(chunk(kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join([*out, chunk(b"IEND", b"")])


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def icc_profile(header: PngHeader) -> bytes | None:
    """Return the colour profile; None if there is none, or it is damaged or too large."""
    _, separator, content = header.chunks.get(b"iCCP", b"").partition(b"\0")
    decoder = zlib.decompressobj()
    try:
        profile = decoder.decompress(content[1:], MAX_PROFILE) if separator else b""
    except zlib.error:
        return None
    return profile if decoder.eof and profile else None


def resolution(header: PngHeader) -> tuple[float, float] | None:
    """Return the dots per inch."""
    physical = header.chunks.get(b"pHYs", b"")
    if len(physical) < 9 or physical[8] != 1:
        return None
    x, y = struct.unpack_from(">2I", physical)
    return (x * 0.0254, y * 0.0254) if x and y else None


def essential(data: bytes) -> bytes:
    """Return a complete file without texts and profiles, which can be compressed to a thousandth of their size."""
    if not any(name in data for name in BULKY):
        return data
    out, at = [SIGNATURE], len(SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in BULKY:
            out.append(data[at:end])
        at = end
    return b"".join(out)


BULKY = (b"zTXt", b"iTXt", b"tEXt", b"iCCP")
