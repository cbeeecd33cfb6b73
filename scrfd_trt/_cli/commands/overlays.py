"""``scrfd-trt overlays``: what can be drawn, and with which options."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

import overlays as drawing
from overlays._factories import example
from overlays._registry import why_broken
from scrfd_trt._cli import console, options
from scrfd_trt._cli.console import printable
from scrfd_trt.errors import OptionError, ScrfdError

Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Tell the options of this overlay.", show_default=False)
]


def overlays(name: Name = None, *, as_json: options.AsJson = False) -> None:
    """List what 'scrfd-trt overlay' can draw; with a name, its options.

    For example:
      scrfd-trt overlays
      scrfd-trt overlays skull
    """
    chosen = drawing.names() if name is None else (name,)
    if not chosen:
        raise OptionError("no overlays are installed: run pip install -e . in the checkout of scrfd-trt")
    if as_json:
        found: Any = [_about_or_why(one) for one in chosen] if name is None else about(name)
        console.write(json.dumps(found, indent=2, default=str) + "\n")
    elif name is None:
        console.show(Group(listed(chosen), "", "scrfd-trt overlays NAME tells the options of one."))
    else:
        console.show(details(name))


def about(name: str) -> dict[str, Any]:
    """Return what is known of an overlay, for JSON."""
    return {
        "name": name,
        "description": drawing.summary(name),
        "from": drawing.provider(name),
        "without_landmarks": without_landmarks(name),
        "options": [option._asdict() for option in drawing.describe(name)],
    }


def listed(names: tuple[str, ...]) -> RenderableType:
    """Make a table of overlays, with the names of their options."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column("overlay", no_wrap=True, style="bold")
    table.add_column("what it draws")
    table.add_column("options")
    for name in names:
        table.add_row(name, *_row(name))
    return table


def _row(name: str) -> tuple[str | Text, str]:
    try:
        return drawing.summary(name), ", ".join(option.name for option in drawing.describe(name))
    except ScrfdError as error:  # one that is broken does not keep the others from being listed
        return Text(printable(why_broken(error)), style="red"), ""


def _about_or_why(name: str) -> dict[str, Any]:
    try:
        return about(name)
    except ScrfdError as error:
        return {"name": name, "from": drawing.provider(name), "error": printable(error)}


def details(name: str) -> RenderableType:
    """Make a table of one overlay's options, with an example."""
    described = drawing.describe(name)
    head = Text.assemble((name, "bold"), f": {drawing.summary(name)} ({drawing.provider(name)})")
    if not described:
        return Group(head, "", "It has no options.")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column("option", no_wrap=True, style="bold")
    for column in ("values", "default", "meaning"):
        table.add_column(column)
    for option in described:
        values = option.type + (f", {option.range}" if option.range else "")
        table.add_row(
            option.name, values, "required" if option.required else _shown(option.default), option.description
        )
    example = Text(f"scrfd-trt overlay me.jpg --overlay {example_spec(name)} -o out.jpg", overflow="fold")
    landmarks = without_landmarks(name)
    notes = [f"Without landmarks: {landmarks}", ""] if landmarks else []
    return Group(head, "", table, "", *notes, Text.assemble("For example: ", example))


def without_landmarks(name: str) -> str:
    """Tell what an overlay does where faces have no landmarks; empty where these make no difference."""
    factory = drawing.load(name)
    if getattr(factory, "needs_landmarks", False):
        return "it refuses to draw."
    return str(getattr(factory, "without_landmarks", ""))


def example_spec(name: str) -> str:
    """Write an overlay as ``--overlay`` takes it: with what it needs, or its first option that has a default."""
    options = drawing.describe(name)
    if needed := [example(name, option).removeprefix(f"{name}:") for option in options if option.required]:
        return f"{name}:{','.join(needed)}"
    # What the order of channels is, files know themselves.
    told = (option for option in options if option.default is not None and option.choices != ("bgr", "rgb"))
    return next((f"{name}:{option.name}={_shown(option.default)}" for option in told), name)


def _shown(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)
