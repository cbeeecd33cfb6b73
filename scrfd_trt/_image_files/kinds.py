"""Tell image formats apart by their content."""

from __future__ import annotations

import re

from scrfd_trt._image_files import png, tiff_tags
from scrfd_trt._image_files.frames import Kind

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".gif", ".avif", ".heic", ".heif", ".hif"),
)
BRANDS: dict[bytes, Kind] = {
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "heic"),
}
"""Formats of HEIF files by their brands; others, such as ``mif1``, leave the choice to the compatible brands."""
PREFIXES: dict[Kind, tuple[bytes, ...]] = {
    "jpeg": (b"\xff\xd8",),
    "png": (png.SIGNATURE,),
    "gif": (b"GIF87a", b"GIF89a"),
    "tiff": tiff_tags.SIGNATURES,
    "bmp": (b"BM",),
    "jp2": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "hdr": (b"#?RADIANCE", b"#?RGBE"),
    "ras": (b"\x59\xa6\x6a\x95",),
}
NETPBM = re.compile(rb"P[1-7]\s|P[1-7]#")
FLOAT_MAP = re.compile(rb"P[fF]\s")
OTHERS: dict[str, tuple[bytes, ...]] = {
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    "Photoshop": (b"8BPS",),
    "icon": (b"\0\0\1\0",),
    "Targa": (b"\0\0\2" + bytes(9), b"\0\0\x0a" + bytes(9)),
    "OpenEXR": (b"\x76\x2f\x31\x01",),
    "Canon raw": (b"II*\0\x10\0\0\0CR\2",),
    "Olympus raw": (b"IIRO", b"IIRS", b"MMOR"),
    "Panasonic raw": (b"IIU\0",),
    "Fujifilm raw": (b"FUJIFILM",),
    "JPEG XR": (b"II\xbc",),
    "GIMP": (b"gimp xcf",),
    "DirectDraw": (b"DDS ",),
    "DjVu": (b"AT&TFORM",),
    "WMF": (b"\xd7\xcd\xc6\x9a",),
    "BPG": (b"BPG\xfb",),
    "FLIF": (b"FLIF",),
    "QOI": (b"qoif",),
    "farbfeld": (b"farbfeld",),
    "FITS": (b"SIMPLE  =",),
    "DICOM": (bytes(128) + b"DICM",),
    "PCX": (b"\x0a\5\1\x08",),
    "SVG": (b"<svg",),
}
"""First bytes of image formats that are not read, by their names."""
TARGA_END = b"TRUEVISION-XFILE.\0"


def image_kind(start: bytes) -> Kind | None:
    """Return the format of an image file that can be read, by its first 64 bytes; None for other files."""
    for kind, prefixes in PREFIXES.items():
        if start.startswith(prefixes):
            return None if start.startswith(OTHERS["Canon raw"]) else kind
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "webp"
    if NETPBM.match(start):
        return "pnm"
    if FLOAT_MAP.match(start):
        return "pfm"
    return _heif_kind(start)


def unsupported_kind(data: bytes) -> str:
    """Return the name of an image format that is not read, by the first bytes or all; empty for others."""
    if data[4:12] == b"ftypcrx ":
        return "Canon raw"
    if data.endswith(TARGA_END):
        return "Targa"
    text = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<?xml") and b"<svg" in text:
        return "SVG"
    return next((name for name, prefixes in OTHERS.items() if data.startswith(prefixes)), "")


def _heif_kind(start: bytes) -> Kind | None:
    if start[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(start[:4], "big"), len(start))
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] not in BRANDS and brands[0] not in {b"mif1", b"msf1", b"mif2", b"miaf", b"MiHB", b"MiHE"}:
        return None
    # A HEIF file whose coding no brand names is left to libheif.
    return next((BRANDS[brand] for brand in brands if brand in BRANDS), "heic")
