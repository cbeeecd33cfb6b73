"""Files that are cut off or damaged are errors; on request they are read as far as they go."""

from __future__ import annotations

import contextlib
import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import CORNERS, HAS_AVIF, NOISE, chunk, encoded, pillow, saved, segment, with_segments
from PIL import Image

from scrfd_trt._image_files import open_image
from scrfd_trt.errors import ImageError

PROGRESSIVE = encoded(".jpg", NOISE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
FILES = {
    "jpeg": encoded(".jpg"),
    "progressive jpeg": PROGRESSIVE,
    "jpeg with restarts": encoded(".jpg", NOISE, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "png": encoded(".png"),
    "webp": encoded(".webp"),
    "bmp": encoded(".bmp"),
    "gif": saved(NOISE, "GIF", interlace=0),
    "tiff": saved(NOISE, "TIFF"),
    "ppm": encoded(".ppm"),
    "ppm as text": b"P3\n60 40\n255\n" + " ".join(map(str, NOISE[..., ::-1].ravel())).encode() + b"\n",
}
if HAS_AVIF:
    FILES["avif"] = saved(NOISE, "AVIF")


def damage_of(data: bytes) -> str:
    """Return what is reported as damaged in the file's structure; empty if nothing is."""
    try:
        open_image(data)
    except ImageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", FILES)
def test_complete_file_has_no_damage(kind: str) -> None:
    file = open_image(FILES[kind])
    assert next(file.frames()).pixels.shape == NOISE.shape
    assert file.damage == []


@pytest.mark.parametrize("kind", FILES)
def test_trailing_data_is_no_damage(kind: str) -> None:
    assert damage_of(FILES[kind] + b"more, as some cameras write") == ""


@given(
    kind=st.sampled_from(sorted({*FILES} - {"gif", "ppm as text"})),
    share=st.floats(0.0, 1.0, exclude_max=True),
)
def test_truncation_at_any_byte_is_found(kind: str, share: float) -> None:
    # Below 16 bytes there is not enough to tell what kind of file it was.
    size = max(16, int(len(FILES[kind]) * share))
    assert "cut off" in damage_of(FILES[kind][:size])


def test_gif_may_lack_its_last_byte() -> None:
    assert damage_of(FILES["gif"][:-1]) == ""
    assert "cut off after" in damage_of(FILES["gif"][:-2])
    assert "cut off after" in damage_of(FILES["gif"][: len(FILES["gif"]) // 2])


def test_error_names_the_option_that_keeps_the_image() -> None:
    with pytest.raises(ImageError, match=r"^x: the file is cut off after [\d,]+ bytes: copy or download it again$"):
        open_image(FILES["jpeg"][:-9], name="x")
    with pytest.raises(ImageError) as caught:
        open_image(FILES["jpeg"][:-9])
    assert caught.value.fields == ("damaged",)


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "png", "bmp", "gif", "tiff", "ppm"])
def test_cut_off_file_is_kept_as_far_as_it_goes(kind: str) -> None:
    data = FILES[kind]
    whole = next(open_image(data).frames()).pixels
    file = open_image(data[: len(data) * 7 // 10], damaged="keep")
    assert "cut off after" in file.damage[0]
    pixels = next(file.frames()).pixels
    assert pixels.shape == NOISE.shape
    # A BMP starts with its last row; a progressive JPEG has all rows, but not every detail.
    rows = pixels[-15:] == whole[-15:] if kind == "bmp" else pixels[:15] == whole[:15]
    assert rows.mean() > (0.02 if kind == "progressive jpeg" else 0.99)


def test_cut_off_animation_is_kept_up_to_the_cut() -> None:
    pictures = [pillow(np.roll(CORNERS, 8 * step, 1)) for step in range(4)]
    data = saved(pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=100)
    with pytest.raises(ImageError, match="cut off"):
        open_image(data[: len(data) * 8 // 10])
    file = open_image(data[: len(data) * 8 // 10], damaged="keep")
    assert next(file.frames()).pixels.shape == CORNERS.shape


def test_jpeg_without_its_last_marker() -> None:
    file = open_image(FILES["jpeg"][:-2], damaged="keep")
    np.testing.assert_array_equal(next(file.frames()).pixels, next(open_image(FILES["jpeg"]).frames()).pixels)
    assert len(file.damage) == 1


def test_jpeg_padded_with_zeros_is_cut_off() -> None:
    data = FILES["jpeg"]
    assert "cut off" in damage_of(data[: len(data) // 2] + bytes(len(data) // 2))


def test_end_marker_of_jpeg_thumbnail_does_not_count() -> None:
    data = FILES["jpeg"]
    thumbnail = segment(0xE1, data)
    assert damage_of(with_segments(data, thumbnail)) == ""
    assert "cut off" in damage_of(with_segments(data, thumbnail)[:-2])


@pytest.mark.parametrize("stray", [b"\0", b"stray bytes", b"\xff\xff\xff", b"\xff\0\xff\0"])
@pytest.mark.parametrize("place", ["after the start", "after a segment", "before the end"])
def test_stray_bytes_are_tolerated(stray: bytes, place: str) -> None:
    data = FILES["jpeg"]
    if place == "before the end":
        at = len(data) - 2
        stray = stray[:5].replace(b"\xff\0", b"\0")
    else:
        at = 2 if place == "after the start" else 4 + int.from_bytes(data[4:6], "big")
    file = open_image(data[:at] + stray + data[at:])
    np.testing.assert_array_equal(next(file.frames()).pixels, next(open_image(data).frames()).pixels)
    assert file.damage == []


def test_jpeg_without_marker_is_damaged() -> None:
    assert "damaged at byte 2" in damage_of(FILES["jpeg"][:2] + b"hello, this is text")


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "jpeg with restarts", "grey"])
@pytest.mark.parametrize("how", ["zeros", "gap", "markers"])
def test_lost_pixels_are_an_error_unless_kept(kind: str, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(FILES.get(kind, FILES["jpeg"]))
    if kind == "grey":  # decoded by Pillow, which does not report lost pixels
        data = bytearray(saved(pillow(NOISE).convert("L"), "JPEG", icc_profile=bytes(16) + b"GRAY" + bytes(108)))
    at = len(data) // 2
    data[at : at + 10 if how == "markers" else at + len(data) // 5] = {
        "zeros": bytes(len(data) // 5), "gap": b"", "markers": b"\xff\xd4" * 5,
    }[how]  # fmt: skip
    with pytest.raises(ImageError, match=r"the image is damaged \(Corrupt JPEG data: .*\): copy or download") as caught:
        next(open_image(bytes(data)).frames())
    assert caught.value.fields == ("damaged",)
    file = open_image(bytes(data), damaged="keep")
    assert next(file.frames()).pixels.shape == NOISE.shape
    assert [line[:17] for line in file.damage] == ["Corrupt JPEG data"]
    assert capfd.readouterr().err == ""


def test_png_with_wrong_checksum_is_damaged() -> None:
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 0xFF
    assert "damaged between bytes 33 and" in damage_of(bytes(data))
    assert "wrong checksum in IDAT" in damage_of(bytes(data))
    file = open_image(bytes(data), damaged="keep")
    assert next(file.frames()).pixels.shape == NOISE.shape


def test_damaged_text_of_png_costs_no_pixel() -> None:
    data = FILES["png"]
    text = bytearray(chunk(b"tEXt", b"Title\0some words"))
    text[-1] ^= 1
    broken = data[:33] + bytes(text) + data[33:]
    assert "wrong checksum in tEXt" in damage_of(broken)
    np.testing.assert_array_equal(next(open_image(broken, damaged="keep").frames()).pixels, NOISE)


def test_heic_cut_off() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(pillow(NOISE)).save(file, quality=90)
    assert "cut off after" in damage_of(file.getvalue()[:-200])


@pytest.mark.parametrize(
    "data", [b"B", b"BM", b"GIF89a", b"\xff\xd8", b"RIFF\4\0\0\0WEBP", b"P6\n", b"II*\0", b"\x59\xa6\x6a\x95"]
)
def test_files_of_a_few_bytes(data: bytes) -> None:
    for damaged in ("stop", "keep"):
        options: dict[str, Any] = {"damaged": damaged}
        with pytest.raises(ImageError) as caught:
            next(open_image(data, **options).frames())
        assert "\n" not in str(caught.value)


def test_tiff_whose_directories_are_a_circle() -> None:
    data = bytearray(saved(Image.new("L", (8, 8), 9), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    data[end : end + 4] = struct.pack("<I", start)
    assert open_image(bytes(data)).count == 1


@pytest.mark.parametrize("tag", [258, 273, 279, 274, 282, 34675])
@pytest.mark.parametrize("kind", [2, 5, 7, 11, 12, 99])
def test_tags_of_unusual_types(tag: int, kind: int) -> None:
    data = bytearray(saved(NOISE, "TIFF", dpi=(72, 72), icc_profile=b"profile"))
    start = int.from_bytes(data[4:8], "little")
    places = [start + 2 + 12 * number for number in range(int.from_bytes(data[start : start + 2], "little"))]
    for at in places:
        if int.from_bytes(data[at : at + 2], "little") == tag:
            data[at + 2 : at + 4] = struct.pack("<H", kind)
    with contextlib.suppress(ImageError):  # whatever else it does
        assert next(open_image(bytes(data), damaged="keep").frames()).pixels.shape == NOISE.shape


@pytest.mark.parametrize("kind", [1, 3, 5, 12])
def test_index_of_views_of_unusual_type(kind: int) -> None:
    index = b"MPF\0II*\0" + struct.pack("<IHHHII", 8, 1, 0xB002, kind, 4, 26) + bytes(64)
    assert open_image(with_segments(FILES["jpeg"], segment(0xE2, index))).count == 1


def test_damage_is_told_apart_by_threads() -> None:
    corrupt = bytearray(FILES["jpeg"])
    corrupt[-40:-30] = b"\xff\xd4" * 5

    def damage(number: int) -> list[str]:
        file = open_image(bytes(corrupt) if number % 3 == 0 else FILES["jpeg"], damaged="keep")
        next(file.frames())
        return file.damage

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(damage, range(60)))
    assert [bool(lines) for lines in found] == [number % 3 == 0 for number in range(60)]
