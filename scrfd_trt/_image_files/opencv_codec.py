"""Decode and encode single pictures with OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._image_files import icc
from scrfd_trt._image_files.frames import ColorDescription, ImageFile, ImageFrame, Kind
from scrfd_trt._image_files.pixels import (
    SIXTEEN,
    to_bgr,
    to_eight_bits,
    upright_frame,
    upright_resolution,
    upright_size,
)
from scrfd_trt._image_files.stderr import data_loss, watched
from scrfd_trt._image_files.tiff_tags import first_directory
from scrfd_trt.errors import ImageError, OutputError, one_line

COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
UNCHANGED = cv2.IMREAD_UNCHANGED
"""Flags that read pixels as stored: not turned by EXIF, which old OpenCV does for few formats."""


def decode(data: bytes | bytearray, flags: int = COLOR) -> tuple[NDArray[Any] | None, list[str]]:
    """Return the pixels that OpenCV decodes, or None, and messages if pixels are lost or there are none."""
    if len(data) >= 1 << 31:
        raise ImageError("the file has more than 2 GB, which OpenCV does not read: convert it to PNG or JPEG")
    try:
        return watched(lambda: _decode(data, flags))
    except cv2.error as error:
        raise _translated(error) from error
    except MemoryError as error:
        raise ImageError(OUT_OF_MEMORY) from error


def _decode(data: bytes | bytearray, flags: int) -> NDArray[Any] | None:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    # OpenCV returns None for undecodable data; its stubs do not say so.
    return image if isinstance(image, np.ndarray) and image.size else None


OUT_OF_MEMORY = "there is not enough memory to decode the image: make it smaller"


def _translated(error: cv2.error) -> ImageError:
    text = str(error)
    if "CV_IO_MAX_IMAGE" in text:
        return ImageError(
            "the image has more pixels than OpenCV reads; make it smaller, or set OPENCV_IO_MAX_IMAGE_PIXELS"
        )
    if error.code == cv2.Error.StsNoMem or "Insufficient memory" in text:
        return ImageError(OUT_OF_MEMORY)
    reason = str(getattr(error, "err", "") or error).strip().splitlines()[0]
    return ImageError(f"OpenCV cannot read the image: {reason}")


Stored = tuple[NDArray[Any], "NDArray[np.uint8] | None"]  # pixels and alpha as stored: not turned


def still_file(
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
    described = first_directory(exif)
    turn = described.orientation
    resolution = resolution or described.resolution

    def frames(file: ImageFile) -> Iterator[ImageFrame]:
        yield upright_frame(*decode(file), turn)

    return ImageFile(
        kind=kind,
        data=data,
        size=upright_size(size, turn),
        color=ColorDescription(icc.rgb_profile(profile), upright_resolution(resolution, turn)),
        decode=frames,
        damage=[damage] if damage else [],
    )


def decode_still(file: ImageFile, data: bytes, *, alpha: bool = False, bits: int = 8) -> Stored:
    """Decode with OpenCV; ``alpha`` says whether the file has it, ``bits`` how many a channel has."""
    pixels, lines = decode(data, UNCHANGED if alpha and bits <= 8 else COLOR)
    if pixels is None:
        reason = f"the image is damaged ({lines[0]})" if lines else "the image is damaged, or of an unusual kind"
        fields = ["damaged"] if file.kind == "png" else []
        raise ImageError(f"{reason}: copy or download it again", fields=fields)
    file.lose(data_loss(lines))
    file.add_note(SIXTEEN if bits > 8 else "")
    if not alpha:
        return to_bgr(pixels)[0], None  # OpenCV reads grey PFM files with one channel
    if bits <= 8:
        return to_bgr(np.asarray(pixels, np.uint8))
    full, _ = decode(data, UNCHANGED)
    return pixels, None if full is None else to_bgr(to_eight_bits(full)[0])[1]


def cut_off(data: bytes, size: int) -> str:
    """Return how a file of this size is cut off; empty if it is complete."""
    return f"cut off after {len(data):,} of {size:,} bytes" if len(data) < size else ""


QUALITY_FLAGS = {
    ".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY,
    ".avif": getattr(cv2, "IMWRITE_AVIF_QUALITY", None),
}  # fmt: skip


def opencv_writes(suffix: str) -> bool:
    """Return whether this OpenCV writes images with a suffix."""
    # OpenCV crashes for a suffix with bytes that are not UTF-8.
    return suffix != "" and suffix.isascii() and bool(cv2.haveImageWriter(f"image{suffix}"))


def encode_with_opencv(frame: ImageFrame, suffix: str, quality: int) -> bytes:
    """Return the content of an image file; raise OutputError if OpenCV cannot write this format or size."""
    image = frame.pixels if frame.alpha is None else np.dstack([frame.pixels, frame.alpha])
    if not opencv_writes(suffix):
        raise OutputError(f"OpenCV does not write {suffix or 'files without a suffix'}; use .png or .jpg")
    flag = QUALITY_FLAGS.get(suffix)

    def encode() -> bytes | None:
        done, data = cv2.imencode(suffix, image, [] if flag is None else [flag, quality])
        return data.tobytes() if done else None

    try:
        content, lines = watched(encode)
    except cv2.error as error:
        raise OutputError(one_line(error)) from error
    if content is None:
        reason = lines[0] if lines else f"{image.shape[1]}×{image.shape[0]} pixels do not fit"
        raise OutputError(f"as {suffix}: {reason}")
    return content
