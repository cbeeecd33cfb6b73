"""Read simple formats that OpenCV decodes: BMP, JPEG 2000, Netpbm, Radiance and Sun raster files."""

from __future__ import annotations

import re
import struct

from scrfd_trt._image_files.frames import Extras, ImageFile, Kind, Limits, check_header
from scrfd_trt._image_files.heif import find_box
from scrfd_trt._image_files.opencv_codec import Stored, cut_off, decode_still, still_file

MAX_FILLED = 10  # times the length of a file that is cut off
Size = tuple[int, int]
NUMBER = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*(\d{1,10})(?=[\s#]|$)")


def bmp_size(data: bytes) -> Size:
    """Return the size of a BMP file, of OS/2 as well."""
    if len(data) < 26:
        return 0, 0
    core = int.from_bytes(data[14:18], "little") == 12
    width, height = struct.unpack_from("<HH" if core else "<ii", data, 18)
    return width, abs(height)


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


def open_bmp(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a BMP file."""
    size, length = bmp_size(data), int.from_bytes(data[2:6], "little")
    damage = cut_off(data, length)
    check_header(size, limits, damage)
    has_mask = len(data) >= 70 and int.from_bytes(data[14:18], "little") >= 56 and data[66:70] != bytes(4)

    def decode(file: ImageFile) -> Stored:
        pixels, alpha = decode_still(file, _filled(data, length), alpha=has_mask)
        return pixels, alpha if alpha is not None and alpha.any() else None  # zeros mean that alpha is not used

    return still_file("bmp", data, size, decode, damage=damage)


def open_jp2(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a JPEG 2000 file."""
    size, components, bits = jp2_size(data)
    check_header(size, limits)
    return still_file("jp2", data, size, lambda file: decode_still(file, data, alpha=components in {2, 4}, bits=bits))


def open_netpbm(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a PBM, PGM, PPM, PAM or PFM file."""
    size, length = netpbm_size(data)
    check_header(size, limits)
    kind: Kind = "pfm" if data[1:2] in b"fF" else "pnm"
    return still_file(
        kind, data, size, lambda file: decode_still(file, _filled(data, length)), damage=cut_off(data, length)
    )


def open_plain(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a Radiance or a Sun raster file."""
    kind: Kind = "hdr" if data.startswith(b"#?") else "ras"
    width = height = 0
    if kind == "ras" and len(data) >= 32:
        width, height = struct.unpack_from(">II", data, 4)
    elif kind == "hdr" and (match := re.search(rb"\n\n[-+]Y (\d{1,9}) [-+]X (\d{1,9})\n", data[:8192])):
        height, width = int(match[1]), int(match[2])
    check_header((width, height), limits)
    return still_file(kind, data, (width, height), lambda file: decode_still(file, data))


def _filled(data: bytes, length: int) -> bytes:
    """Return an uncompressed file with zeros in the place of the pixels that are missing, if that is a part of it."""
    return data.ljust(length, b"\0") if length <= MAX_FILLED * len(data) else data


def embed_bmp(data: bytes, extras: Extras) -> bytes:
    """Write the resolution into the header."""
    x, y = extras.pixels_per_metre[:4], extras.pixels_per_metre[4:]
    return data[:38] + x[::-1] + y[::-1] + data[46:] if x else data
