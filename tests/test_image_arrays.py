from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scrfd_trt._image_arrays import as_color
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
        (np.full((4, 4, 3), -0.5), "-0.5"),
        (nan, "NaN"),
        (np.full((4, 4, 3), np.inf), "infinity"),
    ],
)
def test_ambiguous_images_are_rejected_in_one_line(image, message):
    with pytest.raises(ImageError, match=message) as caught:
        as_color(image)
    assert "\n" not in str(caught.value)
