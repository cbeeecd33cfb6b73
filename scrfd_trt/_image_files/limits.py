"""Limits for files from outside, checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from scrfd_trt.errors import ImageError

MILLION = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits for one image file."""

    pixels: int = 300 * MILLION
    """Of one frame; the option ``max_pixels``."""
    total_pixels: int = 30_000 * MILLION
    """Over all frames, or all scans of a JPEG: bounds the time."""


DEFAULT = Limits()


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise ImageError if an image is empty or has too many pixels."""
    if width <= 0 or height <= 0:
        raise ImageError(f"the image has no pixels ({width}×{height}): copy or download it again")
    if width * height > limits.pixels:
        raise ImageError(
            f"the image has {width}×{height} pixels, more than {limits.pixels / MILLION:g} million: "
            "make it smaller, or raise the limit",
            fields=["max_pixels"],
        )
