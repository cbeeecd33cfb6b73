from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrfd_trt._letterbox import MEAN, PADDING, STD, Letterbox, normalize_into

sides = st.integers(1, 5000)
sizes = st.tuples(sides, sides)
targets = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda pair: (32 * pair[0], 32 * pair[1]))


@given(sizes, targets)
def test_scaled_image_fits_and_touches_a_border(source, target):
    box = Letterbox.fit(source, target)
    assert 1 <= box.resized[0] <= target[0]
    assert 1 <= box.resized[1] <= target[1]
    assert box.resized[0] == target[0] or box.resized[1] == target[1]


@given(sizes, targets)
def test_aspect_ratio_is_kept_to_the_pixel(source, target):
    box = Letterbox.fit(source, target)
    exact = min(target[0] / source[0], target[1] / source[1])
    for scaled, side in zip(box.resized, source, strict=True):
        assert scaled == 1 or side * exact - 1 - 1e-6 <= scaled <= side * exact + 1e-6


@given(sizes, targets, st.data())
def test_mapping_back_inverts_the_scale_of_each_axis(source, target, data):
    box = Letterbox.fit(source, target)
    point = data.draw(st.tuples(st.floats(0, source[0]), st.floats(0, source[1])))
    inside = np.array([point], np.float32) * np.array(box.scale, np.float32)
    assert np.allclose(box.to_source(inside), [point], rtol=1e-5, atol=1e-3)


def test_corners_of_the_input_are_corners_of_the_source():
    box = Letterbox.fit((259, 194), (128, 128))
    assert box.resized == (128, 95)
    assert np.allclose(box.to_source(np.array([[0, 0, 128, 95]], np.float32)), [[0, 0, 259, 194]])
    points = box.to_source(np.full((1, 5, 2), 64, np.float32))
    assert points.shape == (1, 5, 2)
    assert np.allclose(points[0, 0], [64 * 259 / 128, 64 * 194 / 95])


@given(sizes, targets)
def test_cut_input_keeps_the_image_and_some_padding(source, target):
    box = Letterbox.fit(source, target)
    cut = box.cut()
    assert (cut.source, cut.resized) == (box.source, box.resized)
    for side, whole, used in zip(cut.target, target, box.resized, strict=True):
        assert side == whole or (side % 32 == 0 and used + 16 <= side < used + 48)


@pytest.mark.parametrize(
    ("source", "target", "cut"),
    [
        ((1920, 1080), (640, 640), (640, 384)),
        ((1080, 1920), (640, 640), (384, 640)),
        ((640, 480), (640, 640), (640, 512)),
        ((10_000, 2500), (640, 640), (640, 192)),
        ((3840, 1080), (640, 640), (640, 224)),
        ((64, 64), (640, 640), (640, 640)),
        ((1080, 1920), (640, 384), (256, 384)),
        ((1920, 1080), (128, 128), (128, 128)),
    ],
)
def test_cut_inputs(source, target, cut):
    assert Letterbox.fit(source, target).cut().target == cut


@pytest.mark.parametrize("color", ["bgr", "rgb"])
@pytest.mark.parametrize("size", [(30, 20), (64, 64), (200, 20), (20, 200), (1, 1)])
def test_planes_are_rgb_normalised_and_padded(size, color):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    box = Letterbox.fit(size, (64, 64))
    blob = np.full((3, 64, 64), np.nan, np.float32)
    normalize_into(blob, image, box, color)
    scaled = cv2.resize(image, box.resized, interpolation=cv2.INTER_LINEAR)
    rgb = scaled[:, :, ::-1] if color == "bgr" else scaled
    expected = np.full((3, 64, 64), PADDING, np.float32)
    expected[:, : box.resized[1], : box.resized[0]] = (rgb.transpose(2, 0, 1).astype(np.float32) - MEAN) / STD
    assert np.abs(blob - expected).max() < 1e-6


def test_existing_padding_is_not_written():
    image = np.zeros((20, 64, 3), np.uint8)
    blob = np.full((3, 64, 64), 7, np.float32)
    normalize_into(blob, image, Letterbox.fit((64, 20), (64, 64)), padded=True)
    assert (blob[:, 20:] == 7).all()
    assert np.allclose(blob[:, :20], PADDING)


def test_read_only_image_with_long_rows_is_read_in_place():
    base = np.random.default_rng(2).integers(0, 256, (50, 90, 3), np.uint8)
    view = base[5:45, 10:70]
    view.flags.writeable = False
    one, other = np.empty((2, 3, 32, 32), np.float32)
    box = Letterbox.fit((60, 40), (32, 32))
    normalize_into(one, view, box)
    normalize_into(other, np.ascontiguousarray(view), box)
    assert np.array_equal(one, other)
