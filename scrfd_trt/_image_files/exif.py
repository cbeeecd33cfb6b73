"""Read and write EXIF data: TIFF directories, and the fields of :mod:`metadata` in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value by TIFF type."""
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
EXIF_IFD, GPS_IFD, SUB_IFDS, MAKER_NOTE = 0x8769, 0x8825, 0x014A, 0x927C
XMP, IPTC, PHOTOSHOP, PHOTOSHOP_LAYERS, ICC_PROFILE = 0x02BC, 0x83BB, 0x8649, 0x935C, 0x8773
MAX_DIRECTORIES = 1000
MAX_TEXT = 10_000  # characters of a field
MAX_METRES = 1_000_000
STEPS = 100_000  # to a second of latitude and longitude

TEXTS = {
    (0, 0x010E): "description", (0, 0x010F): "make", (0, 0x0110): "model", (0, 0x013B): "author",
    (0, 0x8298): "copyright", (EXIF_IFD, 0xA433): "lens_make", (EXIF_IFD, 0xA434): "lens",
}  # fmt: skip
"""Fields by directory (0: the first one) and tag."""
XP_TEXTS = {0x9C9B: "title", 0x9C9D: "author"}
"""Fields of Windows, in UTF-16."""
DATES = {  # the tag of each date, and of its fractions of a second and its time zone in the Exif directory
    "taken": ((EXIF_IFD, 0x9003), 0x9291, 0x9011),
    "digitized": ((EXIF_IFD, 0x9004), 0x9292, 0x9012),
    "modified": ((0, 0x0132), 0x9290, 0x9010),
}
NOT_METADATA = {
    # size, colour, layout and compression
    *range(0x00FE, 0x0108), 0x010A, *range(0x0111, 0x0112 + 1), *range(0x0115, 0x011E), *range(0x0122, 0x0126), 0x0128,
    0x012D, 0x013D, 0x013E, 0x013F, 0x0140, *range(0x0142, 0x0149), 0x014C, *range(0x0150, 0x0158), 0x015B,
    *range(0x0200, 0x0215), ICC_PROFILE, EXIF_IFD, GPS_IFD,
    # versions of EXIF and Flashpix, colour space and size
    0x9000, 0x9101, 0xA000, 0xA001, 0xA002, 0xA003, 0xA005,
}  # fmt: skip
"""Tags that are no metadata, so that nobody misses them."""
GPS_MEMBERS = set(range(8)) | {0x10, 0x11, 0x12, 0x1D}
"""GPS tags whose values are kept with the location."""


class Tag(NamedTuple):
    """The value of a tag: TIFF type, number of values, and bytes."""

    type: int
    number: int
    data: bytes


Directory = dict[int, Tag]


class Tiff:
    """The directories of a TIFF file or of EXIF data; what lies outside of the data is left out."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.order: Literal["big", "little"] = "big" if data[:2] == b"MM" else "little"
        self._is_big = self._number(data[2:4]) == 43  # BigTIFF
        self.is_valid = data[:2] in (b"II", b"MM") and (self._is_big or self._number(data[2:4]) == 42)

    def pages(self) -> Iterator[Directory]:
        """Yield the directories that are chained from the header."""
        at, seen = self._offset(8 if self._is_big else 4), set[int]()
        while self.is_valid and at and at not in seen and len(seen) < MAX_DIRECTORIES:
            seen.add(at)
            tags, at = self._read(at)
            yield tags

    def next_link(self) -> int:
        """Return the position of the pointer behind the first directory, which has to be complete."""
        at = self._offset(4)
        return at + 2 + 12 * self._number(self._data[at : at + 2])

    def child(self, tags: Directory, tag: int) -> Directory:
        """Return the directory that a tag points to; empty if there is none."""
        offsets = self.numbers(tags.get(tag))
        return self._read(int(offsets[0]))[0] if offsets else {}

    def numbers(self, tag: Tag | None) -> list[float]:
        """Return the values of a tag of whole numbers or fractions; nothing for other types."""
        if tag is None or tag.type not in (1, 3, 4, 5, 9, 10, 13, 16, 17, 18):
            return []
        size, signed = ITEM_BYTES[tag.type], tag.type in (9, 10, 17)
        parts = [tag.data[at : at + size] for at in range(0, len(tag.data) - size + 1, size)]
        if tag.type not in (5, 10):
            return [self._number(part, signed) for part in parts]
        pairs = [(self._number(part[:4], signed), self._number(part[4:], signed)) for part in parts]
        return [top / below if below else math.nan for top, below in pairs]

    def _read(self, at: int) -> tuple[Directory, int]:
        """Return a directory, and the position of the next one."""
        head, entry, inline = (8, 20, 8) if self._is_big else (2, 12, 4)
        count = self._number(self._data[at : at + head])
        at += head
        tags: Directory = {}
        for start in range(at, min(at + count * entry, len(self._data) - entry + 1), entry):
            kind = self._number(self._data[start + 2 : start + 4])
            number = self._number(self._data[start + 4 : start + 4 + inline])
            size = number * ITEM_BYTES.get(kind, 0)
            value = start + 4 + inline if size <= inline else self._offset(start + 4 + inline)
            if value + size <= len(self._data):
                tag = self._number(self._data[start : start + 2])
                tags.setdefault(tag, Tag(kind, number, self._data[value : value + size]))
        return tags, self._offset(at + count * entry)

    def _offset(self, at: int) -> int:
        return self._number(self._data[at : at + (8 if self._is_big else 4)])

    def _number(self, data: bytes, signed: bool = False) -> int:
        return int.from_bytes(data, self.order, signed=signed)


def read_exif(data: bytes) -> tuple[dict[str, str], set[str]]:
    """Return the fields of EXIF data that may be kept, and names of everything else in it."""
    tiff = Tiff(data)
    first, *rest = [*tiff.pages()] or [{}]
    fields, others = read_directory(tiff, first)
    if rest:
        others.add("embedded previews")
    return fields, others


def read_directory(tiff: Tiff, first: Directory) -> tuple[dict[str, str], set[str]]:
    """Do what :func:`read_exif` does, for one page of a TIFF file."""
    exif, gps = tiff.child(first, EXIF_IFD), tiff.child(first, GPS_IFD)
    by_directory = {0: first, EXIF_IFD: exif}
    fields = {name: text(first[tag].data, "utf-16-le") for tag, name in XP_TEXTS.items() if tag in first}
    for (place, tag), name in TEXTS.items():
        if tag in by_directory[place]:
            fields[name] = text(by_directory[place][tag].data.split(b"\0")[0]) or fields.get(name, "")
    known = {tag for _, tag in TEXTS} | set(XP_TEXTS)
    for name, ((place, tag), fraction, zone) in DATES.items():
        parts = (by_directory[place].get(tag), exif.get(fraction), exif.get(zone))
        fields[name] = _iso_date(*(text(part.data.split(b"\0")[0]) if part else "" for part in parts))
        known |= {tag, fraction, zone}
    fields |= _location(tiff, gps)
    others = _other_names({**first, **exif}, known)
    if gps.keys() - GPS_MEMBERS:
        others.add("location")
    return {name: value for name, value in fields.items() if value}, others


def _other_names(tags: Directory, known: set[int]) -> set[str]:
    named = {
        MAKER_NOTE: "maker notes", PHOTOSHOP: "Photoshop resources", PHOTOSHOP_LAYERS: "Photoshop layers",
        SUB_IFDS: "embedded previews", XMP: "", IPTC: "",
    }  # fmt: skip
    names = {named.get(tag, "other EXIF") for tag in tags.keys() - known - NOT_METADATA}
    return names - {""}


def text(data: bytes, encoding: str = "utf-8") -> str:
    """Return text in one of the usual encodings, without control characters."""
    try:
        decoded = data.decode(encoding)
    except UnicodeDecodeError:
        decoded = data.decode("latin-1") if encoding == "utf-8" else data.decode(encoding, "ignore")
    return clean(decoded)


def clean(value: str) -> str:
    """Remove control characters and blanks at the ends; the result can be written into XML, and read again."""
    value = re.sub(r"\r\n?", "\n", value)
    return re.sub("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "", value).strip()[:MAX_TEXT].strip()


def _iso_date(value: str, fraction: str, zone: str) -> str:
    """Return an EXIF date as ISO 8601; nothing if it is none."""
    found = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d(?::\d\d)?)", value)
    if not found or found[1] == "0000":
        return ""
    has_fraction = len(found[4]) == 8 and re.fullmatch(r"\d{1,9}", fraction)
    time = found[4] + (f".{fraction}" if has_fraction else "")
    return f"{found[1]}-{found[2]}-{found[3]}T{time}" + (zone if re.fullmatch(r"[+-]\d\d:\d\d", zone) else "")


def _location(tiff: Tiff, gps: Directory) -> dict[str, str]:
    fields = {}
    for name, tag, limit in (("latitude", 2, 90), ("longitude", 4, 180)):
        degrees, minutes, seconds = ([*tiff.numbers(gps.get(tag)), 0.0, 0.0, 0.0])[:3]
        value = degrees + minutes / 60 + seconds / 3600
        side = gps[tag - 1].data[:1] if tag - 1 in gps else b""
        if tag in gps and side in (b"N", b"S", b"E", b"W") and 0 <= value <= limit:
            fields[name] = f"{-value if side in b'SW' else value:.8f}"
    for name, tag in (("altitude", 6), ("direction", 0x11)):
        for value in tiff.numbers(gps.get(tag))[:1]:
            if abs(value) < MAX_METRES:  # and a number
                below = name == "altitude" and 5 in gps and gps[5].data[:1] == b"\1"
                fields[name] = f"{-value if below else value:.3f}"
    if "direction" in fields and 0x10 in gps and gps[0x10].data[:1] == b"M":
        fields["direction"] += " magnetic"
    day = text(gps[0x1D].data.split(b"\0")[0]) if 0x1D in gps else ""
    clock = tiff.numbers(gps.get(7))
    if re.fullmatch(r"\d{4}:\d\d:\d\d", day) and len(clock) == 3 and all(0 <= part < 61 for part in clock):
        fields["location_time"] = f"{day.replace(':', '-')}T{int(clock[0]):02}:{int(clock[1]):02}:{int(clock[2]):02}Z"
    return fields


def write_exif(fields: Mapping[str, str]) -> bytes:
    """Return EXIF data of the fields that it has tags for, little-endian, without ``Exif`` before it; may be empty."""
    first, exif, gps = exif_directories(fields)
    if not (first or exif or gps):
        return b""
    return b"II*\0\x08\0\0\0" + directory_bytes(first, 8, {EXIF_IFD: exif, GPS_IFD: gps})


def exif_directories(fields: Mapping[str, str]) -> tuple[Directory, Directory, Directory]:
    """Return the first directory, that of EXIF and that of GPS; each may be empty."""
    first: Directory = {}
    exif: Directory = {}
    by_directory = {0: first, EXIF_IFD: exif}
    for (place, tag), name in TEXTS.items():
        if name in fields:
            by_directory[place][tag] = ascii_tag(fields[name])
    for name, ((place, tag), fraction, zone) in DATES.items():
        found = re.fullmatch(
            r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)(?:\.(\d+))?([+-]\d\d:\d\d|Z)?", fields.get(name, "")
        )
        if found:
            time = found[2] if len(found[2]) == 8 else f"{found[2]}:00"
            by_directory[place][tag] = ascii_tag(f"{found[1].replace('-', ':')} {time}")
            if found[3]:
                exif[fraction] = ascii_tag(found[3])
            if found[4]:
                exif[zone] = ascii_tag("+00:00" if found[4] == "Z" else found[4])
    if exif:
        exif[0x9000] = Tag(UNDEFINED, 4, b"0232")
    return first, exif, _gps_directory(fields)


def _gps_directory(fields: Mapping[str, str]) -> Directory:
    gps: Directory = {}
    for name, tag, sides in (("latitude", 2, "NS"), ("longitude", 4, "EW")):
        if name in fields:
            value = float(fields[name])
            gps[tag - 1] = ascii_tag(sides[value < 0])
            minutes, rest = divmod(round(abs(value) * 3600 * STEPS), 60 * STEPS)
            gps[tag] = rational_tag((minutes // 60, 1), (minutes % 60, 1), (rest, STEPS))
    if "altitude" in fields:
        value = float(fields["altitude"])
        gps[5] = Tag(BYTE, 1, b"\1" if value < 0 else b"\0")
        gps[6] = rational_tag((round(abs(value) * 1000), 1000))
    if "direction" in fields:
        degrees, _, is_magnetic = fields["direction"].partition(" ")
        gps[0x10] = ascii_tag("M" if is_magnetic else "T")
        gps[0x11] = rational_tag((round(abs(float(degrees)) * 1000), 1000))
    if "location_time" in fields:
        day, _, clock = fields["location_time"].rstrip("Z").partition("T")
        gps[7] = rational_tag(*((int(part), 1) for part in clock.split(":")))
        gps[0x1D] = ascii_tag(day.replace("-", ":"))
    if gps:
        gps[0] = Tag(BYTE, 4, b"\2\3\0\0")
    return gps


def ascii_tag(value: str) -> Tag:
    """Return a text; readers take other than ASCII characters as UTF-8."""
    data = value.encode() + b"\0"
    return Tag(ASCII, len(data), data)


def rational_tag(*fractions: tuple[int, int]) -> Tag:
    """Return fractions of numbers from 0 to 2³² − 1."""
    data = b"".join(min(number, 2**32 - 1).to_bytes(4, "little") for pair in fractions for number in pair)
    return Tag(RATIONAL, len(fractions), data)


def directory_bytes(tags: Directory, at: int, children: Mapping[int, Directory]) -> bytes:
    """Return a little-endian directory that starts at ``at``, and behind it its long values and child directories.

    It is the last of its chain: the four bytes behind its entries are zero.
    """
    tags = {**tags, **{tag: Tag(LONG, 1, b"\0" * 4) for tag, child in children.items() if child}}
    entries, values = len(tags).to_bytes(2, "little"), b""
    end = at + 2 + 12 * len(tags) + 4
    for number, tag in sorted(tags.items()):
        data = tag.data
        if children.get(number):
            data = (end + len(values)).to_bytes(4, "little")
            values += directory_bytes(children[number], end + len(values), {})
        elif len(data) > 4:
            data = (end + len(values)).to_bytes(4, "little")
            values += tag.data + b"\0" * (len(tag.data) % 2)
        entries += number.to_bytes(2, "little") + tag.type.to_bytes(2, "little") + tag.number.to_bytes(4, "little")
        entries += data.ljust(4, b"\0")
    return entries + b"\0" * 4 + values
