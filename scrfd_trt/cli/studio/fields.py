"""Which control an option gets, from its description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import overlays

Kind = Literal["slider", "number", "switch", "choice", "file", "text"]

ORDER = {"bgr", "rgb"}
"""Choices of the option that tells the order of channels: the page's pictures have but one."""


@dataclass(frozen=True)
class Field:
    """A control of the page.

    Attributes
    ----------
    name
        The option's.
    kind
        What it looks like.
    default
        Where it begins; None where the option has no default.
    low, high, step
        Of sliders and numbers, None where there is no bound.
    choices
        Of choices.
    description
        One sentence.
    """

    name: str
    kind: Kind
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    step: float = 1.0
    choices: tuple[str, ...] = ()


def fields(name: str) -> list[Field]:
    """Return the controls of an overlay, in the order of its options."""
    return [_field(option) for option in overlays.describe(name) if set(option.choices) != ORDER]


def _field(option: overlays.OptionHelp) -> Field:
    if option.choices:
        return Field(option.name, "choice", option.default, option.description, choices=option.choices)
    if option.type in ("number", "integer"):
        return _numeric(option)
    kind: Kind = {"true or false": "switch", "path": "file"}.get(option.type, "text")  # type: ignore[assignment]
    return Field(option.name, kind, option.default, option.description)


def _numeric(option: overlays.OptionHelp) -> Field:
    ge, gt, le, lt = option.limits
    high = lt if le is None else le
    step = 1.0 if option.type == "integer" else 0.01 if high is not None and high <= 2 else 0.05
    low = gt + step if ge is None and gt is not None else ge
    bounded = low is not None and high is not None and option.default is not None
    return Field(option.name, "slider" if bounded else "number", option.default, option.description, low, high, step)
