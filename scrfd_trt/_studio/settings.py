"""What a person chooses for a file: how faces are searched, and which overlays are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import overlays
from overlays._registry import why_broken
from scrfd_trt._options import DetectorOptions, reason
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt.errors import OptionError, ScrfdError

Mode = Literal["hide", "fun"]
Model = TypeVar("Model", bound=BaseModel)
THRESHOLDS: dict[Mode, float] = {
    "hide": TrackingOptions().threshold,  # as in ``anonymize``
    "fun": float(DetectorOptions.model_fields["threshold"].default),
}
MIN_THRESHOLD = 0.05
MAX_OVERLAYS = 8
CHANNEL_ORDERS = {"bgr", "rgb"}  # choices of the option that the page does not offer: all its pictures are BGR


def validated(model: type[Model], value: Any, what: str) -> Model:
    """Return what the page has sent as a model; raise OptionError, which begins with ``what``, if it is invalid."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OptionError(f"{what}: {'.'.join(map(str, first['loc']))}: {reason(first)}") from error


class Choice(BaseModel):
    """An overlay and its options; the value of one that names a file is the id of a sticker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(max_length=100)
    options: dict[str, bool | float | str | list[Any] | None] = Field(default={}, max_length=50)


ANONYMIZE = Choice(name="blur", options={"scale": 1.6, "margin": 0.0})
"""What ``anonymize`` draws without any option."""


class Settings(BaseModel):
    """The settings of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = "hide"
    overlays: tuple[Choice, ...] = Field((ANONYMIZE,), max_length=MAX_OVERLAYS)
    threshold: Annotated[float, Field(ge=MIN_THRESHOLD, le=1.0)] | None = None
    small_faces: bool = True
    rotations: bool = True

    @classmethod
    def parse(cls, value: Any) -> Settings:
        """Return settings that the page has sent; raise OptionError if they are invalid."""
        return validated(cls, value, "the settings are invalid")

    @property
    def score(self) -> float:
        """Minimum score of a face."""
        return THRESHOLDS[self.mode] if self.threshold is None else self.threshold

    @property
    def search(self) -> tuple[float, bool, bool]:
        """What decides which faces are found."""
        return self.score, self.small_faces, self.rotations


def compose(settings: Settings, sticker: Callable[[str], Path]) -> overlays.Compose:
    """Return the overlays of settings; raise ScrfdError if one refuses its options, or hides no faces but should."""
    made = [create(choice, sticker) for choice in settings.overlays]
    if settings.mode == "hide":
        aside = [choice.name for choice, overlay in zip(settings.overlays, made, strict=True) if not covers(overlay)]
        if aside or not made:
            what = f"{aside[0]} does not hide faces with these options" if aside else "nothing hides the faces"
            raise OptionError(f"{what}: choose an overlay that does")
    return overlays.Compose(*made)


def create(choice: Choice, sticker: Callable[[str], Path]) -> overlays.Overlay:
    """Return an overlay; raise ScrfdError if it refuses its options, or no file has been uploaded for one of them."""
    return overlays.create(choice.name, **options(choice, sticker))


def options(choice: Choice, sticker: Callable[[str], Path]) -> dict[str, Any]:
    """Return the options of an overlay, with paths in place of the ids of stickers; None is the default."""
    files = {option.name for option in overlays.describe(choice.name) if option.type == "path"}
    given = {name: value for name, value in choice.options.items() if value not in (None, "")}
    return {name: sticker(str(value)) if name in files else value for name, value in given.items()}


def covers(overlay: Any) -> bool:
    """Return whether an overlay hides faces."""
    return getattr(overlay, "covers", False) is True


def warnings(overlay: overlays.Compose) -> list[str]:
    """Return why faces may stay recognisable."""
    covering = [each for each in overlay.overlays if isinstance(each, overlays.Covering)]
    return [f"{text[:1].upper()}{text[1:]}." for each in covering for text in each.privacy_warnings()]


@cache
def listed() -> list[dict[str, Any]]:
    """Return all installed overlays with their options, as the page shows them."""
    return [_listed(name) for name in overlays.names()]


def _listed(name: str) -> dict[str, Any]:
    try:
        options = [_option(option) for option in overlays.describe(name) if set(option.choices) != CHANNEL_ORDERS]
        found = {"summary": overlays.summary(name), "covers": covers(overlays.load(name)), "options": options}
    except ScrfdError as error:
        return {"name": name, "summary": "", "covers": False, "options": [], "error": why_broken(error)}
    return {"name": name, "error": None, **found}


def _option(option: overlays.OptionHelp) -> dict[str, Any]:
    ge, gt, le, lt = option.limits
    return {
        "name": option.name,
        "type": option.type,
        "default": _plain(option.default),
        "min": gt if ge is None else ge,
        "max": lt if le is None else le,
        "choices": list(option.choices),
        "required": option.required,
        "help": option.description,
    }


def _plain(value: Any) -> Any:
    """Return a default as JSON can hold it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value
