"""Read and write the pages of TIFF files."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from scrfd_trt._image_files import icc, opencv_codec, pillow_codec, pixels
from scrfd_trt._image_files.exif import ICC_PROFILE, XMP
from scrfd_trt._image_files.frames import (
    ColorDescription,
    Extras,
    ImageFile,
    ImageFrame,
    Limits,
    check_header,
    check_total,
)
from scrfd_trt._image_files.stderr import data_loss
from scrfd_trt._image_files.tiff_tags import (
    BYTE,
    LONG,
    ORIENTATION,
    SHORT,
    UNDEFINED,
    Directory,
    Tag,
    Tags,
    directories,
    directory_bytes,
    resolution_tags,
)
from scrfd_trt.errors import ImageError

SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, PHOTOMETRIC = 254, 255, 256, 257, 258, 262
STRIPS, SAMPLES, STRIP_SIZES = 273, 277, 279
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES, SUB_FILES, EXTRA_SAMPLES, SAMPLE_FORMAT = 322, 323, 324, 325, 330, 338, 339
DNG_VERSION = 50706
RGB, CMYK, LAB, COLOR_FILTERS = 2, 5, {8, 9}, {32803, 34892}
PREMULTIPLIED = 1
MAX_SAMPLES = 32
LARGE_TILE = 4096 * 4096


def open_tiff(data: bytes, limits: Limits) -> ImageFile:
    """Read the directories of a TIFF file."""
    pages = [page for page in directories(data) if page.number(WIDTH)]
    if not pages:
        raise ImageError("the file is damaged: its directory is missing or cut off; copy or download it again")
    if any(DNG_VERSION in page.entries or page.number(PHOTOMETRIC) in COLOR_FILTERS for page in pages):
        raise ImageError(RAW)
    if _is_reduced(pages[0]) and SUB_FILES in pages[0].entries:
        raise ImageError(RAW)
    pages = [page for page in pages if not _is_reduced(page)] or pages[:1]
    first = pages[0]
    for page in pages:
        _check_page(page, limits)
    check_total([(page.number(WIDTH), page.number(HEIGHT)) for page in pages], limits)
    file = ImageFile(
        kind="tiff",
        data=data,
        size=pixels.upright_size((first.number(WIDTH), first.number(HEIGHT)), first.orientation),
        count=len(pages),
        color=ColorDescription(
            icc.rgb_profile(_profile(first)), pixels.upright_resolution(first.resolution, first.orientation)
        ),
        decode=lambda file: _frames(file, pages),
    )
    file.add_damage(next(filter(None, map(_cut_off, pages)), ""))
    return file


RAW = "raw images of cameras are not supported: convert it to JPEG or PNG"


def _is_reduced(page: Directory) -> bool:
    """Return whether a page is a smaller copy of another one, or a mask."""
    return bool(page.number(SUBFILE) & 5) or page.number(OLD_SUBFILE) == 2


def _check_page(page: Directory, limits: Limits) -> None:
    width, height = page.number(WIDTH), page.number(HEIGHT)
    check_header((width, height), limits, _cut_off(page))
    samples, bits = page.number(SAMPLES, 1), _bits(page)
    if samples > MAX_SAMPLES or bits > 64:
        raise ImageError(f"TIFF images with {samples} channels of {bits} bits are not supported: convert it to PNG")
    if TILE_WIDTH in page.entries:
        tile = page.number(TILE_WIDTH) * page.number(TILE_HEIGHT)
        if tile > max(LARGE_TILE, 4 * width * height):
            raise ImageError("the image is damaged (its tiles are larger than it): copy or download it again")


def _cut_off(page: Directory) -> str:
    """Return how a file is cut off, by where its strips or tiles end; empty if they are all there."""
    if page.is_cut_off:
        return f"cut off after {len(page.data):,} bytes"
    places, sizes = (TILES, TILE_SIZES) if TILES in page.entries else (STRIPS, STRIP_SIZES)
    starts, lengths = page.numbers(places, 1 << 27), page.numbers(sizes, 1 << 27)
    if len(starts) != len(lengths) or not starts:
        return ""
    end = int((np.array(starts, np.float64) + np.array(lengths, np.float64)).max())
    return f"cut off after {len(page.data):,} of {end:,} bytes" if end > len(page.data) else ""


def _profile(page: Directory) -> bytes | None:
    return page.content(ICC_PROFILE) or None


def _frames(file: ImageFile, pages: list[Directory]) -> Iterator[ImageFrame]:
    for page in pages:
        colors, alpha = _decode(file, page)
        own = icc.rgb_profile(_profile(page))
        if own != file.color.icc_profile:
            converted = icc.to_profile(colors, own, file.color.icc_profile)
            file.add_note("a colour profile is damaged, and is taken for that of the first page" * (converted is None))
            colors = colors if converted is None else converted
        yield pixels.upright_frame(colors, alpha, page.orientation)


def _decode(file: ImageFile, page: Directory) -> tuple[Any, Any]:
    """Decode one page: with OpenCV what it reads right, else with Pillow."""
    content = _single_page(file.data, page)
    photometric, bits = page.number(PHOTOMETRIC), _bits(page)
    has_alpha = _has_alpha(page)
    space = {CMYK: "CMYK", 0: "GRAY", 1: "GRAY"}.get(photometric)
    if bits <= 8 and (has_alpha or photometric in LAB or (space and icc.space(_profile(page)) == space)):
        return pillow_codec.decode("tiff", content, file)
    if photometric in LAB:
        raise ImageError(f"CIELAB colours with {bits} bits are not supported: convert it to sRGB")
    unusual = bits > 16 or page.number(SAMPLE_FORMAT, 1) in {2, 3}
    values, lines = opencv_codec.decode(
        content, opencv_codec.UNCHANGED if unusual or (has_alpha and bits == 16) else opencv_codec.COLOR
    )
    if values is None:
        return _decode_otherwise(file, content, lines)
    file.lose(data_loss(lines))
    file.add_note(pixels.SIXTEEN if bits == 16 and not unusual else "")
    values, note = pixels.to_eight_bits(values)
    file.add_note(note)
    colors, alpha = pixels.to_bgr(values)
    if not has_alpha or alpha is None:
        return colors, None
    return pixels.without_alpha(colors, alpha) if page.number(EXTRA_SAMPLES) == PREMULTIPLIED else colors, alpha


def _bits(page: Directory) -> int:
    return int(max(page.numbers(BITS) or (1,)))


def _has_alpha(page: Directory) -> bool:
    if EXTRA_SAMPLES in page.entries:
        return page.number(EXTRA_SAMPLES) in {PREMULTIPLIED, 2}
    return page.number(PHOTOMETRIC) == RGB and page.number(SAMPLES, 1) == 4


def _decode_otherwise(file: ImageFile, content: bytearray, lines: list[str]) -> tuple[Any, Any]:
    """Decode with Pillow, which has more compressions, what OpenCV refuses."""
    try:
        return pillow_codec.decode("tiff", content, file)
    except ImageError as error:
        reason = f" ({lines[0]})" if lines else ""
        raise ImageError(f"the image is damaged, or of an unusual kind{reason}: convert it to PNG") from error


def _single_page(data: bytes, page: Directory) -> bytearray:
    """Return the file with a page as its first one, and without its orientation, which OpenCV would apply."""
    copy = bytearray(data)
    at, code = (8, "Q") if page.is_big else (4, "I")
    struct.pack_into(page.order + code, copy, at, page.offset)
    at, _, size, _ = page.entries.get(ORIENTATION, (0, 0, 0, 0))
    if (code := page.code(ORIENTATION)) in {"B", "H", "I"} and size and at + size <= len(copy):
        struct.pack_into(page.order + code, copy, at, 1)
    return copy


def page_tags(extras: Extras, *, alpha: bool) -> Tags:
    """Return the tags of a page beside those of its pixels and of EXIF."""
    tags = resolution_tags(extras.resolution)
    if alpha:
        tags[EXTRA_SAMPLES] = Tag(SHORT, 1, b"\2\0")  # alpha that the colours are not multiplied by
    if extras.profile:
        tags[ICC_PROFILE] = Tag(UNDEFINED, len(extras.profile), extras.profile)
    if extras.xmp:
        tags[XMP] = Tag(BYTE, len(extras.xmp), extras.xmp)
    return tags


def append_page(file: BinaryIO, link: int, data: bytes, tags: Tags, children: Mapping[int, Tags]) -> int:
    """Append a one-page TIFF with more tags, whose pointer is at ``link``; return the next pointer's position."""
    base = file.tell()
    own = next(directories(data))
    if not link and not tags and not any(children.values()):
        file.write(data)  # as OpenCV writes it
        return own.offset + 2 + 12 * len(own.entries)
    strips = b"".join((int(offset) + base).to_bytes(4, "little") for offset in own.numbers(STRIPS))
    at = base + len(data) + len(data) % 2
    all_tags = {**own.tags(), **tags, STRIPS: Tag(LONG, len(strips) // 4, strips)}
    block = directory_bytes(all_tags, at, children)
    file.write(data + b"\0" * (len(data) % 2) + block)
    end = file.tell()
    file.seek(link or 4)
    file.write(at.to_bytes(4, "little"))
    file.seek(end)
    return at + 2 + 12 * int.from_bytes(block[:2], "little")
