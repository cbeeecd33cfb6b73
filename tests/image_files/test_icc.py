"""Tests of colour profiles: what of them copies keep."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hidden_metadata import MARKER, THUMBNAIL, srgb_profile
from PIL import Image, ImageCms

from scrfd_trt._image_files import ColorDescription, ImageFrame, icc, open_image
from scrfd_trt._image_files.write import write_image

PIXELS = np.random.default_rng(3).integers(0, 256, (16, 16, 3)).astype(np.uint8)


def with_tags(profile: bytes, **tags: bytes) -> bytes:
    """Return a profile with more tags, or others in the place of its own, and a marker behind each."""
    count = int.from_bytes(profile[128:132], "big")
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * number) for number in range(count)]
    contents = {name: profile[start : start + size] for name, start, size in entries}
    contents |= {name.encode(): value for name, value in tags.items()}
    table, body = struct.pack(">I", len(contents)), b""
    for name, value in contents.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(contents) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I", 128 + len(table) + len(body)) + profile[4:80] + MARKER.ljust(48, b"\0")
    return head + table + body


def written(profile: bytes) -> bytes:
    file = io.BytesIO()
    write_image(file, [ImageFrame(PIXELS)], ".png", color=ColorDescription(profile))
    return file.getvalue()


def test_profile_keeps_colours_alone() -> None:
    utf_16 = MARKER.decode().encode("utf-16-be")
    curve = b"curv" + MARKER[:4] + struct.pack(">I256H", 256, *range(0, 65536, 256)) + THUMBNAIL
    hiding = with_tags(
        srgb_profile(),
        desc=b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(utf_16), 28) + utf_16,
        mmod=MARKER,
        rTRC=curve,
        gTRC=curve,
        bTRC=curve,
        wtpt=b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061) + THUMBNAIL,
    )
    kept = open_image(written(hiding)).color.icc_profile
    assert kept is not None
    assert len(kept) < 1000 + 512
    assert not any(hidden in kept for hidden in (MARKER, utf_16, THUMBNAIL[20:60], MARKER[:4]))
    assert icc.essential(kept) == kept
    opened = [ImageCms.ImageCmsProfile(io.BytesIO(profile)) for profile in (hiding, kept)]
    picture = Image.fromarray(PIXELS)
    before, after = (ImageCms.profileToProfile(picture, one, ImageCms.createProfile("sRGB")) for one in opened)
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert ImageCms.getProfileName(opened[1]).strip() == "RGB"


@pytest.mark.parametrize("version", [2, 4])
def test_profile_of_both_versions_is_read_by_others(version: int) -> None:
    profile = bytearray(srgb_profile())
    profile[8] = version
    kept = icc.essential(bytes(profile))
    assert kept is not None
    assert kept[8] == version
    assert ImageCms.getProfileName(ImageCms.ImageCmsProfile(io.BytesIO(kept))).strip() == "sRGB built-in"


@pytest.mark.parametrize(
    "tags",
    [
        {"A2B0": b"mft2" + bytes(100)},
        {"rTRC": b"curv" + bytes(4) + struct.pack(">I", 200) + PIXELS.tobytes()[:400]},
        {"rXYZ": b"XYZ "},
        {"gTRC": b"curv" + bytes(4) + b"\xff\xff\xff\xff"},
    ],
)
def test_profile_of_more_than_matrix_and_curves_is_applied(tags: dict[str, bytes]) -> None:
    profile = with_tags(srgb_profile(), **tags)
    assert icc.essential(profile) is None
    file = open_image(written(profile))
    assert file.color.icc_profile is None
    converted = icc.to_profile(PIXELS, profile, None)  # None if the profile is damaged
    np.testing.assert_array_equal(next(file.frames()).pixels, PIXELS if converted is None else converted)


@pytest.mark.parametrize("profile", [b"", bytes(200), srgb_profile()[:140], srgb_profile()[:-80]])
def test_damaged_profile_is_dropped(profile: bytes) -> None:
    assert icc.essential(profile) is None
    assert open_image(written(profile)).color.icc_profile is None
