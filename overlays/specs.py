"""The text form of an overlay and its options: ``skull:opacity=0.7,image=/a/b.png``."""

from __future__ import annotations

import re

from scrfd_trt.errors import OptionError

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
