"""Overlays by name, from the entry-point group ``scrfd_trt.overlays``; built-in ones and other people's alike."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from overlays._base import Overlay
from overlays._factories import OptionHelp, check_options, is_model, option_help, refused, unknown
from scrfd_trt.errors import OptionError, OverlayError, ScrfdError, one_line

_KEY = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*")
_QUOTED = re.compile(r"""(?:"((?:[^"]|"")*)"|'((?:[^']|'')*)')\s*(?=,|$)""")


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    r"""Take the text form of an overlay apart.

    Parameters
    ----------
    spec
        ``name`` or ``name:option=value,option=value``. A value ends at the next comma; colons, equals signs and
        backslashes in it have no meaning, so ``image=C:\skulls\a=b.png`` is a path like any other. A value with a
        comma, with blanks at its ends, or that begins with a quotation mark is put in double or single quotes, in which
        the quotation mark itself is doubled: ``image="/tmp/a, ""b"".png"``. Blanks around names and bare values do not
        count.

    Returns
    -------
    name : str
        What stands before the first colon.
    options : dict
        Values as text, in their order.

    Raises
    ------
    OptionError
        If the text has no name, or what follows the colon is not made of ``option=value``, or an option comes twice.
    """
    name, _, rest = spec.partition(":")
    name = name.strip()
    if not name:
        raise OptionError(f"{spec!r} names no overlay: write name or name:option=value,option=value")
    options: dict[str, str] = {}
    at = 0
    while rest[at:].strip():
        key = _KEY.match(rest, at)
        if key is None:
            raise OptionError(
                f"{rest[at:].strip()!r} in {spec!r} is no option=value: put a value that has a comma in quotes"
            )
        if key[1] in options:
            raise OptionError(f"option {key[1]!r} comes twice in {spec!r}: give it once")
        options[key[1]], at = _value(spec, rest, key.end())
    return name, options


def _value(spec: str, rest: str, start: int) -> tuple[str, int]:
    """Read one value; return it and where the next option begins."""
    if rest[start : start + 1] not in ('"', "'"):
        comma = rest.find(",", start)
        end = len(rest) if comma < 0 else comma
        return rest[start:end].strip(), end + 1
    quoted = _QUOTED.match(rest, start)
    if quoted is None:
        raise OptionError(f"a quotation mark in {spec!r} has no end right before a comma or the end: add it")
    mark = rest[start]
    return (quoted[1] or quoted[2] or "").replace(mark * 2, mark), quoted.end() + 1


GROUP = "scrfd_trt.overlays"
"""The entry-point group. Each entry names a factory: called with options by keyword, it returns an overlay."""

DISTRIBUTION = "scrfd-trt"


def names() -> tuple[str, ...]:
    """Return the names of all installed overlays, sorted; nothing is imported."""
    return tuple(sorted(_found(_path())))


def load(name: str) -> Callable[..., Overlay]:
    """Import an overlay's factory.

    Parameters
    ----------
    name
        One of :func:`names`.

    Returns
    -------
    callable
        A subclass of ``OverlayModel``, or any callable that takes options by keyword and returns an overlay.

    Raises
    ------
    OptionError
        If no installed distribution has an overlay of that name, or more than one has.
    ScrfdError
        If the overlay's module cannot be imported.
    """
    entry = _entry(name)
    try:
        factory = entry.load()
    except Exception as error:  # other people's modules run here, and may raise anything
        raise ScrfdError(
            f"overlay {name!r} of {_owner(entry)} cannot be loaded from {entry.value}: {type(error).__name__}: "
            f"{one_line(error)}; repair or uninstall that distribution"
        ) from error
    if not callable(factory):
        raise ScrfdError(f"overlay {name!r} of {_owner(entry)}: {entry.value} {_MUST}")
    return factory  # type: ignore[no-any-return]  # what it returns is checked when it is called


def create(name: str, /, **options: Any) -> Overlay:
    """Make an overlay.

    Parameters
    ----------
    name
        One of :func:`names`.
    **options
        The overlay's options; :func:`describe` lists them. Text is converted where the option is a number, a truth
        value, a path or the like.

    Returns
    -------
    Overlay
        Called with an image and its detections, it returns a new image.

    Raises
    ------
    OptionError
        If the name or an option is unknown, or a value is out of its range; the message lists the choices.
    ScrfdError
        If the overlay cannot be imported, or its factory makes something that is no overlay.
    """
    factory = load(name)
    if not is_model(factory):
        options = check_options(name, factory, options)
    try:
        overlay = factory(**options)
    except ValidationError as error:
        raise OptionError(refused(name, factory, error)) from error
    except ScrfdError as error:
        if isinstance(error.__cause__, ValidationError):
            raise OptionError(refused(name, factory, error.__cause__)) from error.__cause__
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"overlay {name!r} refuses its options: {one_line(error)}") from error
    except Exception as error:  # other people's factories run here, and may raise anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise OverlayError(f"overlay {name!r} of {provider(name)} cannot be made: {reason}") from error
    if not isinstance(overlay, Overlay):
        raise ScrfdError(f"overlay {name!r} of {_owner(_entry(name))} made {overlay!r}: its entry point {_MUST}")
    return overlay


def parse(spec: str) -> Overlay:
    """Make an overlay from text, as the command line's ``--overlay`` takes it.

    Parameters
    ----------
    spec
        ``name`` or ``name:option=value,option=value``, for example ``skull:opacity=0.7,image=/a/b.png``. A value ends
        at the next comma; put one that has a comma in quotes. :func:`overlays._registry.split_spec` tells all rules.

    Raises
    ------
    OptionError
        If the text cannot be read, the name or an option is unknown, or a value is out of its range.
    ScrfdError
        If the overlay cannot be imported, or its factory makes something that is no overlay.
    """
    name, options = split_spec(spec)
    return create(name, **options)


def describe(name: str) -> tuple[OptionHelp, ...]:
    """Return an overlay's options with type, default, range and description.

    Raises
    ------
    OptionError
        If there is no such overlay.
    ScrfdError
        If the overlay's module cannot be imported.
    """
    return option_help(load(name))


def summary(name: str) -> str:
    """Return the first line of an overlay's documentation, or an empty string.

    Raises
    ------
    OptionError
        If there is no such overlay.
    ScrfdError
        If the overlay's module cannot be imported.
    """
    return (inspect.getdoc(load(name)) or "").strip().partition("\n")[0]


def provider(name: str) -> str:
    """Return the distribution that an overlay comes from, with its version: ``scrfd-trt 0.1.0``; nothing is imported.

    Where several distributions have an overlay of that name, which none can then use, all of them.

    Raises
    ------
    OptionError
        If there is no such overlay.
    """
    return " and ".join(sorted({owner for owner, _ in _entries(name)}))


def why_broken(error: ScrfdError) -> str:
    """Return why an overlay cannot be used, without its name: ``cannot be loaded: …``."""
    cause = error.__cause__
    reason = str(error) if cause is None else f"{type(cause).__name__}: {cause}"
    return f"cannot be loaded: {reason}"


_MUST = "must be a class or function that takes options by keyword and returns an overlay"


def _entry(name: str) -> EntryPoint:
    found = _entries(name)
    if len(found) > 1:
        sources = " and ".join(f"{value} of {owner}" for owner, value in sorted(found))
        raise OptionError(f"overlay {name!r} is there {len(found)} times: {sources}; uninstall all but one")
    return next(iter(found.values()))


Folders = tuple[tuple[str, int], ...]


def _entries(name: str) -> dict[tuple[str, str], EntryPoint]:
    if found := _owned(_path(), name):
        return found
    raise OptionError(_no_overlay(name))


def _path() -> Folders:
    """Return the folders in which distributions are looked for, and when each was changed."""
    return tuple((folder, _changed(folder)) for folder in sys.path)


def _changed(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(256)
def _owned(path: Folders, name: str) -> dict[tuple[str, str], EntryPoint]:
    # The same distribution may be found twice, from a checkout and from site-packages.
    return {(_owner(entry), entry.value): entry for entry in _found(path).get(name, ())}


@functools.lru_cache(8)
def _found(path: Folders) -> dict[str, tuple[EntryPoint, ...]]:
    """Look for overlays; since files of all distributions are read, only where one was added or taken away."""
    del path
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=GROUP):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _no_overlay(name: str) -> str:
    message = unknown("overlay", name, names())
    try:
        distribution(DISTRIBUTION)
    except PackageNotFoundError:
        message += f"; {DISTRIBUTION} itself is not installed: run pip install -e . in its checkout"
    return message


def _owner(entry: EntryPoint) -> str:
    if entry.dist is None:
        return "an unknown distribution"
    return f"{entry.dist.name} {entry.dist.version}"
