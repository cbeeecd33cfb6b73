"""How the program ends: exit codes, and one line for each foreseen error."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, cast

import typer
from typer.core import TyperGroup

from scrfd_trt.cli import messages, stopping
from scrfd_trt.cli.words import worded
from scrfd_trt.errors import BackendError, DownloadError, OutputError, ScrfdError

FAILED = 1
WRONG_USE = 2

# The base of all that typer finds wrong with the words of a command; it has no public name in every version.
UsageError = cast(
    "type[typer.BadParameter]", next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
)


class Commands(TyperGroup):
    """The commands, with their errors as one line on stderr and an exit code."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run what the words of the command line say, and exit."""
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
        except UsageError as error:
            name = error.ctx.command_path if error.ctx else "scrfd-trt"
            reason = error.format_message().rstrip(".")
            messages.error(f"{reason}; '{name} --help' tells more")
            code = WRONG_USE
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ScrfdError as error:
            messages.error(worded(error))
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            with contextlib.suppress(OSError):  # the terminal may be what has gone
                messages.error(stopping.words(error))
            raise typer.Exit(stopping.code(error)) from error


def exit_code(error: ScrfdError) -> int:
    """Return 1 for work that failed, 2 for what could not be begun as it was asked for."""
    return FAILED if isinstance(error, (BackendError, DownloadError, OutputError)) else WRONG_USE
