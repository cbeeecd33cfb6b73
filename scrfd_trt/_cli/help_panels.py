"""The help of commands: basic options with ``--help``, all with ``--help-all``, in panels."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from scrfd_trt._cli import console, settings
from scrfd_trt._cli.option_table import OPTIONS, PANELS

BASIC = {
    "detect": "output format_name recursive overwrite annotate save_crops show model device threshold min_face quiet",
    "anonymize": "output recursive overwrite replace_with overlay verify model device threshold min_face preview quiet",
    "tracks": "output as_json overwrite model device threshold detections save_detections every quiet",
    "overlay": "specs output recursive overwrite model device threshold quiet",
    "build": "output overwrite as_json precision size batch device version_compatible hardware_compatible quiet",
    "bench": "video runs plot compare as_json model device scale threshold",
}
"""Parameters in the basic help, by command; without an entry all are, except for the general ones."""
GENERAL = ("log_format", "settings")

MAX_BASIC, EXAMPLES = 15, 2  # options and examples in the basic help, at most
NAMES_WIDTH = 31
ORDER = {name: number for number, name in enumerate(OPTIONS, 1)}
_ALL = "scrfd_trt.help_all"


class HelpCommand(TyperCommand):
    """A command whose help has its options in panels, and ends with examples."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Record whether all options are wanted, because the help is printed before the options are parsed."""
        ctx.meta[_ALL] = "--help-all" in args
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - part of the protocol
        """Print the help."""
        complete = bool(ctx.meta.get(_ALL))
        text, examples = _split(inspect.cleandoc(self.help or ""), complete=complete)
        usage = Text(f"Usage: {' '.join([ctx.command_path, *self.collect_usage_pieces(ctx)])}", style="bold")
        console.show(Group(usage, "", Text(text), "", *self._panels(ctx, complete=complete)))
        for table in self.more_help(ctx):
            console.show(Group("", table))
        console.show(Group("", Text("Examples", style="bold"), *map(Text, examples)))
        if not complete:
            console.show(Group("", _hidden(self, ctx)))

    def invoke(self, ctx: Any) -> Any:
        """Print which options come from a settings file or from variables, and run the command."""
        settings.report(ctx)
        return super().invoke(ctx)

    def more_help(self, ctx: Any) -> list[RenderableType]:  # noqa: ARG002 - for subclasses
        """Return what follows the panels."""
        return []

    def _panels(self, ctx: Any, *, complete: bool) -> Iterator[Panel]:
        rows: dict[str, list[Any]] = {title: [] for title in ("Arguments", *PANELS)}
        for one in sorted(self.get_params(ctx), key=_position):
            if complete or is_basic(self, one):
                rows[_panel(one)].append(_row(one, complete=complete))
        for title, found in rows.items():
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(width=NAMES_WIDTH)
            table.add_column()
            for row in found:
                table.add_row(*row)
            if found:
                yield Panel(table, title=title, title_align="left", border_style="dim")


def _position(parameter: Any) -> int:
    """Return the place of a parameter in the help: a command's own, the shared ones, and those of all commands."""
    return ORDER.get(parameter.name, 0 if parameter.expose_value else len(ORDER) + 1)


def _panel(parameter: Any) -> str:
    """Return the title of a parameter's panel."""
    default = "Arguments" if parameter.param_type_name == "argument" else "Options"
    return "Messages" if "--help" in parameter.opts else parameter.rich_help_panel or default


def is_basic(command: Any, parameter: Any) -> bool:
    """Return whether a parameter is in the basic help of a command; the help itself is."""
    if command.name not in BASIC or parameter.param_type_name == "argument" or "--help" in parameter.opts:
        return parameter.name not in GENERAL
    return parameter.name in BASIC[command.name].split()


def _split(text: str, *, complete: bool) -> tuple[str, list[str]]:
    """Return the description and the examples, which are indented lines; what follows the first is for experts."""
    if not complete:
        text = "\n\n".join(part for part in text.split("\n\n") if not part.startswith("Exit code"))
    before, heading, after = text.partition("For example:\n")
    if not heading:
        return text, []
    return before.rstrip(), after.split("\n") if complete else after.split("\n")[:EXAMPLES]


def _hidden(command: HelpCommand, ctx: Any) -> Text:
    """Return the line on the options that the basic help leaves out."""
    titles = [_panel(one) for one in command.get_params(ctx) if not is_basic(command, one)]
    panels = ", ".join(title.lower() for title in PANELS if title in titles and title != "Options")
    more = f"lists {console.count(len(titles), 'more option')}: {panels}"
    return Text(f"'{ctx.command_path} --help-all' {more}.")


def _row(one: Any, *, complete: bool) -> tuple[Text, Text]:
    """Return the names of a parameter with its metavar, and its help with its range and default."""
    if "--help" in one.opts:
        return Text("-h, --help, --help-all", style="bold cyan"), Text("Show the basic options, or all.")
    notes = []
    if one.param_type_name == "argument":
        names = Text(f"{one.metavar}{'...' if one.nargs != 1 else ''}", style="bold cyan")
    else:
        short = [name for name in one.opts if not name.startswith("--")]
        name, *aliases = [name for name in one.opts if name.startswith("--")]
        names = Text(", ".join([*short, name, *one.secondary_opts]), style="bold cyan")
        names.append(f" {one.metavar}" if one.metavar else "", style="yellow")
        notes += [f"also {', '.join(aliases)}"] if complete and aliases else []
        notes += [limits] if complete and (limits := _limits(one)) and limits not in one.help else []
    if one.required:
        notes.append("required")
    if default := _default(one):
        notes.append(f"default: {default}")
    return names, Text(one.help or "").append(f" [{'; '.join(notes)}]" if notes else "", style="dim")


def _limits(one: Any) -> str:
    """Return the range of a number."""
    kind = getattr(one, "type", one)  # where typer up to 0.28 has the limits
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if high is None:
        return "" if low is None else f"at least {low:g}"
    return f"{low:,.9g} to {high:,.9g}"


def _default(one: Any) -> str:
    value = one.show_default if isinstance(one.show_default, str) else one.default
    if isinstance(value, bool):
        return re.sub("^-+", "", (one.opts if value else one.secondary_opts)[0]) if one.secondary_opts else ""
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str("" if value is None else value)
