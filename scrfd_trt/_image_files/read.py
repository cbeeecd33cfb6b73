"""Read image files from outside: the header first, then frame by frame within limits."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

from scrfd_trt._image_files import gif, heif, jpeg, kinds, png, simple_formats, tiff, webp
from scrfd_trt._image_files.frames import DEFAULT, ImageFile, ImageFrame, Kind, Limits
from scrfd_trt._image_files.opencv_codec import OUT_OF_MEMORY
from scrfd_trt.errors import ImageError, ScrfdError

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
        raise ImageError("there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise ImageError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except MemoryError as error:
        raise ImageError("there is not enough memory to read the file") from error
    # Reading a pipe may wait, and a device has no end.
    raise ImageError("the file cannot be read: it is a pipe or device; copy the content into a file")


def _open(data: bytes, limits: Limits) -> ImageFile:
    if not data:
        raise ImageError("the file is empty: copy or download it again")
    kind = kinds.image_kind(data[:START_BYTES])
    if kind is None:
        other = kinds.unsupported_kind(data)
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
    "hdr": simple_formats.open_hdr,
    "ras": simple_formats.open_ras,
}
FRAME_SECONDS = {
    "png": png.frame_seconds, "webp": webp.frame_seconds, "gif": gif.frame_seconds, "avif": heif.frame_seconds,
}  # fmt: skip


def frame_seconds(file: ImageFile) -> list[float]:
    """Return the seconds of each frame without decoding it, as many as the file says; 0 where it says nothing."""
    reader = FRAME_SECONDS.get(file.kind)
    found = [] if reader is None else list(islice(reader(file.data), file.count))
    return found + [0.0] * (file.count - len(found))
