from __future__ import annotations

import gc
import math
import os
import struct
import weakref
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from overlays._geometry import Placement
from overlays._pictures import Picture, read_picture
from scrfd_trt.errors import ImageError


def matrix(scale: float, x: float, y: float, degrees: float = 0.0) -> Placement:
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return Placement(cos, -sin, x, sin, cos, y)


def opaque(pixels: NDArray[np.uint8]) -> Picture:
    return Picture.from_bgra(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]))


def random_pixels(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def test_placement_without_scale_copies_pixels() -> None:
    pixels = random_pixels(7, 5)
    canvas = np.full((20, 30, 3), 9, np.uint8)
    opaque(pixels).draw(canvas, matrix(1, 4, 6))
    assert (canvas[6:11, 4:11] == pixels).all()
    canvas[6:11, 4:11] = 9
    assert (canvas == 9).all()


def test_picture_is_clipped_at_image_border() -> None:
    pixels = random_pixels(7, 5)
    canvas = np.full((6, 6, 3), 9, np.uint8)
    opaque(pixels).draw(canvas, matrix(1, -3, 4))
    assert (canvas[4:6, :4] == pixels[:2, 3:]).all()
    assert (canvas[:4] == 9).all()


def test_rotation_is_clockwise() -> None:
    pixels = random_pixels(6, 6)
    canvas = np.zeros((6, 6, 3), np.uint8)
    opaque(pixels).draw(canvas, matrix(1, 6, 0, 90))
    assert np.abs(canvas.astype(int) - np.rot90(pixels, -1)).max() <= 1


def test_opacity_blends() -> None:
    canvas = np.full((4, 4, 3), 100, np.uint8)
    opaque(np.full((4, 4, 3), 200, np.uint8)).draw(canvas, matrix(1, 0, 0), 0.25)
    assert np.abs(canvas.astype(int) - 125).max() <= 1


@pytest.mark.parametrize("placement", [matrix(0, 2, 2), matrix(1, 100, 2), matrix(1, 2, -100)])
def test_invisible_placement_draws_nothing(placement: Placement) -> None:
    canvas = np.full((10, 10, 3), 9, np.uint8)
    opaque(random_pixels(8, 8)).draw(canvas, placement)
    assert (canvas == 9).all()


def test_transparent_pixels_do_not_bleed_into_edges() -> None:
    """White on transparent black, over white: without premultiplied alpha, edges would be grey."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    cv2.circle(pixels, (32, 32), 20, (255, 255, 255, 255), -1)
    for scale in (0.13, 0.37, 0.9, 2.3):
        canvas = np.full((150, 150, 3), 255, np.uint8)
        Picture.from_bgra(pixels).draw(canvas, matrix(scale, 1.3, 0.6, 17))
        assert canvas.min() >= 254


@pytest.mark.parametrize("scale", [0.5, 0.3, 0.1, 0.05])
def test_shrunk_picture_has_no_moire(scale: float) -> None:
    pixels = np.indices((512, 512)).sum(0) % 2 * 255
    canvas = np.zeros((300, 300, 3), np.uint8)
    opaque(np.dstack([pixels] * 3).astype(np.uint8)).draw(canvas, matrix(scale, 10, 10))
    side = round(512 * scale)
    inside = canvas[12 : 8 + side, 12 : 8 + side].astype(float)
    assert abs(inside.mean() - 127.5) < 2
    assert inside.std() < 4


def test_all_mipmap_levels_keep_the_position() -> None:
    """The white half stays on its side at every size."""
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[:, 150:] = 255
    for scale in (0.71, 0.5, 0.26, 0.1, 0.03):
        canvas = np.full((220, 320, 3), 0, np.uint8)
        opaque(pixels).draw(canvas, matrix(scale, 7, 5))
        white = canvas[..., 0].sum(1).max() / 255
        first = 7 + 300 * scale - white
        assert white == pytest.approx(150 * scale, abs=0.3)
        assert first == pytest.approx(7 + 150 * scale, abs=0.3)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5000, 3), (2, 2)])
def test_pictures_of_any_size_are_drawn(size: tuple[int, int]) -> None:
    picture = opaque(np.full((size[1], size[0], 3), 200, np.uint8))
    for scale in (1e-6, 0.01, 1.0, 30.0, 1e6):
        canvas = np.zeros((20, 30, 3), np.uint8)
        picture.draw(canvas, matrix(scale, 0, 0))
        if scale == 1e6:
            assert (canvas == 200).all()


def test_read_supported_files(tmp_path: Path) -> None:
    pixels = np.dstack([random_pixels(9, 8), np.full((8, 9), 255, np.uint8)])
    pixels[0, 0, 3] = 0
    kinds = {
        "bgra.png": pixels,
        "bgra16.png": pixels.astype(np.uint16) * 257,
        "bgr.png": pixels[..., :3],
        "bgr16.png": pixels[..., :3].astype(np.uint16) * 257,
        "gray.png": pixels[..., 0],
    }
    for name, content in kinds.items():
        assert cv2.imwrite(str(tmp_path / name), content)
        full = read_picture(tmp_path / name).levels[0]
        wanted = np.dstack([pixels[..., 0]] * 3) if name == "gray.png" else pixels[..., :3]
        assert (full[1:, :, :3] == wanted[1:]).all(), name
        assert full[0, 0].tolist() == ([0, 0, 0, 0] if "bgra" in name else [*wanted[0, 0], 255])
    assert read_picture(tmp_path / "bgra.png") == read_picture(tmp_path / "bgra16.png")
    assert read_picture(tmp_path / "bgra.png") != read_picture(tmp_path / "bgr.png")


def test_invalid_files_raise_image_error(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "clear.png"), np.zeros((4, 4, 4), np.uint8))
    whole = cv2.imencode(".png", random_pixels(40, 40))[1].tobytes()
    (tmp_path / "header.png").write_bytes(whole[:20])
    size = struct.pack(">2I", 30_000, 30_000)
    header = b"IHDR" + size + whole[24:29]
    (tmp_path / "huge.png").write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    for name, message in {
        "none.png": "cannot be read: No such file",
        ".": "cannot be read",
        "empty.png": "the file is empty",
        "text.png": "not a supported image",
        "header.png": "the file is cut off after 20 bytes",
        "huge.png": "more than 50 million: make it smaller$",
        "clear.png": "fully transparent",
    }.items():
        with pytest.raises(ImageError, match=message) as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_picture_in_use_is_cached(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((8, 8, 4), 200, np.uint8))
    first = read_picture(path)
    assert read_picture(path) is first
    cv2.imwrite(str(path), np.full((9, 8, 4), 100, np.uint8))
    os.utime(path, ns=(1, 1))
    assert read_picture(path).size == (8, 9)
    held = weakref.ref(first)
    del first
    gc.collect()
    assert held() is None
