"""Read and write AVIF and HEIC files, which consist of boxes, as JPEG 2000 does (ISO base media file format)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from scrfd_trt._image_files import icc, pillow_codec
from scrfd_trt._image_files.frames import (
    ColorDescription,
    Extras,
    ImageFile,
    ImageFrame,
    Limits,
    check_header,
    check_total,
)
from scrfd_trt._image_files.pillow_codec import HEIF_COMMAND, animation_file, pillow_has_avif, to_pillow
from scrfd_trt._image_files.pixels import upright_frame, upright_resolution, upright_size
from scrfd_trt._image_files.tiff_tags import first_directory
from scrfd_trt.errors import ImageError, MissingDependencyError, OutputError, one_line

MAX_BOXES = 100_000
MAX_ITEM = 16 << 20  # bytes of EXIF or XMP


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of each box between two positions; stop where one does not fit."""
    end = len(data) if end is None else end
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, kind, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size


def find_box(data: bytes, *path: bytes, start: int = 0, end: int | None = None) -> tuple[int, int] | None:
    """Return start and end of the content of the first box with a path of types (``meta``: behind its flags)."""
    end = len(data) if end is None else end
    for name in path:
        for kind, inner_start, inner_end in boxes(data, start, end):
            if kind == name:
                start, end = inner_start + 4 * (kind == b"meta"), inner_end
                break
        else:
            return None
    return start, end


def cut_off(data: bytes) -> str:
    """Return how an AVIF or HEIC file is cut off, by where its last box ends; it completes "the file is …"."""
    found = {kind: end for kind, _, end in boxes(data)}
    at = max(found.values(), default=0)
    size = int.from_bytes(data[at : at + 4], "big")
    if size > len(data) - at and data[at + 4 : at + 8].isalnum():
        return f"cut off after {len(data):,} of {at + size:,} bytes"
    return "" if b"meta" in found and (b"mdat" in found or b"idat" in data) else f"cut off after {len(data):,} bytes"


def has_transforms(data: bytes) -> bool:
    """Return whether the primary image has a rotation or mirroring property (``irot``, ``imir``)."""
    found = find_box(data, b"meta", b"iprp", b"ipco")
    links = find_box(data, b"meta", b"iprp", b"ipma")
    primary = _primary_item(data)
    if found is None or links is None or primary is None:
        return False
    kinds = [kind for kind, _, _ in boxes(data, *found)]
    return any(
        0 < index <= len(kinds) and kinds[index - 1] in {b"irot", b"imir"}
        for index in _links(data, links[0], links[1], primary)
    )


def _primary_item(data: bytes) -> int | None:
    found = find_box(data, b"meta", b"pitm")
    if found is None:
        return None
    start, end = found
    return int.from_bytes(data[start + 4 : end][: 2 if data[start] == 0 else 4], "big")


def _links(data: bytes, start: int, end: int, item: int) -> Iterator[int]:
    """Yield the indices of the properties that belong to an item, from 1 on."""
    version, wide = data[start], data[start + 3] & 1
    at, id_size, index_size = start + 8, 2 if version < 1 else 4, 2 if wide else 1
    for _ in range(int.from_bytes(data[start + 4 : start + 8], "big")):
        if at + id_size >= end:
            return
        current, number = int.from_bytes(data[at : at + id_size], "big"), data[at + id_size]
        at += id_size + 1
        for position in range(at, min(at + number * index_size, end), index_size):
            if current == item:
                yield int.from_bytes(data[position : position + index_size], "big") & (0x7FFF if wide else 0x7F)
        at += number * index_size


def items(data: bytes) -> dict[int, bytes]:
    """Return the type of each item by its number; a MIME type stands behind ``mime:``."""
    found = find_box(data, b"meta", b"iinf")
    kinds = dict[int, bytes]()
    if found is None:
        return kinds
    start, end = found
    for name, at, stop in boxes(data, start + (6 if data[start] == 0 else 8), end):
        if name == b"infe" and at < stop and data[at] in (2, 3):
            width = 2 if data[at] == 2 else 4
            item = int.from_bytes(data[at + 4 : at + 4 + width], "big")
            kind = data[at + 6 + width : at + 10 + width]
            texts = data[at + 10 + width : stop].split(b"\0")
            kinds[item] = kind + b":" + texts[1] if kind == b"mime" and len(texts) > 1 else kind
    return kinds


def item_content(data: bytes, item: int) -> bytes:
    """Return the content of an item that lies in the file (method 0) or in the box ``idat`` (1); otherwise nothing."""
    found = find_box(data, b"meta", b"iloc")
    if found is None:
        return b""
    start, end = found
    version, sizes = data[start], data[start + 4 : start + 6]
    offset_size, length_size, base_size, index_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4, sizes[1] & 15
    at, id_size = start + 6, 4 if version == 2 else 2

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big") if at <= end else 0

    for _ in range(number(id_size)):
        current = number(id_size)
        method = number(2) & 15 if version else 0
        number(2)  # the index of a file for the data
        base, content = number(base_size), b""
        if method == 1:
            base += (find_box(data, b"meta", b"idat") or (0, 0))[0]
        for _ in range(number(2)):
            number(index_size if version else 0)
            begin = base + number(offset_size)
            length = number(length_size)
            if at > end or len(content) > MAX_ITEM:
                return b""
            content += data[begin : begin + length] if current == item and method < 2 else b""
        if current == item:
            return content
        if at >= end:
            break
    return b""


def item_exif(data: bytes, item: int | None = None) -> bytes:
    """Return the EXIF data of an item, from its TIFF header on, of the first ``Exif`` item without a number."""
    if item is None:
        item = next((number for number, kind in items(data).items() if kind == b"Exif"), None)
    content = b"" if item is None else item_content(data, item)
    return content[int.from_bytes(content[:4], "big") + 4 :]


def color_numbers(data: bytes) -> tuple[int, int] | None:
    """Return the numbers of the primaries and of the transfer function that describe colours (CICP, ITU-T H.273)."""
    found = find_box(data, b"meta", b"iprp", b"ipco")
    for kind, start, end in boxes(data, *found) if found else ():
        if kind == b"colr" and data[start : start + 4] == b"nclx" and end - start >= 8:
            primaries, transfer = struct.unpack_from(">HH", data, start + 4)
            return primaries, transfer
    return None


def open_avif(data: bytes, limits: Limits) -> ImageFile:
    """Read the boxes of an AVIF file."""
    damage = cut_off(data)
    try:
        image = pillow_codec.open_with("avif", data)
    except ImageError as error:
        raise (ImageError(f"the file is {damage}: copy or download it again") if damage else error) from error
    width, height = image.size
    check_header((width, height), limits)
    check_total([(width, height)] * image.n_frames, limits)
    if image.n_frames == 1 and find_box(data, b"moov"):
        raise ImageError(SEQUENCE)
    exif = item_exif(data)
    # Pillow gives the transforms of the file as an EXIF orientation. The EXIF orientation of the file repeats them,
    # unless there are none.
    turn = first_directory(image.info.get("exif", b"")).orientation
    if turn == 1 and not has_transforms(data):
        turn = first_directory(exif).orientation
    profile = image.info.get("icc_profile") or _profile_by_number(data)
    file = animation_file("avif", data, image.n_frames, (width, height), exif=exif, profile=profile, orientation=turn)
    file.add_damage(damage)
    file.add_note("" if profile else _unusual_colors(data))
    return file


SEQUENCE = "image sequences in HEIC and AVIF files are not supported: convert it to a video"


def _profile_by_number(data: bytes) -> bytes | None:
    """Return a profile of the colours that a file without one names by numbers."""
    numbers = color_numbers(data)
    return icc.display_p3() if numbers and numbers[0] == P3 and numbers[1] not in HDR else None


def _unusual_colors(data: bytes) -> str:
    """Return a note on colours that are taken as sRGB and are not."""
    primaries, transfer = color_numbers(data) or (1, 1)
    if transfer in HDR:
        return f"HDR colours ({HDR[transfer]}) are taken as sRGB, and look pale"
    return "the colours of BT.2020 are taken as sRGB, and look pale" if primaries == BT_2020 else ""


P3, BT_2020, HDR = 12, 9, {16: "PQ", 18: "HLG"}  # numbers of ITU-T H.273


def open_heic(data: bytes, limits: Limits) -> ImageFile:
    """Read the boxes of a HEIC file; its primary image is the first frame."""
    damage = cut_off(data)
    if find_box(data, b"moov"):
        raise ImageError(SEQUENCE)
    try:
        stored = list(pillow_codec.open_heif(data))
    except ImageError as error:
        raise (ImageError(f"the file is {damage}: copy or download it again") if damage else error) from error
    order = sorted(range(len(stored)), key=lambda number: not stored[number].info.get("primary"))
    images = [stored[number] for number in order]
    if not images:
        raise ImageError(f"the file is {damage or 'damaged (it has no image)'}: copy or download it again")
    for image in images:
        check_header((image.size[0], image.size[1]), limits)
    check_total([(image.size[0], image.size[1]) for image in images], limits)
    info: dict[str, Any] = images[0].info
    exif = info.get("exif") or b""
    # libheif applies the transforms of the file. The EXIF orientation repeats them, unless there are none.
    described = first_directory(exif)
    turn = 1 if has_transforms(data) else described.orientation

    def frames(file: ImageFile) -> Iterator[ImageFrame]:
        for number in order:
            with pillow_codec.translated():  # opened again, since each image keeps its pixels
                pixels, alpha = pillow_codec.bgr_and_alpha(
                    pillow_codec.open_heif(data)[number].to_pillow(), file.add_note
                )
            yield upright_frame(pixels, alpha, turn)

    profile = info.get("icc_profile") or _profile_by_number(data)
    resolution = upright_resolution(described.resolution, described.orientation)
    file = ImageFile(
        kind="heic",
        data=data,
        size=upright_size((images[0].size[0], images[0].size[1]), turn),
        count=len(images),
        color=ColorDescription(icc.rgb_profile(profile), resolution),
        decode=frames,
    )
    file.add_damage(damage)
    file.add_note("10 or more bits per channel are reduced to 8" if info.get("bit_depth", 8) > 8 else "")
    file.add_note("" if profile else _unusual_colors(data))
    return file


def frame_seconds(data: bytes) -> Iterator[float]:
    """Yield how long each frame of an AVIF file is shown."""
    media = find_box(data, b"moov", b"trak", b"mdia")
    header = None if media is None else find_box(data, b"mdhd", start=media[0], end=media[1])
    times = None if media is None else find_box(data, b"minf", b"stbl", b"stts", start=media[0], end=media[1])
    if header is None or times is None:
        return
    at = header[0] + (20 if data[header[0]] == 1 else 12)
    scale = int.from_bytes(data[at : at + 4], "big") or 1
    for entry in range(times[0] + 8, times[1] - 7, 8):
        number, ticks = (int.from_bytes(data[entry + part : entry + part + 4], "big") for part in (0, 4))
        for _ in range(number):
            yield ticks / scale


def avif_options(extras: Extras, quality: int) -> dict[str, Any]:
    """Return Pillow's options for AVIF; raise MissingDependencyError if it does not write it."""
    if not pillow_has_avif():
        raise MissingDependencyError(
            'writing AVIF with a colour profile, metadata or frames requires Pillow 11.3: pip install "pillow>=11.3"'
        )
    options = {"icc_profile": extras.profile, "exif": extras.exif, "xmp": extras.xmp}
    return {"quality": quality, **{name: value for name, value in options.items() if value}}


def encode_avif(frame: ImageFrame, extras: Extras, quality: int) -> bytes:
    """Return the content of an AVIF file."""
    options = avif_options(extras, quality)
    file = io.BytesIO()
    try:
        to_pillow(frame).save(file, "AVIF", **options)
    except (OSError, ValueError) as error:
        raise OutputError(one_line(error)) from error
    return file.getvalue()


def can_encode_heic() -> bool:
    """Return whether pillow-heif is installed and has an encoder."""
    try:
        import pillow_heif  # noqa: PLC0415 - an optional package
    except ImportError:
        return False
    return bool(pillow_heif.libheif_info()["HEIF"])


def encode_heic(frames: Iterable[ImageFrame], extras: Extras, quality: int) -> bytes:
    """Return the content of a HEIC file; raise MissingDependencyError without an encoder."""
    if not can_encode_heic():
        raise MissingDependencyError(f"writing HEIC requires pillow-heif: {HEIF_COMMAND}")
    import pillow_heif  # noqa: PLC0415

    heif: Any = pillow_heif.HeifFile()  # type: ignore[no-untyped-call]
    for frame in frames:
        image = to_pillow(frame)
        if extras.profile:
            image.info["icc_profile"] = extras.profile
        heif.add_from_pillow(image)
    file = io.BytesIO()
    described = {name: block for name, block in (("exif", extras.exif), ("xmp", extras.xmp)) if block}
    try:
        heif.save(file, quality=quality, **described)
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(one_line(error)) from error
    return file.getvalue()
