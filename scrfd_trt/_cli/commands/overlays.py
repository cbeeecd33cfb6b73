"""``scrfd-trt overlays``: list the overlays, or the options of one."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

import overlays as registry
from overlays._registry import why_broken
from scrfd_trt._cli import console, options
from scrfd_trt._cli.console import printable
from scrfd_trt.errors import OptionError, ScrfdError

REQUIRES_LANDMARKS = "Requires landmarks."


def overlays(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show the options of this overlay.")] = None,
    *,
    as_json: options.AsJson = False,
) -> None:
    """List the overlays, or the options of one.

    'scrfd-trt overlay' draws them on the faces of images and videos.

    For example:
      scrfd-trt overlays
      scrfd-trt overlays skull
    """
    if name is not None:
        if as_json:
            console.write_json(_as_dict(name))
        else:
            console.show(details(name))
        return
    names = registry.names()
    if not names:
        raise OptionError("no overlays are installed: run pip install -e . in the checkout of scrfd-trt")
    if as_json:
        console.write_json([_as_dict_or_error(one) for one in names])
    else:
        covering = f"'scrfd-trt anonymize' accepts: {', '.join(covering_overlays())}."
        console.show(Group(overlays_table(names), "", covering, "Run 'scrfd-trt overlays NAME' for its options."))


def _as_dict(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": registry.summary(name),
        "from": registry.distribution(name),
        "covers": _covers(name),
        "without_landmarks": without_landmarks(name),
        "options": [option._asdict() for option in registry.describe(name)],
    }


def _as_dict_or_error(name: str) -> dict[str, Any]:
    try:
        return _as_dict(name)
    except ScrfdError as error:
        return {"name": name, "from": registry.distribution(name), "error": printable(error)}


def covering_overlays() -> tuple[str, ...]:
    """Return the names of the overlays that hide faces."""
    return tuple(name for name in registry.names() if _covers(name))


def _covers(name: str) -> bool:
    try:
        return getattr(registry.load(name), "covers", False) is True
    except ScrfdError:  # a broken overlay is reported where it is used
        return False


def overlays_table(names: tuple[str, ...]) -> RenderableType:
    """Return a table of overlays with the names of their options."""
    table = console.table("overlay")
    table.add_column("effect")
    table.add_column("options")
    for name in names:
        table.add_row(Text(name, style="bold"), *_row(name))
    return table


def _row(name: str) -> tuple[str | Text, str]:
    try:
        return registry.summary(name), ", ".join(option.name for option in registry.describe(name))
    except ScrfdError as error:  # a broken overlay does not prevent the list
        return Text(printable(why_broken(error)), style="red"), ""


def details(name: str) -> RenderableType:
    """Return a table of an overlay's options, with an example."""
    described = registry.describe(name)
    head = Text.assemble((name, "bold"), f": {registry.summary(name)} ({registry.distribution(name)})")
    if not described:
        return Group(head, "", "It has no options.")
    table = console.table("option")
    for column in ("values", "default", "meaning"):
        table.add_column(column)
    for option in described:
        values = option.type + (f", {option.range}" if option.range else "")
        default = "required" if option.required else _text(option.default)
        table.add_row(Text(option.name, style="bold"), values, default, option.description)
    command = Text(f"scrfd-trt overlay me.jpg --overlay {_example_spec(name)} -o out.jpg", overflow="fold")
    landmarks = without_landmarks(name)
    note = landmarks if landmarks == REQUIRES_LANDMARKS else f"Without landmarks: {landmarks}"
    notes = [note, ""] if landmarks else []
    return Group(head, "", table, "", *notes, Text.assemble("Example: ", command))


def without_landmarks(name: str) -> str:
    """Return what an overlay does with faces that have no landmarks; empty if it does not use landmarks."""
    factory = registry.load(name)
    if getattr(factory, "needs_landmarks", False):
        return REQUIRES_LANDMARKS
    return str(getattr(factory, "without_landmarks", ""))


def _example_spec(name: str) -> str:
    """Return a value for ``--overlay`` with the required options, or else with one that differs from its default."""
    options = registry.describe(name)
    if required := [option.example for option in options if option.required]:
        return f"{name}:{','.join(required)}"
    # A shape rather than an opacity, which makes a blur hide less. The command line always draws in BGR.
    optional = sorted(
        (each for each in options if each.choices != ("bgr", "rgb")), key=lambda each: each.name != "shape"
    )
    values = ((option.name, _other_value(option)) for option in optional)
    return next((f"{name}:{option}={_text(value)}" for option, value in values if value is not None), name)


def _other_value(option: registry.OptionHelp) -> bool | float | str | None:
    """Return a valid value other than the default; None if none is known."""
    if isinstance(option.default, bool):
        return not option.default
    if isinstance(option.default, float) and (option.limits.ge, option.limits.le) == (0.0, option.default):
        return 0.7 * option.default
    return next((choice for choice in reversed(option.choices) if choice != option.default), None)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
