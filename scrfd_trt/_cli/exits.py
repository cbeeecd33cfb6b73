"""Exit codes: foreseen errors become one line on stderr, and signals stop the program cleanly."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import typer
from typer.core import TyperGroup

from scrfd_trt._cli import console, guesses, signals
from scrfd_trt.errors import (
    BackendError,
    DownloadError,
    OutputError,
    ScrfdError,
    VideoError,
    is_out_of_memory,
    one_line,
)

FAILED, USAGE_ERROR = 1, 2
WORK_ERRORS = (BackendError, DownloadError, OutputError, VideoError)
"""Errors after which the exit code is FAILED; after others the work could not start as requested."""
_kept: list[Path] = []
_at_stop: list[str] = []
STDOUT_ERRORS = (errno.EPIPE, errno.EINVAL, errno.EBADF, errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT)
"""Of writing to a pipe, a closed stream or a full disk."""

SAME_NAMES = (
    *(
        "allow_host_code",
        "audio",
        "batch",
        "calibration",
        "category",
        "codec",
        "crf",
        "damaged",
        "device",
        "drop_tracks",
    ),
    *("except_tracks", "hardware_compatible", "io", "lean_runtime", "lean_runtime_inside", "max_face_change"),
    *("max_pixels", "min_face", "only_tracks", "overwrite", "precision", "preset", "rotations", "timing_cache"),
    "version_compatible",
)
FLAGS = {name: f"--{name.replace('_', '-')}" for name in SAME_NAMES} | {
    "covers": "--cover",
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

CALLS = {"faces_file": "detect_video()"}  # what library messages suggest in place of a flag, by the same names
HINTS = {"--damaged": ", or use --damaged keep"}  # what follows messages in place of "see" and these flags
ORIGINS = "scrfd_trt.origins"  # key in :attr:`typer.Context.meta` of files and variables by the flags that they set
MISSING = {
    "Missing option '--overlay'": ": name one, such as --overlay skull; 'scrfd-trt overlays' lists all",
    "Missing option '--output' / '-o'": ": name the file to write",
}
UNITS = {"MILLION": " million", "SECONDS": " seconds", "MIB": " MiB"}  # what follows a number, by the option's metavar

# The base of typer's usage errors has no public name in every version.
UsageError = cast(
    "type[typer.BadParameter]", next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
)


class Commands(TyperGroup):
    """The command group; reports errors in one line on stderr and sets the exit code."""

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        words = " ".join(sys.argv[1:] if args is None else args).replace("=", " ")
        # For errors before the options are known.
        console.as_json = os.environ.get("SCRFD_TRT_LOG_FORMAT") == "json" or "--log-format json" in words
        try:
            code = super().main(args, *rest, **{**options, "standalone_mode": False})
        except UsageError as error:
            name = error.ctx.command_path if error.ctx else "scrfd-trt"
            reason = _usage_text(error)
            console.error(f"{reason}{'' if reason.endswith('?') else ';'} see '{name} --help'")
            code = USAGE_ERROR
        sys.exit(code if isinstance(code, int) else 0)

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _reported({}):  # typer imports pydantic here, which takes a while
            return super().make_context(*args, **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with answered(ctx):
            args = guesses.translated_command(args, self.commands)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _reported(ctx.meta):
                return super().invoke(ctx)
        except UsageError as error:
            if error.ctx is None:  # the option of a command has no value
                error.ctx = typer.Context(self, info_name=ctx.invoked_subcommand, parent=ctx)
            raise


@contextlib.contextmanager
def answered(ctx: Any) -> Iterator[None]:
    """Turn the answer to a guess into a usage error of a context."""
    try:
        yield
    except guesses.GuessError as error:
        raise UsageError(str(error), ctx=ctx) from None


def _usage_text(error: Any) -> str:
    """Return the reason of a usage error, after the file or the variable that has the value."""
    parameter = getattr(error, "param", None)
    if parameter is None or error.ctx is None:
        return _reason(error)
    from scrfd_trt._cli.settings import origin  # noqa: PLC0415 - imports all of scrfd_trt

    return ": ".join(filter(None, (origin(error.ctx, parameter), _reason(error))))


def _reason(error: Any) -> str:
    """Return the reason of a usage error, with the value that is refused, or an option that may be meant."""
    if hasattr(error, "possibilities") and error.ctx is not None:
        if hasattr(error.ctx.command, "commands"):
            how = "options follow a command, as in 'scrfd-trt anonymize photo.jpg --output hidden.jpg'"
            return f"{error.option_name}: {how}"
        return guesses.no_option(error.option_name, error.ctx.command.params, error.ctx.info_name)
    text: str = error.format_message().rstrip(".")
    text += MISSING.get(text, "")
    if hasattr(error.__cause__, "errors"):  # pydantic's, which converts values
        from scrfd_trt._options import reason  # noqa: PLC0415 - pydantic is slow to import

        item = error.__cause__.errors()[0]
        why = reason(item)
        unit = UNITS.get(getattr(getattr(error, "param", None), "metavar", ""), "")
        unit = unit and f" of{unit}" if why.endswith("number") else unit
        value = "" if repr(item["input"]) in why else f"{unit}, not {item['input']}"
        return f"{text.partition(': ')[0]}: {why.rstrip('.')}{value}"
    return text


@contextlib.contextmanager
def _reported(meta: Mapping[str, Any]) -> Iterator[None]:
    """Print errors and interrupts of the block on one line, and raise Exit with their code."""
    try:
        yield
    except ScrfdError as error:
        if (number := signals.received()) is not None:  # an import that is interrupted looks like a missing package
            print_stop(signals.StoppedError(number))
            raise typer.Exit(128 + number) from error
        text = error_text(error)
        console.error("; ".join([text, *origins(meta, text)]))
        _report_kept()
        raise typer.Exit(FAILED if isinstance(error, WORK_ERRORS) else USAGE_ERROR) from error
    except KeyboardInterrupt as stop:
        print_stop(stop)
        raise typer.Exit(128 + _signal_of(stop)) from stop
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich ends the program with code 1
            raise typer.Exit(console.BROKEN_PIPE) from end
        raise
    except Exception as error:
        if is_out_of_memory(error):
            console.error(memory_text(error))
            code = typer.Exit(FAILED)
        elif isinstance(error, OSError):
            code = _exit_of(error)
        else:
            raise
        _report_kept()
        raise code from error


def _exit_of(error: OSError) -> typer.Exit:
    """Print an error of the operating system; only those of standard output are not foreseen elsewhere."""
    try:
        if error.filename is None and error.errno in STDOUT_ERRORS:
            console.raise_stdout_error(error)
        console.error(f"{'' if error.filename is None else f'{error.filename}: '}{error.strerror or error}")
    except OutputError as refused:
        console.error(refused)
    except typer.Exit as end:
        return end
    return typer.Exit(FAILED)


def memory_text(error: Exception) -> str:
    """Return one line on a lack of memory."""
    detail = one_line(error) if str(error) else ""
    return f"there is not enough memory{f': {detail}' if detail else ''}; use smaller inputs or close other programs"


def origins(meta: Mapping[str, Any], text: str) -> list[str]:
    """Return where the flags in a message come from, if not from the command line."""
    named = re.findall(r"--[\w-]+", text)
    return [f"{flag} comes from {origin}" for flag, origin in meta.get(ORIGINS, {}).items() if flag in named]


def flags(fields: Iterable[str]) -> list[str]:
    """Return the command-line flags of library option names, each once; names without a flag are left out."""
    return list(dict.fromkeys(FLAGS[name] for name in fields if name in FLAGS))


def error_text(error: ScrfdError) -> str:
    """Return an error's message in command-line flags, followed by those that it is about and does not name."""
    reason = error.reason
    subject = str(error).removesuffix(reason)
    for name in error.fields:
        reason = _with_flag(reason, name)
    if "the choices are" in reason:
        return subject + reason
    names = ", ".join(flag for flag in flags(error.fields) if flag not in reason)
    hint = HINTS.get(names, f"; see {names}" if names else "")
    return subject + reason + hint


def _with_flag(reason: str, name: str) -> str:
    """Return a message with the flag of an option in place of its Python name, as in ``damaged='keep'``."""
    if name not in FLAGS:
        return reason
    reason = reason.replace(CALLS.get(name, "\0"), FLAGS[name])
    reason = re.sub(rf"\b(?:pass )?{name}=True\b", f"add {FLAGS[name]}", reason)
    reason = re.sub(rf"\b{name}='([^']*)'", rf"{FLAGS[name]} \1", reason)
    return re.sub(rf"(?<![\w./-]){name}=?(?![\w./-])", FLAGS[name], reason) if "_" in name else reason


def add_location(stop: KeyboardInterrupt, subject: object, position: str) -> None:
    """Record the file and the position at which work stopped; the position follows "stopped by Ctrl-C"."""
    stop.args = (str(subject), position)


def keep(path: Path) -> None:
    """Record an unfinished file that stays, so that the message on the error or signal names it."""
    _kept.append(path)


def at_stop(text: str) -> None:
    """Record what the message on a signal says at its end."""
    _at_stop.append(text)


def _kept_text() -> str:
    """Return a text on the files that stay, once."""
    text = ", ".join(map(console.printable, _kept))
    _kept.clear()
    return f"the results so far are in {text}" if text else ""


def _report_kept() -> None:
    if text := _kept_text():
        console.plain(text)


def print_stop(stop: KeyboardInterrupt) -> None:
    """Print one line on what stopped the program."""
    with contextlib.suppress(OSError):  # the terminal may be closed
        console.error(stop_text(stop))


def stop_text(stop: KeyboardInterrupt) -> str:
    """Return one line on what stopped the program, with the location from :func:`add_location`."""
    subject, position = stop.args if len(stop.args) == 2 else ("", "")
    prefix, suffix = f"{subject}: " if subject else "", f" {position}" if position else ""
    files = _kept_text() or "unfinished files were deleted"
    notes = "; ".join([files, *_at_stop])
    _at_stop.clear()
    return f"{prefix}stopped by {signals.name(_signal_of(stop))}{suffix}; {notes}"


def _signal_of(stop: KeyboardInterrupt) -> int:
    return stop.number if isinstance(stop, signals.StoppedError) else int(signal.SIGINT)
