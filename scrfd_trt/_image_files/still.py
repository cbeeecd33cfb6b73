"""Open JPEG, PNG, WebP, BMP, JPEG 2000, Netpbm, Radiance and Sun raster files, which OpenCV decodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._image_files import color, headers, icc, jpeg, native, pillow, png, tags
from scrfd_trt._image_files.animated import open_animation
from scrfd_trt._image_files.frames import ColorDescription, ImageFile, ImageFrame, Kind
from scrfd_trt._image_files.limits import SMALL_FRAME, Limits, check_header, check_total
from scrfd_trt.errors import ImageError

Stored = tuple[NDArray[Any], "NDArray[np.uint8] | None"]
"""Pixels and alpha as stored: not turned."""
MAX_FILLED = 10  # times the length of a file that is cut off


def open_jpeg(data: bytes, limits: Limits) -> ImageFile:
    """Read the segments of a JPEG file, and those of the further images of a multi-picture file."""
    header = jpeg.read_header(data, limits.total_pixels // SMALL_FRAME)
    file = _open_single_jpeg(data, header, limits)
    places = jpeg.further_pages(data, header)
    if not places:
        return file
    parts = [data[start:end] for start, end in places]
    pages = [_open_single_jpeg(part, jpeg.read_header(part), limits) for part in parts]
    check_total([page.size for page in pages], limits)
    damage = [line for page in (file, *pages) for line in page.damage]

    def frames(whole: ImageFile) -> Iterator[ImageFrame]:
        for page in (file, *pages):
            yield from page.decode(whole)

    return replace(file, count=1 + len(pages), decode=frames, damage=damage[:1])


def _open_single_jpeg(data: bytes, header: jpeg.JpegHeader, limits: Limits) -> ImageFile:
    check_header(header.size, limits, header.damage)
    check_total([header.size] * header.scans, limits, "its scans together have")
    if header.bits != 8 or header.process in jpeg.PROCESSES:
        what = jpeg.PROCESSES.get(header.process, f"{header.bits}-bit")
        raise ImageError(f"{what} JPEG images are not supported: convert it to PNG or to an ordinary JPEG")
    exif, profile = jpeg.exif(data, header), jpeg.icc_profile(data, header)
    return _still(
        "jpeg",
        data,
        header.size,
        lambda file: _decode_jpeg(file, data, header, profile),
        exif=exif,
        profile=profile,
        resolution=jpeg.resolution(data, header),
        damage=header.damage,
    )


def _decode_jpeg(file: ImageFile, data: bytes, header: jpeg.JpegHeader, profile: bytes | None) -> Stored:
    data = jpeg.without_stray_bytes(data, header)
    if header.damage:
        data += jpeg.END  # OpenCV 5 requires it
    space = {1: "GRAY", 4: "CMYK"}.get(header.components)
    if space and icc.space(profile) == space:
        return pillow.decode("jpeg", data, file)
    return _decode(file, data)


def open_png(data: bytes, limits: Limits) -> ImageFile:
    """Read the chunks of a PNG file."""
    header = png.read_header(data)
    check_header(header.size, limits, header.damage)
    content = data
    if png.has_more_data(data, header):
        raise ImageError("the image is damaged (it has more data than pixels): copy or download it again")
    if damage := header.damage:
        content = png.mended(data)
        header = png.read_header(content)
    content = png.essential(content, header)
    exif, profile = header.chunks.get(b"eXIf", b""), png.icc_profile(header)
    if header.frames > 1:
        check_total([header.size] * header.frames, limits)
        file = open_animation(
            "png", content, header.frames, header.size, exif=exif, profile=profile, first=not header.still_is_frame
        )
        described = replace(file.color, resolution=png.resolution(header), png_chunks=png.colors(header))
        return replace(file, data=data, damage=[damage] if damage else [], color=described)

    def decode(file: ImageFile) -> Stored:
        grey = icc.space(profile) == "GRAY" and header.color_type == 0 and header.bits <= 8
        if damage or (grey and not header.has_alpha):
            return pillow.decode("png", content, file, profile)
        try:
            return _decode_png(file, content, header)
        except ImageError:
            if not file.keep_damaged:
                raise
            return pillow.decode("png", content, file)

    resolution = png.resolution(header)
    file = _still("png", data, header.size, decode, exif=exif, profile=profile, resolution=resolution, damage=damage)
    return replace(file, color=replace(file.color, png_chunks=png.colors(header)))


def _decode_png(file: ImageFile, data: bytes, header: png.PngHeader) -> Stored:
    pixels, alpha = _decode(file, data, alpha=header.has_alpha, bits=header.bits)
    if header.has_alpha and alpha is None and header.color_type == 0:
        # OpenCV does not read which grey is transparent.
        stored, _ = native.decode(data, native.UNCHANGED)
        grey = int.from_bytes(header.chunks[b"tRNS"][:2], "big")
        grey = grey * 255 // (2**header.bits - 1) if header.bits < 8 else grey
        alpha = None if stored is None else np.where(stored == grey, 0, 255).astype(np.uint8)
    return pixels, alpha


def open_webp(data: bytes, limits: Limits) -> ImageFile:
    """Read the chunks of a WebP file."""
    chunks, animated = headers.webp_chunks(data)
    size, damage = headers.webp_size(chunks), _cut_off(data, 8 + int.from_bytes(data[4:8], "little"))
    check_header(size, limits, damage)
    exif, profile, alpha = chunks.get(b"EXIF", b""), chunks.get(b"ICCP"), headers.webp_has_alpha(chunks)
    if animated:
        check_total([size] * animated, limits)
        file = open_animation("webp", data, animated, size, exif=exif, profile=profile)
        return replace(file, damage=[damage] if damage else [])
    return _still(
        "webp", data, size, lambda file: _decode(file, data, alpha=alpha), exif=exif, profile=profile, damage=damage
    )


def open_bmp(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a BMP file."""
    size, length = headers.bmp_size(data), int.from_bytes(data[2:6], "little")
    damage = _cut_off(data, length)
    check_header(size, limits, damage)

    def decode(file: ImageFile) -> Stored:
        pixels, alpha = _decode(file, _filled(data, length), alpha=headers.bmp_has_alpha(data))
        return pixels, alpha if alpha is not None and alpha.any() else None  # zeros mean that alpha is not used

    return _still("bmp", data, size, decode, damage=damage)


def open_jp2(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a JPEG 2000 file."""
    size, components, bits = headers.jp2_size(data)
    check_header(size, limits)
    return _still("jp2", data, size, lambda file: _decode(file, data, alpha=components in {2, 4}, bits=bits))


def open_netpbm(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a PBM, PGM, PPM, PAM or PFM file."""
    size, length = headers.netpbm_size(data)
    check_header(size, limits)
    kind: Kind = "pfm" if data[1:2] in b"fF" else "pnm"
    return _still(kind, data, size, lambda file: _decode(file, _filled(data, length)), damage=_cut_off(data, length))


def open_hdr(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a Radiance file."""
    check_header(headers.hdr_size(data), limits)
    return _still("hdr", data, headers.hdr_size(data), lambda file: _decode(file, data))


def open_ras(data: bytes, limits: Limits) -> ImageFile:
    """Read the header of a Sun raster file."""
    check_header(headers.ras_size(data), limits)
    return _still("ras", data, headers.ras_size(data), lambda file: _decode(file, data))


def _cut_off(data: bytes, size: int) -> str:
    return f"cut off after {len(data):,} of {size:,} bytes" if len(data) < size else ""


def _filled(data: bytes, length: int) -> bytes:
    """Return an uncompressed file with zeros in the place of the pixels that are missing, if that is a part of it."""
    return data.ljust(length, b"\0") if length <= MAX_FILLED * len(data) else data


def _still(
    kind: Kind,
    data: bytes,
    size: tuple[int, int],
    decode: Callable[[ImageFile], Stored],
    *,
    exif: bytes = b"",
    profile: bytes | None = None,
    resolution: tuple[float, float] | None = None,
    damage: str = "",
) -> ImageFile:
    """Return a file with one image, which ``decode`` returns as stored."""
    turn = tags.exif_orientation(exif)
    resolution = resolution or tags.exif_resolution(exif)

    def frames(file: ImageFile) -> Iterator[ImageFrame]:
        yield color.upright_frame(*decode(file), turn)

    return ImageFile(
        kind=kind,
        data=data,
        size=color.upright_size(size, turn),
        count=1,
        is_animation=False,
        loops=0,
        color=ColorDescription(icc.rgb_profile(profile), color.upright_resolution(resolution, turn)),
        decode=frames,
        damage=[damage] if damage else [],
    )


def _decode(file: ImageFile, data: bytes, *, alpha: bool = False, bits: int = 8) -> Stored:
    """Decode with OpenCV; ``alpha`` says whether the file has it, ``bits`` how many a channel has."""
    pixels, lines = native.decode(data, native.UNCHANGED if alpha and bits <= 8 else native.COLOR)
    if pixels is None:
        reason = f"the image is damaged ({lines[0]})" if lines else "the image is damaged, or of an unusual kind"
        fields = ["damaged"] if file.kind == "png" else []
        raise ImageError(f"{reason}: copy or download it again", fields=fields)
    file.add_damage(*native.data_loss(lines))
    file.add_note(color.SIXTEEN if bits > 8 else "")
    if not alpha:
        return color.to_bgr(pixels)[0], None  # OpenCV reads grey PFM files with one channel
    if bits <= 8:
        return color.to_bgr(np.asarray(pixels, np.uint8))
    full, _ = native.decode(data, native.UNCHANGED)
    return pixels, None if full is None else color.to_bgr(color.to_eight_bits(full)[0])[1]
