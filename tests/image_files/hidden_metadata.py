"""Image files with metadata in every place where a picture, a name or a place can hide, made of bytes."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

from scrfd_trt._image_files import icc

MARKER = b"hidden marker"
"""Stands in every place that no copy keeps."""
DESCRIPTIVE = {
    "title": "Bridge & river", "description": "The <old> bridge", "author": "Ana Müller", "copyright": "© 2024 Ana",
    "credit": "River Press", "taken": "2024-05-01T12:30:00.25+02:00", "digitized": "2024-05-01T12:30:01",
    "modified": "2024-05-02T08:00:00", "make": "Kanon", "model": "K 5", "lens_make": "Optix", "lens": "Optix 35 mm",
}  # fmt: skip
LOCATION = {
    "latitude": "48.85822200", "longitude": "-2.29450000", "altitude": "-35.500", "direction": "123.400 magnetic",
    "location_time": "2024-05-01T10:30:00Z",
}  # fmt: skip
PLACE = {"city": "Sceaux", "country": "France"}
XMP = (
    b"<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?>"
    + """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/"
 xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" photoshop:Credit="River Press" photoshop:City="Sceaux"
 photoshop:Country="France" xmpMM:DocumentID="hidden marker" GPano:PoseHeadingDegrees="12.5">
<dc:title><rdf:Alt><rdf:li xml:lang="de">Brücke</rdf:li>
<rdf:li xml:lang="x-default">Bridge &amp; river</rdf:li></rdf:Alt></dc:title>
<dc:creator><rdf:Seq><rdf:li>Ana Müller</rdf:li></rdf:Seq></dc:creator>
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© 2024 Ana</rdf:li></rdf:Alt></dc:rights>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">The &lt;old&gt; bridge</rdf:li></rdf:Alt></dc:description>
<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:image>hidden marker</xmpGImg:image></rdf:li>
</rdf:Alt></xmp:Thumbnails>
<GPano:ProjectionType>equirectangular</GPano:ProjectionType>
<GPano:CroppedAreaImageWidthPixels>128</GPano:CroppedAreaImageWidthPixels>
<GPano:CroppedAreaImageHeightPixels>64</GPano:CroppedAreaImageHeightPixels>
<GPano:FullPanoWidthPixels>256</GPano:FullPanoWidthPixels><GPano:FullPanoHeightPixels>128</GPano:FullPanoHeightPixels>
<GPano:CroppedAreaLeftPixels>64</GPano:CroppedAreaLeftPixels>
<GPano:CroppedAreaTopPixels>32</GPano:CroppedAreaTopPixels>
<GPano:StitchingSoftware>hidden marker</GPano:StitchingSoftware>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()
)


def picture(width: int = 64, height: int = 32) -> Image.Image:
    """Return a smooth picture."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.dstack([x * 3, y * 7, x + y]).astype(np.uint8))


def encoded(kind: str, **options: object) -> bytes:
    """Return the picture in a format."""
    file = io.BytesIO()
    picture().save(file, kind, **options)
    return file.getvalue()


THUMBNAIL = encoded("JPEG")[:-2] + b"\xff\xfe\0\x0f" + MARKER + b"\xff\xd9"


def tiff_directory(tags: dict[int, tuple[int, object]], at: int, next_offset: int = 0) -> bytes:
    """Return a big-endian TIFF directory at a position, with its values behind it."""
    codes = {1: "B", 3: "H", 4: "I", 5: "I", 7: "B"}
    entries, values = struct.pack(">H", len(tags)), b""
    for tag, (kind, value) in sorted(tags.items()):
        if isinstance(value, str):
            value = value.encode() + b"\0"  # noqa: PLW2901
        if isinstance(value, bytes):
            data, number = value, len(value)
        else:
            items = value if isinstance(value, tuple) else (value,)
            data = struct.pack(f">{len(items)}{codes[kind]}", *items)
            number = len(items) // (2 if kind == 5 else 1)
        place = data.ljust(4, b"\0")
        if len(data) > 4:
            place = struct.pack(">I", at + 2 + 12 * len(tags) + 4 + len(values))
            values += data + b"\0" * (len(data) % 2)
        entries += struct.pack(">HHI", tag, kind, number) + place
    return entries + struct.pack(">I", next_offset) + values


def exif_block() -> bytes:
    """Return EXIF data without ``Exif`` before it: allowed fields, and the marker in all others."""
    exif_at, gps_at, thumbnail_at = 1000, 3000, 4000
    first = {
        0x010E: (2, "The <old> bridge"), 0x010F: (2, "Kanon"), 0x0110: (2, "K 5\0" + MARKER.decode()), 0x0112: (3, 6),
        0x0131: (2, MARKER.decode()), 0x0132: (2, "2024:05:02 08:00:00"), 0x013B: (2, "Ana Müller"),
        0x8298: (2, "© 2024 Ana"), 0x9C9C: (1, MARKER), 0x8769: (4, exif_at), 0x8825: (4, gps_at), 0xC4A5: (7, MARKER),
    }  # fmt: skip
    exif = {
        0x9003: (2, "2024:05:01 12:30:00"), 0x9291: (2, "25"), 0x9011: (2, "+02:00"),
        0x9004: (2, "2024:05:01 12:30:01"), 0x927C: (7, THUMBNAIL),
        0x9286: (7, MARKER), 0xA420: (2, MARKER.decode()), 0xA430: (2, MARKER.decode()),
        0xA431: (2, MARKER.decode()), 0xA433: (2, "Optix"), 0xA434: (2, "Optix 35 mm"), 0xA435: (2, MARKER.decode()),
    }  # fmt: skip
    gps = {
        1: (2, "N"), 2: (5, (48, 1, 51, 1, 295992, 10000)), 3: (2, "W"), 4: (5, (2, 1, 17, 1, 402, 10)), 5: (1, 1),
        6: (5, (355, 10)), 7: (5, (10, 1, 30, 1, 0, 1)), 0x10: (2, "M"), 0x11: (5, (1234, 10)), 0x1B: (7, MARKER),
        0x1D: (2, "2024:05:01"),
    }  # fmt: skip
    thumbnail = {0x0103: (3, 6), 0x0201: (4, thumbnail_at + 200), 0x0202: (4, len(THUMBNAIL))}
    data = bytearray(thumbnail_at + 200) + THUMBNAIL
    data[:8] = struct.pack(">2sHI", b"MM", 42, 8)
    for at, block in (
        (8, tiff_directory(first, 8, thumbnail_at)),
        (exif_at, tiff_directory(exif, exif_at)),
        (gps_at, tiff_directory(gps, gps_at)),
        (thumbnail_at, tiff_directory(thumbnail, thumbnail_at)),
    ):
        data[at : at + len(block)] = block
    return bytes(data)


def iptc_block() -> bytes:
    """Return IPTC's datasets: title, by-line, credit and city, and the marker in others."""
    values = {5: b"Bridge & river", 80: "Ana Müller".encode(), 90: b"Sceaux", 110: b"River Press", 55: b"20240501"}
    values |= {60: b"123000+0200", 25: MARKER, 202: MARKER}
    return b"".join(struct.pack(">BBBH", 0x1C, 2, number, len(data)) + data for number, data in values.items())


def photoshop_block() -> bytes:
    """Return Photoshop's resources: IPTC, a thumbnail and another one."""
    resources = b""
    for name, data in ((0x0404, iptc_block()), (0x040C, b"\0" * 28 + THUMBNAIL), (0x0BB7, MARKER)):
        resources += struct.pack(">4sHHI", b"8BIM", name, 0, len(data)) + data + b"\0" * (len(data) % 2)
    return resources


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def hiding_jpeg() -> bytes:
    """Return a JPEG with metadata of all kinds, a second picture (MPF) and a motion video behind it."""
    base = encoded("JPEG", dpi=(300, 300), icc_profile=srgb_profile())
    second = THUMBNAIL
    blocks = [
        segment(0xE1, b"Exif\0\0" + exif_block()),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + MARKER),
        segment(0xE0, b"JFXX\0\x10" + THUMBNAIL),
        segment(0xED, b"Photoshop 3.0\0" + photoshop_block()),
        segment(0xEB, b"JP" + MARKER),
        segment(0xE5, MARKER),
        segment(0xFE, MARKER),
    ]
    head, rest = base[:20], base[20:]
    size = len(base) + sum(map(len, blocks))
    entries = struct.pack(">4I", 0x030000, size, 0, 0) + struct.pack(">4I", 0x010001, len(second), size, 0)
    index = tiff_directory({0xB000: (7, b"0100"), 0xB001: (4, 2), 0xB002: (7, entries)}, 8)
    blocks.append(segment(0xE2, b"MPF\0MM\0*\0\0\0\x08" + index))
    motion = b"\0\0\0\x18ftypmp42" + MARKER
    return head + b"".join(blocks) + rest + second + motion


@functools.cache  # it has the time of its creation
def srgb_profile() -> bytes:
    """Return a colour profile of nothing but colours."""
    profile = icc.essential(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert profile is not None
    return profile


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def hiding_png() -> bytes:
    """Return a PNG with texts of all kinds, EXIF, XMP and a private chunk."""
    base = encoded("PNG", dpi=(300, 300))
    texts = {"Title": "Bridge & river", "Author": "Ana Müller", "Creation Time": "Wed, 01 May 2024 12:30:00 +0200"}
    chunks = [png_chunk(b"tEXt", f"{key}\0{value}".encode("latin-1")) for key, value in texts.items()]
    chunks += [
        png_chunk(b"tEXt", b"Software\0" + MARKER),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MARKER)),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        png_chunk(
            b"tEXt",
            b"Raw profile type iptc\0\niptc\n" + b"%8d\n" % len(photoshop_block()) + photoshop_block().hex().encode(),
        ),
        png_chunk(b"eXIf", exif_block()),
        png_chunk(b"prVt", MARKER),
        png_chunk(b"caBX", MARKER),
    ]
    return base[:33] + b"".join(chunks) + base[33:] + MARKER


def hiding_webp() -> bytes:
    """Return a WebP file with EXIF, XMP and a private chunk."""
    base = encoded("WEBP", exif=b"Exif\0\0" + exif_block(), xmp=XMP, icc_profile=srgb_profile())
    extra = b"prVt" + struct.pack("<I", len(MARKER)) + MARKER + b"\0" * (len(MARKER) % 2)
    return b"RIFF" + struct.pack("<I", len(base) - 8 + len(extra)) + base[8:] + extra


def hiding_tiff() -> bytes:
    """Return a TIFF file with a preview (SubIFDs), Photoshop's resources, IPTC, XMP, EXIF and GPS."""
    pixels = picture().tobytes()
    blocks = {2000: iptc_block(), 6000: b"", 20_000: pixels}
    sub_at, exif_at, gps_at = 9000, 10_000, 12_000
    tags = {
        0x0100: (3, 64), 0x0101: (3, 32), 0x0102: (3, (8, 8, 8)), 0x0103: (3, 1), 0x0106: (3, 2), 0x0111: (4, 20_000),
        0x0115: (3, 3), 0x0116: (3, 32), 0x0117: (4, len(pixels)), 0x011A: (5, (300, 1)), 0x011B: (5, (300, 1)),
        0x0128: (3, 2), 0x010E: (2, "The <old> bridge"), 0x010F: (2, "Kanon"), 0x013B: (2, "Ana Müller"),
        0x0131: (2, MARKER.decode()), 0x014A: (4, sub_at), 0x02BC: (1, XMP), 0x83BB: (7, iptc_block()),
        0x8649: (7, photoshop_block()), 0x935C: (7, MARKER), 0x8769: (4, exif_at), 0x8825: (4, gps_at),
        0xC4A5: (7, MARKER),
    }  # fmt: skip
    blocks = {
        8: tiff_directory(tags, 8),
        sub_at: tiff_directory({0x0100: (3, 4), 0x927C: (7, MARKER)}, sub_at),
        exif_at: tiff_directory(
            {0x9003: (2, "2024:05:01 12:30:00"), 0x927C: (7, MARKER), 0xA434: (2, "Optix 35 mm")}, exif_at
        ),
        gps_at: tiff_directory(
            {1: (2, "N"), 2: (5, (48, 1, 51, 1, 295992, 10000)), 3: (2, "W"), 4: (5, (2, 1, 17, 1, 402, 10))}, gps_at
        ),
        20_000: pixels,
    }
    data = bytearray(20_000 + len(pixels))
    data[:8] = struct.pack(">2sHI", b"MM", 42, 8)
    for at, block in blocks.items():
        assert not any(data[at : at + len(block)]), at
        data[at : at + len(block)] = block
    return bytes(data)


def hiding_gif() -> bytes:
    """Return a GIF with a comment, XMP and a private extension."""
    base = encoded("GIF")
    comment = b"\x21\xfe" + bytes([len(MARKER)]) + MARKER + b"\0"
    private = b"\x21\xff\x0bPRIVATE1000" + bytes([len(MARKER)]) + MARKER + b"\0"
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return base[:-1] + comment + private + b"\x21\xff\x0bXMP DataXMP" + XMP + trailer + b"\x3b"


HIDING = {
    "jpeg": hiding_jpeg, "png": hiding_png, "webp": hiding_webp, "tiff": hiding_tiff, "gif": hiding_gif,
}  # fmt: skip
