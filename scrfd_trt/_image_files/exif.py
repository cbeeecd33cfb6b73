"""Read and write the fields of :mod:`metadata` in EXIF data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from scrfd_trt._image_files.tiff_tags import (
    BYTE,
    HEADER,
    UNDEFINED,
    Directory,
    Tag,
    Tags,
    ascii_tag,
    directory_bytes,
    first_directory,
    rational_tag,
    resolution_tags,
)

EXIF_IFD, GPS_IFD, SUB_IFDS, MAKER_NOTE = 0x8769, 0x8825, 0x014A, 0x927C
XMP, IPTC, PHOTOSHOP, PHOTOSHOP_LAYERS, ICC_PROFILE = 0x02BC, 0x83BB, 0x8649, 0x935C, 0x8773
MAX_TEXT = 10_000  # characters of a field
UNKNOWN_RESOLUTION = (72.0, 72.0)  # what EXIF has to say where nothing is known
MAX_METRES = 1_000_000
STEPS = 100_000  # to a second of latitude and longitude

TEXTS = {
    (0, 0x010E): "description", (0, 0x010F): "make", (0, 0x0110): "model", (0, 0x013B): "author",
    (0, 0x8298): "copyright", (EXIF_IFD, 0xA433): "lens_make", (EXIF_IFD, 0xA434): "lens",
}  # fmt: skip
"""Fields by directory (0: the first one) and tag."""
XP_TEXTS = {0x9C9B: "title", 0x9C9D: "author"}  # fields of Windows, in UTF-16
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
GPS_MEMBERS = set(range(8)) | {0x10, 0x11, 0x12, 0x1D}  # GPS tags whose values are kept with the location


def read_exif(data: bytes) -> tuple[dict[str, str], set[str]]:
    """Return the fields of EXIF data that may be kept, and names of everything else in it."""
    first = first_directory(data)
    fields, others = read_directory(first)
    if first.next_offset not in (0, first.offset):
        others.add("embedded previews")
    return fields, others


def read_directory(first: Directory) -> tuple[dict[str, str], set[str]]:
    """Do what :func:`read_exif` does, for one page of a TIFF file."""
    exif, gps = first.child(EXIF_IFD), first.child(GPS_IFD)
    by_directory = {0: first, EXIF_IFD: exif}
    fields = {name: text(first.content(tag), "utf-16-le") for tag, name in XP_TEXTS.items()}
    for (place, tag), name in TEXTS.items():
        fields[name] = _ascii(by_directory[place], tag) or fields.get(name, "")
    known = {tag for _, tag in TEXTS} | set(XP_TEXTS)
    for name, ((place, tag), fraction, zone) in DATES.items():
        fields[name] = _iso_date(_ascii(by_directory[place], tag), _ascii(exif, fraction), _ascii(exif, zone))
        known |= {tag, fraction, zone}
    fields |= _location(gps)
    others = _other_names(first.entries.keys() | exif.entries.keys(), known)
    if gps.entries.keys() - GPS_MEMBERS:
        others.add("location")
    return {name: value for name, value in fields.items() if value}, others


def _ascii(directory: Directory, tag: int) -> str:
    return text(directory.content(tag).split(b"\0")[0])


def _other_names(tags: Set[int], known: set[int]) -> set[str]:
    named = {
        MAKER_NOTE: "maker notes", PHOTOSHOP: "Photoshop resources", PHOTOSHOP_LAYERS: "Photoshop layers",
        SUB_IFDS: "embedded previews", XMP: "", IPTC: "",
    }  # fmt: skip
    names = {named.get(tag, "further EXIF") for tag in tags - known - NOT_METADATA}
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


def _location(gps: Directory) -> dict[str, str]:
    fields = {}
    for name, tag, limit in (("latitude", 2, 90), ("longitude", 4, 180)):
        degrees, minutes, seconds = (*gps.numbers(tag), 0.0, 0.0, 0.0)[:3]
        value, side = degrees + minutes / 60 + seconds / 3600, gps.content(tag - 1)[:1]
        if tag in gps.entries and side in (b"N", b"S", b"E", b"W") and 0 <= value <= limit:
            fields[name] = f"{-value if side in b'SW' else value:.8f}"
    for name, tag in (("altitude", 6), ("direction", 0x11)):
        for value in gps.numbers(tag)[:1]:
            if abs(value) < MAX_METRES:  # and a number
                below = name == "altitude" and gps.content(5)[:1] == b"\1"
                fields[name] = f"{-value if below else value:.3f}"
    if "direction" in fields and gps.content(0x10)[:1] == b"M":
        fields["direction"] += " magnetic"
    day, clock = _ascii(gps, 0x1D), gps.numbers(7)
    if re.fullmatch(r"\d{4}:\d\d:\d\d", day) and len(clock) == 3 and all(0 <= part < 61 for part in clock):
        fields["location_time"] = f"{day.replace(':', '-')}T{int(clock[0]):02}:{int(clock[1]):02}:{int(clock[2]):02}Z"
    return fields


def write_exif(fields: Mapping[str, str]) -> bytes:
    """Return EXIF data of the fields that it has tags for, little-endian, without ``Exif`` before it; may be empty."""
    first, exif, gps = exif_directories(fields)
    if not (first or exif or gps):
        return b""
    return HEADER + directory_bytes(first, 8, {EXIF_IFD: exif, GPS_IFD: gps})


def with_resolution(exif: bytes, resolution: tuple[float, float] | None) -> bytes:
    """Return EXIF data, with a resolution in dots per inch in it."""
    tags = resolution_tags(resolution)
    if not tags or resolution == UNKNOWN_RESOLUTION:
        return exif
    first = first_directory(exif)
    children = {tag: first.child(tag).tags() for tag in (EXIF_IFD, GPS_IFD)}
    return HEADER + directory_bytes({**first.tags(), **tags}, 8, children)


def exif_directories(fields: Mapping[str, str]) -> tuple[Tags, Tags, Tags]:
    """Return the first directory, that of EXIF and that of GPS; each may be empty."""
    first: Tags = {}
    exif: Tags = {}
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


def _gps_directory(fields: Mapping[str, str]) -> Tags:
    gps: Tags = {}
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
