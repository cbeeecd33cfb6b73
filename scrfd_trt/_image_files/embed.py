"""Put colour profile, resolution, EXIF and XMP into encoded images, whose pixels stay as they are."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from scrfd_trt._image_files import headers
from scrfd_trt._image_files.exif import (
    BYTE,
    EXIF_IFD,
    GPS_IFD,
    ICC_PROFILE,
    LONG,
    SHORT,
    UNDEFINED,
    XMP,
    Directory,
    Tag,
    Tiff,
    directory_bytes,
    rational_tag,
)
from scrfd_trt._image_files.png import chunk

XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
UNKNOWN_RESOLUTION = (72.0, 72.0)  # what EXIF has to say where nothing is known
METRES_PER_INCH = 0.0254
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
STRIP_OFFSETS, EXTRA_SAMPLES = 0x0111, 0x0152


class Extras(NamedTuple):
    """What is put into a file: the profile of its pixels, dots per inch, EXIF data, an XMP packet, colours of PNG."""

    profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    exif: bytes = b""
    xmp: bytes = b""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()


NO_EXTRAS = Extras()


def embed_jpeg(data: bytes, extras: Extras) -> bytes:
    """Put segments behind the header of JFIF, as OpenCV writes it."""
    head = bytearray(data[:20])
    if extras.resolution is not None:
        x, y = (min(max(1, round(value)), 65535) for value in extras.resolution)
        head[13:18] = b"\1" + x.to_bytes(2, "big") + y.to_bytes(2, "big")
    segments = [jpeg_segment(0xE1, b"Exif\0\0" + extras.exif)] if extras.exif else []
    segments += [jpeg_segment(0xE1, XMP_PREFIX + extras.xmp)] if extras.xmp else []
    segments += [jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1" + extras.profile)] if extras.profile else []
    return bytes(head) + b"".join(segments) + data[20:]


def jpeg_segment(marker: int, content: bytes) -> bytes:
    """Return a segment with its marker and length."""
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


def multi_picture(pages: Sequence[bytes]) -> bytes:
    """Join JPEG files to one with an index of its pictures (CIPA DC-007): all are views of the same kind."""
    head = len(jpeg_segment(0xE2, b"MPF\0" + _picture_index([0] * len(pages), 0)))
    at = 20
    while pages[0][at : at + 2] == b"\xff\xe1":  # EXIF and XMP come first
        at += 2 + int.from_bytes(pages[0][at + 2 : at + 4], "big")
    sizes = [len(page) + (0 if number else head) for number, page in enumerate(pages)]
    index = jpeg_segment(0xE2, b"MPF\0" + _picture_index(sizes, at + 8))
    return b"".join([pages[0][:at], index, pages[0][at:], *pages[1:]])


def _picture_index(sizes: Sequence[int], base: int) -> bytes:
    """Return the index; ``base`` is its position in the file, from which offsets count."""
    entries = b""
    for number, size in enumerate(sizes):
        kind = 0x20020003 if number == 0 else 0x00020003  # a view of several angles; the first represents them
        offset = sum(sizes[:number]) - base if number else 0
        entries += b"".join(max(value, 0).to_bytes(4, "little") for value in (kind, size, offset, 0))
    tags = {
        0xB000: Tag(UNDEFINED, 4, b"0100"),
        0xB001: Tag(LONG, 1, len(sizes).to_bytes(4, "little")),
        0xB002: Tag(UNDEFINED, len(entries), entries),
    }
    return b"II*\0\x08\0\0\0" + directory_bytes(tags, 8, {})


def embed_png(data: bytes, extras: Extras) -> bytes:
    """Put chunks before the pixels."""
    return data[:33] + png_extras(extras) + data[33:]


def png_extras(extras: Extras) -> bytes:
    """Return the chunks of a profile, a resolution, EXIF and XMP."""
    chunks = [chunk(name, content) for name, content in extras.png_chunks]
    if extras.profile:
        chunks.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(extras.profile)))
    if extras.resolution is not None:
        per_metre = (min(round(value / METRES_PER_INCH), 2**31 - 1) for value in extras.resolution)
        chunks.append(chunk(b"pHYs", b"".join(value.to_bytes(4, "big") for value in per_metre) + b"\1"))
    if extras.exif:
        chunks.append(chunk(b"eXIf", extras.exif))
    if extras.xmp:
        chunks.append(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + extras.xmp))
    return b"".join(chunks)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the chunks of a complete PNG file."""
    at = 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def embed_webp(data: bytes, extras: Extras) -> bytes:
    """Put chunks around the pixels of a still WebP file, which then needs the extended header."""
    header, _ = headers.webp_chunks(data)
    alpha = b"ALPH" in header or headers.webp_has_alpha(header)
    chunks = [webp_header(headers.webp_size(header), extras, alpha=alpha)]
    chunks += [webp_chunk(name, content) for name, content in webp_chunks(data) if name != b"VP8X"]
    body = b"".join([b"WEBP", *chunks, *webp_trailers(extras)])
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


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the chunks of a complete WebP file."""
    at = 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def embed_bmp(data: bytes, extras: Extras) -> bytes:
    """Write the resolution into the header."""
    if extras.resolution is None:
        return data
    per_metre = (min(round(value / METRES_PER_INCH), 2**31 - 1) for value in extras.resolution)
    return data[:38] + b"".join(value.to_bytes(4, "little") for value in per_metre) + data[46:]


def tiff_tags(extras: Extras, *, alpha: bool) -> Directory:
    """Return the tags of a page beside those of its pixels and of EXIF."""
    tags = resolution_tags(extras.resolution)
    if alpha:
        tags[EXTRA_SAMPLES] = Tag(SHORT, 1, b"\2\0")  # alpha that the colours are not multiplied by
    if extras.profile:
        tags[ICC_PROFILE] = Tag(UNDEFINED, len(extras.profile), extras.profile)
    if extras.xmp:
        tags[XMP] = Tag(BYTE, len(extras.xmp), extras.xmp)
    return tags


def append_tiff_page(file: BinaryIO, link: int, data: bytes, tags: Directory, children: Mapping[int, Directory]) -> int:
    """Append a TIFF file of one page, with more tags, to a file; return the position of the pointer to the next page.

    ``link`` is the position of the pointer to this page; 0 begins the file. Raises OverflowError beyond 4 GB.
    """
    base = file.tell()
    tiff = Tiff(data)
    own = next(tiff.pages())
    offsets = [int(offset) + base for offset in tiff.numbers(own[STRIP_OFFSETS])]
    strips = Tag(LONG, len(offsets), b"".join(offset.to_bytes(4, "little") for offset in offsets))
    at = base + len(data) + len(data) % 2
    block = directory_bytes({**own, **tags, STRIP_OFFSETS: strips}, at, children)
    file.write(data + b"\0" * (len(data) % 2) + block)
    end = file.tell()
    file.seek(link or 4)
    file.write(at.to_bytes(4, "little"))
    file.seek(end)
    return at + 2 + 12 * int.from_bytes(block[:2], "little")


def with_resolution(extras: Extras) -> bytes:
    """Return the EXIF data, with the resolution in it."""
    tags = resolution_tags(extras.resolution)
    if not tags or extras.resolution == UNKNOWN_RESOLUTION:
        return extras.exif
    tiff = Tiff(extras.exif)
    first = next(tiff.pages(), {})
    children = {tag: tiff.child(first, tag) for tag in (EXIF_IFD, GPS_IFD)}
    return b"II*\0\x08\0\0\0" + directory_bytes({**first, **tags}, 8, children)


def resolution_tags(resolution: tuple[float, float] | None) -> Directory:
    """Return the tags of a resolution in dots per inch."""
    if resolution is None:
        return {}
    x, y = (rational_tag((round(value * 1000), 1000)) for value in resolution)
    return {X_RESOLUTION: x, Y_RESOLUTION: y, RESOLUTION_UNIT: Tag(SHORT, 1, b"\2\0")}


EMBED: Mapping[str, Callable[[bytes, Extras], bytes]] = {
    ".jpg": embed_jpeg, ".png": embed_png, ".webp": embed_webp, ".bmp": embed_bmp, ".dib": embed_bmp,
}  # fmt: skip
