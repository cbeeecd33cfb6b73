"""What several targets use: strategies for changed files and values at the edges, and modules of the other tests."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

NUMBERS_OF_CHANGES = (0, 1, 1, 1, 2, 2, 3, 6)
"""Most files with many changes are refused at once."""
EDGES = (0, 1, 2, 7, 8, 15, 16, 31, 32, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**16)
EDGES += (2**31 - 1, 2**31, 2**32 - 1)
"""Values at which lengths and counts overflow."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class File(NamedTuple):
    """A file that a program reads."""

    name: str
    content: bytes


def mutated(samples: Sequence[File], *, repair: bool = True) -> st.SearchStrategy[File]:
    """Return files that differ from one of the samples in a few places.

    ``repair`` also corrects the checksums of some of the PNG files: others are refused for them at once.
    """

    @st.composite
    def draw_file(draw: st.DrawFn) -> File:
        name, content = draw(st.sampled_from(samples))
        for _ in range(draw(st.sampled_from(NUMBERS_OF_CHANGES))):
            content = _changed(draw, content, samples)
        if repair and content.startswith(PNG_SIGNATURE) and draw(st.booleans()):
            content = with_checksums(content)
        return File(name, content)

    return draw_file()


class Place(NamedTuple):
    """A place in a file, and the other samples."""

    head: bytes
    middle: bytes
    tail: bytes
    samples: Sequence[File]


def _number(draw: st.DrawFn, place: Place) -> bytes:
    form = draw(st.sampled_from((">I", "<I", ">H", "<H", ">Q", "<Q")))
    number = struct.pack(form, draw(st.sampled_from(EDGES)) % 256 ** struct.calcsize(form))
    return place.head + number + (place.middle + place.tail)[len(number) :]


def _bit(draw: st.DrawFn, place: Place) -> bytes:
    first = place.middle[:1]
    flipped = bytes([first[0] ^ (1 << draw(st.integers(0, 7)))]) if first else b""
    return place.head + flipped + place.middle[1:] + place.tail


def _splice(draw: st.DrawFn, place: Place) -> bytes:
    return place.head + draw(st.sampled_from(place.samples)).content[len(place.head) :]


CHANGES: dict[str, Callable[[st.DrawFn, Place], bytes]] = {
    "set a byte": lambda draw, it: it.head + bytes([draw(st.integers(0, 255))]) + it.middle[1:] + it.tail,
    "flip a bit": _bit,
    "set a number": _number,
    "insert": lambda draw, it: it.head + draw(st.binary(max_size=16)) + it.middle + it.tail,
    "delete": lambda _, it: it.head + it.tail,
    "repeat": lambda draw, it: it.head + it.middle[:4096] * draw(st.integers(2, 8)) + it.tail,
    "zero": lambda _, it: it.head + bytes(len(it.middle)) + it.tail,
    "move": lambda _, it: it.head + it.tail[: len(it.middle)] + it.middle + it.tail[len(it.middle) :],
    "cut off": lambda _, it: it.head,
    "go on as another": _splice,
}


def _changed(draw: st.DrawFn, content: bytes, samples: Sequence[File]) -> bytes:
    change = CHANGES[draw(st.sampled_from(sorted(CHANGES)))]
    # Headers are at the start, and some at the end: half of all changes are there.
    length = len(content)
    edge = min(length, 256)
    at = draw(st.one_of(st.integers(0, length), st.integers(0, edge), st.integers(length - edge, length)))
    end = at + draw(st.one_of(st.integers(1, 8), st.integers(1, max(1, length))))
    return change(draw, Place(content[:at], content[at:end], content[end:], samples))


def with_checksums(png: bytes) -> bytes:
    """Return a PNG file with the right checksum in every chunk."""
    parts, at = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while at + 8 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        body = png[at + 4 : at + 8 + length]
        parts += [png[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join(parts)


def edge_numbers() -> st.SearchStrategy[float]:
    """Return integers and floats, small ones and those that overflow."""
    large = (10**6, 2**31, 2**63, 2**64, 10**30, -(2**63) - 1, 1e300, 5e-324, float("nan"), float("inf"), -float("inf"))
    return st.one_of(st.integers(-4, 300), st.sampled_from(large), st.floats(-2, 2))


def json_values() -> st.SearchStrategy[Any]:
    """Return JSON values, with numbers out of range."""
    leaves = st.one_of(st.none(), st.booleans(), edge_numbers(), st.text(max_size=8))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=8,
    )


def changed_json(draw: st.DrawFn, about: Any) -> Any:
    """Return JSON with up to three values replaced."""
    about = json.loads(json.dumps(about))
    for _ in range(draw(st.integers(0, 3))):
        node: Any = about
        while True:
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            inner = node[key]
            if not isinstance(inner, (dict, list)) or not inner or draw(st.integers(0, 3)) == 0:
                node[key] = draw(json_values())
                break
            node = inner
    return about


def module_of_tests(path: str) -> Any:
    """Import a module of the tests by its path in their folder."""
    spec = util.spec_from_file_location(f"{Path(path).stem}_of_tests", Path(__file__).parents[1] / path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = util.module_from_spec(spec)  # its dataclasses look it up
    spec.loader.exec_module(module)
    return module
