"""How the program ends: exit codes, and one line for each foreseen error."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any, cast

import typer
from typer.core import TyperGroup

from scrfd_trt._cli import console
from scrfd_trt.errors import BackendError, DownloadError, OutputError, ScrfdError

ASKED: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Sent by ``kill`` and by a terminal that is closed; Windows has no SIGHUP."""
CODES = tuple(128 + number for number in (signal.SIGINT, *ASKED))
"""What shells say of programs that these signals ended."""


class StoppedError(KeyboardInterrupt):
    """A signal asks the program to end; what Ctrl-C cleans up is cleaned up then, too.

    Parameters
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def heed_signals() -> None:
    """Raise :class:`StoppedError` when a signal asks the program to end; one that nohup ignores stays ignored."""
    stop = _Once()
    for number in ASKED:
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not the main thread, which alone may say so
                signal.signal(number, stop)


def code(stop: KeyboardInterrupt) -> int:
    """Return what a shell says of a program that the signal ended: 128 and its number."""
    return 128 + (stop.number if isinstance(stop, StoppedError) else int(signal.SIGINT))


def words(stop: KeyboardInterrupt) -> str:
    """Say in one line what stopped the program, and where as far as :func:`place` told."""
    by = signal.Signals(stop.number).name if isinstance(stop, StoppedError) else "Ctrl-C"
    subject, where = stop.args if len(stop.args) == 2 else ("", "")
    before, behind = f"{subject}: " if subject else "", f" {where}" if where else ""
    return f"{before}stopped by {by}{behind}; files that were not finished were not kept"


def place(stop: KeyboardInterrupt, subject: object, where: str) -> None:
    """Note what was being worked on.

    Parameters
    ----------
    stop
        Is on its way out.
    subject
        A file.
    where
        In it, in words that follow on "stopped by Ctrl-C".
    """
    stop.args = (str(subject), where)


class _Once:
    """Raises at the first signal; others, which a closing terminal sends along, would break the cleaning up."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self._asked:
            self._asked = True
            raise StoppedError(number)


FLAGS = {
    "allow_host_code": "--allow-host-code",
    "batch": "--batch",
    "batch_one_profile": "--no-batch-one-profile",
    "codec": "--codec",
    "compute_capabilities": "--compute-capability",
    "crf": "--crf",
    "damaged": "--damaged",
    "device": "--device",
    "hardware_compatible": "--hardware-compatible",
    "io": "--io",
    "keep_streams.audio": "--no-keep-audio",
    "keep_streams.subtitle": "--no-subtitles",
    "lean_runtime": "--lean-runtime",
    "lean_runtime_inside": "--lean-runtime-inside",
    "optimization_level": "--level",
    "overwrite": "--overwrite",
    "precision": "--precision",
    "preset": "--preset",
    "sizes": "--size",
    "timing_cache": "--timing-cache",
    "version_compatible": "--version-compatible",
    "workspace_mib": "--workspace",
}
"""Options of the command line by the library's names; a dot precedes a part of an option."""


def flags(fields: Iterable[str]) -> list[str]:
    """Return the options of the command line for names of the library, each once; others are left out."""
    return list(dict.fromkeys(FLAGS[name] for name in fields if name in FLAGS))


def worded(error: ScrfdError) -> str:
    """Return an error's message, followed by the options that it is about."""
    named = ", ".join(flags(error.fields))
    return f"{error}; see {named}" if named else str(error)


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
            console.error(f"{reason}; '{name} --help' tells more")
            code = WRONG_USE
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ScrfdError as error:
            console.error(worded(error))
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            with contextlib.suppress(OSError):  # the terminal may be what has gone
                console.error(words(error))
            raise typer.Exit(code(error)) from error


def exit_code(error: ScrfdError) -> int:
    """Return 1 for work that failed, 2 for what could not be begun as it was asked for."""
    return FAILED if isinstance(error, (BackendError, DownloadError, OutputError)) else WRONG_USE
