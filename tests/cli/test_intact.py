from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrfd_trt.cli.intact import damage

IMAGE = np.random.default_rng(3).integers(0, 256, (60, 80, 3)).astype(np.uint8)
PROGRESSIVE = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
RESTARTS = [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]


def encoded(suffix: str, options: list[int] | None = None) -> bytes:
    return cv2.imencode(suffix, IMAGE, options or [])[1].tobytes()


FILES = {
    "jpeg": encoded(".jpg"),
    "progressive jpeg": encoded(".jpg", PROGRESSIVE),
    "jpeg with restarts": encoded(".jpg", RESTARTS),
    "png": encoded(".png"),
    "webp": encoded(".webp"),
    "bmp": encoded(".bmp"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_whole_file(kind: str) -> None:
    assert damage(FILES[kind]) == ""


@pytest.mark.parametrize("kind", FILES)
def test_what_stands_behind_the_end_does_not_matter(kind: str) -> None:
    assert damage(FILES[kind] + b"more, as some cameras write") == ""


@given(kind=st.sampled_from(list(FILES)), share=st.floats(0.0, 1.0, exclude_max=True))
def test_a_file_cut_off_anywhere_is_noticed(kind: str, share: float) -> None:
    # Below 16 bytes there is not enough to tell what kind of file it was; OpenCV does not read it.
    size = max(16, int(len(FILES[kind]) * share))
    assert "cut off after" in damage(FILES[kind][:size])


def test_a_jpeg_filled_with_zeros_where_it_was_cut_off() -> None:
    data = FILES["jpeg"]
    assert "cut off" in damage(data[: len(data) // 2] + bytes(len(data) // 2))


def test_a_thumbnail_in_a_jpeg_has_an_end_of_its_own() -> None:
    data = FILES["jpeg"]
    thumbnail = b"\xff\xe1" + (2 + len(data)).to_bytes(2, "big") + data
    assert damage(data[:2] + thumbnail + data[2:]) == ""
    assert "cut off" in damage(data[:2] + thumbnail + data[2:-2])


def test_a_jpeg_with_fill_bytes_before_a_marker() -> None:
    data = FILES["jpeg"]
    assert damage(data[:2] + b"\xff\xff" + data[2:]) == ""


def test_a_jpeg_with_something_else_where_a_marker_should_be() -> None:
    assert damage(FILES["jpeg"][:2] + b"hello, this is text").startswith("damaged at byte 2")


def test_a_changed_byte_in_a_png() -> None:
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 0xFF
    assert damage(bytes(data)).endswith("the checksum of its part IDAT is wrong")


@pytest.mark.parametrize("data", [b"", b"B", b"BM", b"hello", b"GIF89a"])
def test_what_is_not_looked_into(data: bytes) -> None:
    assert damage(data) == ""
