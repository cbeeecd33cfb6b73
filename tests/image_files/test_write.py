"""Tests of writing image files: pixels, alpha, pages and animations, and what is said beside them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from hidden_metadata import HIDING, MARKER, THUMBNAIL, XMP, encoded, exif_block, png_chunk, segment, srgb_profile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from scrfd_trt._image_files import ColorDescription, ImageFile, ImageFrame, open_image
from scrfd_trt._image_files.heif import can_encode_heic
from scrfd_trt._image_files.icc import essential, to_profile
from scrfd_trt._image_files.metadata import Metadata, read_metadata
from scrfd_trt._image_files.pillow_codec import pillow_has_avif
from scrfd_trt._image_files.write import is_writable, storable, write_image
from scrfd_trt.errors import OutputError

WITH_AVIF = pytest.param(".avif", marks=pytest.mark.skipif(not pillow_has_avif(), reason="this Pillow has no AVIF"))
WITH_HEIC = pytest.param(".heic", marks=pytest.mark.skipif(not can_encode_heic(), reason="pillow-heif is not here"))
LOSSLESS = (".png", ".tif", ".bmp")
TOLERANCE = 12  # of lossy formats, for a smooth picture


CHROMATICITIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def smooth(width: int = 64, height: int = 32, shift: int = 0) -> NDArray[np.uint8]:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.dstack([x * 2 + 60, y * 4 + 40, (x + y + shift) + 30]).astype(np.uint8)


def erased() -> NDArray[np.uint8]:
    """Return alpha with an erased half, and a few half transparent rows."""
    alpha = np.full((32, 64), 255, np.uint8)
    alpha[:, :32] = 0
    alpha[:8, 40:] = 128
    return alpha


def written(frames: Any, suffix: str, **options: Any) -> tuple[bytes, ImageFile]:
    file = io.BytesIO()
    write_image(file, iter(frames), suffix, **options)
    return file.getvalue(), open_image(file.getvalue())


def difference(one: ImageFrame, other: ImageFrame) -> int:
    return int(np.abs(one.visible().astype(int) - other.visible()).max())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".ppm"])
def test_plain_pictures_are_files_of_opencv(suffix: str) -> None:
    flags = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 80], ".webp": [cv2.IMWRITE_WEBP_QUALITY, 80]}
    data, _ = written([ImageFrame(smooth())], suffix, quality=80)
    assert data == cv2.imencode(suffix, smooth(), flags.get(suffix, []))[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", WITH_AVIF, WITH_HEIC])
def test_profile_and_resolution_stay(suffix: str) -> None:
    described = ColorDescription(srgb_profile(), (300.0, 200.0))
    data, file = written([ImageFrame(smooth())], suffix, color=described)
    assert file.color.icc_profile == described.icc_profile
    assert file.color.resolution == pytest.approx((300.0, 200.0), abs=0.01)
    assert difference(next(file.frames()), ImageFrame(smooth())) <= (0 if suffix in LOSSLESS else TOLERANCE)
    assert read_metadata(data, file.kind) == Metadata()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_pixels_are_the_same_with_and_without_a_profile(suffix: str) -> None:
    _, plain = written([ImageFrame(smooth())], suffix)
    _, described = written([ImageFrame(smooth())], suffix, color=ColorDescription(srgb_profile(), (300.0, 200.0)))
    np.testing.assert_array_equal(next(plain.frames()).pixels, next(described.frames()).pixels)


def test_png_keeps_its_description_of_colours() -> None:
    base = cv2.imencode(".png", smooth())[1].tobytes()
    gamma = png_chunk(b"gAMA", (45455).to_bytes(4, "big")) + png_chunk(b"cHRM", CHROMATICITIES)
    for profile, kept in (b"", True), (png_chunk(b"iCCP", b"x\0\0" + zlib.compress(srgb_profile())), False):
        source = open_image(base[:33] + gamma + profile + base[33:])
        data, _ = written(source.frames(), ".png", color=source.color)
        assert (gamma[8:12] in data, b"cHRM" in data, b"iCCP" in data) == (kept, kept, not kept)
        data, _ = written([*source.frames()] * 2, ".png", color=source.color, animation=True)
        assert (b"cHRM" in data) == kept
        written(source.frames(), ".jpg", color=source.color)


@pytest.mark.parametrize("suffix", [".bmp", ".gif"])
def test_pixels_become_srgb_where_a_profile_does_not_fit(suffix: str) -> None:
    profile = wide_profile()
    grey_green = np.full((8, 8, 3), (40, 200, 60), np.uint8)
    _, file = written([ImageFrame(grey_green)], suffix, color=ColorDescription(profile))
    expected = ImageCms.profileToProfile(
        Image.fromarray(grey_green[..., ::-1]), ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
    )  # fmt: skip
    assert expected is not None
    np.testing.assert_array_equal(next(file.frames()).pixels[..., ::-1], np.asarray(expected))
    assert not np.array_equal(grey_green[..., ::-1], np.asarray(expected))


def wide_profile() -> bytes:
    """Return sRGB's profile with the colorants of red and green exchanged."""
    red, green = (srgb_profile().index(name) + 4 for name in (b"rXYZ", b"gXYZ"))
    profile = bytearray(srgb_profile())
    profile[red : red + 4], profile[green : green + 4] = profile[green : green + 4], profile[red : red + 4]
    exchanged = essential(bytes(profile))
    assert exchanged is not None
    return exchanged


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".gif", WITH_AVIF, WITH_HEIC])
def test_alpha_stays_and_hides_nothing(suffix: str) -> None:
    frame = ImageFrame(smooth(), erased())
    _, file = written([frame], suffix)
    found = next(file.frames())
    assert found.alpha is not None
    if suffix == ".gif":
        np.testing.assert_array_equal(found.alpha, np.where(erased() < 128, 0, 255))
    else:
        np.testing.assert_allclose(found.alpha, erased(), atol=0 if suffix in LOSSLESS else 2)
    hidden = found.pixels[:, :24]
    assert (hidden == hidden[0, 0]).all() or suffix in (".avif", ".heic")
    assert (np.ptp(hidden, axis=(0, 1)) < 8).all()
    np.testing.assert_allclose(found.pixels[12:, 44:], smooth()[12:, 44:], atol=TOLERANCE)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_without_alpha_pictures_lie_on_white(suffix: str) -> None:
    frame = ImageFrame(smooth(), erased())
    _, file = written([frame], suffix)
    found = next(file.frames())
    assert found.alpha is None
    assert (found.pixels[:, :24] >= 250).all()
    np.testing.assert_allclose(found.pixels[:, 44:], frame.visible()[:, 44:], atol=TOLERANCE)


def test_alpha_shows_nothing_of_what_is_drawn_over() -> None:
    stencil = np.tile(np.arange(64, dtype=np.uint8) * 3, (32, 1))  # a picture in alpha alone
    frame = ImageFrame(np.zeros((32, 64, 3), np.uint8), stencil, 0.5)
    drawn = frame.visible().copy()
    drawn[4:20, 8:40] = (9, 8, 200)
    copy = frame.drawn_on(drawn)
    expected = stencil.copy()
    expected[4:20, 8:40] = 255
    np.testing.assert_array_equal(copy.alpha, expected)
    np.testing.assert_array_equal(copy.visible(), drawn)
    assert copy.seconds == 0.5
    opaque = ImageFrame(smooth())
    assert opaque.drawn_on(drawn).pixels is drawn


def test_opaque_alpha_is_left_out() -> None:
    data, _ = written([ImageFrame(smooth(), np.full((32, 64), 255, np.uint8))], ".png")
    assert data == cv2.imencode(".png", smooth())[1].tobytes()


@pytest.mark.parametrize("kind", HIDING)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif", WITH_AVIF, WITH_HEIC])
def test_nothing_hidden_is_copied(kind: Any, suffix: str) -> None:
    source = open_image(HIDING[kind]())
    found = read_metadata(HIDING[kind](), kind)
    for options in (False, False), (True, False), (False, True), (True, True):
        kept = storable(found.kept(descriptive=options[0], location=options[1]), suffix)
        data, file = written(source.frames(), suffix, color=source.color, metadata=kept)
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            assert MARKER.decode().encode(encoding) not in data
        assert THUMBNAIL[20:60] not in data
        again = read_metadata(data, file.kind)
        assert (dict(again.fields), again.others) == (dict(kept.fields), frozenset())
        width, height = file.size
        assert again.panorama == found.panorama_of(width, height)


@pytest.mark.skipif(not pillow_has_avif(), reason="this Pillow has no AVIF")
def test_nothing_hidden_in_boxes_is_copied() -> None:
    boxes = {b"uuid": bytes(16) + MARKER, b"free": MARKER, b"mpvd": THUMBNAIL}
    tail = b"".join(struct.pack(">I4s", 8 + len(content), name) + content for name, content in boxes.items())
    data = encoded("AVIF", exif=b"Exif\0\0" + exif_block(), xmp=XMP) + tail
    source, found = open_image(data), read_metadata(data, "avif")
    assert {"other data", "a motion video", "maker notes", "embedded previews"} <= found.others
    for suffix in (".avif", ".jpg"):
        kept = found.kept(descriptive=True, location=True)
        copy, _ = written(source.frames(), suffix, color=source.color, metadata=kept)
        assert MARKER not in copy
        assert THUMBNAIL[20:60] not in copy


def test_a_panorama_has_the_size_of_its_picture() -> None:
    geometry = {
        "ProjectionType": "equirectangular", "FullPanoWidthPixels": "4096", "FullPanoHeightPixels": "2048",
        "CroppedAreaImageWidthPixels": "4096", "CroppedAreaImageHeightPixels": "2048", "CroppedAreaLeftPixels": "0",
        "CroppedAreaTopPixels": "0",
    }  # fmt: skip
    data, _ = written([ImageFrame(smooth())], ".jpg", metadata=Metadata(panorama=geometry))
    found = read_metadata(data, "jpeg").panorama
    assert (found["FullPanoWidthPixels"], found["CroppedAreaImageHeightPixels"]) == ("64", "32")


@pytest.mark.parametrize("suffix", [".jpg", ".tif", WITH_HEIC])
@pytest.mark.parametrize("transparent", [False, True])
def test_pages_are_written(suffix: str, transparent: bool) -> None:
    sizes = [(64, 32), (40, 48), (30, 30)]
    alphas = [np.full((h, w), 90 + w, np.uint8) if transparent else None for w, h in sizes]
    pages = [ImageFrame(smooth(*size, 7), alpha) for size, alpha in zip(sizes, alphas, strict=True)]
    kept = Metadata({"title": "Bridge", "author": "Ana", "taken": "2024-05-01T12:30:00"})
    data, file = written(pages, suffix, color=ColorDescription(srgb_profile(), (300.0, 300.0)), metadata=kept)
    found = list(file.frames())
    assert (file.count, file.is_animation) == (3, False)
    assert [page.pixels.shape[1::-1] for page in found] == sizes
    assert max(map(difference, found, pages)) <= (0 if suffix == ".tif" else TOLERANCE)
    assert read_metadata(data, file.kind).fields == kept.fields
    if suffix == ".tif":
        with Image.open(io.BytesIO(data)) as image:
            assert image.n_frames == 3
            image.seek(2)
            assert image.info["icc_profile"] == srgb_profile()
    if suffix == ".jpg":
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.n_frames) == ("MPO", 3)


def test_pages_are_converted_to_the_profile_of_the_first() -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file, profile in zip(files, (srgb_profile(), wide_profile()), strict=True):
        write_image(
            file, [ImageFrame(np.full((8, 8, 3), (40, 200, 60), np.uint8))], ".tif", color=ColorDescription(profile)
        )
    pages = [Image.open(file) for file in files]
    joined = io.BytesIO()
    pages[0].save(joined, "TIFF", save_all=True, append_images=pages[1:])
    with Image.open(io.BytesIO(joined.getvalue())) as image:
        image.seek(1)
        assert image.info["icc_profile"] == wide_profile()
    source = open_image(joined.getvalue())
    first, second = source.frames()
    expected = to_profile(first.pixels, wide_profile(), None)
    assert expected is not None
    np.testing.assert_allclose(second.pixels, expected, atol=1)
    assert np.abs(first.pixels.astype(int) - second.pixels).max() > 50


def test_pictures_of_no_type_are_pages_unless_they_describe_the_first() -> None:
    pictures = [Image.fromarray(smooth(shift=shift)) for shift in (0, 9)]
    file = io.BytesIO()
    pictures[0].save(file, "MPO", save_all=True, append_images=pictures[1:])
    assert open_image(file.getvalue()).count == 2
    marked = file.getvalue().rpartition(b"\xff\xd8")
    gain_map = b"".join(marked[:2]) + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0 hdrgm:Version") + marked[2]
    size = len(marked[2]) + 2
    gain_map = gain_map.replace(size.to_bytes(4, "little"), (len(gain_map) - len(marked[0])).to_bytes(4, "little"))
    gain_map = gain_map.replace(size.to_bytes(4, "big"), (len(gain_map) - len(marked[0])).to_bytes(4, "big"))
    assert open_image(gain_map).count == 1
    file = io.BytesIO()
    pictures[0].save(file, "MPO", save_all=True, append_images=[pictures[1].resize((32, 16))])
    assert open_image(file.getvalue()).count == 1


def test_pages_of_opencv_are_joined() -> None:
    data, file = written([ImageFrame(smooth()), ImageFrame(smooth(shift=9))], ".tif")
    for page, pixels in zip(file.frames(), [smooth(), smooth(shift=9)], strict=True):
        np.testing.assert_array_equal(page.pixels, pixels)
    assert data.startswith(cv2.imencode(".tiff", smooth())[1].tobytes()[:4])


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", WITH_AVIF])
def test_pages_need_a_format_that_has_them(suffix: str) -> None:
    with pytest.raises(OutputError, match=r"files hold one picture, and this has several; name a \.tif file"):
        written([ImageFrame(smooth()), ImageFrame(smooth())], suffix)


def moving(transparent: bool) -> list[ImageFrame]:
    """Return frames with a moving square, on a background that gets holes."""
    frames = []
    for number, seconds in enumerate((0.1, 0.25, 0.04, 1.5)):
        pixels = smooth()
        pixels[8:16, 6 * number : 6 * number + 9] = (30, 220, 200)
        alpha = None
        if transparent and number:
            alpha = np.full((32, 64), 255, np.uint8)
            alpha[20:, : 10 * number] = 0
        frames.append(ImageFrame(pixels, alpha, seconds))
    return frames


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", WITH_AVIF])
@pytest.mark.parametrize("transparent", [False, True])
def test_animations_keep_frames_durations_and_loops(suffix: str, transparent: bool) -> None:
    frames = moving(transparent)
    for loops in (0, 1, 3):
        options = {"animation": True, "loops": loops, "count": 4}
        data, file = written(frames, suffix, color=ColorDescription(srgb_profile()), **options)
        found = list(file.frames())
        assert (file.count, file.is_animation) == (4, True)
        assert suffix == ".avif" or file.loops == loops
        assert [frame.seconds for frame in found] == [0.1, 0.25, 0.04, 1.5]
        assert [frame.alpha is not None for frame in found] == [frame.alpha is not None for frame in frames]
        for one, other in zip(found, frames, strict=True):
            difference = np.abs(one.visible().astype(int) - other.visible())
            assert difference.mean() <= {".png": 0, ".gif": 3}.get(suffix, 4)
        for one, other in zip(found, frames, strict=True):
            if one.alpha is not None and other.alpha is not None:
                assert np.mean((one.alpha >= 128) != (other.alpha >= 128)) < 0.02
        assert read_metadata(data, file.kind) == Metadata()


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", WITH_AVIF])
def test_animations_hold_metadata(suffix: str) -> None:
    kept = Metadata({"title": "Bridge", "taken": "2024-05-01T12:30:00"})
    data, file = written(moving(False), suffix, metadata=kept, animation=True, count=4)
    assert read_metadata(data, file.kind) == kept
    assert file.count == 4


def test_still_frames_of_a_gif_keep_their_colours() -> None:
    flat = np.zeros((40, 40, 3), np.uint8)
    flat[:, :20] = (10, 20, 30)
    flat[0, :20] = np.arange(20)[:, None]
    _, file = written([ImageFrame(flat, None, 0.1), ImageFrame(flat, None, 0.2)], ".gif", animation=True)
    for frame in file.frames():
        np.testing.assert_array_equal(frame.pixels, flat)


def test_frames_are_taken_one_by_one() -> None:
    alive: set[int] = set()

    class Counted(np.ndarray):
        def __del__(self) -> None:
            alive.discard(id(self))

    def frames() -> Iterator[ImageFrame]:
        for number in range(12):
            pixels = smooth(shift=number).view(Counted)
            alive.add(id(pixels))
            assert len(alive) < 6
            yield ImageFrame(pixels, None, 0.1)

    for suffix in (".gif", ".png", ".webp"):
        file = io.BytesIO()
        write_image(file, frames(), suffix, animation=True)
        assert open_image(file.getvalue()).count == 12
    write_image(io.BytesIO(), frames(), ".tif")


def test_frames_of_other_sizes_are_refused() -> None:
    for suffix in (".gif", ".png", ".webp"):
        with pytest.raises(OutputError, match="a frame has 60×30 pixels, and the first one 64×32"):
            written([ImageFrame(smooth()), ImageFrame(smooth(60, 30))], suffix, animation=True)


def test_errors_name_the_reason() -> None:
    with pytest.raises(OutputError, match=r"OpenCV does not write \.xyz; use \.png or \.jpg"):
        written([ImageFrame(smooth())], ".xyz")
    with pytest.raises(OutputError, match="there is no picture to write"):
        written([], ".png")
    with pytest.raises(OutputError, match="65500"):
        written([ImageFrame(np.zeros((1, 70_000, 3), np.uint8))], ".jpg")


def test_formats_that_are_written() -> None:
    assert all(map(is_writable, (".jpg", ".JPEG", ".tif", ".gif", ".webp", ".apng", ".bmp")))
    assert not any(map(is_writable, ("", ".xyz", ".\udcff", ".mp4")))
    assert is_writable(".heic") == can_encode_heic()
    assert storable(Metadata({"title": "Bridge"}), ".bmp") == Metadata()
