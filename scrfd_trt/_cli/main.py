"""The command line: all commands under one name."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from scrfd_trt._cli import console, exits, options
from scrfd_trt._cli.commands.anonymize import anonymize
from scrfd_trt._cli.commands.bench import bench
from scrfd_trt._cli.commands.build import build
from scrfd_trt._cli.commands.demo import demo
from scrfd_trt._cli.commands.detect import detect
from scrfd_trt._cli.commands.doctor import doctor
from scrfd_trt._cli.commands.inspect import inspect
from scrfd_trt._cli.commands.models import models
from scrfd_trt._cli.commands.overlay import OverlayCommand, overlay
from scrfd_trt._cli.commands.overlays import overlays
from scrfd_trt._cli.commands.studio import studio
from scrfd_trt._cli.commands.tracks import tracks
from scrfd_trt._cli.exits import Commands
from scrfd_trt._version import __version__

app = typer.Typer(
    name="scrfd-trt",
    cls=Commands,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.write(f"scrfd-trt {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find faces with SCRFD, and draw on, blur or mask them.

    To begin with: 'scrfd-trt demo' tries everything on a drawn picture,
    'scrfd-trt doctor' tells what this machine can do.
    """
    if context.invoked_subcommand is None and not version:
        console.write(context.get_help())


for command in (demo, detect, anonymize, tracks, overlay, overlays, studio, models, build, inspect, doctor, bench):
    app.command(cls=OverlayCommand if command is overlay else None)(options.ungrouped(command))


def main() -> None:
    """Run the command line and exit."""
    console.fill_closed()
    console.survive_any_text()
    exits.heed_signals()
    try:
        app(prog_name="scrfd-trt")
    except SystemExit as end:
        if end.code not in exits.CODES:
            raise
        # Threads of TensorRT may still log what was stopped, and abort the process while Python takes itself apart.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError):  # the terminal may be what has gone
                stream.flush()
        os._exit(end.code)
