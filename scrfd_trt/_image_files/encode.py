"""Encode single pictures: with OpenCV, and AVIF and HEIC with colour profile and metadata."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from scrfd_trt._image_files.embed import Extras
from scrfd_trt._image_files.frames import ImageFrame
from scrfd_trt._image_files.native import captured_stderr
from scrfd_trt.errors import MissingDependencyError, OutputError, one_line

QUALITY_FLAGS = {
    ".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY,
    ".avif": getattr(cv2, "IMWRITE_AVIF_QUALITY", None),
}  # fmt: skip
HEIF_COMMAND = 'pip install "scrfd-trt[heif]"'


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
    try:
        with captured_stderr() as lines:
            done, data = cv2.imencode(suffix, image, [] if flag is None else [flag, quality])
    except cv2.error as error:
        raise OutputError(one_line(error)) from error
    if not done:
        reason = lines[0] if lines else f"{image.shape[1]}×{image.shape[0]} pixels do not fit"
        raise OutputError(f"as {suffix}: {reason}")
    return data.tobytes()


def to_pillow(frame: ImageFrame, mode: str = "") -> Any:
    """Return Pillow's image of a frame: RGB, or RGBA if it has alpha or ``mode`` says so."""
    from PIL import Image  # noqa: PLC0415 - slow to import

    if frame.alpha is None and mode != "RGBA":
        return Image.fromarray(np.ascontiguousarray(frame.pixels[..., ::-1]))
    alpha = frame.alpha if frame.alpha is not None else np.full(frame.pixels.shape[:2], 255, np.uint8)
    return Image.fromarray(np.dstack([frame.pixels[..., ::-1], alpha]))


def pillow_has_avif() -> bool:
    """Return whether this Pillow writes AVIF."""
    from PIL import features  # noqa: PLC0415

    return "avif" in features.modules and bool(features.check("avif"))


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
