"""Defaults of options from a settings file and from environment variables.

The command line comes first, then variables, then the file. A file in the working folder is never read unasked: it may
have come with somebody's pictures, and could uncover faces or name an engine that runs code.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scrfd_trt._cli import console, exits
from scrfd_trt._cli.option_table import option
from scrfd_trt.errors import OptionError, one_line
from scrfd_trt.models import _fetch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "scrfd-trt.toml"
VARIABLE = "SCRFD_TRT_SETTINGS"
PREFIX = "SCRFD_TRT_"
GENERAL = ("model", "device", "log-format")
"""Options that the top of a file, and variables without a command's name, set for all commands."""
UNSETTABLE = ("allow-host-code", "settings")  # options of the command line alone: each engine is trusted for itself
_PATH = "scrfd_trt.settings"


def user_file() -> Path:
    """Return the path of the user's settings file."""
    from platformdirs import user_config_path  # noqa: PLC0415 - not needed where a file is named

    return user_config_path("scrfd-trt", appauthor=False) / NAME


def apply(context: typer.Context, named: Path | None) -> None:
    """Take defaults from a named file, or else from the user's if there is one."""
    if context.resilient_parsing:
        return
    path = named or user_file()
    context.meta[_PATH] = path
    if (named or path.exists()) and context.info_name != "doctor":  # which reports what is wrong
        commands = getattr(context.find_root().command, "commands", {})
        context.default_map = defaults(path, read(path), context.command, commands)


def use_format(value: str) -> None:
    """Print messages in a format."""
    console.use_json(value == "json")
    _fetch.shows_bars = value == "text"


_EAGER: dict[str, Any] = {"panel": "Messages", "is_eager": True, "expose_value": False}
_SETTINGS: dict[str, Any] = {
    "show_default": f"{NAME} in the user's configuration folder",
    "envvar": VARIABLE,
    "callback": apply,
}
Settings = option("FILE", "Read defaults of options from this file.", "--settings", **_SETTINGS, **_EAGER)
FORMAT_HELP = "Print messages as text, or as one JSON object a line."
LogFormat = option("text|json", FORMAT_HELP, "--log-format", callback=use_format, **_EAGER)


def with_general_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that also takes the options of all commands."""

    def general(
        settings: Annotated[Path | None, Settings] = None,
        log_format: Annotated[Literal["text", "json"], LogFormat] = "text",
    ) -> None: ...

    both = [inspect.signature(one, eval_str=True).parameters.values() for one in (command, general)]
    more = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in both[1]]
    command.__signature__ = inspect.Signature([*both[0], *more])  # type: ignore[attr-defined]
    return command


def read(path: Path) -> dict[str, Any]:
    """Return the settings in a file, in ``pyproject.toml`` those of ``[tool.scrfd-trt]``."""
    try:
        with path.open("rb") as file:
            found: Any = tomllib.load(file)
    except OSError as error:
        raise OptionError(f"settings file {path}: {error.strerror}") from error
    except ValueError as error:
        raise OptionError(f"settings file {path}: {one_line(error)}") from error
    for key in ("tool", "scrfd-trt") if path.name == "pyproject.toml" else ():
        found = found.get(key, {})
    return dict(found)


def defaults(path: Path, found: Mapping[str, Any], command: Any, commands: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for a command by parameter; raise OptionError for unknown keys and values of a wrong type."""
    tables = {key: value for key, value in found.items() if isinstance(value, dict)}
    general = {key: value for key, value in found.items() if key not in tables}
    for key in tables.keys() - commands.keys():
        raise _unknown(path, key, f"[{key}] is no command", commands)
    for key in general:
        if _hyphens(key) not in GENERAL:
            reason = "only a command has this option; put it below its name, as in [anonymize]"
            raise _unknown(path, key, reason, GENERAL)
    options, values = by_name(command), {}
    for prefix, table in (("", general), (f"{command.name}.", tables.get(command.name, {}))):
        for key, value in table.items():
            if one := options.get(_hyphens(key)):
                values[one.name] = _value(f"{path}: {prefix}{key}", one, value)
            elif prefix:
                raise _unknown(path, prefix + key, f"'{command.name}' has no such option", options)
    return values


def _unknown(path: Path, key: str, reason: str, known: Any) -> OptionError:
    close = get_close_matches(_hyphens(key.rpartition(".")[2]), known, 1)
    return OptionError(f"{path}: {key}: {reason}{f'; did you mean {close[0]!r}?' if close else ''}")


def _hyphens(key: str) -> str:
    return key.replace("_", "-")


def _value(where: str, one: Any, value: Any) -> Any:
    """Return a value as the command line would give it."""
    if one.is_flag != isinstance(value, bool):
        raise OptionError(
            f"{where}: {'must be true or false' if one.is_flag else 'takes no true or false'}, not {value}"
        )
    parts = value if isinstance(value, list) and one.multiple else [value]
    if not all(isinstance(part, (str, int, float)) for part in parts):
        raise OptionError(f"{where}: must be a text or a number{', or a list of them' * one.multiple}, not {value}")
    return value if one.is_flag else [*map(str, parts)] if one.multiple else str(value)


def by_name(command: Any) -> dict[str, Any]:
    """Return the options of a command that can be set, by each of their long names without hyphens in front."""
    names = {name[2:]: one for one in command.params for name in one.opts if name.startswith("--")}
    return {name: one for name, one in names.items() if name not in UNSETTABLE}


def variables(command: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names of variables that set options of a command, and the options."""
    for name, one in by_name(command).items():
        word = name.replace("-", "_").upper()
        yield f"{PREFIX}{command.name.upper()}_{word}", one
        if name in GENERAL:
            yield f"{PREFIX}{word}", one


def name_variables(command: Any) -> None:
    """Let variables set the options of a command."""
    for name, one in variables(command):
        one.envvar = [*(one.envvar or ()), name]
        one.show_envvar = False


def report(context: Any) -> None:
    """Print what a file and variables set, unless the command line has --quiet."""
    origins: dict[str, list[str]] = {}
    for one in context.command.params:
        if one.expose_value and (name := origin(context, one)):
            value = context.params.get(one.name)
            flag = (one.opts if value or not one.secondary_opts else one.secondary_opts)[0]
            texts = [] if one.is_flag else value if isinstance(value, (list, tuple)) else [value]
            origins.setdefault(name, []).append(" ".join([flag, *map(str, texts)]))
            context.meta.setdefault(exits.ORIGINS, {})[one.opts[0]] = name
    source = context.get_parameter_source("quiet")
    if context.params.get("quiet") and source is not None and source.name == "COMMANDLINE":
        return
    for name, texts in origins.items():
        console.note(f"{name} sets {', '.join(texts)}")
    here, read_file = Path(NAME), path_of(context)
    if here.is_file() and not (read_file.exists() and here.samefile(read_file)):
        console.note(f"{NAME} in this folder is not read; to use it, add --settings {NAME}")


def path_of(context: Any) -> Path:
    """Return the path of the settings file of a command."""
    return Path(context.meta[_PATH])


def origin(context: Any, one: Any) -> str:
    """Return the file or the variable that sets a parameter; empty for the command line and built-in defaults."""
    source = context.get_parameter_source(one.name)
    if source is None or source.name not in {"ENVIRONMENT", "DEFAULT_MAP"}:
        return ""
    names = [name for name in one.envvar or () if os.environ.get(name)]
    return names[0] if source.name == "ENVIRONMENT" else str(context.meta[_PATH])
