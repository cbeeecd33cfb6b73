"""Exit codes: foreseen errors become one line on stderr, and signals stop the program cleanly."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, cast

import typer
from typer.core import TyperGroup

from scrfd_trt._cli import console
from scrfd_trt.errors import BackendError, DownloadError, OutputError, ScrfdError, VideoError

FAILED, USAGE_ERROR = 1, 2
WORK_ERRORS = (BackendError, DownloadError, OutputError, VideoError)
"""Errors after which the exit code is FAILED; after others the work could not start as requested."""
SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Handled like Ctrl-C; Windows has no SIGHUP."""
SIGNAL_CODES = tuple(128 + number for number in (signal.SIGINT, *SIGNALS))

SAME_NAMES = (
    *(
        "allow_host_code",
        "audio",
        "batch",
        "codec",
        "crf",
        "damaged",
        "device",
        "hardware_compatible",
        "io",
        "lean_runtime",
    ),
    *("except_tracks", "lean_runtime_inside", "only_tracks", "overwrite", "precision", "preset", "timing_cache"),
    "version_compatible",
)
FLAGS = {name: f"--{name.replace('_', '-')}" for name in SAME_NAMES} | {
    "except_regions": "--except-region",
    "except_spans": "--except-span",
    "faces_file": "--save-detections",
    "only_regions": "--only-region",
    "only_spans": "--only-span",
    "batch_one_profile": "--no-batch-one-profile",
    "compute_capabilities": "--compute-capability",
    "optimization_level": "--level",
    "sizes": "--size",
    "workspace_mib": "--workspace",
}
"""Command-line flags by the names in :attr:`ScrfdError.fields`."""

RENAMED = {
    f"--{old}-{what}": f"--{new}-{what}"
    for old, new in (("keep", "only"), ("leave", "except"))
    for what in ("tracks", "region", "span")
} | {"--keep-audio": "--audio auto, the default", "-k": "--audio auto, the default", "--no-keep-audio": "--audio drop"}
"""Flags of earlier versions, and their present names."""

# The base of typer's usage errors has no public name in every version.
UsageError = cast(
    "type[typer.BadParameter]", next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
)


class StoppedError(KeyboardInterrupt):
    """A signal stops the program; the same cleanup runs as for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Commands(TyperGroup):
    """The command group; reports errors in one line on stderr and sets the exit code."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
        except UsageError as error:
            name = error.ctx.command_path if error.ctx else "scrfd-trt"
            reason = _usage_text(error)
            console.error(f"{reason}{'' if reason.endswith('?') else ';'} see '{name} --help'")
            code = USAGE_ERROR
        sys.exit(code if isinstance(code, int) else 0)

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _reported():  # typer imports pydantic here, which takes a while
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _reported():
                return super().invoke(ctx)
        except UsageError as error:
            if error.ctx is None:  # the option of a command has no value
                error.ctx = typer.Context(self, info_name=ctx.invoked_subcommand, parent=ctx)
            raise


def _usage_text(error: Any) -> str:
    """Return the reason of a usage error, with the present name of a renamed flag."""
    option = getattr(error, "option_name", "")
    if option in RENAMED:
        return f"{option} is now {RENAMED[option]}"
    reason: str = error.format_message().rstrip(".")
    reason = reason.replace("Input should be less than or equal to", "must be at most")
    return reason.replace("Input should be greater than or equal to", "must be at least")


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Print errors and interrupts of the block on one line, and raise Exit with their code."""
    try:
        yield
    except ScrfdError as error:
        console.error(error_text(error))
        raise typer.Exit(FAILED if isinstance(error, WORK_ERRORS) else USAGE_ERROR) from error
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):  # the terminal may be closed
            console.error(stop_text(stop))
        raise typer.Exit(128 + _signal_of(stop)) from stop


def flags(fields: Iterable[str]) -> list[str]:
    """Return the command-line flags of library option names, each once; names without a flag are left out."""
    return list(dict.fromkeys(FLAGS[name] for name in fields if name in FLAGS))


def error_text(error: ScrfdError) -> str:
    """Return an error's message followed by the flags that it is about, unless it lists the choices."""
    names = ", ".join(flags(error.fields))
    return f"{error}; see {names}" if names and "the choices are" not in str(error) else str(error)


def install_signal_handlers() -> None:
    """Raise :class:`StoppedError` on the first of ``SIGNALS``; a signal that nohup ignores stays ignored."""
    stopping = False

    def stop(number: int, _frame: FrameType | None) -> None:
        # A closing terminal sends several signals; the later ones would interrupt the cleanup.
        nonlocal stopping
        if not stopping:
            stopping = True
            raise StoppedError(number)

    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # only the main thread can set handlers
                signal.signal(number, stop)


def add_location(stop: KeyboardInterrupt, subject: object, position: str) -> None:
    """Record the file and the position at which work stopped; the position follows "stopped by Ctrl-C"."""
    stop.args = (str(subject), position)


def stop_text(stop: KeyboardInterrupt) -> str:
    """Return one line on what stopped the program, with the location from :func:`add_location`."""
    cause = signal.Signals(stop.number).name if isinstance(stop, StoppedError) else "Ctrl-C"
    subject, position = stop.args if len(stop.args) == 2 else ("", "")
    prefix, suffix = f"{subject}: " if subject else "", f" {position}" if position else ""
    return f"{prefix}stopped by {cause}{suffix}; unfinished files were deleted"


def _signal_of(stop: KeyboardInterrupt) -> int:
    return stop.number if isinstance(stop, StoppedError) else int(signal.SIGINT)
