"""Open animations, AVIF and HEIC files, which Pillow and pillow-heif decode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from scrfd_trt._image_files import boxes, color, gif, icc, pillow, tags
from scrfd_trt._image_files.frames import ColorDescription, ImageFile, ImageFrame, Kind
from scrfd_trt._image_files.limits import SMALL_FRAME, Limits, check_header, check_total
from scrfd_trt.errors import ImageError

SEQUENCE = "image sequences in HEIC and AVIF files are not supported: convert it to a video"


def open_animation(
    kind: Kind,
    data: bytes,
    count: int,
    size: tuple[int, int],
    *,
    exif: bytes = b"",
    profile: bytes | None = None,
    first: int = 0,
    orientation: int = 0,
) -> ImageFile:
    """Open a file of which Pillow decodes ``count`` frames from number ``first`` on.

    ``orientation`` takes the place of that in ``exif`` if it is not 0.
    """
    turn = orientation or tags.exif_orientation(exif)
    loops = pillow.open_with(kind, data).info.get("loop")
    if kind == "gif":  # counts repetitions, and 0 is for ever
        loops = 1 if loops is None else loops + (loops > 0)

    def frames(file: ImageFile) -> Iterator[ImageFrame]:
        image = pillow.open_with(kind, data)
        for number in range(first, first + count):
            with pillow.translated():
                image.seek(number)
                pillow.load(image, file)
                pixels, alpha = pillow.bgr_and_alpha(image, file)
                seconds = float(image.info.get("duration", 0)) / 1000.0
            if alpha is not None and alpha.min() == 255:  # Pillow adds it to the later frames of GIFs
                alpha = None
            yield replace(color.upright_frame(pixels, alpha, turn), seconds=seconds)

    resolution = color.upright_resolution(tags.exif_resolution(exif), turn)
    return ImageFile(
        kind=kind,
        data=data,
        size=color.upright_size(size, turn),
        count=count,
        is_animation=count > 1,
        loops=int(loops or 0),
        color=ColorDescription(icc.rgb_profile(profile), resolution),
        decode=frames,
    )


def open_gif(data: bytes, limits: Limits) -> ImageFile:
    """Read the blocks of a GIF file."""
    header = gif.read_header(data, limits.total_pixels // SMALL_FRAME)
    check_header(header.size if header.frames else (0, 0), limits, header.damage)
    check_total([header.size] * header.frames, limits)
    file = open_animation("gif", data, header.frames, header.size)
    file.add_damage(header.damage)
    return file


def open_avif(data: bytes, limits: Limits) -> ImageFile:
    """Read the boxes of an AVIF file."""
    damage = boxes.cut_off(data)
    try:
        image = pillow.open_with("avif", data)
    except ImageError as error:
        raise (ImageError(f"the file is {damage}: copy or download it again") if damage else error) from error
    width, height = image.size
    check_header((width, height), limits)
    check_total([(width, height)] * image.n_frames, limits)
    if image.n_frames == 1 and boxes.find_box(data, b"moov"):
        raise ImageError(SEQUENCE)
    exif = boxes.item_exif(data)
    # Pillow gives the transforms of the file as an EXIF orientation. The EXIF orientation of the file repeats them,
    # unless there are none.
    turn = tags.exif_orientation(image.info.get("exif", b""))
    if turn == 1 and not boxes.has_transforms(data):
        turn = tags.exif_orientation(exif)
    profile = image.info.get("icc_profile") or _profile_by_number(data)
    file = open_animation("avif", data, image.n_frames, (width, height), exif=exif, profile=profile, orientation=turn)
    file.add_damage(damage)
    file.add_note("" if profile else _unusual_colors(data))
    return file


def _profile_by_number(data: bytes) -> bytes | None:
    """Return a profile of the colours that a file without one names by numbers."""
    numbers = boxes.color_numbers(data)
    return icc.display_p3() if numbers and numbers[0] == P3 and numbers[1] not in HDR else None


def _unusual_colors(data: bytes) -> str:
    """Return a note on colours that are taken as sRGB and are not."""
    primaries, transfer = boxes.color_numbers(data) or (1, 1)
    if transfer in HDR:
        return f"HDR colours ({HDR[transfer]}) are taken as sRGB, and look pale"
    return "the colours of BT.2020 are taken as sRGB, and look pale" if primaries == BT_2020 else ""


P3, BT_2020, HDR = 12, 9, {16: "PQ", 18: "HLG"}
"""Numbers of ITU-T H.273."""


def open_heic(data: bytes, limits: Limits) -> ImageFile:
    """Read the boxes of a HEIC file; its primary image is the first frame."""
    damage = boxes.cut_off(data)
    if boxes.find_box(data, b"moov"):
        raise ImageError(SEQUENCE)
    try:
        stored = list(pillow.open_heif(data))
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
    turn = 1 if boxes.has_transforms(data) else tags.exif_orientation(exif)

    def frames(file: ImageFile) -> Iterator[ImageFrame]:
        for number in order:
            with pillow.translated():  # opened again, since each image keeps its pixels
                pixels, alpha = pillow.bgr_and_alpha(pillow.open_heif(data)[number].to_pillow(), file)
            yield color.upright_frame(pixels, alpha, turn)

    profile = info.get("icc_profile") or _profile_by_number(data)
    resolution = color.upright_resolution(tags.exif_resolution(exif), tags.exif_orientation(exif))
    file = ImageFile(
        kind="heic",
        data=data,
        size=color.upright_size((images[0].size[0], images[0].size[1]), turn),
        count=len(images),
        is_animation=False,
        loops=0,
        color=ColorDescription(icc.rgb_profile(profile), resolution),
        decode=frames,
    )
    file.add_damage(damage)
    file.add_note("10 or more bits per channel are reduced to 8" if info.get("bit_depth", 8) > 8 else "")
    file.add_note("" if profile else _unusual_colors(data))
    return file
