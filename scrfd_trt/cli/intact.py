"""Is an image file whole? OpenCV decodes some files that were cut off, and fills the rest with grey or with nothing."""

from __future__ import annotations

import struct
import zlib

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_SCAN = 0xDA
JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers that no length follows."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def damage(data: bytes) -> str:
    """Say what is wrong with the bytes of an image file, as far as their container tells.

    Parameters
    ----------
    data
        The whole file.

    Returns
    -------
    str
        A few words, or nothing if the file is whole or of a kind that is not looked into: JPEG (ITU-T T.81, B.1), PNG
        (W3C PNG, 5.3), WebP (RFC 9649, 2.4) and BMP are.
    """
    if data.startswith(JPEG_START):
        return _jpeg(data)
    if data.startswith(PNG_SIGNATURE):
        return _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _shorter(data, 8 + int.from_bytes(data[4:8], "little"))
    if data.startswith(b"BM") and len(data) >= 14:
        return _shorter(data, int.from_bytes(data[2:6], "little"))
    return ""


def _shorter(data: bytes, wanted: int) -> str:
    return f"cut off after {len(data):,} of {wanted:,} bytes" if len(data) < wanted else ""


def _jpeg(data: bytes) -> str:
    """Walk the segments up to the first scan; in and after it, an end marker can only be one."""
    at, cut = 2, f"cut off after {len(data):,} bytes"
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return f"damaged at byte {at:,}: a marker should stand there"
        marker = data[at + 1]
        if marker == 0xFF or marker in JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == JPEG_SCAN:
            return "" if data.find(JPEG_END, at) >= 0 else cut
    return cut


def _png(data: bytes) -> str:
    """Walk the chunks up to the last one and check their checksums."""
    at, view = len(PNG_SIGNATURE), memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return f"damaged at byte {at:,}: the checksum of its part {kind.decode('latin-1')} is wrong"
        if kind == b"IEND":
            return ""
        at = end
    return f"cut off after {len(data):,} bytes"
