"""Which control an option gets: read from the JSON schema of the overlay's options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import PydanticUserError

import overlays
from overlays.factories import is_model

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
    factory = overlays.load(name)
    if not is_model(factory):
        return [_by_help(option) for option in overlays.describe(name)]
    try:
        schema = factory.model_json_schema()  # type: ignore[attr-defined]  # a model, as is_model tells
    except PydanticUserError:  # an option of a kind that JSON has no word for
        return [_by_help(option) for option in overlays.describe(name)]
    found = [_by_schema(key, part, schema) for key, part in schema.get("properties", {}).items()]
    return [field for field in found if set(field.choices) != ORDER]


def _by_help(option: overlays.OptionHelp) -> Field:
    kind: Kind = {"true or false": "switch", "path": "file"}.get(option.type, "text")  # type: ignore[assignment]
    return Field(option.name, kind, option.default, option.description)


def _by_schema(name: str, part: dict[str, Any], schema: dict[str, Any]) -> Field:
    kinds = [item for item in _branches(part, schema) if item.get("type") != "null"]
    first, default = (kinds or [{}])[0], part.get("default")
    about = {"name": name, "default": default, "description": part.get("description", "")}
    if "enum" in first:
        return Field(kind="choice", choices=tuple(map(str, first["enum"])), **about)
    if first.get("type") == "boolean":
        return Field(kind="switch", **about)
    if first.get("type") in ("number", "integer"):
        return _numeric(first, about)
    return Field(kind="file" if str(first.get("format", "")).endswith("path") else "text", **about)


def _numeric(part: dict[str, Any], about: dict[str, Any]) -> Field:
    low = part.get("minimum", part.get("exclusiveMinimum"))
    high = part.get("maximum", part.get("exclusiveMaximum"))
    whole = part["type"] == "integer"
    step = 1.0 if whole else 0.01 if high is not None and high <= 2 else 0.05
    if low is not None and "minimum" not in part:
        low += step  # what must lie above it
    bounded = low is not None and high is not None and about["default"] is not None
    return Field(kind="slider" if bounded else "number", low=low, high=high, step=step, **about)


def _branches(part: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in part:
        return _branches(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in part:
            return [item for each in part[key] for item in _branches(each, schema)]
    return [part]
