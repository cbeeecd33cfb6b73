"""Read the metadata of image files: fields that copies may keep, and names of everything else in the file.

Copies have the fields written anew. Everything else, such as previews, may show what an overlay covers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from html import escape

from scrfd_trt._image_files import exif, xmp
from scrfd_trt._image_files.frames import Kind
from scrfd_trt._image_files.metadata_blocks import FURTHER, MOTION, TAIL, Blocks, find_blocks

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
