"""Colour options and the channel order of images."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from scrfd_trt._options import OptionsModel

COLORS = {
    "black": "#000000", "white": "#ffffff", "grey": "#808080", "gray": "#808080", "red": "#ff3b30", "orange": "#ff9500",
    "yellow": "#ffd60a", "green": "#30d158", "cyan": "#40d8e0", "blue": "#0a84ff", "magenta": "#ff2d92",
}  # fmt: skip
"""Named colours."""

PALETTE = ("#30d158", "#0a84ff", "#ff9500", "#ff2d92", "#40d8e0", "#ffd60a", "#bf5af2", "#ff3b30", "#ac8e68", "#66d4cf")
"""Colours that distinguish tracks: track ``n`` takes ``PALETTE[n % len(PALETTE)]``."""

Pixel = tuple[int, int, int]


def _as_hex(value: object) -> str:
    numbers = value if isinstance(value, (tuple, list)) and len(value) == 3 else ()
    if numbers and all(isinstance(part, (int, np.integer)) and 0 <= part <= 255 for part in numbers):
        as_rgb, as_bgr = ("#{:02x}{:02x}{:02x}".format(*order) for order in (numbers, numbers[::-1]))
        if as_rgb != as_bgr:
            raise ValueError(f"use {as_rgb!r} if these numbers are RGB, {as_bgr!r} if they are BGR")
        value = as_rgb
    color = COLORS.get(str(value).lower(), str(value).lower())
    if re.fullmatch(r"#[0-9a-f]{3}", color):
        color = "#" + "".join(digit * 2 for digit in color[1:])
    if not re.fullmatch(r"#[0-9a-f]{6}", color):
        raise ValueError(f"a colour is #rrggbb, #rgb or one of {', '.join(COLORS)}")
    return color


Color = Annotated[str, BeforeValidator(_as_hex), Field(json_schema_extra={"format": "color"})]
"""Type of colour options: ``#rrggbb``, ``#rgb`` or a name; stored as ``#rrggbb``."""


def _is_color(schema: dict[str, Any]) -> bool:
    return any(branch.get("format") == "color" for branch in schema.get("anyOf", [schema]))


class ChannelOptions(OptionsModel):
    """Channel-order option of overlays that draw in their own colours."""

    color: Literal["bgr", "rgb"] = Field("bgr", description="Channel order of the images.")

    @field_validator("color", mode="before")
    @classmethod
    def _reject_colors(cls, value: object) -> object:
        if isinstance(value, (tuple, list)) or str(value).lower() in COLORS or str(value).startswith("#"):
            named = [name for name, part in cls.model_json_schema()["properties"].items() if _is_color(part)]
            hint = f"; for the colour write {' or '.join(f'{one}={value}' for one in named)}" if named else ""
            raise ValueError(f"this is the channel order, bgr or rgb{hint}")
        return value

    def channels(self, color: str) -> Pixel:
        """Return the pixel value of a colour ``#rrggbb``, in the order that ``color`` selects."""
        red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
        return (blue, green, red) if self.color == "bgr" else (red, green, blue)
