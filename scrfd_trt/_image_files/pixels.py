"""Bring pixels of other colour spaces and depths to 8-bit BGR, upright."""

from __future__ import annotations

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


def to_eight_bits(values: NDArray[Any]) -> tuple[Array, str]:
    """Scale pixels to 8 bits, by their type or the range that their largest value suggests; return how, too."""
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


WHITES = ((64.0, 255.0), (16384.0, 65535.0))  # the value of white, and how bright the brightest pixel must be at least


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
