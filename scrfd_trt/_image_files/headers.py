"""Sizes and other facts in the headers of simple image formats; (0, 0) for a damaged header."""

from __future__ import annotations

import re
import struct

from scrfd_trt._image_files.boxes import find_box

Size = tuple[int, int]
NUMBER = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*(\d{1,10})(?=[\s#]|$)")


def bmp_size(data: bytes) -> Size:
    """Return the size of a BMP file, of OS/2 as well."""
    if len(data) < 26:
        return 0, 0
    core = int.from_bytes(data[14:18], "little") == 12
    width, height = struct.unpack_from("<HH" if core else "<ii", data, 18)
    return width, abs(height)


def bmp_has_alpha(data: bytes) -> bool:
    """Return whether a BMP file has a mask for alpha."""
    return len(data) >= 70 and int.from_bytes(data[14:18], "little") >= 56 and data[66:70] != bytes(4)


def jp2_size(data: bytes) -> tuple[Size, int, int]:
    """Return size, components and bits of a JPEG 2000 file or codestream."""
    found = find_box(data, b"jp2h", b"ihdr")
    at = data.find(b"\xff\x4f\xff\x51")
    if at >= 0 and at + 43 <= len(data):
        right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
        bits = (data[at + 42] & 0x7F) + 1
        return (right - left, bottom - top), int.from_bytes(data[at + 40 : at + 42], "big"), bits
    if found and found[1] - found[0] >= 11:
        height, width, components, bits = struct.unpack_from(">IIHB", data, found[0])
        return (width, height), components, (bits & 0x7F) + 1
    return (0, 0), 0, 0


def netpbm_size(data: bytes) -> tuple[Size, int]:
    """Return size and smallest length of a PBM, PGM, PPM, PAM or PFM file."""
    kind = data[1:2]
    if kind == b"7":
        end = data.find(b"ENDHDR\n", 0, 4096) + 7
        found = dict(re.findall(rb"(\w+)[ \t]+(\d{1,10})", data[:end]))
        width, height, depth, most = (int(found.get(name, 0)) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
        return (width, height), end + width * height * depth * (1 + (most > 255))
    at, numbers = 2, list[int]()
    for _ in range(2 if kind in b"14fF" else 3):
        match = NUMBER.match(data, at, at + 4096)
        if match is None:
            return (0, 0), 0
        numbers.append(int(match[1]))
        at = match.end()
    width, height = numbers[:2]
    wide = 1 + (numbers[-1] > 255 and kind in b"56")
    # PBM and text need no space between pixels, or at least one
    rows = {b"1": width, b"2": 2 * width - 1, b"3": 6 * width - 1, b"4": (width + 7) // 8, b"5": width * wide}
    rows |= {b"6": 3 * width * wide, b"f": 4 * width, b"F": 12 * width}
    return (width, height), at + 1 + rows[kind] * height


def hdr_size(data: bytes) -> Size:
    """Return the size of a Radiance file."""
    match = re.search(rb"\n\n[-+]Y (\d{1,9}) [-+]X (\d{1,9})\n", data[:8192])
    return (int(match[2]), int(match[1])) if match else (0, 0)


def ras_size(data: bytes) -> Size:
    """Return the size of a Sun raster file."""
    width, height = struct.unpack_from(">II", data, 4) if len(data) >= 32 else (0, 0)
    return width, height


def webp_chunks(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """Return the first chunk of each kind of a WebP file, of pixels its start only, and the number of frames."""
    chunks: dict[bytes, bytes] = {}
    at, frames = 12, 0
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.setdefault(kind, data[at + 8 : at + 8 + (size if kind in {b"EXIF", b"ICCP"} else min(size, 32))])
        frames += kind == b"ANMF"
        at += 8 + size + size % 2
    return chunks, frames


def webp_size(chunks: dict[bytes, bytes]) -> Size:
    """Return the size of a WebP file, by its canvas, or its only frame."""
    if len(extended := chunks.get(b"VP8X", b"")) >= 10:
        return 1 + int.from_bytes(extended[4:7], "little"), 1 + int.from_bytes(extended[7:10], "little")
    if len(lossless := chunks.get(b"VP8L", b"")) >= 5 and lossless[0] == 0x2F:
        bits = int.from_bytes(lossless[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if len(lossy := chunks.get(b"VP8 ", b"")) >= 10 and lossy[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(lossy[6:8], "little") & 0x3FFF, int.from_bytes(lossy[8:10], "little") & 0x3FFF
    return 0, 0


def webp_has_alpha(chunks: dict[bytes, bytes]) -> bool:
    """Return whether a WebP file can have transparent pixels."""
    extended, lossless = chunks.get(b"VP8X", b""), chunks.get(b"VP8L", b"")
    return bool(extended[:1] and extended[0] & 0x10) or (len(lossless) >= 5 and bool(lossless[4] & 0x10))
