from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt.cli.reading import native_notes, read_image
from scrfd_trt.errors import ImageError

IMAGE = np.random.default_rng(5).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def png_of(width: int, height: int) -> bytes:
    """A PNG with the right checksums that promises more pixels than it holds."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(100))) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Put EXIF data into a JPEG that says how the camera was held."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + jpeg[2:]


def test_the_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "größe 日本.png"
    path.write_bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    np.testing.assert_array_equal(read_image(path), IMAGE)


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 4)])
def test_grey_and_alpha_become_three_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(cv2.imencode(".png", np.full(shape, 77, np.uint8))[1].tobytes())
    np.testing.assert_array_equal(read_image(path), np.full((40, 60, 3), 77, np.uint8))


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(cv2.imencode(".png", IMAGE.astype(np.uint16) * 257)[1].tobytes())
    assert np.abs(read_image(path).astype(int) - IMAGE).max() <= 1


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_orientation(cv2.imencode(".jpg", IMAGE)[1].tobytes(), 6))
    assert read_image(path).shape == (60, 40, 3)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.jpg", b"", "the file is empty"),
        ("text.jpg", b"hello, this is text\n", "this is no image that OpenCV reads"),
        ("cut.jpg", cv2.imencode(".jpg", IMAGE)[1].tobytes()[:-9], "the file is cut off after"),
        ("cut.tif", cv2.imencode(".tif", IMAGE)[1].tobytes()[:200], "image"),
        ("short.png", png_of(60, 40), "image"),
        ("photo.heic", b"\0\0\0\x24ftypheic" + bytes(100), "this is a HEIC image"),
        ("huge.png", png_of(60_000, 60_000), "more pixels than OpenCV reads"),
    ],
)
def test_a_file_that_is_no_whole_image(
    tmp_path: Path, name: str, data: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no such file"):
        read_image(tmp_path / "none.jpg")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


def test_a_damaged_jpeg_is_read_with_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(cv2.imencode(".jpg", IMAGE)[1].tobytes())
    data[-40:-30] = b"\xff\xd4" * 5
    path = tmp_path / "damaged.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == IMAGE.shape
    err = capfd.readouterr().err
    assert err.startswith("warning: the image is damaged: Corrupt JPEG data")
    assert err.count("\n") == 1


def test_native_notes_are_caught_and_stderr_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with native_notes() as notes:
        os.write(2, b"[ WARN:0@1.2] global grfmt_png.cpp:7 read something is odd\nlibpng warning: iCCP: odd\n")
    assert notes == ["something is odd"]
    os.write(2, b"after\n")
    print("and python", file=sys.stderr, flush=True)
    assert "after\nand python" in capfd.readouterr().err
