"""Limits for files from outside, checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from scrfd_trt.errors import ImageError

MILLION = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits for one image file."""

    pixels: int = 300 * MILLION
    """Of one frame."""
    total_pixels: int = 10_000 * MILLION
    """Over all frames, or all scans of a JPEG: bounds the time."""
    option: str = "max_pixels"
    """The option that sets ``pixels``; empty if there is none."""


DEFAULT = Limits()


def check_header(size: tuple[int, int], limits: Limits, damage: str = "") -> None:
    """Raise ImageError if an image has too many pixels, or none; ``damage`` completes "the file is …"."""
    width, height = size
    if width <= 0 or height <= 0:
        reason = f"the file is {damage}" if damage else f"the image is damaged (its size is {width}×{height})"
        raise ImageError(f"{reason}: copy or download it again")
    if width * height > limits.pixels:
        hint = f", or raise {limits.option}" if limits.option else ""
        raise ImageError(
            f"the image has {width}×{height} pixels, more than {limits.pixels / MILLION:g} million: "
            f"make it smaller{hint}",
            fields=[limits.option] if limits.option else [],
        )


def check_total(pixels: int, limits: Limits, what: str = "all frames together have") -> None:
    """Raise ImageError if the frames, or the scans of a JPEG, have too many pixels together."""
    if pixels > limits.total_pixels:
        raise ImageError(
            f"{what} {pixels / MILLION:,.0f} million pixels, and more than {limits.total_pixels / MILLION:,.0f} "
            "million take too long: split it, or convert it to another format"
        )
