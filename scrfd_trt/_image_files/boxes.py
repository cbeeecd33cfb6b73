"""Read the boxes of AVIF, HEIC and JPEG 2000 files (ISO base media file format)."""

from __future__ import annotations

from collections.abc import Iterator

MAX_BOXES = 100_000


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of each box between two positions; stop where one does not fit."""
    end = len(data) if end is None else end
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, kind, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size


def find_box(data: bytes, *path: bytes, start: int = 0, end: int | None = None) -> tuple[int, int] | None:
    """Return start and end of the content of the first box with a path of types (``meta``: behind its flags)."""
    end = len(data) if end is None else end
    for name in path:
        for kind, inner_start, inner_end in boxes(data, start, end):
            if kind == name:
                start, end = inner_start + 4 * (kind == b"meta"), inner_end
                break
        else:
            return None
    return start, end


def cut_off(data: bytes) -> str:
    """Return how an AVIF or HEIC file is cut off, by where its last box ends; it completes "the file is …"."""
    found = {kind: end for kind, _, end in boxes(data)}
    at = max(found.values(), default=0)
    size = int.from_bytes(data[at : at + 4], "big")
    if size > len(data) - at and data[at + 4 : at + 8].isalnum():
        return f"cut off after {len(data):,} of {at + size:,} bytes"
    return "" if b"meta" in found and (b"mdat" in found or b"idat" in data) else f"cut off after {len(data):,} bytes"


def has_transforms(data: bytes) -> bool:
    """Return whether the primary image has a rotation or mirroring property (``irot``, ``imir``)."""
    found = find_box(data, b"meta", b"iprp", b"ipco")
    links = find_box(data, b"meta", b"iprp", b"ipma")
    primary = _primary_item(data)
    if found is None or links is None or primary is None:
        return False
    kinds = [kind for kind, _, _ in boxes(data, *found)]
    return any(
        0 < index <= len(kinds) and kinds[index - 1] in {b"irot", b"imir"}
        for index in _links(data, links[0], links[1], primary)
    )


def _primary_item(data: bytes) -> int | None:
    found = find_box(data, b"meta", b"pitm")
    if found is None:
        return None
    start, end = found
    return int.from_bytes(data[start + 4 : end][: 2 if data[start] == 0 else 4], "big")


def _links(data: bytes, start: int, end: int, item: int) -> Iterator[int]:
    """Yield the indices of the properties that belong to an item, from 1 on."""
    version, wide = data[start], data[start + 3] & 1
    at, id_size, index_size = start + 8, 2 if version < 1 else 4, 2 if wide else 1
    for _ in range(int.from_bytes(data[start + 4 : start + 8], "big")):
        if at + id_size >= end:
            return
        current, number = int.from_bytes(data[at : at + id_size], "big"), data[at + id_size]
        at += id_size + 1
        for position in range(at, min(at + number * index_size, end), index_size):
            if current == item:
                yield int.from_bytes(data[position : position + index_size], "big") & (0x7FFF if wide else 0x7F)
        at += number * index_size


def item_exif(data: bytes) -> bytes:
    """Return the EXIF data of a file's ``Exif`` item, from its TIFF header on; empty if there is none."""
    exif = next((item for item, kind in _items(data) if kind == b"Exif"), None)
    content = b"" if exif is None else _item_content(data, exif)
    skipped = int.from_bytes(content[:4], "big") + 4
    return content[skipped:]


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and type of each item."""
    found = find_box(data, b"meta", b"iinf")
    if found is None:
        return
    start, end = found
    for kind, at, stop in boxes(data, start + (6 if data[start] == 0 else 8), end):
        if kind == b"infe" and data[at] >= 2 and stop - at >= 12:
            size = 2 if data[at] == 2 else 4
            yield int.from_bytes(data[at + 4 : at + 4 + size], "big"), data[at + 6 + size : at + 10 + size]


def _item_content(data: bytes, item: int) -> bytes:
    """Return the content of an item that lies in one piece of the file (construction method 0); otherwise nothing."""
    found = find_box(data, b"meta", b"iloc")
    if found is None:
        return b""
    start, end = found
    version, sizes = data[start], data[start + 4 : start + 6]
    offset_size, length_size, base_size, index_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4, sizes[1] & 15
    id_size = 2 if version < 2 else 4
    at = start + 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    for _ in range(number(id_size)):
        current = number(id_size)
        method = number(2) & 15 if version else 0
        number(2)  # the index of a file for the data
        base, extents = number(base_size), number(2)
        pieces = []
        for _ in range(extents):
            if at >= end:
                return b""
            number(index_size if version else 0)
            offset = base + number(offset_size)
            pieces.append((offset, number(length_size)))
        if current == item and method == 0 and len(pieces) == 1:
            offset, length = pieces[0]
            return data[offset : offset + length]
    return b""


def color_numbers(data: bytes) -> tuple[int, int] | None:
    """Return the numbers of the primaries and of the transfer function that describe colours (CICP, ITU-T H.273)."""
    found = find_box(data, b"meta", b"iprp", b"ipco")
    for kind, start, end in boxes(data, *found) if found else ():
        if kind == b"colr" and data[start : start + 4] == b"nclx" and end - start >= 8:
            return int.from_bytes(data[start + 4 : start + 6], "big"), int.from_bytes(
                data[start + 6 : start + 8], "big"
            )
    return None
