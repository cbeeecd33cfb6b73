"""The help of ``scrfd-trt overlay``: what can be drawn stands in it, other people's overlays too."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

import overlays as drawing
from scrfd_trt.cli import overlays, stdout
from scrfd_trt.cli.messages import printable
from scrfd_trt.errors import ScrfdError

_NAMED = "scrfd_trt.overlays"


class OverlayCommand(TyperCommand):
    """A command that takes ``--overlay``; its help lists all overlays, or tells the options of those that are named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        named = [word for before, word in zip(["", *args], args, strict=False) if before == "--overlay"]
        named += [word.partition("=")[2] for word in args if word.startswith("--overlay=")]
        ctx.meta[_NAMED] = [word.partition(":")[0] for word in named]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        super().format_help(ctx, formatter)
        for name in ctx.meta.get(_NAMED) or [None]:
            _tell(name)


def _tell(name: str | None) -> None:
    """Write what one overlay, or each, can be told."""
    try:
        if name is not None:
            stdout.show(overlays.details(name))
        else:
            stdout.show(overlays.listed(drawing.names()))
            stdout.write("'scrfd-trt overlay --overlay NAME --help' tells the options of one.\n")
    except ScrfdError as error:
        stdout.write(f"{printable(error)}\n")
