"""``scrfd-trt overlay``: draw over the faces of images and videos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import overlays
import overlays as drawing
from scrfd_trt._cli import console, options, videos
from scrfd_trt._cli.commands import overlays as overlays_command
from scrfd_trt._cli.console import printable
from scrfd_trt._cli.detector import open_detector
from scrfd_trt._cli.overlay_inputs import write_copies
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
            console.show(overlays_command.details(name))
        else:
            console.show(overlays_command.listed(drawing.names()))
            console.write("'scrfd-trt overlay --overlay NAME --help' tells the options of one.\n")
    except ScrfdError as error:
        console.write(f"{printable(error)}\n")


Specs = Annotated[
    list[str],
    typer.Option(
        "--overlay",
        metavar="NAME:OPTION=VALUE,...",
        help="What to draw; 'scrfd-trt overlays' lists what there is. Given again, the next one is drawn over it.",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="Where to write: for one input a file, known by its suffix, and otherwise a folder, which is made "
        "where it is missing.",
        show_default=False,
    ),
]


def overlay(
    context: typer.Context,
    inputs: options.Inputs,
    *,
    specs: Specs,
    output: Output,
    recursive: options.Recursive = False,
    network: options.ModelArgs,
    detection: options.LimitedDetectArgs,
    quality: options.Quality = 95,
    keep_metadata: options.KeepMetadata = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    video: options.CopyArgs,
) -> None:
    """Draw over the faces of images and videos: a skull, a blur, or both.

    Copies of images keep their names and kind of file; they are upright and
    have no alpha. An image without faces is copied, too. In videos, faces
    are followed, and covered where the detector misses them for a moment.
    To hide people, 'scrfd-trt anonymize' is made. The exit code is 0, or 1
    if some inputs failed, or 2 for wrong use.

    For example:
      scrfd-trt overlay me.jpg --overlay skull -o skull.jpg
      scrfd-trt overlay me.jpg --overlay skull:opacity=0.7 -o skull.jpg
      scrfd-trt overlay photos/ --overlay blur --overlay landmarks -o out/
      scrfd-trt overlay clip.mp4 --overlay skull -o skulls.mp4
      scrfd-trt overlay camera:0 --overlay skull -o me.mp4 --duration 60
    """
    with console.logged(quiet=quiet, verbose=verbose):
        if video.faces.faces_in is not None:
            options.refuse_looking(context)
        if not any(videos.is_address(text) for text in inputs):
            options.refuse(context, options.LIVE, "is for cameras and streams; leave it out")
        draw = overlays.Compose(*(overlays.parse(spec) for spec in specs))
        write_copies(
            inputs,
            output,
            draw,
            video.settings(detection.threshold, keep_metadata=keep_metadata, overwrite=overwrite),
            partial(open_detector, **vars(network), **vars(detection)),
            recursive=recursive,
            quality=quality,
            progress=video.read.progress_kind(),
            quiet=quiet,
            verbose=verbose,
        )
