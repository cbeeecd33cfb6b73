"""Read WebP files, and put profile and metadata into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scrfd_trt._image_files.frames import Extras, ImageFile, Limits, check_header, check_total
from scrfd_trt._image_files.opencv_codec import cut_off, decode_still, still_file
from scrfd_trt._image_files.pillow_codec import animation_file


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the content of each chunk; the last one may be cut off."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, at + 8 + size
        at += 8 + size + size % 2


def header_chunks(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """Return the first chunk of each kind, of pixels its start only, and the number of frames."""
    found: dict[bytes, bytes] = {}
    frames = 0
    for name, start, end in chunks(data):
        found.setdefault(name, data[start : end if name in {b"EXIF", b"ICCP"} else min(end, start + 32)])
        frames += name == b"ANMF"
    return found, frames


def webp_size(found: dict[bytes, bytes]) -> tuple[int, int]:
    """Return the size of a WebP file, by its canvas, or its only frame."""
    if len(extended := found.get(b"VP8X", b"")) >= 10:
        return 1 + int.from_bytes(extended[4:7], "little"), 1 + int.from_bytes(extended[7:10], "little")
    if len(lossless := found.get(b"VP8L", b"")) >= 5 and lossless[0] == 0x2F:
        bits = int.from_bytes(lossless[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if len(lossy := found.get(b"VP8 ", b"")) >= 10 and lossy[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(lossy[6:8], "little") & 0x3FFF, int.from_bytes(lossy[8:10], "little") & 0x3FFF
    return 0, 0


def webp_has_alpha(found: dict[bytes, bytes]) -> bool:
    """Return whether a WebP file can have transparent pixels."""
    extended, lossless = found.get(b"VP8X", b""), found.get(b"VP8L", b"")
    return bool(extended[:1] and extended[0] & 0x10) or (len(lossless) >= 5 and bool(lossless[4] & 0x10))


def open_webp(data: bytes, limits: Limits) -> ImageFile:
    """Read the chunks of a WebP file."""
    found, animated = header_chunks(data)
    size, damage = webp_size(found), cut_off(data, 8 + int.from_bytes(data[4:8], "little"))
    check_header(size, limits, damage)
    exif, profile, alpha = found.get(b"EXIF", b""), found.get(b"ICCP"), webp_has_alpha(found)
    if animated:
        check_total([size] * animated, limits)
        file = animation_file("webp", data, animated, size, exif=exif, profile=profile)
        return replace(file, damage=[damage] if damage else [])
    return still_file(
        "webp",
        data,
        size,
        lambda file: decode_still(file, data, alpha=alpha),
        exif=exif,
        profile=profile,
        damage=damage,
    )


def frame_seconds(data: bytes) -> Iterator[float]:
    """Yield how long each frame is shown."""
    for name, start, _ in chunks(data):
        if name == b"ANMF":
            yield int.from_bytes(data[start + 12 : start + 15], "little") / 1000


def embed_webp(data: bytes, extras: Extras) -> bytes:
    """Put chunks around the pixels of a still WebP file, which then needs the extended header."""
    header, _ = header_chunks(data)
    alpha = b"ALPH" in header or webp_has_alpha(header)
    kept = [webp_chunk(name, data[start:end]) for name, start, end in chunks(data) if name != b"VP8X"]
    head = webp_header(webp_size(header), extras, alpha=alpha)
    body = b"".join([b"WEBP", head, *kept, *webp_trailers(extras)])
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def webp_header(size: tuple[int, int], extras: Extras, *, alpha: bool, animation: bool = False) -> bytes:
    """Return the extended header, and the profile, which comes right behind it."""
    flags = 0x20 * bool(extras.profile) | 0x10 * alpha | 8 * bool(extras.exif) | 4 * bool(extras.xmp) | 2 * animation
    sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
    profile = webp_chunk(b"ICCP", extras.profile) if extras.profile else b""
    return webp_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + sides) + profile


def webp_trailers(extras: Extras) -> list[bytes]:
    """Return the chunks that follow the pixels."""
    return [webp_chunk(name, block) for name, block in ((b"EXIF", extras.exif), (b"XMP ", extras.xmp)) if block]


def webp_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of even length."""
    return name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)
