"""``scrfd-trt overlays``: list the overlays, show the options of one, or make one."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

import overlays as registry
from overlays._registry import why_broken
from scrfd_trt._cli import console
from scrfd_trt._cli.console import printable
from scrfd_trt._cli.option_table import COMPLETIONS
from scrfd_trt.errors import OptionError, OutputError, ScrfdError

REQUIRES_LANDMARKS = "Requires landmarks."
NEW_NAME = re.compile(r"(?=.{1,50}$)[a-z][a-z0-9]*([-_][a-z0-9]+)*", re.ASCII)
TEMPLATE_FILES = ("*.md", "*.toml", "src/*/*.py", "tests/*.py")  # a checkout may have others, such as caches
TEMPLATE_NAMES = re.compile(r"pixel-sunglasses|pixel_sunglasses|test_sunglasses|Sunglasses|(?<!ixel )sunglasses")
"""What stands for the package, its module, the class and the overlay in the example plugin; its prose stays."""

NAME_HELP = "Show the options of this overlay."
Name = Annotated[str | None, typer.Argument(metavar="NAME|new", help=NAME_HELP, autocompletion=COMPLETIONS["NAME|new"])]


def overlays(
    name: Name = None,
    new_name: Annotated[str | None, typer.Argument(metavar="NAME", help="After 'new': make this overlay.")] = None,
    *,
    as_json: bool = False,
) -> None:
    """List the overlays, show the options of one, or make one.

    'scrfd-trt overlay' draws them on the faces of images and videos.
    'scrfd-trt overlays new NAME' writes a package for pip with an overlay to
    change and its tests, in a folder NAME.

    For example:
      scrfd-trt overlays
      scrfd-trt overlays skull
      scrfd-trt overlays new party-hat
    """
    if name == "new" or new_name is not None:
        if name != "new" or new_name is None or as_json:
            raise OptionError("name one overlay, or make one with 'scrfd-trt overlays new NAME'")
        _make_package(new_name)
        return
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


def _make_package(name: str) -> None:
    """Write the example plugin under other names to a new folder."""
    module = name.replace("-", "_")
    if not NEW_NAME.fullmatch(name) or name == "new" or keyword.iskeyword(module):
        raise OptionError(f"{name!r} cannot be the name of an overlay; use lower-case letters, such as party-hat")
    folder = Path(name)
    if folder.exists() or folder.is_symlink():
        raise OptionError(f"{name} already exists; name another overlay, or remove it")
    if name in registry.names() or find_spec(module) is not None:
        what = "an overlay" if name in registry.names() else "a Python module"
        raise OptionError(f"there is already {what} named {module}; name another one")
    class_name = "".join(part.capitalize() for part in module.split("_"))
    words = {"pixel-sunglasses": name, "pixel_sunglasses": module, "sunglasses": name, "Sunglasses": class_name}
    words["test_sunglasses"] = f"test_{module}"
    checkout = Path(registry.__file__).parents[1] / "examples" / "overlay_plugin"
    template = checkout if checkout.is_dir() else Path(registry.__file__).with_name("plugin_template")
    try:
        for path in (path for pattern in TEMPLATE_FILES for path in template.glob(pattern)):
            where, text = (
                TEMPLATE_NAMES.sub(lambda match: words[match[0]], each)
                for each in (path.relative_to(template).as_posix(), path.read_text(encoding="utf-8"))
            )
            (folder / where).parent.mkdir(parents=True, exist_ok=True)
            (folder / where).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror or error}") from error
    console.plain(f"wrote {name}: it draws pixel sunglasses until you change src/{module}/__init__.py")
    console.plain(f"install and test it: pip install -e ./{name} pytest && python -m pytest {name}")


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
