"""Read the metadata of image files: fields that copies may keep, and names of everything else in the file.

Copies have the fields written anew. Everything else, such as previews, may show what an overlay covers.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from html import escape

from scrfd_trt._image_files import exif, gif, jpeg, png, webp, xmp
from scrfd_trt._image_files.frames import Kind
from scrfd_trt._image_files.heif import boxes, item_content, item_exif, items
from scrfd_trt._image_files.tiff_tags import directories

FURTHER, MOTION, TAIL = "further pictures", "a motion video", "data behind the picture"
MAX_TEXT_BYTES = 4 << 20  # of compressed texts


@dataclass
class Blocks:
    """The metadata of a file as it is stored; ``others`` names what is not read."""

    exif: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    iptc: list[bytes] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # of PNG, by keyword
    fields: dict[str, str] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


def find_blocks(data: bytes, kind: Kind) -> Blocks:
    """Find the metadata of a file; damaged parts are left out."""
    blocks = Blocks()
    if kind in READERS:
        READERS[kind](data, blocks)
    return blocks


def _read_jpeg(data: bytes, blocks: Blocks) -> None:
    header = jpeg.read_header(data)
    for marker, start, stop in header.segments + header.later_segments:
        if marker == 0xFE:
            blocks.others.add("comments")
        elif 0xE0 <= marker <= 0xEF:
            _read_app_segment(marker - 0xE0, data[start:stop], blocks)
    _name_tail(data[header.end :], blocks, expected=FURTHER in blocks.others)


def _name_tail(tail: bytes, blocks: Blocks, *, expected: bool = False) -> None:
    if b"ftyp" in tail:
        blocks.others.add(MOTION)
    elif not expected and tail.strip(b"\0\r\n \xff"):
        blocks.others.add(TAIL)


def _read_app_segment(number: int, segment: bytes, blocks: Blocks) -> None:
    if number == 1 and segment.startswith(b"Exif\0"):
        blocks.exif.append(segment)
    elif number == 1 and segment.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        blocks.xmp.append(segment.partition(b"\0")[2])
    elif number == 13 and segment.startswith(b"Photoshop 3.0\0"):
        _read_photoshop(segment[14:], blocks)
    elif number != 0 or not segment.startswith(b"JFIF\0") or segment[12:14].strip(b"\0"):
        found = (name for place, start, name in APP_SEGMENTS if number == place and segment.startswith(start))
        blocks.others.update({next(found, "other data")} - {""})


APP_SEGMENTS = (
    *((0, b"JFIF\0", "embedded previews"), (0, b"JFXX\0", "embedded previews"), (2, b"MPF\0", FURTHER)),
    *((1, b"http://ns.adobe.com/xmp/extension/\0", "further XMP"), (11, b"JP", "C2PA")),
    *((2, b"ICC_PROFILE\0", ""), (14, b"Adobe", "")),
)
"""Segments of applications in JPEG by their numbers and first bytes, and what reports call them."""


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
    tail = len(data)
    for name, start, end in png.chunks(data):
        content = data[start:end] if name not in (b"IDAT", b"fdAT") else b""
        if name == b"eXIf":
            blocks.exif.append(content)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            _read_png_text(name, content, blocks)
        elif name == b"tIME" and len(content) == 7:
            year, rest = int.from_bytes(content[:2], "big"), content[2:]
            blocks.texts["tIME"] = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(year, *rest)
        elif name == b"caBX":
            blocks.others.add("C2PA")
        elif name not in PNG_CHUNKS:
            blocks.others.add("other data")
        if name == b"IEND":
            tail = end + 4
            break
    _name_tail(data[tail:], blocks)


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
    end = 8 + int.from_bytes(data[4:8], "little")
    for name, start, stop in webp.chunks(data[:end]):
        if name == b"EXIF":
            blocks.exif.append(data[start:stop])
        elif name == b"XMP ":
            blocks.xmp.append(data[start:stop])
        elif name == b"C2PA":
            blocks.others.add("C2PA")
        elif name not in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"):
            blocks.others.add("other data")
    _name_tail(data[end:], blocks)


def _read_gif(data: bytes, blocks: Blocks) -> None:
    end = len(data)
    for kind, start, end in gif.blocks(data):
        label, application = data[start + 1 : start + 2], data[start + 3 : start + 14]
        if kind != gif.EXTENSION:
            continue
        if label in (b"\xfe", b"\x01"):
            blocks.others.add("comments")
        elif label == b"\xff" and application == b"XMP DataXMP":
            # The packet has no lengths in it; 258 bytes behind it bring readers that look for them to its end.
            blocks.xmp.append(data[start + 14 : end].partition(b"\x01\xff\xfe\xfd")[0])
        elif label == b"\xff" and application not in (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"):
            blocks.others.add("other data")
    _name_tail(data[end:], blocks)


def _read_tiff(data: bytes, blocks: Blocks) -> None:
    for page in directories(data):
        fields, others = exif.read_directory(page)
        blocks.xmp += filter(None, [page.content(exif.XMP)])
        blocks.iptc += filter(None, [page.content(exif.IPTC)])
        _read_photoshop(page.content(exif.PHOTOSHOP), blocks)
        if page.number(0x00FE) % 2 == 1:  # a smaller copy of another page
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
    for name, at, stop in boxes(data, start, end):
        if name == b"iref" and any(kind == b"thmb" for kind, _, _ in boxes(data, at + 4, stop)):
            blocks.others.add("embedded previews")
        elif name == b"iprp":
            for urn in re.findall(rb"auxC\0{4}([^\0]+)\0", data[at:stop]):
                if b"alpha" not in urn and urn != b"urn:mpeg:hevc:2015:auxid:1":
                    is_depth = b"depth" in urn or urn == b"urn:mpeg:hevc:2015:auxid:2"
                    blocks.others.add("depth maps" if is_depth else "auxiliary pictures")
    for item, kind in items(data).items():
        if kind == b"Exif":
            blocks.exif.append(item_exif(data, item))
        elif kind == b"mime:application/rdf+xml":
            blocks.xmp.append(item_content(data, item))
        elif kind[:4] in (b"mime", b"uri "):
            blocks.others.add("other data")


def _read_bmp(data: bytes, blocks: Blocks) -> None:
    _name_tail(data[int.from_bytes(data[2:6], "little") or len(data) :], blocks)


READERS: Mapping[str, Callable[[bytes, Blocks], None]] = {
    "jpeg": _read_jpeg, "png": _read_png, "webp": _read_webp, "gif": _read_gif, "tiff": _read_tiff,
    "avif": _read_boxes, "heic": _read_boxes, "jp2": _read_boxes, "bmp": _read_bmp,
}  # fmt: skip


LABELS = {
    "title": "title", "description": "description", "author": "author", "copyright": "copyright",
    "usage_terms": "copyright", "credit": "credit", "taken": "dates", "digitized": "dates", "modified": "dates",
    "make": "camera", "model": "camera", "lens_make": "lens", "lens": "lens",
}  # fmt: skip
"""The fields that an option keeps, and their names in reports."""
LOCATION_FIELDS = (
    *("latitude", "longitude", "altitude", "direction", "location_time"),
    *("place", "city", "state", "country", "country_code"),
)
LOCATION, PROJECTION = "location", "360° projection"
DROPPED_ORDER = (
    *("author", "title", "description", "copyright", "credit", "dates", "camera", "lens", LOCATION, PROJECTION),
    *("further EXIF", "maker notes", "further IPTC", "further XMP", "Photoshop resources", "Photoshop layers"),
    *("comments", "further texts", "embedded previews", FURTHER, "auxiliary pictures", "depth maps", MOTION, "C2PA"),
    *("other data", TAIL),
)
"""What reports name as removed, in their order."""


TEXT_LABELS = ("title", "description", "author", "copyright", "credit")
"""What XMP writes as it was entered, and EXIF and IPTC often cut off or without accents."""
MAX_BYTES = 50_000  # of all fields: a segment of JPEG holds 65,533


@dataclass(frozen=True)
class Metadata:
    """What an image file says beside its pixels, colours and size."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """By :data:`LABELS` and :data:`LOCATION_FIELDS`: texts, dates in ISO 8601, degrees and metres in decimals."""
    panorama: Mapping[str, str] = field(default_factory=dict)  # GPano's geometry, which belongs to every copy
    others: frozenset[str] = frozenset()  # names of what no copy keeps

    def kept(self, *, descriptive: bool, location: bool) -> Metadata:
        """Return what a copy keeps: title, author, dates, camera and the like (``descriptive``), and the place."""
        names = (*(LABELS if descriptive else ()), *(LOCATION_FIELDS if location else ()))
        fields = {name: self.fields[name] for name in names if name in self.fields}
        while sum(len(escape(value, quote=False).encode()) for value in fields.values()) > MAX_BYTES:
            del fields[max(fields, key=lambda name: len(fields[name]))]
        return replace(self, fields=fields, others=frozenset())

    def removed(self, kept: Metadata) -> list[str]:
        """Return names of what is here, but not in a copy with the metadata ``kept``."""
        names = {LABELS.get(name, LOCATION) for name in self.fields.keys() - kept.fields.keys()} | self.others
        names |= {PROJECTION} if self.panorama and not kept.panorama else set()
        return sorted(names, key=DROPPED_ORDER.index)

    @property
    def is_equirectangular(self) -> bool:
        """Whether the picture is a projection of a sphere, in which faces are distorted."""
        return self.panorama.get("ProjectionType", "").lower() == "equirectangular"

    def panorama_of(self, width: int, height: int) -> dict[str, str]:
        """Return ``panorama`` for a picture of this size: GPano counts pixels of the picture as it once was."""
        scaled = dict(self.panorama)
        for axis, edge, size in (("Width", "Left", width), ("Height", "Top", height)):
            cropped = scaled.get(f"CroppedAreaImage{axis}Pixels", "")
            if cropped.isdecimal() and int(cropped):
                for name in (f"CroppedAreaImage{axis}Pixels", f"FullPano{axis}Pixels", f"CroppedArea{edge}Pixels"):
                    if re.fullmatch(r"-?\d+", scaled.get(name, "")):
                        scaled[name] = str(round(int(scaled[name]) * size / int(cropped)))
        return scaled


def read_metadata(data: bytes, kind: Kind) -> Metadata:
    """Read what is undamaged; EXIF counts before XMP (but for titles and names), PNG's texts and IPTC."""
    blocks = find_blocks(data, kind)
    fields, panorama = _fields_of_iptc(blocks), dict[str, str]()
    fields |= _fields_of_texts(blocks)
    by_exif = blocks.fields
    for block in blocks.exif:
        found, others = exif.read_exif(block.removeprefix(b"Exif\0\0"))
        by_exif = found | by_exif
        blocks.others |= others
    fields |= by_exif
    for packet in blocks.xmp:
        found, geometry, others = xmp.read_xmp(packet)
        texts = {name: value for name, value in found.items() if name not in by_exif or LABELS.get(name) in TEXT_LABELS}
        fields, panorama = fields | texts, geometry | panorama
        blocks.others |= others
    return Metadata(fields, panorama, frozenset(blocks.others))


IPTC_FIELDS = {
    5: "title", 105: "title", 120: "description", 80: "author", 116: "copyright", 110: "credit", 90: "city",
    92: "place", 95: "state", 101: "country", 100: "country_code",
}  # fmt: skip
IPTC_DATES = {"taken": (55, 60), "digitized": (62, 63)}  # datasets of date and time


def _fields_of_iptc(blocks: Blocks) -> dict[str, str]:
    """Read the datasets of IPTC's record 2."""
    fields: dict[str, str] = {}
    for block in blocks.iptc:
        values = dict[int, str]()
        for record, dataset, content in _iptc_datasets(block):
            if record == 2 and dataset not in values:
                values[dataset] = exif.text(content)
            elif record == 2 and dataset == 80:
                values[80] += f"; {exif.text(content)}"
        dates = {number for pair in IPTC_DATES.values() for number in pair}
        if values.keys() - IPTC_FIELDS.keys() - dates - {0}:
            blocks.others.add("further IPTC")
        for dataset, name in IPTC_FIELDS.items():
            if values.get(dataset):
                fields.setdefault(name, values[dataset])
        for name, (day, clock) in IPTC_DATES.items():
            found = re.fullmatch(r"(\d{4})(\d\d)(\d\d)", values.get(day, ""))
            time = re.fullmatch(r"(\d\d)(\d\d)(\d\d)(?:([+-]\d\d)(\d\d))?", values.get(clock, ""))
            if found:
                zone = f"{time[4]}:{time[5]}" if time and time[4] else ""
                text = f"T{time[1]}:{time[2]}:{time[3]}{zone}" if time else ""
                fields.setdefault(name, "-".join(found.groups()) + text)
    return fields


def _iptc_datasets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + 5 <= len(data) and data[at] == 0x1C:
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if size & 0x8000:
            return
        yield data[at + 1], data[at + 2], data[at + 5 : at + 5 + size]
        at += 5 + size


def _fields_of_texts(blocks: Blocks) -> dict[str, str]:
    names = {
        "Title": "title", "Author": "author", "Description": "description", "Copyright": "copyright",
        "Creation Time": "taken", "tIME": "modified",
    }  # fmt: skip
    fields = {}
    for keyword, value in blocks.texts.items():
        name = names.get(keyword)
        if name is None:
            blocks.others.add("comments" if keyword == "Comment" else "further texts")
        else:
            fields[name] = _png_date(value) if name in ("taken", "modified") else value
    return {name: value for name, value in fields.items() if value}


def _png_date(value: str) -> str:
    """Return a date of RFC 1123 or ISO 8601 in ISO 8601; nothing if it is none."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = parse(re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", value.replace("Z", "+00:00")))
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return found.replace(microsecond=0).isoformat()
    return ""
