"""Defaults of options from a settings file and from environment variables.

The command line comes first, then variables, then the file. A file in the working folder is never read unasked: it may
have come with somebody's pictures, and could uncover faces or name an engine that runs code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scrfd_trt._cli import console, exits
from scrfd_trt._cli.option_table import altered
from scrfd_trt.errors import OptionError, one_line
from scrfd_trt.models import _fetch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "scrfd-trt.toml"
MAX_BYTES = 1 << 20  # of a settings file
PREFIX = "SCRFD_TRT_"
VARIABLE = f"{PREFIX}SETTINGS"
GENERAL = ("model", "device", "log-format")  # keys at the top of a file, and variables without a command's name
UNSETTABLE = ("allow-host-code", "settings")  # options of the command line alone: each engine is trusted for itself
PATH = "scrfd_trt.settings"  # key of the path of the file in :attr:`typer.Context.meta`


def user_file() -> Path:
    """Return the path of the user's settings file."""
    from platformdirs import user_config_path  # noqa: PLC0415 - not needed where a file is named

    return user_config_path("scrfd-trt", appauthor=False) / NAME


def apply(context: typer.Context, named: Path | None) -> None:
    """Take defaults from a named file, or else from the user's if there is one."""
    if context.resilient_parsing:
        return
    path = context.meta[PATH] = named or user_file()
    if (named or path.exists()) and context.info_name != "doctor":  # which reports what is wrong
        commands = getattr(context.find_root().command, "commands", {})
        context.default_map = defaults(path, read(path), context.command, commands)


def use_format(value: str) -> None:
    """Print messages in a format."""
    console.as_json = value == "json"
    _fetch.shows_bars = not console.as_json


_FILE = altered("settings", callback=apply, envvar=VARIABLE, show_default=f"{NAME} in the user's configuration folder")


@dataclass(frozen=True)
class GeneralArgs:
    """What all commands take."""

    settings: Annotated[Path | None, _FILE] = None
    log_format: Annotated[Literal["text", "json"], altered("log_format", callback=use_format)] = "text"


def read(path: Path) -> dict[str, Any]:
    """Return the settings in a file, in ``pyproject.toml`` those of ``[tool.scrfd-trt]``."""
    if path.is_fifo():  # which may never be written
        raise OptionError(f"settings file {path}: this is a named pipe; name a file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        found: Any = {} if len(content) > MAX_BYTES else tomllib.loads(content.decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and path.suffix != ".toml":
            raise OptionError(f"settings file {path}: settings are TOML, such as anonymize.threshold = 0.2") from error
        raise OptionError(f"settings file {path}: {getattr(error, 'strerror', '') or one_line(error)}") from error
    if len(content) > MAX_BYTES:
        raise OptionError(f"settings file {path}: more than 1 MiB")
    for key in ("tool", "scrfd-trt") if path.name == "pyproject.toml" else ():
        if not isinstance(found := found.get(key, {}), dict):
            raise OptionError(f"{path}: {key}: must be a table, as in [tool.scrfd-trt], not {found}")
    return dict(found)


def defaults(path: Path, found: Mapping[str, Any], command: Any, commands: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for a command by parameter; raise OptionError for unknown keys and values of a wrong type."""
    options, values = by_name(command), {}
    for key, value in found.items():
        if isinstance(value, dict) and key not in commands:
            raise _unknown(path, key, f"[{key}] is no command", commands)
        if isinstance(value, dict):
            continue
        if _hyphens(key) not in GENERAL:
            reason = "only a command has this option; put it below its name, as in [anonymize]"
            raise _unknown(path, key, reason, GENERAL)
        if one := options.get(_hyphens(key)):
            values[one.name] = _value(f"{path}: {key}", one, value)
    for key, value in found.get(command.name, {}).items():
        one, where = options.get(_hyphens(key)), f"{command.name}.{key}"
        if one is None:
            raise _unknown(path, where, f"'{command.name}' has no such option", options)
        values[one.name] = _value(f"{path}: {where}", one, value)
    return values


def _unknown(path: Path, key: str, reason: str, known: Any) -> OptionError:
    close = get_close_matches(_hyphens(key.rpartition(".")[2]), known, 1)
    return OptionError(f"{path}: {key}: {reason}{f'; did you mean {close[0]!r}?' if close else ''}")


def _hyphens(key: str) -> str:
    return key.replace("_", "-")


def _value(where: str, one: Any, value: Any) -> Any:
    """Return a value as the command line would give it."""
    parts = value if isinstance(value, list) and one.multiple else [value]
    if any(isinstance(part, bool) != one.is_flag or not isinstance(part, (str, int, float)) for part in parts):
        kinds = "a text or a number" + ", or a list of them" * one.multiple
        raise OptionError(f"{where}: must be {'true or false' if one.is_flag else kinds}, not {value}")
    return value if one.is_flag else [*map(str, parts)] if one.multiple else str(value)


def by_name(command: Any) -> dict[str, Any]:
    """Return the options of a command that can be set, by their long names without hyphens in front."""
    names = {name[2:]: one for one in command.params for name in one.opts if name.startswith("--")}
    return {name: one for name, one in names.items() if name not in UNSETTABLE}


def name_variables(command: Any) -> None:
    """Let variables set the options of a command: ``SCRFD_TRT_DETECT_MODEL``, then ``SCRFD_TRT_MODEL``."""
    for name, one in by_name(command).items():
        words = (f"{command.name}-{name}", *([name] if name in GENERAL else ()))
        one.envvar = [PREFIX + word.replace("-", "_").upper() for word in words]
        one.show_envvar = False


def report(context: Any) -> None:
    """Print what a file and variables set, unless the command line has --quiet."""
    origins: dict[str, list[str]] = {}
    for one in context.command.params:
        value = context.params.get(one.name)
        if one.expose_value and (name := origin(context, one)) and not (one.is_flag and value == one.default):
            flag = (one.opts if value or not one.secondary_opts else one.secondary_opts)[0]
            texts = [] if one.is_flag else value if isinstance(value, (list, tuple)) else [value]
            origins.setdefault(name, []).append(" ".join([flag, *map(str, texts)]))
            context.meta.setdefault(exits.ORIGINS, {})[one.opts[0]] = name
    source = context.get_parameter_source("quiet")
    if context.params.get("quiet") and source is not None and source.name == "COMMANDLINE":
        return
    for name, one in by_name(context.command).items():
        variable = PREFIX + name.replace("-", "_").upper()
        if variable in os.environ and variable not in (one.envvar or ()):
            console.warning(f"{variable} is not read; use {one.envvar[0]}")
    for name, texts in origins.items():
        console.note(f"{name} sets {', '.join(texts)}")
    here, read_file = Path(NAME), context.meta[PATH]
    if here.is_file() and not (read_file.exists() and here.samefile(read_file)):
        console.note(f"{NAME} in this folder is not read; to use it, add --settings {NAME}")


def origin(context: Any, one: Any) -> str:
    """Return the file or the variable that sets a parameter; empty for the command line and built-in defaults."""
    source = getattr(context.get_parameter_source(one.name), "name", "")
    if source == "ENVIRONMENT":
        return str(next(filter(os.environ.get, one.envvar)))
    return str(context.meta[PATH]) if source == "DEFAULT_MAP" else ""
