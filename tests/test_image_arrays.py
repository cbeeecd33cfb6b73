from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt import YUVImage
from scrfd_trt._image_arrays import LUMA_SHARES, as_color, from_yuv
from scrfd_trt.errors import ImageError

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (6, 9, 3), np.uint8)


def test_plain_image_is_returned_unchanged():
    assert as_color(COLOR) is COLOR


@pytest.mark.parametrize(
    "view", [COLOR[:, ::-1], COLOR[::-1], COLOR[:, :, ::-1], COLOR[:, ::2], np.asfortranarray(COLOR)]
)
def test_any_memory_layout(view):
    got = as_color(view)
    assert got.strides[1:] == (3, 1)
    assert np.array_equal(got, view)


def test_rows_of_a_larger_image_are_not_copied():
    part = COLOR[1:5, 2:7]
    assert np.shares_memory(as_color(part), COLOR)


def test_grey_image_gets_three_equal_channels():
    grey = COLOR[:, :, 0]
    for image in (grey, grey[:, :, None], np.ascontiguousarray(grey)):
        got = as_color(image)
        assert got.shape == (6, 9, 3)
        assert all(np.array_equal(got[:, :, channel], grey) for channel in range(3))


def test_alpha_is_dropped():
    image = np.dstack([COLOR, RNG.integers(0, 256, (6, 9), np.uint8)])
    assert np.array_equal(as_color(image), COLOR)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_from_0_to_1(dtype):
    got = as_color((COLOR / 255).astype(dtype))
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - COLOR).max() <= (1 if dtype is np.float16 else 0)


def test_read_only_input_is_not_changed():
    image = COLOR.copy()
    image.flags.writeable = False
    for view in (image, image[:, ::-1], image[:, :, 0], (image / 255)):
        before = view.copy()
        as_color(view)
        assert np.array_equal(view, before)


nan = np.full((4, 4, 3), 0.5)
nan[1, 2, 0] = np.nan


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "None.*cv2.imread"),
        ("photo.jpg", "path: read it first"),
        (Path("photo.jpg"), "path: read it first"),
        ([[1, 2], [3, 4]], "type list"),
        (np.zeros((0, 0, 3), np.uint8), "no pixels"),
        (np.zeros((5, 0), np.uint8), "no pixels"),
        (np.zeros((3, 20, 30), np.uint8), "transpose"),
        (np.zeros((2, 20, 30, 3), np.uint8), "detect_batch"),
        (np.zeros((20, 30, 2), np.uint8), r"\(20, 30, 2\)"),
        (np.zeros(7, np.uint8), r"\(7,\)"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 3), bool), "bool"),
        (np.zeros((4, 4, 3), np.complex64), "complex64"),
        (np.full((4, 4, 3), 200.0), "from 200 to 200"),
        (np.full((4, 4, 3), -0.5), r"-0.5; for -1 to 1, pass \(image \+ 1\) / 2"),
        (nan, "NaN"),
        (np.full((4, 4, 3), np.inf), "infinity"),
    ],
)
def test_ambiguous_images_are_rejected_in_one_line(image, message):
    with pytest.raises(ImageError, match=message) as caught:
        as_color(image)
    assert "\n" not in str(caught.value)


def planes(size, dtype):
    width, height = size
    uv = RNG.integers(0, np.iinfo(dtype).max, ((height + 1) // 2, (width + 1) // 2, 2), dtype, endpoint=True)
    return RNG.integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True), uv


def rgb_of(y, uv, matrix, *, full_range, bits):
    """ITU-T H.273, equations 11 to 13 and 24 to 30, in floating point, with the chroma of each 2×2 pixels."""
    levels, unit = (1 << bits) - 1, 1 << bits - 8
    y, uv = y.astype(float), uv.repeat(2, axis=0).repeat(2, axis=1)[: len(y), : y.shape[1]] - 128.0 * unit
    if full_range:
        y, uv = y / levels, uv / levels
    else:
        y, uv = np.maximum(y - 16 * unit, 0) / (219 * unit), uv / (224 * unit)
    kr, kb = LUMA_SHARES[matrix]
    red = y + 2 * (1 - kr) * uv[..., 1]
    blue = y + 2 * (1 - kb) * uv[..., 0]
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], axis=2) * 255, 0, 255)


@pytest.mark.parametrize("matrix", LUMA_SHARES)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("size", [(64, 48), (33, 27)])
def test_two_planes_are_converted_as_the_standard_says(matrix, full_range, bits, size):
    y, uv = planes(size, np.uint8 if bits == 8 else np.uint16)
    found = from_yuv(YUVImage(y[..., None], uv, matrix, full_range))
    expected = rgb_of(*((y, uv) if bits == 8 else (y >> 6, uv >> 6)), matrix, full_range=full_range, bits=bits)
    assert np.abs(found[..., ::-1] - expected).max() < (
        0.51 if (matrix, full_range, bits) != ("bt601", False, 8) else 1
    )
    assert np.array_equal(from_yuv(YUVImage(y, uv, matrix, full_range), "rgb"), found[..., ::-1])


def test_nv12_of_bt601_is_converted_as_opencv_does():
    y, uv = planes((64, 48), np.uint8)
    packed = np.concatenate([y, uv.reshape(24, 64)])
    expected = cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_NV12)
    assert np.array_equal(from_yuv(YUVImage(y, uv)), expected)
    wide = YUVImage(*(np.repeat(plane, 2, axis=1)[:, ::2] for plane in (y, uv)))
    assert np.array_equal(from_yuv(wide), expected)
    odd = YUVImage(y[:-1, :-1], uv)
    assert np.array_equal(from_yuv(odd), expected[:-1, :-1])


@pytest.mark.parametrize(
    ("y", "uv", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((2, 4), np.uint8), r"not \(4, 4\) and \(2, 4\); for an array"),
        (np.zeros((4, 4), np.uint8), np.zeros((2, 2, 2), np.uint16), "types uint8 and uint16"),
        (np.zeros((4, 4), np.float32), np.zeros((2, 2, 2), np.float32), "types float32"),
        (np.zeros((0, 4), np.uint8), np.zeros((0, 2, 2), np.uint8), "shapes"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((2, 2, 2), np.uint8), "shapes"),
        ([[1]], np.zeros((1, 1, 2), np.uint8), "type list"),
    ],
)
def test_other_planes_are_rejected(y, uv, message):
    with pytest.raises(ImageError, match=message):
        from_yuv(YUVImage(y, uv))


def test_planes_are_described_in_short():
    y, uv = planes((64, 48), np.uint8)
    assert repr(YUVImage(y, uv, "bt709")) == "<YUVImage 64×48 nv12 bt709 limited>"
    assert repr(YUVImage(y.astype(np.uint16), uv, full_range=True)) == "<YUVImage 64×48 p010 bt601 full>"
    assert repr(YUVImage(None, None)) == "<YUVImage ?×? nv12 bt601 limited>"


def test_unknown_matrix_is_rejected():
    with pytest.raises(ImageError, match=r"matrix is \['bt601'\]"):
        YUVImage(None, None, ["bt601"])
    with pytest.raises(ImageError, match="matrix is 'ycgco'; the choices are: bt601, bt709, bt2020"):
        YUVImage(None, None, "ycgco")
