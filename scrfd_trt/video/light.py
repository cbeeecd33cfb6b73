"""What HDR10 says of the display that a video was mastered on, and of its brightest pixels."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

CHROMATICITY, LUMINANCE = 50_000, 10_000
"""Steps to 1, and to a candela per square metre, as the bitstreams count (ITU-T H.265, D.3.28)."""


class Light(NamedTuple):
    """As encoders take it.

    Attributes
    ----------
    mastering
        Primaries, white point and luminance, ``G(…)B(…)R(…)WP(…)L(…)``; empty where they are not told.
    content
        Greatest light level and greatest average of a frame, ``1000,400``; empty likewise.
    """

    mastering: str = ""
    content: str = ""

    @classmethod
    def of(cls, picture: Any) -> Light:
        """Read the side data of a decoded frame."""
        try:
            mastering = picture.side_data.get("MASTERING_DISPLAY_METADATA")
            content = picture.side_data.get("CONTENT_LIGHT_LEVEL")
        except ValueError:  # PyAV up to 18 stumbles over kinds that it does not know
            return cls()
        return cls(_mastering(mastering), _content(content))


NO_LIGHT = Light()


def _mastering(data: Any) -> str:
    """Write ``AVMasteringDisplayMetadata`` out: ten fractions, and whether they are set."""
    if data is None:
        return ""
    *numbers, has_colours, has_luminance = struct.unpack_from("=20i2i", bytes(data))
    if not has_colours or not has_luminance or not all(numbers[1::2]):
        return ""
    values = [top / below for top, below in zip(numbers[::2], numbers[1::2], strict=True)]
    red, green, blue, white = (
        f"({values[at] * CHROMATICITY:.0f},{values[at + 1] * CHROMATICITY:.0f})" for at in (0, 2, 4, 6)
    )
    least, most = (round(value * LUMINANCE) for value in values[8:])
    return f"G{green}B{blue}R{red}WP{white}L({most},{least})"


def _content(data: Any) -> str:
    return "" if data is None else "{},{}".format(*struct.unpack_from("=2I", bytes(data)))
