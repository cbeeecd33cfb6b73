"""Find the blocks of metadata in image files, and name whatever else is hidden in them."""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._image_files import exif, xmp
from scrfd_trt._image_files.boxes import boxes
from scrfd_trt._image_files.frames import Kind

FURTHER, MOTION, TAIL = "further pictures", "a motion video", "data behind the picture"
MAX_TEXT_BYTES = 4 << 20  # of compressed texts


@dataclass
class Blocks:
    """The metadata of a file as it is stored; ``others`` names what is not read."""

    exif: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    iptc: list[bytes] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """Of PNG, by keyword."""
    fields: dict[str, str] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


def find_blocks(data: bytes, kind: Kind) -> Blocks:
    """Find the metadata of a file; damaged parts are left out."""
    blocks = Blocks()
    if kind in READERS:
        READERS[kind](data, blocks)
    return blocks


def _read_jpeg(data: bytes, blocks: Blocks) -> None:
    end = len(data)
    for marker, start, stop in _jpeg_segments(data):
        segment = data[start:stop]
        if marker == 0xD9:
            end = start
        elif marker == 0xFE:
            blocks.others.add("comments")
        elif 0xE0 <= marker <= 0xEF:
            _read_app_segment(marker - 0xE0, segment, blocks)
    if b"ftyp" in data[end:]:
        blocks.others.add(MOTION)
    elif FURTHER not in blocks.others and data[end:].strip(b"\0\r\n \xff"):
        blocks.others.add(TAIL)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the content of all segments, to the end of the picture."""
    positions, at = _marker_positions(data), 2
    while (index := int(np.searchsorted(positions, at))) < len(positions):
        start = int(positions[index]) + 2
        marker = data[start - 1]
        if marker == 0xD9:
            yield marker, start, start
            return
        stop = start + max(2, int.from_bytes(data[start : start + 2], "big"))
        at = start if marker in (0x01, 0xD8) else stop
        yield marker, start + 2, stop


def _marker_positions(data: bytes) -> NDArray[np.intp]:
    """Return the positions of markers in a JPEG file: not of stuffed, filling or restart bytes."""
    view = np.frombuffer(data, np.uint8)
    positions = np.flatnonzero(view[:-1] == 0xFF)
    codes = view[positions + 1]
    return np.asarray(positions[(codes != 0) & (codes != 0xFF) & ((codes < 0xD0) | (codes > 0xD7))], np.intp)


def _read_app_segment(number: int, segment: bytes, blocks: Blocks) -> None:
    if number == 0 and segment.startswith(b"JFIF\0"):
        if segment[12:14].strip(b"\0"):
            blocks.others.add("embedded previews")
    elif number == 0 and segment.startswith((b"JFXX\0", b"AVI1")):
        blocks.others.add("embedded previews" if segment.startswith(b"JFXX") else "other data")
    elif number == 1 and segment.startswith(b"Exif\0"):
        blocks.exif.append(segment)
    elif number == 1 and segment.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        blocks.xmp.append(segment.partition(b"\0")[2])
    elif number == 1 and segment.startswith(b"http://ns.adobe.com/xmp/extension/\0"):
        blocks.others.add("other XMP")
    elif number == 2 and segment.startswith(b"MPF\0"):
        blocks.others.add(FURTHER)
    elif number == 11 and segment.startswith(b"JP"):
        blocks.others.add("C2PA")
    elif number == 13 and segment.startswith(b"Photoshop 3.0\0"):
        _read_photoshop(segment[14:], blocks)
    elif not (
        (number == 2 and segment.startswith(b"ICC_PROFILE\0")) or (number == 14 and segment.startswith(b"Adobe"))
    ):
        blocks.others.add("other data")


def _read_photoshop(data: bytes, blocks: Blocks) -> None:
    """Read Photoshop's resources: the block of IPTC, and names of the others."""
    at = 0
    while data[at : at + 4] in (b"8BIM", b"PHUT", b"AgHg", b"DCSR") and at + 12 <= len(data):
        name = int.from_bytes(data[at + 4 : at + 6], "big")
        start = at + 6 + ((data[at + 6] + 2) & ~1)
        size = int.from_bytes(data[start : start + 4], "big")
        content = data[start + 4 : start + 4 + size]
        if name == 0x0404:
            blocks.iptc.append(content)
        elif name in (0x0409, 0x040C):
            blocks.others.add("embedded previews")
        elif name not in (0x03ED, 0x0425, 0x040F):  # resolution, checksum of IPTC, ICC profile
            blocks.others.add("Photoshop resources")
        at = start + 4 + ((size + 1) & ~1)


def _read_png(data: bytes, blocks: Blocks) -> None:
    at = 8
    while at + 12 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        content = data[at + 8 : at + 8 + size]
        at += 12 + size
        if name == b"eXIf":
            blocks.exif.append(content)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            _read_png_text(name, content, blocks)
        elif name == b"tIME" and size == 7:
            year, rest = int.from_bytes(content[:2], "big"), content[2:]
            blocks.texts["tIME"] = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(year, *rest)
        elif name == b"caBX":
            blocks.others.add("C2PA")
        elif name not in PNG_CHUNKS:
            blocks.others.add("other data")
        if name == b"IEND":
            break
    if data[at:].strip(b"\0\r\n "):
        blocks.others.add(MOTION if b"ftyp" in data[at:] else TAIL)


PNG_CHUNKS = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI"),
    *(b"mDCv", b"cLLi", b"sBIT", b"bKGD", b"hIST", b"pHYs", b"acTL", b"fcTL", b"fdAT"),
}
"""PNG's chunks of pixels, colours, sizes and animations."""


def _read_png_text(kind: bytes, content: bytes, blocks: Blocks) -> None:
    keyword, _, rest = content.partition(b"\0")
    compressed = kind == b"zTXt"
    if kind == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif compressed:
        rest = rest[1:]
    if compressed:
        try:
            rest = zlib.decompressobj().decompress(rest, MAX_TEXT_BYTES)
        except zlib.error:
            rest = b""
    name = keyword.decode("latin-1")
    if name == "XML:com.adobe.xmp":
        blocks.xmp.append(rest)
    elif name.startswith("Raw profile type "):
        _read_raw_profile(name.rpartition(" ")[2], rest, blocks)
    else:
        blocks.texts.setdefault(name, exif.text(rest, "utf-8" if kind == b"iTXt" else "latin-1"))


def _read_raw_profile(name: str, content: bytes, blocks: Blocks) -> None:
    """Read ImageMagick's way to put profiles into texts: a name, a length, and hexadecimal digits."""
    try:
        data = binascii.unhexlify(b"".join(content.split()[2:]))
    except (binascii.Error, ValueError):
        data = b""
    if name == "xmp":
        blocks.xmp.append(data)
    elif name == "iptc":
        _read_photoshop(data, blocks)
    elif data.startswith(b"http://ns.adobe.com/xap"):
        blocks.xmp.append(data.partition(b"\0")[2])
    elif name in ("exif", "APP1"):
        blocks.exif.append(data)
    elif name not in ("icc", "icm"):
        blocks.others.add("other data")


def _read_webp(data: bytes, blocks: Blocks) -> None:
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    at = 12
    while at + 8 <= end:
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        content = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
        if name == b"EXIF":
            blocks.exif.append(content)
        elif name == b"XMP ":
            blocks.xmp.append(content)
        elif name == b"C2PA":
            blocks.others.add("C2PA")
        elif name not in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"):
            blocks.others.add("other data")
    if data[end:].strip(b"\0"):
        blocks.others.add(MOTION if b"ftyp" in data[end:] else TAIL)


def _read_gif(data: bytes, blocks: Blocks) -> None:
    at = 13 + palette_bytes(data[10:11])
    while at < len(data):
        block = data[at : at + 1]
        if block == b"\x2c":
            at = skip_blocks(data, at + 11 + palette_bytes(data[at + 9 : at + 10]))
        elif block == b"\x21":
            at = _read_gif_extension(data, at, blocks)
        else:
            break
    if data[at + 1 :].strip(b"\0"):
        blocks.others.add(TAIL)


def palette_bytes(flags: bytes) -> int:
    """Return the size of the palette of a GIF file, or of its frame, by its flags."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def skip_blocks(data: bytes, at: int) -> int:
    """Return the position behind the data blocks of a GIF file that start at ``at``."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _read_gif_extension(data: bytes, at: int, blocks: Blocks) -> int:
    """Read an extension; return the position behind it."""
    label, application = data[at + 1 : at + 2], data[at + 3 : at + 14]
    end = skip_blocks(data, at + 2)
    if label in (b"\xfe", b"\x01"):
        blocks.others.add("comments")
    elif label == b"\xff" and application == b"XMP DataXMP":
        # The packet has no lengths in it; 258 bytes behind it bring readers that look for them to its end.
        blocks.xmp.append(data[at + 14 : end].partition(b"\x01\xff\xfe\xfd")[0])
    elif label == b"\xff" and application not in (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"):
        blocks.others.add("other data")
    return end


def _read_tiff(data: bytes, blocks: Blocks) -> None:
    tiff = exif.Tiff(data)
    for page in tiff.pages():
        fields, others = exif.read_directory(tiff, page)
        if exif.XMP in page:
            blocks.xmp.append(page[exif.XMP].data)
        if exif.IPTC in page:
            blocks.iptc.append(page[exif.IPTC].data)
        if exif.PHOTOSHOP in page:
            _read_photoshop(page[exif.PHOTOSHOP].data, blocks)
        if [*tiff.numbers(page.get(0x00FE)), 0][0] % 2 == 1:  # a smaller copy of another page
            others.add("embedded previews")
        blocks.others |= others
        blocks.fields = fields | blocks.fields


def _read_boxes(data: bytes, blocks: Blocks) -> None:
    """Read AVIF, HEIC and JPEG 2000."""
    for name, start, end in boxes(data):
        if name == b"meta":
            _read_items(data, start + 4, end, blocks)
        elif name == b"uuid":
            _read_uuid(data[start : start + 16], data[start + 16 : end], blocks)
        elif name == b"mpvd":
            blocks.others.add(MOTION)
        elif name not in (b"ftyp", b"mdat", b"moov", b"free", b"skip", b"jP  ", b"jp2h", b"jp2c", b"moof", b"mfra"):
            blocks.others.add("other data")


def _read_uuid(name: bytes, content: bytes, blocks: Blocks) -> None:
    if name == bytes.fromhex("be7acfcb97a942e89c71999491e3afac"):
        blocks.xmp.append(content)
    elif name == b"JpgTiffExif->JP2":
        blocks.exif.append(content)
    elif name == bytes.fromhex("d8fec3d61b0e483c92975828877ec481"):
        blocks.others.add("C2PA")
    else:
        blocks.others.add("other data")


def _read_items(data: bytes, start: int, end: int, blocks: Blocks) -> None:
    """Read the items of AVIF and HEIC: EXIF and XMP are items, as are pictures of several kinds."""
    kinds: dict[int, bytes] = {}
    places: dict[int, bytes] = {}
    for name, at, stop in boxes(data, start, end):
        if name == b"iinf":
            kinds = dict(_item_kinds(data, at, stop))
        elif name == b"iloc":
            idat = next((one for kind, one, _ in boxes(data, start, end) if kind == b"idat"), 0)
            places = dict(_item_contents(data, at, stop, idat))
        elif name == b"iref":
            references = {kind for kind, _, _ in boxes(data, at + 4, stop)}
            blocks.others |= {"embedded previews"} if b"thmb" in references else set()
        elif name == b"iprp":
            properties = data[at:stop]
            for urn in re.findall(rb"auxC\0{4}([^\0]+)\0", properties):
                if b"alpha" not in urn and urn != b"urn:mpeg:hevc:2015:auxid:1":
                    is_depth = b"depth" in urn or urn == b"urn:mpeg:hevc:2015:auxid:2"
                    blocks.others.add("depth maps" if is_depth else "auxiliary pictures")
    for item, kind in kinds.items():
        content = places.get(item, b"")
        if kind == b"Exif":
            skipped = 4 + int.from_bytes(content[:4], "big")
            blocks.exif.append(content[skipped:])
        elif kind == b"mime:application/rdf+xml":
            blocks.xmp.append(content)
        elif kind[:4] in (b"mime", b"uri "):
            blocks.others.add("other data")


def _item_kinds(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and type of each item; a MIME type stands behind ``mime:``."""
    begin = at + (6 if data[at] == 0 else 8)
    for name, start, stop in boxes(data, begin, end):
        if name == b"infe" and start < stop and data[start] in (2, 3):
            width = 2 if data[start] == 2 else 4
            item = int.from_bytes(data[start + 4 : start + 4 + width], "big")
            kind = data[start + 6 + width : start + 10 + width]
            texts = data[start + 10 + width : stop].split(b"\0")
            yield item, kind + b":" + texts[1] if kind == b"mime" and len(texts) > 1 else kind


def _item_contents(data: bytes, at: int, end: int, idat: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each item that lies in the file (method 0) or in the box ``idat`` (1)."""
    version, sizes = data[at], data[at + 4 : at + 6]
    offset_size, length_size, base_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_size = sizes[1] & 15 if version else 0
    at += 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big") if at <= end else 0

    for _ in range(number(4 if version == 2 else 2)):
        if at >= end:
            return
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        content = b""
        for _ in range(number(2)):
            if at >= end or len(content) > xmp.MAX_BYTES:
                return
            number(index_size)
            begin = base + number(offset_size) + (idat if method == 1 else 0)
            length = number(length_size)
            content += data[begin : begin + length]
        if method < 2:
            yield item, content


def _read_bmp(data: bytes, blocks: Blocks) -> None:
    if data[int.from_bytes(data[2:6], "little") or len(data) :].strip(b"\0"):
        blocks.others.add(TAIL)


READERS: Mapping[str, Callable[[bytes, Blocks], None]] = {
    "jpeg": _read_jpeg, "png": _read_png, "webp": _read_webp, "gif": _read_gif, "tiff": _read_tiff,
    "avif": _read_boxes, "heic": _read_boxes, "jp2": _read_boxes, "bmp": _read_bmp,
}  # fmt: skip
