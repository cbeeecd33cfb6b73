"""The command ``scrfd-trt``; each subcommand's module is imported when it is invoked."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from scrfd_trt._cli import console, exits, guesses, signals
from scrfd_trt._version import __version__

COMMANDS = {
    "demo": "Try detection and overlays on a drawn scene.",
    "detect": "Detect faces in images and videos.",
    "anonymize": "Hide faces in images and videos.",
    "tracks": "List the tracks of a video.",
    "batch": "Process a pile of pictures in parts, and go on after a stop.",
    "overlay": "Draw overlays on faces in images and videos.",
    "overlays": "List the overlays, show the options of one, or make one.",
    "studio": "Open a local page to try overlays.",
    "serve": "Run a web service that detects faces.",
    "models": "List the models and their file locations.",
    "build": "Build a TensorRT engine from a model.",
    "inspect": "Describe engines and models, and check whether this machine can use them.",
    "export": "Write a model for a model server (Triton).",
    "doctor": "Check this machine and show how to fix what is missing.",
    "bench": "Measure each stage of a detection.",
    "evaluate": "Measure average precision on labelled images.",
}
"""Short descriptions, so that ``scrfd-trt --help`` imports no command."""


class LazyCommands(exits.Commands):
    """Commands that are placeholders with a one-line help until they are invoked."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({name: TyperCommand(name, help=text) for name, text in COMMANDS.items()})

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, which the help shows without types: they have no values."""
        found: list[Any] = super().get_params(ctx)
        for one in found:
            one.metavar = ""
        return found

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the imported command and its arguments."""
        name, _, rest = super().resolve_command(ctx, args)
        command = load_command(str(name))
        gc.enable()
        signals.raise_from_now_on()
        with exits.answered(typer.Context(command, info_name=name, parent=ctx)):
            return name, command, guesses.translated_options(command, rest)


def load_command(name: str) -> Any:
    """Return the click command of ``commands/NAME.py``."""
    from scrfd_trt._cli import settings  # noqa: PLC0415 - imports all of scrfd_trt
    from scrfd_trt._cli.help_panels import HelpCommand  # noqa: PLC0415
    from scrfd_trt._cli.options import flatten_groups  # noqa: PLC0415
    from scrfd_trt._display import check_overlays  # noqa: PLC0415

    if name not in ("doctor", "build", "inspect", "models"):  # the first explains what is wrong, and others need none
        check_overlays()
    module = import_module(f"scrfd_trt._cli.commands.{name}")
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    help_names = {"help_option_names": ["-h", "--help", "--help-all"]}
    kind = getattr(module, "COMMAND_CLASS", HelpCommand)
    function = flatten_groups(getattr(module, name))
    single.command(name, cls=kind, context_settings=help_names)(function)
    command = typer.main.get_command(single)
    settings.name_variables(command)
    return command


app = typer.Typer(
    name="scrfd-trt",
    cls=LazyCommands,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.write(f"scrfd-trt {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Detect faces with SCRFD, and hide or mark them in images and videos.

    Start with 'scrfd-trt demo' to try everything on a drawn scene, or
    'scrfd-trt doctor' to check this machine.
    """
    if context.invoked_subcommand is None and not version:
        console.write(context.get_help())


def run() -> None:
    """Run the command line and exit."""
    console.open_closed_streams()
    console.escape_unencodable()
    if not sys.warnoptions:  # Pillow warns of what damaged files contain
        warnings.simplefilter("ignore")
    code = _exit_code()
    signals.exit_at_once()  # while Python shuts down, an exception would be printed
    if not console.flush_stdout() and not code:
        code = exits.FAILED
    if code in signals.STOP_CODES:
        # TensorRT's threads may still log about interrupted work, which aborts the process while Python shuts down.
        with contextlib.suppress(OSError):  # the terminal may be closed
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _exit_code() -> int:
    try:
        app(prog_name="scrfd-trt")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException as error:
        if signals.received() is None and not isinstance(error, KeyboardInterrupt):
            raise
        code = 0
    number = signals.received()
    if number is not None and code != 128 + number:  # other code swallowed the exception, or turned it into another one
        exits.print_stop(signals.StoppedError(number))
        code = 128 + number
    return code
