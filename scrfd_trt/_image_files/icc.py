"""Read ICC profiles, write new ones of nothing but colours, and convert pixels by them."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATRIX = (b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ")
CURVES = (b"rTRC", b"gTRC", b"bTRC")
OPTIONAL = {b"chad": (b"sf32", 44), b"cicp": (b"cicp", 12)}
"""Type and size of tags that a profile may have beside its matrix and curves."""
TABLES = (b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1", b"D2B2", b"D2B3")
"""Tags that take precedence over matrix and curves."""
PARAMETERS = (1, 3, 4, 5, 7)  # numbers of a parametric curve, by its kind
MAX_CURVE, MAX_TAGS = 4096, 100
CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
NAMES = (
    *("sRGB", "sRGB IEC61966-2.1", "sRGB built-in", "Display P3", "DCI-P3 D65", "Adobe RGB (1998)", "ProPhoto RGB"),
    *("ROMM RGB", "Wide Gamut RGB", "Rec. 709", "Rec. 2020", "Rec2020", "eciRGB v2", "Apple RGB"),
    "Generic RGB Profile",
)
"""Descriptions that name a colour space and nobody's device."""


def space(profile: bytes | None) -> str:
    """Return the colour space of an ICC profile, such as ``RGB``, ``GRAY`` or ``CMYK``; empty if there is none."""
    return profile[16:20].decode("latin-1").strip() if profile and profile[36:40] == b"acsp" else ""


def rgb_profile(profile: bytes | None) -> bytes | None:
    """Return an ICC profile if it describes RGB pixels."""
    return profile if space(profile) == "RGB" else None


def essential(profile: bytes) -> bytes | None:
    """Return a new profile with matrix and curves, without texts, of an RGB profile; None if it has other tags."""
    tags = _tags(profile)
    if rgb_profile(profile) is None or profile[20:24] != b"XYZ " or profile[12:16] not in CLASSES:
        return None
    kept = {name: tags.get(name, b"")[:20] for name in MATRIX}
    kept |= {name: _curve(tags.get(name, b"")) for name in CURVES}
    for name, (kind, size) in OPTIONAL.items():
        if tags.get(name, b"").startswith(kind) and len(tags[name]) >= size:
            kept[name] = tags[name][:size]
    is_complete = all(len(kept[name]) == 20 and kept[name].startswith(b"XYZ ") for name in MATRIX)
    if not is_complete or not all(kept[name] for name in CURVES) or tags.keys() & set(TABLES):
        return None
    major = 4 if profile[8] >= 4 else 2
    return _profile(
        major,
        profile[12:16],
        {name: content[:4] + bytes(4) + content[8:] for name, content in kept.items()},
        _name(tags),
    )


def _tags(profile: bytes) -> dict[bytes, bytes]:
    if len(profile) < 132:
        return {}
    count = min(int.from_bytes(profile[128:132], "big"), MAX_TAGS, (len(profile) - 132) // 12)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * number) for number in range(count))
    return {name: profile[start : start + size] for name, start, size in entries}


def _curve(tag: bytes) -> bytes:
    """Return a curve without what is behind it; nothing if it falls anywhere, as that of no device does."""
    if tag.startswith(b"para") and len(tag) >= 12 and (kind := int.from_bytes(tag[8:10], "big")) < len(PARAMETERS):
        size = 12 + 4 * PARAMETERS[kind]
        return tag[:10] + bytes(2) + tag[12:size] if len(tag) >= size else b""
    count = int.from_bytes(tag[8:12], "big")
    if not tag.startswith(b"curv") or count > MAX_CURVE or len(tag) < 12 + 2 * count:
        return b""
    rises = np.all(np.diff(np.frombuffer(tag, ">u2", count, 12).astype(int)) >= 0)
    return tag[: 12 + 2 * count] if rises else b""


def _name(tags: Mapping[bytes, bytes]) -> str:
    tag = tags.get(b"desc", b"")
    if tag.startswith(b"mluc") and len(tag) >= 28:
        size, start = struct.unpack_from(">II", tag, 20)
        found = tag[start : start + size].decode("utf-16-be", "replace")
    else:
        found = tag[12 : 12 + int.from_bytes(tag[8:12], "big")].decode("latin-1")
    found = found.strip("\0 ")
    return found if found in NAMES else "RGB"


def _profile(major: int, kind: bytes, tags: Mapping[bytes, bytes], name: str) -> bytes:
    """Return a profile of version 2 or 4 of these tags, without a date and a maker; equal tags share their bytes."""
    tags = {b"desc": _text(name, major, description=True), b"cprt": _text("see the original", major), **tags}
    table, content, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    start = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        if value not in places:
            places[value] = start + len(content)
            content += value + bytes(-len(value) % 4)
        table += tag + struct.pack(">II", places[value], len(value))
    version = 0x04300000 if major == 4 else 0x02100000
    head = struct.pack(">I4sI4s4s4s", start + len(content), bytes(4), version, kind, b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _numbers(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + table + content


def _text(words: str, major: int, *, description: bool = False) -> bytes:
    if major == 4:
        content = words.encode("utf-16-be")
        return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(content), 28) + content
    ascii_text = words.encode() + b"\0"
    if description:
        return b"desc" + bytes(4) + struct.pack(">I", len(ascii_text)) + ascii_text + bytes(4 + 4 + 2 + 1 + 67)
    return b"text" + bytes(4) + ascii_text


def _numbers(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def display_p3() -> bytes:
    """Return a profile of Display P3, for files that name these colours by a number (CICP)."""
    numbers = {
        b"wtpt": (0.9642, 1.0, 0.8249), b"rXYZ": (0.51512, 0.24120, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }  # fmt: skip
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _numbers(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags = {name: b"XYZ " + bytes(4) + _numbers(*values) for name, values in numbers.items()}
    return _profile(4, b"mntr", {**tags, **dict.fromkeys(CURVES, curve)}, "Display P3")


def to_srgb(image: Any, profile: bytes) -> Any:
    """Convert a Pillow image (L, CMYK) by its profile to RGB; None if the profile is damaged or does not fit."""
    from PIL import ImageCms  # noqa: PLC0415 - slow to import

    try:
        return ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def to_profile(pixels: NDArray[np.uint8], own: bytes | None, other: bytes | None) -> NDArray[np.uint8] | None:
    """Convert BGR pixels from one profile to another, None for sRGB; return None if one is damaged."""
    from PIL import Image, ImageCms  # noqa: PLC0415

    try:
        before, after = (
            ImageCms.createProfile("sRGB") if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile))
            for profile in (own, other)
        )
        rgb = ImageCms.profileToProfile(Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])), before, after)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return np.ascontiguousarray(np.asarray(rgb)[..., ::-1])


def lab_to_srgb(image: Any) -> Any:
    """Convert a Pillow image (LAB) to RGB."""
    from PIL import ImageCms  # noqa: PLC0415

    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return ImageCms.applyTransform(image, transform)
