"""Limits for files from outside, checked before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scrfd_trt.errors import ImageError

MILLION = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits for one image file."""

    pixels: int = 300 * MILLION
    """Of one frame."""
    option: str = "max_pixels"
    """The option that sets ``pixels``; empty if there is none."""

    @property
    def total_pixels(self) -> int:
        """The limit over all frames, or all scans of a JPEG: bounds the time."""
        return 20 * self.pixels


DEFAULT = Limits()
SMALL_FRAME = 10_000  # pixels; decoding a frame or a scan takes at least as long as for so many


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


def check_total(sizes: Iterable[tuple[int, int]], limits: Limits, what: str = "its frames together have") -> None:
    """Raise ImageError if the frames of a file, or the scans of a JPEG, have too many pixels together."""
    total = sum(max(width * height, SMALL_FRAME) for width, height in sizes)
    if total > limits.total_pixels:
        raise ImageError(
            f"the image takes too long to decode: {what} {total / MILLION:,.0f} million pixels, more than "
            f"{limits.total_pixels / MILLION:,.0f} million; split it, or convert it to another format",
            fields=[limits.option] if limits.option else [],
        )
