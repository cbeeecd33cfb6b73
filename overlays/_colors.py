"""Colours as options, and the order of an image's channels."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from scrfd_trt._options import OptionsModel

COLORS = {
    "black": "#000000", "white": "#ffffff", "grey": "#808080", "red": "#ff3b30", "orange": "#ff9500",
    "yellow": "#ffd60a", "green": "#30d158", "cyan": "#40d8e0", "blue": "#0a84ff", "magenta": "#ff2d92",
}  # fmt: skip
"""Names that stand for colours."""

PALETTE = ("#30d158", "#0a84ff", "#ff9500", "#ff2d92", "#40d8e0", "#ffd60a", "#bf5af2", "#ff3b30", "#ac8e68", "#66d4cf")
"""Colours that tell tracks apart, taken in turn."""


def _as_hex(value: str) -> str:
    color = COLORS.get(value.lower(), value.lower())
    if re.fullmatch(r"#[0-9a-f]{3}", color):
        color = "#" + "".join(digit * 2 for digit in color[1:])
    if not re.fullmatch(r"#[0-9a-f]{6}", color):
        raise ValueError(f"a colour is #rrggbb, #rgb or one of {', '.join(COLORS)}")
    return color


Color = Annotated[str, AfterValidator(_as_hex), Field(json_schema_extra={"format": "color"})]
"""A colour as ``#rrggbb``, ``#rgb`` or a name of ``COLORS``; kept as ``#rrggbb``."""

Channels = tuple[int, int, int]


def _is_color(part: dict[str, Any]) -> bool:
    return any(branch.get("format") == "color" for branch in part.get("anyOf", [part]))


class ChannelOptions(OptionsModel):
    """The option of every overlay whose colours are its own."""

    color: Literal["bgr", "rgb"] = Field("bgr", description="Order of the channels of the images drawn on.")

    @field_validator("color", mode="before")
    @classmethod
    def _no_color(cls, value: object) -> object:
        if isinstance(value, str) and (value.lower() in COLORS or value.startswith("#")):
            named = [name for name, part in cls.model_json_schema()["properties"].items() if _is_color(part)]
            hint = f"; the colour is {' or '.join(named)}" if named else ""
            raise ValueError(f"this is the order of the channels, bgr or rgb{hint}")
        return value

    def channels(self, color: str) -> Channels:
        """Return a colour ``#rrggbb`` as the three levels of a pixel."""
        red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
        return (blue, green, red) if self.color == "bgr" else (red, green, blue)
