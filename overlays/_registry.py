"""Overlays by name, from the entry-point group ``scrfd_trt.overlays``: built-in and third-party ones alike."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from importlib.metadata import distribution as installed_distribution
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from overlays._base import Overlay
from overlays._factories import OptionHelp, check_options, explain_rejection, is_model, option_help
from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import OptionError, OverlayError, ScrfdError, one_line, shown, unknown_name

GROUP = "scrfd_trt.overlays"  # each entry is a factory: it takes options by keyword and returns an overlay

PROJECT = "scrfd-trt"

_FACTORY_RULE = "must be a class or function that takes options by keyword and returns an overlay"
_KEY = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*")
_QUOTED = re.compile(r"""(?:"((?:[^"]|"")*)"|'((?:[^']|'')*)')\s*(?=,|$)""")


def names() -> tuple[str, ...]:
    """Return the names of all installed overlays, sorted; nothing is imported."""
    return tuple(sorted(_scan(_search_path())))


def load(name: str) -> Callable[..., Overlay]:
    """Import the factory of an overlay: a class or function that takes options by keyword and returns an overlay.

    Raises
    ------
    OptionError
        If no installed distribution provides an overlay of that name, or several do.
    ScrfdError
        If the overlay's module cannot be imported.
    """
    entry = _entry(name)
    try:
        factory = entry.load()
    except Exception as error:  # third-party modules may raise anything
        raise ScrfdError(
            f"overlay {name!r} of {_owner(entry)} cannot be loaded from {entry.value}: {type(error).__name__}: "
            f"{one_line(error)}; repair or uninstall that distribution"
        ) from error
    if not callable(factory):
        raise ScrfdError(f"overlay {name!r} of {_owner(entry)}: {entry.value} {_FACTORY_RULE}")
    return factory  # type: ignore[no-any-return]  # create() checks what it returns


@explained_options
def create(name: str, /, **options: Any) -> Overlay:
    """Return an overlay by name.

    Parameters
    ----------
    name
        One of :func:`names`.
    **options
        The overlay's options; :func:`describe` lists them. Text is converted to numbers, booleans, paths and so on.

    Raises
    ------
    OptionError
        If the name or an option is unknown, or a value is out of range; the message lists the choices.
    ScrfdError
        If the overlay cannot be imported, or its factory does not return an overlay.
    """
    factory = load(name)
    if not is_model(factory):
        options = check_options(name, factory, options)
    try:
        overlay = factory(**options)
    except ValidationError as error:
        raise OptionError(explain_rejection(name, factory, error)) from error
    except ScrfdError as error:
        if isinstance(error.__cause__, ValidationError):
            raise OptionError(explain_rejection(name, factory, error.__cause__)) from error.__cause__
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"overlay {name!r} rejects its options: {one_line(error)}") from error
    except Exception as error:  # third-party factories may raise anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise OverlayError(f"overlay {name!r} of {distribution(name)} cannot be created: {reason}") from error
    if not isinstance(overlay, Overlay):
        raise ScrfdError(
            f"overlay {name!r} of {_owner(_entry(name))} returned {overlay!r}: its entry point {_FACTORY_RULE}"
        )
    return overlay


def parse(spec: str) -> Overlay:
    r"""Return an overlay from its text form, as the option ``--overlay`` of the command line takes it.

    Parameters
    ----------
    spec
        ``name`` or ``name:option=value,option=value``, for example ``skull:opacity=0.7,image=/a/b.png``. A value ends
        at the next comma; colons, equals signs and backslashes in it have no special meaning. Quote a value, with
        double or single quotes, if it contains a comma, starts with a quotation mark, or starts or ends with a blank;
        double the quotation mark inside: ``image="/tmp/a, ""b"".png"``. Blanks around names and unquoted values are
        ignored.

    Raises
    ------
    OptionError, ScrfdError
        As for :func:`create`, and if the text cannot be parsed.
    """
    name, options = split_spec(spec)
    return create(name, **options)


def describe(name: str) -> tuple[OptionHelp, ...]:
    """Return an overlay's options with type, default, range and description; raise the errors of :func:`load`."""
    return option_help(load(name))


def summary(name: str) -> str:
    """Return the first line of an overlay's docstring, or an empty string; raise the errors of :func:`load`."""
    return (inspect.getdoc(load(name)) or "").strip().partition("\n")[0]


def distribution(name: str) -> str:
    """Return the distribution that provides an overlay, with its version: ``scrfd-trt 0.1.0``; nothing is imported.

    If several provide it, all are returned, and it cannot be loaded. Raise ``OptionError`` if there is no such overlay.
    """
    return " and ".join(sorted({owner for owner, _ in _entries(name)}))


def why_broken(error: ScrfdError) -> str:
    """Return why an overlay cannot be used, without its name: ``cannot be loaded: …``."""
    cause = error.__cause__
    reason = str(error) if cause is None else f"{type(cause).__name__}: {cause}"
    return f"cannot be loaded: {reason}"


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Return name and options, as text, of an overlay's text form; see :func:`parse` for the rules.

    Raise ``OptionError`` if there is no name, an item is not ``option=value``, or an option is repeated.
    """
    name, _, rest = spec.partition(":")
    name = name.strip()
    if not name:
        raise OptionError(f"{spec!r} has no overlay name: write name or name:option=value,option=value")
    several = [part.strip() for part in re.split("[,:]", spec)]
    if len(several) > 1 and {*several} <= {*names()}:
        each = ", ".join(f"parse({part!r})" for part in several)
        raise OptionError(f"{spec!r} is several overlays: use Compose({each})")
    if "," in name or re.fullmatch(r"[\w-]+[ ?]+\w+=.*", spec):
        raise OptionError(f"no overlay {name!r}; options follow a colon: {re.sub('[,? ]+', ':', spec, count=1)}")
    options: dict[str, str] = {}
    at = 0
    while rest[at:].strip():
        key = _KEY.match(rest, at)
        if key is None:
            _entries(name)  # which refuses an unknown name
            item = rest[at:].strip()
            raise OptionError(f"{item!r} in {spec!r} is not option=value: {_item_hint(name, item, options)}")
        if key[1] in options:
            raise OptionError(f"option {key[1]!r} is repeated in {spec!r}: give it once")
        options[key[1]], at = _parse_value(spec, rest, key.end())
    return name, options


def _item_hint(name: str, item: str, options: dict[str, str]) -> str:
    """Return what to write instead of an item without ``=`` that follows ``options``."""
    word = item.partition(",")[0].strip()
    before = next(reversed(options.values()), "")
    if before.isdecimal() and word.isdecimal() and word == item:
        return f"use {before}.{word}"
    found: tuple[OptionHelp, ...] = ()
    with suppress(ScrfdError):
        found = describe(name)
    known, meant = [one.name for one in found], [one.name for one in found if word in one.choices or one.required]
    if len(meant) == 1 and not options:
        return f"write {meant[0]}={word}"
    if options or not known or word in known:
        hint = f"write {word if word.isidentifier() else 'OPTION'}=VALUE"
        return f"{hint}, or quote a value that contains a comma" if options else hint
    return f"write OPTION={word}; the options are: {', '.join(known)}"


def _parse_value(spec: str, rest: str, start: int) -> tuple[str, int]:
    """Return one value, and where the next option starts."""
    if rest[start : start + 1] not in ('"', "'"):
        comma = rest.find(",", start)
        end = len(rest) if comma < 0 else comma
        return rest[start:end].strip(), end + 1
    quoted = _QUOTED.match(rest, start)
    if quoted is None:
        raise OptionError(f"a quotation mark in {spec!r} is not closed before a comma or the end: close it")
    mark = rest[start]
    return (quoted[1] or quoted[2] or "").replace(mark * 2, mark), quoted.end() + 1


def _entry(name: str) -> EntryPoint:
    found = _entries(name)
    if len(found) > 1:
        sources = " and ".join(f"{value} of {owner}" for owner, value in sorted(found))
        raise OptionError(f"overlay {name!r} is installed {len(found)} times: {sources}; uninstall all but one")
    return next(iter(found.values()))


def _entries(name: str) -> dict[tuple[str, str], EntryPoint]:
    if not isinstance(name, str):
        hint = "this is an overlay already" if callable(name) else "create one by one, and join them by Compose(…)"
        raise OptionError(f"the name of an overlay is required, not {shown(name)}: {hint}")
    if ":" in name:
        raise OptionError(f"{name!r} has options: use overlays.parse({name!r})")
    if found := _by_source(_search_path(), name):
        return found
    meant = {"mosaic": "pixelate", "black": "solid", "box": "boxes"}.get(name, "")
    if re.search(r"\.(png|webp|jpe?g|gif|svg)$", name, re.IGNORECASE):
        meant = f"image:picture={name}"
    message = unknown_name("overlay", name, names(), meant)
    try:
        installed_distribution(PROJECT)
    except PackageNotFoundError:
        message += f"; {PROJECT} itself is not installed: run pip install -e . in its checkout"
    raise OptionError(message)


def _search_path() -> tuple[tuple[str, int], ...]:
    """Return the folders that are searched for distributions, and when each was changed."""
    return tuple((folder, _modified(folder)) for folder in sys.path)


def _modified(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(256)
def _by_source(path: tuple[tuple[str, int], ...], name: str) -> dict[tuple[str, str], EntryPoint]:
    # The same distribution may be found twice, in a checkout and in site-packages.
    return {(_owner(entry), entry.value): entry for entry in _scan(path).get(name, ())}


@functools.lru_cache(8)
def _scan(path: tuple[tuple[str, int], ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Return all overlays; cached until a folder changes, because files of all distributions are read."""
    del path
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=GROUP):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _owner(entry: EntryPoint) -> str:
    if entry.dist is None:
        return "an unknown distribution"
    return f"{entry.dist.name} {entry.dist.version}"
