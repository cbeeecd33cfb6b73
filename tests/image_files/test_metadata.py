"""Tests of the allow-list of metadata: what is read from files, and what is named as removed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hidden_metadata import DESCRIPTIVE, HIDING, LOCATION, PLACE, XMP, exif_block, picture

from scrfd_trt._image_files.exif import read_exif, write_exif
from scrfd_trt._image_files.metadata import MAX_BYTES, Metadata, read_metadata
from scrfd_trt._image_files.pillow_codec import pillow_has_avif
from scrfd_trt._image_files.xmp import read_xmp, write_xmp

PANORAMA = {
    "ProjectionType": "equirectangular", "CroppedAreaImageWidthPixels": "128", "CroppedAreaImageHeightPixels": "64",
    "FullPanoWidthPixels": "256", "FullPanoHeightPixels": "128", "CroppedAreaLeftPixels": "64",
    "CroppedAreaTopPixels": "32", "PoseHeadingDegrees": "12.5",
}  # fmt: skip
REMOVED = ["author", "title", "description", "copyright", "credit", "dates", "camera", "lens", "location"]
OTHERS = {
    "jpeg": [
        *("further EXIF", "maker notes", "further IPTC", "further XMP", "Photoshop resources", "comments"),
        *("embedded previews", "further pictures", "a motion video", "C2PA", "other data"),
    ],
    "png": [
        *(
            "further EXIF",
            "maker notes",
            "further IPTC",
            "further XMP",
            "Photoshop resources",
            "comments",
            "further texts",
        ),
        *("embedded previews", "C2PA", "other data", "data behind the picture"),
    ],
    "webp": ["further EXIF", "maker notes", "further XMP", "embedded previews", "other data"],
    "tiff": [
        *("further EXIF", "maker notes", "further IPTC", "further XMP", "Photoshop resources", "Photoshop layers"),
        "embedded previews",
    ],
    "gif": ["further XMP", "comments", "embedded previews", "other data"],
}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_fields_are_read(kind: Any) -> None:
    found = read_metadata(HIDING[kind](), kind)
    assert found.fields == DESCRIPTIVE | LOCATION | PLACE
    assert found.panorama == PANORAMA
    assert found.is_equirectangular


@pytest.mark.parametrize("kind", ["tiff", "gif"])
def test_fields_are_read_where_there_are_fewer(kind: Any) -> None:
    found = read_metadata(HIDING[kind](), kind).fields
    assert found.items() <= (DESCRIPTIVE | LOCATION | PLACE | {"taken": "2024-05-01T12:30:00"}).items()
    assert {"title", "author", "credit", "city"} <= found.keys()
    assert ("latitude" in found) == (kind == "tiff")


@pytest.mark.parametrize("kind", HIDING)
def test_everything_else_is_named(kind: Any) -> None:
    found = read_metadata(HIDING[kind](), kind)
    named = found.removed(found.kept(descriptive=False, location=False))
    assert [name for name in named if name not in REMOVED] == OTHERS[kind]
    assert {"author", "title", "credit", "location"} <= set(named)
    named = found.removed(found.kept(descriptive=True, location=True))
    assert named == (["location"] if kind in ("jpeg", "png", "webp") else []) + OTHERS[kind] or named == OTHERS[kind]


def test_an_ordinary_picture_has_nothing_to_remove() -> None:
    for kind in ("jpeg", "png", "webp", "tiff", "gif", "bmp"):
        file = io.BytesIO()
        picture().save(file, kind, dpi=(300, 300))
        assert read_metadata(file.getvalue(), kind) == Metadata()


def test_kept_fields_depend_on_two_options() -> None:
    found = Metadata(DESCRIPTIVE | LOCATION, PANORAMA, frozenset({"comments"}))
    assert found.kept(descriptive=False, location=False) == Metadata({}, PANORAMA)
    assert found.kept(descriptive=True, location=False) == Metadata(DESCRIPTIVE, PANORAMA)
    assert found.kept(descriptive=False, location=True) == Metadata(LOCATION, PANORAMA)


def test_fields_that_would_not_fit_are_named() -> None:
    found = Metadata({"title": "Bridge", "description": "&" * MAX_BYTES})
    kept = found.kept(descriptive=True, location=False)
    assert kept.fields == {"title": "Bridge"}
    assert found.removed(kept) == ["description"]


def test_exif_and_xmp_are_read_as_written() -> None:
    fields = DESCRIPTIVE | LOCATION
    by_exif = {name: value for name, value in fields.items() if name not in ("title", "credit")}
    assert read_exif(write_exif(fields)) == (by_exif, set())
    assert read_xmp(write_xmp(fields | PLACE, PANORAMA)) == (fields | PLACE, PANORAMA, set())
    assert write_exif({}) == write_xmp({}, {}) == b""
    assert write_exif(PLACE) == b""


def test_sizes_of_a_panorama_follow_the_picture() -> None:
    scaled = Metadata(panorama=PANORAMA).panorama_of(64, 32)
    assert scaled == PANORAMA | {
        "CroppedAreaImageWidthPixels": "64", "CroppedAreaImageHeightPixels": "32", "FullPanoWidthPixels": "128",
        "FullPanoHeightPixels": "64", "CroppedAreaLeftPixels": "32", "CroppedAreaTopPixels": "16",
    }  # fmt: skip


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + XMP[XMP.index(b"<x:") :],
        XMP[:-200],
        b"<a>" * 200 + b"</a>" * 200,
        b"",
        "\ufeff<a/>".encode("utf-16-le")[:-3],
    ],
)
def test_packets_that_are_not_xmp_have_no_fields(packet: bytes) -> None:
    assert read_xmp(packet) == ({}, {}, {"further XMP"})


def test_texts_of_xmp_cannot_hold_elements() -> None:
    packet = write_xmp({"title": "</rdf:li>]]><!-- &", "author": "\"'"}, {})
    assert read_xmp(packet)[0] == {"title": "</rdf:li>]]><!-- &", "author": "\"'"}


@pytest.mark.parametrize("kind", HIDING)
def test_damaged_files_are_read_as_far_as_possible(kind: Any) -> None:
    data = HIDING[kind]()
    for at in range(0, len(data), 811):
        read_metadata(data[:at], kind)
        read_metadata(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :], kind)


def test_an_exif_loop_ends() -> None:
    block = bytearray(exif_block())
    first = int.from_bytes(block[8:10], "big")
    block[10 + 12 * first : 14 + 12 * first] = (8).to_bytes(4, "big")
    assert "embedded previews" not in read_exif(bytes(block))[1]


@pytest.mark.skipif(not pillow_has_avif(), reason="this Pillow has no AVIF")
def test_avif_items_are_read() -> None:
    file = io.BytesIO()
    picture().save(file, "AVIF", exif=b"Exif\0\0" + exif_block(), xmp=XMP)
    found = read_metadata(file.getvalue(), "avif")
    assert found.fields == DESCRIPTIVE | LOCATION | PLACE
    assert found.panorama == PANORAMA
    assert {"maker notes", "embedded previews", "further XMP"} <= found.others
