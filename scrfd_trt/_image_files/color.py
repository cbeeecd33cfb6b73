"""Bring pixels of other colour spaces and depths to 8-bit BGR, upright."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._image_files.frames import ImageFrame

Array = NDArray[np.uint8]

SIXTEEN = "16 bits per channel are reduced to 8"
TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
FLIPS = {2: 1, 4: 0}


def upright(pixels: Array, orientation: int) -> Array:
    """Return an image as it is to be seen, by its EXIF orientation 1 to 8."""
    if orientation in TURNS:
        pixels = np.asarray(cv2.rotate(pixels, TURNS[orientation]), np.uint8)
    elif orientation in FLIPS:
        pixels = np.asarray(cv2.flip(pixels, FLIPS[orientation]), np.uint8)
    elif orientation in {5, 7}:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
        pixels = np.asarray(cv2.flip(pixels, -1), np.uint8) if orientation == 7 else pixels
    return np.ascontiguousarray(pixels)


def upright_frame(pixels: Array, alpha: Array | None, orientation: int) -> ImageFrame:
    """Return a frame of pixels and alpha as stored; what is erased has no colour any more."""
    if alpha is not None:
        pixels = np.asarray(cv2.bitwise_and(pixels, pixels, mask=alpha), np.uint8)
    return ImageFrame(upright(pixels, orientation), None if alpha is None else upright(alpha, orientation))


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return width and height after turning."""
    return size[::-1] if orientation >= 5 else size


def upright_resolution(resolution: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    """Return dots per inch along x and y after turning."""
    return resolution[::-1] if resolution and orientation >= 5 else resolution


def without_alpha(pixels: Array, alpha: Array) -> Array:
    """Return the colours of premultiplied pixels."""
    colors = pixels * np.float32(255.0) / np.maximum(alpha, 1)[..., None]
    return np.minimum(np.rint(colors), 255).astype(np.uint8)


def profile_space(profile: bytes | None) -> str:
    """Return the colour space of an ICC profile, such as ``RGB``, ``GRAY`` or ``CMYK``; empty if there is none."""
    return profile[16:20].decode("latin-1").strip() if profile and profile[36:40] == b"acsp" else ""


def profile_of_bgr(profile: bytes | None) -> bytes | None:
    """Return an ICC profile if it describes RGB pixels."""
    return profile if profile_space(profile) == "RGB" else None


def display_p3_profile() -> bytes:
    """Return an ICC profile of Display P3, for files that name these colours by a number (CICP)."""

    def numbers(kind: bytes, *values: float) -> bytes:
        return kind + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def text(words: str) -> bytes:
        content = words.encode("utf-16-be")
        return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(content), 28) + content

    curve = (
        b"para"
        + bytes(4)
        + struct.pack(">HH", 3, 0)
        + numbers(b"", 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)[4:]
    )
    tags = {
        b"desc": text("Display P3"),
        b"cprt": text("No copyright, use freely"),
        b"wtpt": numbers(b"XYZ ", 0.9642, 1.0, 0.8249),
        b"rXYZ": numbers(b"XYZ ", 0.51512, 0.24120, -0.00105),
        b"gXYZ": numbers(b"XYZ ", 0.29198, 0.69225, 0.04189),
        b"bXYZ": numbers(b"XYZ ", 0.15710, 0.06657, 0.78407),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, content, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        if value not in places:
            places[value] = start + len(content)
            content += value + bytes(-len(value) % 4)
        table += name + struct.pack(">II", places[value], len(value))
    head = struct.pack(">I4sI4s4s4s", start + len(content), bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + numbers(b"", 0.9642, 1.0, 0.8249)[4:]
    return head.ljust(128, b"\0") + table + content


def to_srgb(image: Any, profile: bytes) -> Any:
    """Convert a Pillow image (L, CMYK) by its profile to RGB; None if the profile is damaged or does not fit."""
    from PIL import ImageCms  # noqa: PLC0415 - slow to import

    try:
        return ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def to_profile(pixels: NDArray[np.uint8], own: bytes | None, other: bytes | None) -> NDArray[np.uint8] | None:
    """Convert BGR pixels from one profile to another, None for sRGB; return None if one is damaged."""
    from PIL import Image, ImageCms  # noqa: PLC0415

    try:
        before, after = (
            ImageCms.createProfile("sRGB") if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile))
            for profile in (own, other)
        )
        rgb = ImageCms.profileToProfile(Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])), before, after)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return np.ascontiguousarray(np.asarray(rgb)[..., ::-1])


def lab_to_srgb(image: Any) -> Any:
    """Convert a Pillow image (LAB) to RGB."""
    from PIL import ImageCms  # noqa: PLC0415

    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return ImageCms.applyTransform(image, transform)


def to_eight_bits(values: NDArray[Any]) -> tuple[Array, str]:
    """Scale pixels of any type to 8 bits; return them with a note that says how.

    Unsigned 16 bits lose their low byte. Other numbers are taken as 0 to 1, 0 to 255 or 0 to 65535 if their largest
    value suggests it; else their range is stretched.
    """
    if values.dtype == np.uint8:
        return values, ""
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8), SIXTEEN
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    white = next((white for darkest, white in WHITES if darkest <= high <= white * 1.1), None)
    if values.dtype.kind == "f" and 0.0 <= high <= 1.1:
        white = 1.0
    low, high = (low, high) if white is None or low < -0.1 * white else (0.0, white)
    scale = 255.0 / (high - low) if high > low else 0.0
    wide = np.float64 if max(-low, high) > 1e30 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (np.nan_to_num(values.astype(wide), nan=low, posinf=high, neginf=low) - wide(low)) * wide(scale)
    kind = "floating-point values" if values.dtype.kind == "f" else "integers"
    return np.clip(np.nan_to_num(np.rint(scaled)), 0, 255).astype(
        np.uint8
    ), f"{kind} from {low:g} to {high:g} are reduced to 8 bits"


WHITES = ((64.0, 255.0), (16384.0, 65535.0))
"""The value of white, and how bright the brightest pixel must be at least."""


def to_bgr(values: Array) -> tuple[Array, Array | None]:
    """Split 8-bit pixels as OpenCV decodes them into BGR and alpha."""
    if values.ndim == 2:
        return np.asarray(cv2.cvtColor(values, cv2.COLOR_GRAY2BGR), np.uint8), None
    if values.shape[2] == 1:
        return to_bgr(values[..., 0])
    if values.shape[2] == 2:
        return to_bgr(np.ascontiguousarray(values[..., 0]))[0], np.ascontiguousarray(values[..., 1])
    pixels = np.ascontiguousarray(values[..., :3])
    return pixels, np.ascontiguousarray(values[..., 3]) if values.shape[2] == 4 else None
