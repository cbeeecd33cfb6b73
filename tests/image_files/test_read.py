"""Every format is read right, upright, with its alpha and its colours, or refused with one line."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pictures import (
    CORNERS,
    HAS_AVIF,
    NOISE,
    STORED,
    Array,
    chunk,
    encoded,
    exif,
    pillow,
    png_of,
    saved,
    segment,
    tiff_of,
    with_segments,
)
from PIL import Image, ImageCms

from scrfd_trt._image_files import open_image, opencv_codec, read_image
from scrfd_trt._image_files.stderr import watched
from scrfd_trt.errors import ImageError, MissingDependencyError, installable

needs_avif = pytest.mark.skipif(not HAS_AVIF, reason="this Pillow reads no AVIF")
ALPHA: Array = np.random.default_rng(8).integers(0, 256, NOISE.shape[:2]).astype(np.uint8)
ALPHA[0, :3] = 0, 1, 255
BGRA = np.dstack([NOISE, ALPHA])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


def heif(image: Array, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(pillow(image)).save(file, quality=100, chroma=444, **options)
    return file.getvalue()


def profile_of(space: bytes) -> bytes:
    """A profile of sRGB that claims another colour space."""
    return SRGB[:16] + space + SRGB[20:]


@pytest.mark.parametrize("name", ["größe 日本.png", "photo"])
def test_png_pixels_are_read_exactly(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encoded(".png"))
    np.testing.assert_array_equal(read_image(path).pixels, NOISE)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".ppm", ".jp2", ".ras", ".pam"])
def test_ordinary_files_are_read_as_opencv_reads_them(suffix: str) -> None:
    data = encoded(suffix)
    file = open_image(data)
    frames = list(file.frames())
    np.testing.assert_array_equal(frames[0].pixels, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert frames[0].pixels.flags.c_contiguous
    assert (file.size, file.count, len(frames), file.is_animation) == ((60, 40), 1, 1, False)
    assert (frames[0].alpha, file.notes, file.damage) == (None, [], [])
    assert frames[0].visible() is frames[0].pixels


@pytest.mark.parametrize("options", [PROGRESSIVE, (cv2.IMWRITE_JPEG_RST_INTERVAL, 2), (cv2.IMWRITE_JPEG_QUALITY, 5)])
def test_kinds_of_jpeg(options: tuple[int, ...]) -> None:
    data = encoded(".jpg", NOISE, *options)
    np.testing.assert_array_equal(read_image(data).pixels, cv2.imdecode(np.frombuffer(data, np.uint8), 1))


def test_jpeg_of_rgb_channels() -> None:
    data = saved(CORNERS, "JPEG", keep_rgb=True, quality=95, subsampling=0)
    if b"Adobe" not in data:
        pytest.skip("this Pillow writes YCbCr only")
    assert np.abs(read_image(data).pixels[4::12, 6::10].astype(int) - CORNERS[4::12, 6::10]).max() <= 4


def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(".jpg"))
    assert open_image(path).kind == "jpeg"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif), pytest.param("HEIC")]
)
def test_all_orientations(kind: str, orientation: int) -> None:
    stored = np.ascontiguousarray(STORED[orientation](CORNERS))
    tag = Image.Exif()
    tag[0x0112] = orientation
    lossless: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "AVIF": {"quality": 90, "subsampling": "4:4:4"}}
    if kind == "HEIC":
        data = heif(stored, exif=tag.tobytes())
        assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    else:
        data = saved(stored, kind, exif=tag, **lossless.get(kind, {}))
    file = open_image(data)
    pixels = next(file.frames()).pixels
    assert file.size == (64, 40)
    assert pixels.shape == CORNERS.shape
    inside = (slice(4, None, 12), slice(6, None, 10))  # away from the edges between the colours
    assert np.abs(pixels[inside].astype(int) - CORNERS[inside]).max() <= 12


@pytest.mark.parametrize("kind", [pytest.param("AVIF", marks=needs_avif), "HEIC"])
@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_exif_orientation_counts_where_no_transform_repeats_it(kind: str, orientation: int) -> None:
    stored = np.ascontiguousarray(STORED[orientation](CORNERS))
    other = Image.Exif()
    other[0x0113] = orientation
    if kind == "HEIC":
        data = heif(stored, exif=other.tobytes())
    else:
        data = saved(stored, kind, exif=other.tobytes(), quality=90, subsampling="4:4:4")
    tags = {order: struct.pack(order + "HHI", 0x0113, 3, 1) for order in "<>"}
    for order, tag in tags.items():
        data = data.replace(tag, struct.pack(order + "HHI", 0x0112, 3, 1))
    assert b"irot" not in data
    pixels = read_image(data).pixels
    assert pixels.shape == CORNERS.shape
    assert np.abs(pixels[4::12, 6::10].astype(int) - CORNERS[4::12, 6::10]).max() <= 12


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("value", "kind", "turned"), [(6, 3, True), (6, 4, True), (0, 3, False), (9, 3, False)])
@pytest.mark.parametrize("container", ["jpeg", "png"])
def test_orientation_values(order: str, value: int, kind: int, turned: bool, container: str) -> None:
    block = exif(value=value, order=order, kind=kind)
    if container == "jpeg":
        data = with_segments(encoded(".jpg"), segment(0xE1, block))
    else:
        plain = encoded(".png")
        data = plain[:33] + chunk(b"eXIf", block[6:]) + plain[33:]
    assert read_image(data).pixels.shape == ((60, 40, 3) if turned else (40, 60, 3))


def test_first_of_two_exif_blocks_counts() -> None:
    data = with_segments(encoded(".jpg"), segment(0xE1, exif(value=6)), segment(0xE1, exif(value=1)))
    assert read_image(data).pixels.shape == (60, 40, 3)


@pytest.mark.parametrize("value", [0, 9])
def test_tiff_with_invalid_orientation(value: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = value
    file = open_image(saved(NOISE, "TIFF", exif=tag))
    np.testing.assert_array_equal(next(file.frames()).pixels, NOISE)
    assert file.damage == []


def with_alpha() -> dict[str, Callable[[], bytes]]:
    grey = Image.merge("LA", [Image.fromarray(NOISE[..., 0]), Image.fromarray(ALPHA)])
    palette = pillow(NOISE).quantize(4)
    return {
        "png": lambda: encoded(".png", BGRA),
        "png 16 bits": lambda: encoded(".png", BGRA.astype(np.uint16) * 257),
        "png grey": lambda: saved(grey, "PNG"),
        "png palette": lambda: saved(palette, "PNG", transparency=bytes([255, 0, 9, 80])),
        "png palette of 2 bits": lambda: saved(palette, "PNG", bits=2, transparency=bytes([255, 0, 9, 80])),
        "png grey key": lambda: saved(Image.fromarray(NOISE[..., 0]), "PNG", transparency=int(NOISE[0, 0, 0])),
        "png key": lambda: saved(NOISE, "PNG", transparency=tuple(int(value) for value in NOISE[0, 0, ::-1])),
        "webp": lambda: saved(BGRA, "WEBP", lossless=True, exact=True),
        "webp lossy": lambda: saved(BGRA, "WEBP", alpha_quality=100),
        "gif": lambda: saved(palette, "GIF", transparency=1),
        "tiff": lambda: saved(BGRA, "TIFF"),
        "tiff 16 bits": lambda: encoded(".tiff", BGRA.astype(np.uint16) * 257),
        "tiff grey": lambda: saved(grey, "TIFF"),
        "tiff compressed": lambda: saved(BGRA, "TIFF", compression="tiff_lzw"),
        "jp2": lambda: saved(BGRA, "JPEG2000"),
    }


@pytest.mark.parametrize("name", with_alpha())
def test_alpha_is_read(name: str) -> None:
    data = with_alpha()[name]()
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    if name.startswith("tiff 16"):
        wanted = BGRA[..., [2, 1, 0, 3]]
    frame = read_image(data)
    assert frame.alpha is not None
    np.testing.assert_array_equal(frame.alpha, wanted[..., 3])
    erased = frame.alpha == 0
    assert erased.any()
    assert not frame.pixels[erased].any()
    difference = np.abs(frame.pixels.astype(int) - wanted[..., 2::-1])[~erased]
    assert difference.max() <= (2 if "lossy" in name else 0)
    assert (frame.visible()[erased] == 255).all()


@needs_avif
def test_alpha_of_avif() -> None:
    frame = read_image(saved(BGRA, "AVIF", quality=100, subsampling="4:4:4"))
    assert frame.alpha is not None
    assert np.abs(frame.alpha.astype(int) - ALPHA).max() <= 2
    assert np.abs(frame.pixels.astype(int) - NOISE)[ALPHA > 4].max() <= 6


def test_alpha_of_heic() -> None:
    frame = read_image(heif(np.dstack([CORNERS, np.where(CORNERS[..., 0] > 0, 255, 60).astype(np.uint8)])))
    assert frame.alpha is not None
    assert abs(int(frame.alpha[10, 10]) - 60) <= 6
    assert frame.alpha[30, 10] >= 250


def test_premultiplied_alpha_of_tiff() -> None:
    colors = np.full((2, 2, 3), 100, np.uint8)
    alpha = np.array([[255, 128], [51, 0]], np.uint8)
    content = np.dstack([colors.astype(int) * alpha[..., None] // 255, alpha]).astype(np.uint8).tobytes()
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 4, 900), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 1000)]
    tags += [(277, 3, 1, 4), (278, 3, 1, 2), (279, 4, 1, 16), (338, 3, 1, 1)]
    data = bytearray(tiff_of(tags, content))
    data[900:908] = struct.pack("<4H", 8, 8, 8, 8)
    frame = read_image(bytes(data))
    np.testing.assert_array_equal(frame.alpha, alpha)
    assert np.abs(frame.pixels.astype(int) - [[[100] * 3, [100] * 3], [[100] * 3, [0] * 3]]).max() <= 3


def test_alpha_turns_with_the_image() -> None:
    alpha = np.full((40, 64), 255, np.uint8)
    alpha[:20, :32] = 0
    tag = Image.Exif()
    tag[0x0112] = 6
    stored = np.ascontiguousarray(STORED[6](np.dstack([CORNERS, alpha])))
    np.testing.assert_array_equal(read_image(saved(stored, "PNG", exif=tag)).alpha, alpha)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_become_eight(suffix: str) -> None:
    file = open_image(encoded(suffix, NOISE.astype(np.uint16) * 257))
    np.testing.assert_array_equal(next(file.frames()).pixels, NOISE)
    assert file.notes == ["16 bits per channel are reduced to 8"]


@pytest.mark.parametrize(
    ("values", "shown", "told"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255], "floating-point values from 0 to 1"),
        ([0.0, 100.0, 255.0], [0, 100, 255], "floating-point values from 0 to 255"),
        ([0.0, 257.0 * 9, 65535.0], [0, 9, 255], "floating-point values from 0 to 65535"),
        ([-3.0, 0.0, 3.0], [0, 128, 255], "floating-point values from -3 to 3"),
        ([np.nan, 0.5, np.inf], [0, 128, 255], "floating-point values from 0 to 1"),
        ([2.0, 2.0, 2.0], [0, 0, 0], "floating-point values from 2 to 2"),
        ([-3e38, 0.0, 3e38], [0, 128, 255], "floating-point values from -3e+38 to 3e+38"),
        (np.array([0, 100, 255], np.int32), [0, 100, 255], "integers from 0 to 255"),
        (np.array([0, 500, 1000], np.int32), [0, 128, 255], "integers from 0 to 1000"),
    ],
)
def test_other_numbers_are_scaled(values: Any, shown: list[int], told: str) -> None:
    row = np.asarray(values if isinstance(values, np.ndarray) else np.array(values, np.float32))[None]
    file = open_image(saved(Image.fromarray(row), "TIFF"))
    np.testing.assert_array_equal(next(file.frames()).pixels[0, :, 1], shown)
    assert file.notes == [f"{told} are reduced to 8 bits"]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressions_of_tiff(compression: str) -> None:
    np.testing.assert_array_equal(read_image(saved(NOISE, "TIFF", compression=compression)).pixels, NOISE)


@pytest.mark.parametrize("big", [False, True])
def test_big_endian_and_big_tiff(big: bool) -> None:
    if big:
        entries = [(256, 3, 2), (257, 3, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 16, 400), (277, 3, 1)]
        entries += [(278, 3, 1), (279, 16, 2), (274, 3, 3)]
        body = b"".join(
            struct.pack("<HHQ", tag, kind, 1) + struct.pack("<Q", value) for tag, kind, value in sorted(entries)
        )
        data = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(entries)) + body + bytes(8)
        data = data.ljust(400, b"\0") + bytes([10, 200])
        wanted = [200, 10]
    else:
        tags = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 1000)]
        data = tiff_of([*tags, (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 2)], bytes([10, 200]), ">")
        wanted = [10, 200]
    assert read_image(data).pixels[0, :, 0].tolist() == wanted


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_by_its_profile(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from scrfd_trt._image_files import icc

    profile, cmyk = profile_of(b"CMYK"), pillow(CORNERS).convert("CMYK")
    assert open_image(saved(cmyk, kind)).color.icc_profile is None
    plain = read_image(saved(cmyk, kind)).pixels
    given: list[tuple[str, bytes]] = []
    monkeypatch.setattr(
        icc,
        "to_srgb",
        lambda image, profile: given.append((image.mode, profile)) or Image.new("RGB", image.size, "red"),
    )
    file = open_image(saved(cmyk, kind, icc_profile=profile))
    assert (next(file.frames()).pixels == (0, 0, 255)).all()
    assert given == [("CMYK", profile)]
    assert file.color.icc_profile is None
    monkeypatch.setattr(icc, "to_srgb", lambda image, profile: None)  # damaged
    assert np.abs(next(file.frames()).pixels.astype(int) - plain).max() <= 2


def test_profiles_of_rgb_stay_and_others_do_not() -> None:
    assert open_image(saved(NOISE, "JPEG", icc_profile=SRGB)).color.icc_profile == SRGB
    assert open_image(saved(NOISE, "PNG", icc_profile=SRGB)).color.icc_profile == SRGB
    assert open_image(saved(NOISE, "WEBP", icc_profile=SRGB)).color.icc_profile == SRGB
    assert open_image(saved(NOISE, "TIFF", icc_profile=SRGB)).color.icc_profile == SRGB
    grey = Image.fromarray(NOISE[..., 0])
    for kind in ("JPEG", "PNG", "TIFF"):
        file = open_image(saved(grey, kind, icc_profile=profile_of(b"GRAY")))
        assert file.color.icc_profile is None
        assert np.abs(next(file.frames()).pixels[..., 0].astype(int) - NOISE[..., 0]).max() <= (
            0 if kind != "JPEG" else 99
        )
    assert open_image(saved(NOISE, "JPEG", icc_profile=profile_of(b"CMYK"))).color.icc_profile is None


@pytest.mark.parametrize("kind", [pytest.param("AVIF", marks=needs_avif), "HEIC"])
def test_profiles_of_avif_and_heic_stay(kind: str) -> None:
    image = pillow(CORNERS)
    image.info["icc_profile"] = SRGB
    if kind == "HEIC":
        pillow_heif = pytest.importorskip("pillow_heif")
        file = io.BytesIO()
        pillow_heif.from_pillow(image).save(file, quality=90)
        data = file.getvalue()
    else:
        data = saved(image, "AVIF", icc_profile=SRGB)
    assert open_image(data).color.icc_profile == SRGB


@needs_avif
@pytest.mark.parametrize(
    ("primaries", "transfer", "profile", "note"),
    [
        (1, 13, False, ""),
        (12, 13, True, ""),
        (12, 16, False, "HDR colours (PQ) are taken as sRGB, and look pale"),
        (9, 1, False, "the colours of BT.2020 are taken as sRGB, and look pale"),
    ],
)
def test_colors_that_avif_names_by_numbers(primaries: int, transfer: int, profile: bool, note: str) -> None:
    data = saved(CORNERS, "AVIF")
    at = data.index(b"nclx") + 4
    file = open_image(data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :])
    assert (file.color.icc_profile is not None) == profile
    assert file.notes == ([note] if note else [])


def test_profile_of_display_p3() -> None:
    from scrfd_trt._image_files import icc

    profile = icc.display_p3()
    assert len(profile) == int.from_bytes(profile[:4], "big")
    linear = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.4], [0.1, 0.3, 0.25]])
    to_srgb = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    wanted = linear @ to_srgb.T
    stored, shown = (np.rint(255 * (1.055 * part ** (1 / 2.4) - 0.055)).astype(np.uint8) for part in (linear, wanted))
    converted = icc.to_srgb(Image.fromarray(stored[None]), profile)
    assert np.abs(np.asarray(converted)[0].astype(int) - shown).max() <= 2


def test_lab_tiff() -> None:
    lab = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (137, 128 + 81, 128 + 70)])
    buffer = saved(lab, "TIFF")
    red = read_image(buffer).pixels[4, 4]
    assert np.abs(red.astype(int) - (0, 0, 255)).max() <= 8


@pytest.mark.parametrize("turned", [False, True])
def test_resolution(turned: bool) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6 if turned else 1
    wanted = (72, 300) if turned else (300, 72)
    for kind in ("JPEG", "PNG", "TIFF"):
        resolution = open_image(saved(NOISE, kind, dpi=(300, 72), exif=tag)).color.resolution
        assert resolution is not None
        assert np.allclose(resolution, wanted, atol=0.1), kind
    assert open_image(encoded(".webp")).color.resolution is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text\n", "not a supported image"),
        (encoded(".tif")[:200], "directory is missing"),
        (png_of(60, 40), "image"),
        (png_of(60_000, 60_000), r"60000×60000 pixels, more than 300 million: make it smaller, or raise max_pixels"),
        (png_of(0, 5), "damaged"),
        (b"\xff\x0a" + bytes(100), "JPEG XL images are not supported: convert it"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<svg width='9' height='9'/>", "SVG images are not supported"),
        (b"\0\0\2" + bytes(9) + b"\x08\0\x08\0\x18\0" + bytes(192), "Targa images are not supported"),
        (b"8BPS\0\1" + bytes(50), "Photoshop images are not supported"),
        (tiff_of([(256, 3, 1, 8), (257, 3, 1, 8), (254, 4, 1, 1), (330, 4, 1, 900)]), "raw images of cameras"),
        (tiff_of([(256, 3, 1, 8), (257, 3, 1, 8), (50706, 1, 4, 1)]), "raw images of cameras"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "cut off|pillow-heif"),
    ],
)
def test_invalid_image_is_refused_with_one_line(
    data: bytes, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photo"
    path.write_bytes(data)
    with pytest.raises((ImageError, MissingDependencyError), match=message) as caught:
        read_image(path, name="photo")
    assert str(caught.value).startswith("photo: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("marker", "bits", "told"), [(0xC9, 8, "arithmetic JPEG"), (0xC3, 8, "lossless JPEG"), (0xC1, 12, "12-bit JPEG")]
)
def test_rare_jpegs_are_refused(marker: int, bits: int, told: str) -> None:
    data = bytearray(encoded(".jpg"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    with pytest.raises(ImageError, match=f"^{told} images are not supported"):
        open_image(bytes(data))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import features

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(features, "modules", {})
    for brand in (b"heic", b"avif"):
        with pytest.raises(MissingDependencyError, match=re.escape(installable('pip install "scrfd-trt[heif]"')) + "$"):
            open_image(b"\0\0\0\x18ftyp" + brand + bytes(100))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("Insufficient memory")])
def test_lack_of_memory_is_an_image_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(opencv_codec.cv2, "imdecode", fail)
    with pytest.raises(ImageError, match=r"^x: (there is not enough memory|OpenCV cannot read the image: Insuff)"):
        read_image(encoded(".jpg"), name="x")


def test_stderr_is_captured_and_restored(capfd: pytest.CaptureFixture[str]) -> None:
    import os

    def call() -> None:
        os.write(2, b"[ WARN:0@1.2] global grfmt_png.cpp:7 read something is odd\nlibpng warning: iCCP: odd\n")

    assert watched(call) == (None, ["something is odd"])
    os.write(2, b"after\n")
    print("and python", file=sys.stderr, flush=True)
    assert "after\nand python" in capfd.readouterr().err


def test_grey_pfm_has_three_channels() -> None:
    values = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    frame = read_image(b"Pf\n7 5\n-1.0\n" + values[::-1].tobytes(), name="a.pfm")
    assert frame.pixels.shape == (5, 7, 3)
    assert (frame.pixels == frame.pixels[..., :1]).all()


def test_heic_without_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrfd_trt._image_files.pillow_codec.open_heif", lambda _: [])
    with pytest.raises(
        ImageError, match=r"^a\.heic: the file is damaged \(it has no image\): copy or download it again$"
    ):
        open_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08meta\0\0\0\x08mdat", name="a.heic")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match=r"it is a pipe or device; copy the content into a file$"):
            open_image(path)
    with pytest.raises(ImageError, match=r"^the file cannot be read: .*embedded null"):
        open_image(Path("a\0.png"))
