"""Files with several images: animations, pages, views of a camera with two lenses, bursts."""

from __future__ import annotations

import io
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from pictures import CORNERS, HAS_AVIF, NOISE, Array, encoded, exif, pillow, saved, segment, with_segments
from PIL import Image

from scrfd_trt._image_files import open_image
from scrfd_trt.errors import ImageError

MOVING: list[Array] = [np.roll(CORNERS, 16 * step, 1) for step in range(4)]
LOSSLESS: dict[str, dict[str, Any]] = {
    "GIF": {},
    "PNG": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def animation(kind: str, **options: Any) -> bytes:
    images = [pillow(image) for image in MOVING]
    return saved(images[0], kind, save_all=True, append_images=images[1:], **LOSSLESS.get(kind, {}), **options)


@pytest.mark.parametrize(
    "kind", ["GIF", "PNG", "WEBP", pytest.param("AVIF", marks=pytest.mark.skipif(not HAS_AVIF, reason="no AVIF"))]
)
def test_all_frames_of_animations(kind: str) -> None:
    file = open_image(animation(kind, duration=[100, 200, 300, 400], **({} if kind == "AVIF" else {"loop": 3})))
    assert (file.kind, file.count, file.is_animation, file.size) == (kind.lower(), 4, True, (64, 40))
    assert file.loops == {"AVIF": 0, "GIF": 4}.get(kind, 3)  # GIF: repetitions
    for _ in range(2):  # frames can be read again
        frames = list(file.frames())
        assert [round(frame.seconds, 3) for frame in frames] == [0.1, 0.2, 0.3, 0.4]
        for frame, wanted in zip(frames, MOVING, strict=True):
            assert np.abs(frame.pixels.astype(int) - wanted).max() <= (6 if kind == "AVIF" else 0)
            assert frame.alpha is None


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_alpha_of_animations(kind: str) -> None:
    alpha = np.full((40, 64), 255, np.uint8)
    alpha[:20] = 0
    images = [pillow(np.dstack([image, alpha])) for image in MOVING]
    options: dict[str, Any] = {"disposal": 2} if kind == "GIF" else LOSSLESS[kind]
    data = saved(images[0], kind, save_all=True, append_images=images[1:], duration=100, **options)
    frames = list(open_image(data).frames())
    assert len(frames) == 4
    for frame in frames:
        np.testing.assert_array_equal(frame.alpha, alpha)
        assert not frame.pixels[:20].any()


def test_still_image_of_animated_png_is_no_frame() -> None:
    images = [pillow(image) for image in MOVING]
    file = open_image(saved(images[0], "PNG", save_all=True, append_images=images[1:], default_image=True))
    assert file.count == 3
    np.testing.assert_array_equal([frame.pixels for frame in file.frames()], MOVING[1:])


def test_pages_of_tiff_have_own_sizes_and_orientations() -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    more = [pillow(NOISE), Image.new("L", (5, 4), 7)]
    file = open_image(saved(CORNERS, "TIFF", exif=tag, save_all=True, append_images=more))
    assert (file.count, file.is_animation, file.size) == (3, False, (40, 64))
    pages = [frame.pixels for frame in file.frames()]
    assert pages[0].shape == (64, 40, 3)
    np.testing.assert_array_equal(pages[0], np.rot90(CORNERS, -1))
    assert pages[1].shape[2] == 3
    assert (pages[2] == 7).all()


def test_smaller_copies_in_tiff_are_no_pages() -> None:
    small = Image.new("RGB", (8, 8))
    buffer = io.BytesIO()
    pillow(NOISE).save(buffer, "TIFF", save_all=True, append_images=[small])
    data = bytearray(buffer.getvalue())
    assert open_image(bytes(data)).count == 2
    at = data.rindex(struct.pack("<HHI", 0x0100, 4, 1))
    data[at : at + 12] = struct.pack("<HHII", 0x00FE, 4, 1, 1)  # its width becomes "reduced image"
    assert open_image(bytes(data)).count == 1


def multi_picture(*kinds: int) -> bytes:
    """A JPEG with further ones behind it, and an MPF index that gives their kinds."""
    views = [encoded(".jpg", image) for image in MOVING[: 1 + len(kinds)]]
    size = 4 + 8 + 2 + 3 * 12 + 4 + 16 * len(views)
    first = len(views[0]) + 4 + size
    entries, offset = struct.pack("<4I", 0x030000, first, 0, 0), first - 2 - 4 - 4
    for kind, view in zip(kinds, views[1:], strict=True):
        entries += struct.pack("<4I", kind, len(view), offset, 0)
        offset += len(view)
    tags = struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + struct.pack("<HHII", 0xB001, 4, 1, len(views))
    tags += struct.pack("<HHII", 0xB002, 7, len(entries), 50)
    index = b"MPF\0II*\0" + struct.pack("<IH", 8, 3) + tags + bytes(4)
    return with_segments(views[0], segment(0xE2, index + entries)) + b"".join(views[1:])


def test_views_of_multi_picture_files() -> None:
    file = open_image(multi_picture(0x020002, 0x020003))
    assert (file.kind, file.count, file.is_animation) == ("jpeg", 3, False)
    for frame, wanted in zip(file.frames(), MOVING, strict=False):
        assert np.abs(frame.pixels[4::12, 5::12].astype(int) - wanted[4::12, 5::12]).mean() < 30


def test_previews_are_no_pages() -> None:
    file = open_image(multi_picture(0x010001, 0x010002))
    assert (file.count, len(list(file.frames()))) == (1, 1)


def test_images_of_heic_start_with_the_primary_one() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.HeifFile()
    for value in (10, 120, 250):
        file.add_from_pillow(Image.new("L", (64, 48), value).convert("RGB"))
    buffer = io.BytesIO()
    file.save(buffer, quality=90, primary_index=1)
    opened = open_image(buffer.getvalue())
    assert (opened.kind, opened.count, opened.is_animation) == ("heic", 3, False)
    assert [round(float(frame.pixels.mean()), -1) for frame in opened.frames()] == [120, 10, 250]


def test_sequences_of_heic_are_refused() -> None:
    start = b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc"
    with pytest.raises(ImageError, match="image sequences in HEIC and AVIF files are not supported"):
        open_image(start + b"\0\0\0\x08moov" + bytes(50))


def test_frames_are_decoded_one_by_one() -> None:
    images = [Image.new("RGB", (400, 500), (step, 0, 0)) for step in range(40)]
    for kind in ("GIF", "WEBP", "TIFF"):
        options: dict[str, Any] = {"compression": "tiff_lzw"} if kind == "TIFF" else LOSSLESS[kind]
        file = open_image(saved(images[0], kind, save_all=True, append_images=images[1:], **options))
        assert file.count == 40
        tracemalloc.start()
        count = sum(1 for _ in file.frames())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (count, peak < 8 * 400 * 500 * 3) == (40, True), (kind, peak)


def test_orientation_of_each_view() -> None:
    data = with_segments(encoded(".jpg"), segment(0xE1, exif()))
    assert open_image(data).size == (40, 60)
