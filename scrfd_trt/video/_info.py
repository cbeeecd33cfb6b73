"""What is known of a video before it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from scrfd_trt.video._colors import NO_LIGHT, Light


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video.

    Attributes
    ----------
    name
        Path or address.
    size
        Width and height in pixels, upright.
    rate
        Average frames a second.
    time_base
        Seconds a tick of the timestamps.
    frames
        How many the file claims, or what rate and duration make; None where neither is known.
    duration
        In seconds; None where unknown.
    pixel_format, depth
        FFmpeg's name, and bits a component.
    colours
        Matrix, range, transfer and primaries: numbers of ITU-T H.273, and 1 for the limited range, 2 for the full one.
    aspect
        Width to height of a pixel, upright; None where unknown.
    codec
        FFmpeg's name of it.
    live
        Whether it is a camera or a stream without an end.
    interlaced
        Whether its frames are of two fields.
    light
        What HDR10 says of it.
    """

    name: str
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    frames: int | None
    duration: float | None
    pixel_format: str
    depth: int
    colours: tuple[int, int, int, int]
    aspect: Fraction | None
    codec: str
    live: bool = False
    interlaced: bool = False
    light: Light = NO_LIGHT


def public_name(source: str) -> str:
    """Return a path or address as messages may show it: without the password before the host."""
    return re.sub(r"^([a-z][\w+.-]*://[^/@:]*):[^/]*@", r"\1:***@", source, flags=re.IGNORECASE)


def clock(seconds: float) -> str:
    """Write a time as ``1:02:03.45``, or ``2:03.45``."""
    hundredths = round(abs(seconds) * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes}:{rest / 100:05.2f}" if not hours else f"{hours}:{minutes:02}:{rest / 100:05.2f}"
    return f"-{text}" if seconds < 0 and hundredths else text
