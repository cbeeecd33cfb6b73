"""The help of commands: basic options with ``--help``, all with ``--help-all``, in panels."""

from __future__ import annotations

import inspect
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
    "anonymize": "output recursive overwrite replace_with mask_scale overlay verify preview report threshold "
    "except_tracks except_region cover keep_doubtful",
    "batch": "part_size anonymize overlay model device threshold min_face quiet",
    "tracks": "output as_json overwrite model device threshold detections save_detections every quiet",
    "overlay": "specs output recursive overwrite model device threshold quiet",
    "build": "output overwrite as_json precision size batch device version_compatible hardware_compatible quiet",
    "serve": "host port max_upload max_queue timeout fetch_from model device threshold quiet",
    "evaluate": "output detections against plot sheet as_json overwrite model device threshold scale min_face resume "
    "quiet",
    "bench": "video runs plot compare as_json model device scale threshold",
}
"""Parameters in the basic help, by command; without an entry all are, except for those of all commands."""
MAX_BASIC, EXAMPLES = 15, 2  # options and examples in the basic help, at most
MORE = {"Options": "", "Selection of faces": "who stays visible", "keep_doubtful": "doubtful faces"}
MORE |= dict.fromkeys(("keep_metadata", "keep_location"), "metadata that is kept")
MORE |= dict.fromkeys(("detections", "save_detections"), "detections files")
"""Of parameters and panels: what the last line of the basic help calls them, if not by the panel's title."""
NAMES_WIDTH = 31
ORDER = {name: number for number, name in enumerate(OPTIONS, 1)}
_ALL = "scrfd_trt.help_all"
TYPED = "scrfd_trt.typed"  # key of the words after a command's name in :attr:`typer.Context.meta`


class HelpCommand(TyperCommand):
    """A command whose help has its options in panels, and ends with examples."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Record the words; the help is printed before options are parsed, and shows all of them with --help-all."""
        ctx.meta[_ALL], ctx.meta[TYPED] = "--help-all" in args, [*args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - part of the protocol
        """Print the help."""
        complete = ctx.meta.get(_ALL, False)
        text, _, examples = inspect.cleandoc(self.help or "").partition("\n\nFor example:\n")
        if not complete:
            text = text.partition("\n\nExit code")[0]
            examples = "\n".join(examples.split("\n")[:EXAMPLES])
        usage = Text(f"Usage: {' '.join([ctx.command_path, *self.collect_usage_pieces(ctx)])}", style="bold")
        console.show(Group(usage, "", Text(text), "", *self._panels(ctx, complete=complete)))
        for more in (*self.more_help(ctx), Group(Text("Examples", style="bold"), Text(examples))):
            console.show(Group("", more))
        if not complete:
            rest = [one for one in self.get_params(ctx) if not is_basic(self, one)]
            rest.sort(key=lambda one: ORDER.get(one.name, 0))
            words = dict.fromkeys(MORE.get(one.name, MORE.get(_panel(one), _panel(one).lower())) for one in rest)
            count = console.count(len(rest), "more option")
            text = f"'{ctx.command_path} --help-all' lists {count}: {', '.join(filter(None, words))}."
            console.show(Group("", Text(text)))

    def invoke(self, ctx: Any) -> Any:
        """Print which options come from a settings file or from variables, and run the command."""
        settings.report(ctx)
        return super().invoke(ctx)

    def more_help(self, ctx: Any) -> list[RenderableType]:  # noqa: ARG002 - for subclasses
        """Return what follows the panels."""
        return []

    def _panels(self, ctx: Any, *, complete: bool) -> Iterator[Panel]:
        shown = [one for one in self.get_params(ctx) if complete or is_basic(self, one)]
        shown.sort(key=lambda one: (_is_help(one), ORDER.get(one.name, 0)))  # a command's own options come first
        for title in ("Arguments", *PANELS):
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(width=NAMES_WIDTH)
            for one in shown:
                if _panel(one) == title:
                    table.add_row(_names(one), _help(one))
            if table.rows:
                yield Panel(table, title=title, title_align="left", border_style="dim")


def _is_help(parameter: Any) -> bool:
    return "--help" in parameter.opts  # its own name differs between releases of typer


def _panel(parameter: Any) -> str:
    """Return the title of a parameter's panel."""
    default = "Arguments" if parameter.param_type_name == "argument" else "Options"
    return "Messages" if _is_help(parameter) else parameter.rich_help_panel or default


def is_basic(command: Any, parameter: Any) -> bool:
    """Return whether a parameter is in the basic help of a command; arguments and the help itself are."""
    if command.name not in BASIC or parameter.param_type_name == "argument" or _is_help(parameter):
        return parameter.name not in ("settings", "log_format")
    return parameter.name in BASIC[command.name].split()


def _names(one: Any) -> Text:
    """Return the names of a parameter with its metavar."""
    if one.param_type_name == "argument":
        return Text(f"{one.metavar}{'...' if one.nargs != 1 else ''}", style="bold cyan")
    names = ", ".join(sorted([*one.opts, *one.secondary_opts], key=len))
    return Text.assemble((names, "bold cyan"), ("" if _is_help(one) else f" {one.metavar or ''}", "yellow"))


def _help(one: Any) -> Text:
    """Return the help of a parameter with its limits and default."""
    if _is_help(one):
        return Text("Show the basic options, or all.")
    default = _default(one)
    notes = (_limits(one), "required" if one.required else "", f"default: {default}" if default else "")
    found = "; ".join(filter(None, notes))
    return Text(one.help).append(f" [{found}]" if found else "", style="dim")


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
        return str(one.opts[0].lstrip("-")) if value else ""
    return f"{value:g}" if isinstance(value, float) else str("" if value is None else value)
