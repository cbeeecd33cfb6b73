"""Read image files from outside, of a format that their content tells: the header, then frames within limits."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

from scrfd_trt._image_files import gif, heif, jpeg, png, simple_formats, tiff, tiff_tags, webp
from scrfd_trt._image_files.frames import DEFAULT, ImageFile, ImageFrame, Kind, Limits
from scrfd_trt._image_files.opencv_codec import OUT_OF_MEMORY
from scrfd_trt.errors import ImageError, ImageNotFoundError, ScrfdError

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


Damaged = Literal["stop", "keep"]
START_BYTES = 64


def open_image(
    source: Path | bytes, *, limits: Limits = DEFAULT, damaged: Damaged = "stop", name: str = ""
) -> ImageFile:
    """Read the header of an image file or its content; ``damaged="keep"`` reads as far as possible."""
    try:
        file = _open(source if isinstance(source, bytes) else _content(source), limits)
        if file.damage and damaged == "stop":
            raise ImageError(f"the file is {file.damage[0]}: copy or download it again", fields=["damaged"])
    except ScrfdError as error:
        raise (error.within(name) if name else error) from error
    return replace(file, keep_damaged=damaged == "keep", decode=lambda self: _named(file.decode(self), name))


def read_image(
    source: Path | bytes, *, limits: Limits = DEFAULT, damaged: Damaged = "stop", name: str = ""
) -> ImageFrame:
    """Read the first frame of an image file; parameters and errors as for :func:`open_image`."""
    return next(open_image(source, limits=limits, damaged=damaged, name=name).frames())


def _named(frames: Iterator[ImageFrame], name: str) -> Iterator[ImageFrame]:
    """Yield the frames; name the file in errors."""
    try:
        yield from frames
    except ScrfdError as error:
        raise (error.within(name) if name else error) from error
    except MemoryError as error:
        raise ImageError(OUT_OF_MEMORY, subject=name) from error


def _content(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return path.read_bytes()  # cv2.imread does not open non-ASCII paths on Windows
    except FileNotFoundError as error:
        raise ImageNotFoundError("there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise ImageError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except MemoryError as error:
        raise ImageError("there is not enough memory to read the file") from error
    # Reading a pipe may wait, and a device has no end.
    raise ImageError("the file cannot be read: it is a pipe or device; copy the content into a file")


def _open(data: bytes, limits: Limits) -> ImageFile:
    if not data:
        raise ImageError("the file is empty: copy or download it again")
    kind = image_kind(data[:START_BYTES])
    if kind is None:
        other = unsupported_kind(data)
        what = f"{other} images are not supported" if other else "not a supported image (JPEG, PNG, WebP, BMP, TIFF, …)"
        raise ImageError(f"{what}: convert it to JPEG or PNG")
    return OPENERS[kind](data, limits)


OPENERS: dict[Kind, Callable[[bytes, Limits], ImageFile]] = {
    "jpeg": jpeg.open_jpeg,
    "png": png.open_png,
    "webp": webp.open_webp,
    "gif": gif.open_gif,
    "tiff": tiff.open_tiff,
    "avif": heif.open_avif,
    "heic": heif.open_heic,
    "bmp": simple_formats.open_bmp,
    "jp2": simple_formats.open_jp2,
    "pnm": simple_formats.open_netpbm,
    "pfm": simple_formats.open_netpbm,
    "hdr": simple_formats.open_plain,
    "ras": simple_formats.open_plain,
}
FRAME_SECONDS = {
    "png": png.frame_seconds, "webp": webp.frame_seconds, "gif": gif.frame_seconds, "avif": heif.frame_seconds,
}  # fmt: skip


def frame_seconds(file: ImageFile) -> list[float]:
    """Return the seconds of each frame without decoding it, as many as the file says; 0 where it says nothing."""
    reader = FRAME_SECONDS.get(file.kind)
    found = [] if reader is None else list(islice(reader(file.data), file.count))
    return found + [0.0] * (file.count - len(found))
