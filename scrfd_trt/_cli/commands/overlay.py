"""``scrfd-trt overlay``: draw overlays on faces in images and videos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

import overlays
from scrfd_trt._cli import console, options
from scrfd_trt._cli.commands import overlays as overlays_command
from scrfd_trt._cli.detector import detector_opener
from scrfd_trt._cli.help_panels import HelpCommand
from scrfd_trt._cli.option_table import option
from scrfd_trt._cli.overlay_files import write_copies
from scrfd_trt.errors import ScrfdError

_NAMES = "scrfd_trt.overlays"

SPEC_HELP = "Overlay to draw ('scrfd-trt overlays' lists them). Repeat to combine several."
OUTPUT_HELP = "Output file for a single input; otherwise a folder."
Specs = Annotated[list[str], option("NAME:OPTION=VALUE,...", SPEC_HELP, "--overlay")]
OUTPUT_DEFAULT = "NAME_overlay beside each file"
Output = Annotated[Path | None, option("FILE|DIR", OUTPUT_HELP, "--output", "-o", show_default=OUTPUT_DEFAULT)]


class OverlayCommand(HelpCommand):
    """A command whose help shows the options of the overlays in ``--overlay``; without any, ``overlay`` lists all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Record the names of the overlays, because the help is printed before the options are parsed."""
        specs = [word for before, word in zip(["", *args], args, strict=False) if before == "--overlay"]
        specs += [word.partition("=")[2] for word in args if word.startswith("--overlay=")]
        ctx.meta[_NAMES] = [spec.partition(":")[0] for spec in specs]
        return super().parse_args(ctx, args)

    def more_help(self, ctx: Any) -> list[RenderableType]:
        """Return tables of the overlays."""
        return [_overlay_help(name) for name in ctx.meta.get(_NAMES) or ([None] if ctx.info_name == "overlay" else [])]


COMMAND_CLASS = OverlayCommand


def _overlay_help(name: str | None) -> RenderableType:
    try:
        if name is not None:
            return overlays_command.details(name)
        return Group(
            overlays_command.overlays_table(overlays.names()), "Run 'scrfd-trt overlays NAME' for its options."
        )
    except ScrfdError as error:
        return console.printable(error)


def overlay(
    context: typer.Context,
    inputs: options.LiveInputs = None,
    *,
    specs: Specs,
    output: Output = None,
    model: options.ModelArgs,
    detection: options.LimitedDetectArgs,
    copy: options.CopyArgs,
) -> None:
    """Draw overlays on faces in images and videos: a skull, a blur or others.

    To hide identities, use 'scrfd-trt anonymize'.

    In a folder, outputs keep the input's name and format. Images are
    rotated upright. Images without faces are also written. In videos, faces
    are tracked, and gaps of up to --bridge seconds between detections are
    covered.

    Exit codes: 0, success; 1, an input failed and the others were
    processed; 2, usage error; 130, stopped by Ctrl-C.

    For example:
      scrfd-trt overlay me.jpg --overlay skull -o skull.jpg
      scrfd-trt overlay me.jpg --overlay skull:opacity=0.7 -o skull.jpg
      scrfd-trt overlay photos/ --overlay blur --overlay landmarks -o out/
      scrfd-trt overlay clip.mp4 --overlay skull -o skulls.mp4
      scrfd-trt overlay camera:0 --overlay skull -o me.mp4 --duration 60
    """
    with console.logged(**vars(copy.messages)):
        create = partial(_composed, specs)
        opener = detector_opener(model, detection)
        write_copies(context, inputs, output, create, copy, threshold=detection.threshold, opener=opener)


def _composed(specs: list[str]) -> overlays.Overlay:
    return overlays.Compose(*(overlays.parse(spec) for spec in specs))
