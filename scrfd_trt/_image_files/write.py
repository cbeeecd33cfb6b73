"""Write image files with what describes them: OpenCV encodes what it encodes right, Pillow the rest."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from scrfd_trt._image_files import exif, icc, jpeg, png, simple_formats, tiff, webp, xmp
from scrfd_trt._image_files.exif import EXIF_IFD, GPS_IFD
from scrfd_trt._image_files.frames import NO_EXTRAS, ColorDescription, Extras, ImageFrame
from scrfd_trt._image_files.heif import can_encode_heic, encode_avif, encode_heic
from scrfd_trt._image_files.metadata import Metadata
from scrfd_trt._image_files.opencv_codec import encode_with_opencv, opencv_writes
from scrfd_trt._image_files.pillow_codec import pillow_has_avif
from scrfd_trt._image_files.write_animation import Animation, write_animation
from scrfd_trt.errors import OutputError

RESOLUTION_IN_EXIF = (".webp", ".avif", ".heic")
MAX_TIFF = 2**32 - (1 << 20)
NO_COLOR, NO_METADATA = ColorDescription(), Metadata()
SAME_FORMAT = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".mpo": ".jpg", ".tif": ".tiff", ".heif": ".heic"}
SAME_FORMAT |= {".hif": ".heic", ".apng": ".png", ".avifs": ".avif"}


@dataclass(frozen=True)
class ImageFormat:
    """What files with a suffix can hold beside one opaque picture."""

    alpha: bool = False
    pages: bool = False
    animation: bool = False
    profile: bool = False
    metadata: bool = False
    exif: bool = False  # whether metadata is EXIF as well as XMP


OTHER = ImageFormat()
FORMATS = {
    ".jpg": ImageFormat(pages=True, profile=True, metadata=True, exif=True),
    ".png": ImageFormat(alpha=True, animation=True, profile=True, metadata=True, exif=True),
    ".webp": ImageFormat(alpha=True, animation=True, profile=True, metadata=True, exif=True),
    ".tiff": ImageFormat(alpha=True, pages=True, profile=True, metadata=True, exif=True),
    ".gif": ImageFormat(alpha=True, animation=True, metadata=True),
    ".avif": ImageFormat(alpha=True, animation=True, profile=True, metadata=True, exif=True),
    ".heic": ImageFormat(alpha=True, pages=True, profile=True, metadata=True, exif=True),
}
"""By the suffixes that :func:`format_suffix` returns; files of other formats hold one opaque picture."""
ANIMATION_SUFFIXES = (".gif", ".png", ".apng", ".webp", ".avif", ".avifs")


@contextmanager
def errors_about(path: Path) -> Iterator[None]:
    """Name the file in errors of its format."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def format_suffix(suffix: str) -> str:
    """Return the usual suffix of files of the same format."""
    return SAME_FORMAT.get(suffix.lower(), suffix.lower())


def image_format(suffix: str) -> ImageFormat:
    """Return what files with a suffix can hold."""
    return FORMATS.get(format_suffix(suffix), OTHER)


def is_writable(suffix: str) -> bool:
    """Return whether images are written to files with this suffix, with the packages that are installed."""
    suffix = format_suffix(suffix)
    if suffix == ".heic":
        return can_encode_heic()
    return suffix == ".gif" or opencv_writes(suffix) or (suffix == ".avif" and pillow_has_avif())


def storable(metadata: Metadata, suffix: str) -> Metadata:
    """Return the part of metadata that files with a suffix can hold: all or nothing."""
    return metadata if image_format(suffix).metadata else Metadata()


def write_image(
    file: BinaryIO,
    frames: Iterable[ImageFrame],
    suffix: str,
    *,
    quality: int = 95,
    color: ColorDescription = NO_COLOR,
    metadata: Metadata = NO_METADATA,
    animation: bool = False,
    loops: int = 0,
    count: int = 1,
) -> None:
    """Write frames, as pages or an animation, to a new file as they come; AVIF needs ``count``, 0 loops never end.

    Transparent pixels become black, or white where the format has no alpha. Profiles are written anew of matrix and
    curves; with others, pixels are converted to sRGB.
    """
    suffix = format_suffix(suffix)
    described = image_format(suffix)
    profile = icc.essential(color.icc_profile) if color.icc_profile and described.profile else None
    prepared = _prepared(frames, described.alpha, color.icc_profile if profile is None else None)
    first = next(prepared, None)
    if first is None:
        raise OutputError("there is no picture to write")
    height, width = first.pixels.shape[:2]
    fields = metadata.fields if described.metadata else {}
    extras = Extras(
        profile,
        color.resolution,
        exif.write_exif(fields) if described.exif else b"",
        xmp.write_xmp(fields, metadata.panorama_of(width, height)) if described.metadata else b"",
        color.png_chunks if suffix == ".png" else (),
    )
    if suffix in RESOLUTION_IN_EXIF:
        extras = extras._replace(exif=exif.with_resolution(extras.exif, extras.resolution), resolution=None)
    sequence = chain([first], prepared)
    if animation and described.animation:
        write_animation(file, sequence, suffix, Animation(extras, quality, loops, count))
    elif suffix == ".tiff":
        _write_tiff(file, sequence, extras, fields)
    elif described.pages:
        _write_pages(file, sequence, suffix, extras, quality)
    elif next(prepared, None) is not None:
        raise OutputError(f"{suffix} files hold one picture, and this has several; name a .tif file")
    else:
        file.write(encode(first, suffix, extras, quality))


def _prepared(frames: Iterable[ImageFrame], has_alpha: bool, profile: bytes | None) -> Iterator[ImageFrame]:
    """Yield frames as the file can hold them: without hidden colours, without alpha, a profile's pixels in sRGB."""
    for frame in frames:
        pixels, alpha = frame.pixels, frame.alpha
        if alpha is not None and alpha.min() == 255:
            alpha = None
        if alpha is not None and not has_alpha:
            pixels, alpha = frame.visible(), None
        if alpha is not None:
            pixels = np.where(alpha[..., None] == 0, np.uint8(0), pixels)
        if profile is not None:
            converted = icc.to_profile(pixels, profile, None)  # None if the profile is damaged
            pixels = pixels if converted is None else converted
        yield replace(frame, pixels=pixels, alpha=alpha)


EMBED: Mapping[str, Callable[[bytes, Extras], bytes]] = {
    ".jpg": jpeg.embed_jpeg, ".png": png.embed_png, ".webp": webp.embed_webp, ".bmp": simple_formats.embed_bmp,
    ".dib": simple_formats.embed_bmp,
}  # fmt: skip


def encode(frame: ImageFrame, suffix: str, extras: Extras = NO_EXTRAS, quality: int = 95) -> bytes:
    """Return the content of a file with one picture; raise OutputError if this format or size cannot be written."""
    suffix = format_suffix(suffix)
    if suffix == ".heic":
        return encode_heic([frame], extras, quality)
    if suffix == ".gif":  # OpenCV changes colours even where the palette has room for all
        file = io.BytesIO()
        write_animation(file, iter([frame]), suffix, Animation(extras, quality, loops=1, total=1))
        return file.getvalue()
    if suffix == ".avif" and (any(extras) or not opencv_writes(suffix)):
        return encode_avif(frame, extras, quality)
    data = encode_with_opencv(frame, suffix, quality)
    return EMBED[suffix](data, extras) if suffix in EMBED and any(extras) else data


def _write_tiff(file: BinaryIO, frames: Iterator[ImageFrame], extras: Extras, fields: Mapping[str, str]) -> None:
    link = 0
    first, exif_tags, gps = exif.exif_directories(fields)
    children = {EXIF_IFD: exif_tags, GPS_IFD: gps}
    for frame in frames:
        data = encode_with_opencv(frame, ".tiff", 95)
        if file.tell() + len(data) > MAX_TIFF:
            raise OutputError("TIFF files have at most 4 GB")
        tags = {**first, **tiff.page_tags(extras, alpha=frame.alpha is not None)}
        link = tiff.append_page(file, link, data, tags, children)
        first, children, extras = {}, {}, extras._replace(xmp=b"")


def _write_pages(file: BinaryIO, frames: Iterator[ImageFrame], suffix: str, extras: Extras, quality: int) -> None:
    """Write a JPEG file, with further views if there are several pages, or a HEIC file."""
    if suffix == ".heic":
        file.write(encode_heic(frames, extras, quality))
        return
    only_colors = Extras(extras.profile, extras.resolution)
    pages = [encode(frame, suffix, only_colors if number else extras, quality) for number, frame in enumerate(frames)]
    file.write(jpeg.multi_picture(pages) if len(pages) > 1 else pages[0])
