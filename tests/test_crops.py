from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrfd_trt import Detections, DetectionsError, ImageError, OptionError
from scrfd_trt._crops import ARCFACE_TEMPLATE, align_face, crop_box, similarity

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@given(st.floats(-3, 3), st.floats(0.1, 10), st.floats(-100, 100), st.floats(-100, 100))
def test_similarity_returns_rotation_scale_and_shift(angle, scale, dx, dy):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = ARCFACE_TEMPLATE @ turn.T + [dx, dy]
    found = similarity(ARCFACE_TEMPLATE, target)
    assert np.allclose(found, np.column_stack([turn, [dx, dy]]), atol=1e-6 * max(1, scale))


def test_similarity_minimises_the_squared_distances():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    matrix = similarity(source, target)
    best = ((source @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum()
    for _ in range(200):
        a, b, x, y = np.array([matrix[0, 0], matrix[1, 0], *matrix[:, 2]]) + rng.normal(scale=0.05, size=4)
        other = np.array([[a, -b, x], [b, a, y]])
        assert ((source @ other[:, :2].T + other[:, 2] - target) ** 2).sum() >= best - 1e-12


def test_identical_points_give_finite_values():
    assert np.isfinite(similarity(np.ones((5, 2)), ARCFACE_TEMPLATE)).all()


def test_crop_is_clipped_at_the_border_and_a_copy():
    got = crop_box(IMAGE, np.array([10, 20, 30, 50], np.float32), 0.0)
    assert np.array_equal(got, IMAGE[20:50, 10:30])
    assert not np.shares_memory(got, IMAGE)
    assert crop_box(IMAGE, np.array([10, 20, 30, 50], np.float32), 0.5).shape == (55, 40, 3)
    assert crop_box(IMAGE, np.array([-10, -10, 500, 500], np.float32), 0.0).shape == IMAGE.shape
    assert crop_box(IMAGE, np.array([200, 200, 300, 300], np.float32), 0.0).size == 0


@pytest.mark.parametrize("size", [112, 128, 224, 256])
def test_aligning_puts_landmarks_on_the_template(size):
    angle = 0.4
    turn = 0.3 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (ARCFACE_TEMPLATE @ turn.T + [40, 15]).astype(np.float32)
    image = np.zeros((60, 80, 3), np.uint8)
    for x, y in points:
        image[round(float(y)) - 1 : round(float(y)) + 2, round(float(x)) - 1 : round(float(x)) + 2] = 255
    crop = align_face(image, points, size)
    assert crop.shape == (size, size, 3)
    unit, shift = (size / 112, 0) if size % 112 == 0 else (size / 128, size / 16)
    for x, y in ARCFACE_TEMPLATE * unit + [shift, 0]:
        assert crop[round(float(y)), round(float(x)), 0] > 100


@pytest.mark.parametrize(
    "size", [0, -112, 100, 112.0, "112", None, 2**31, pytest.param(10**5000, id="5,001 digits"), float("nan")]
)
@pytest.mark.parametrize("faces", [0, 1])
def test_invalid_sizes_are_rejected(size, faces):
    found = Detections([[1, 2, 3, 4]], [0.5], [ARCFACE_TEMPLATE], image_size=IMAGE.shape[1::-1])[:faces]
    with pytest.raises(OptionError, match="multiple of 112"):
        found.align(IMAGE, size)


def test_aligned_faces_that_do_not_fit_into_memory(monkeypatch):
    found = Detections([[1, 2, 3, 4]] * 2, [0.5, 0.5], [ARCFACE_TEMPLATE] * 2, image_size=IMAGE.shape[1::-1])

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(np, "empty", no_memory)
    with pytest.raises(OptionError, match="2 faces of 128×128 pixels do not fit into memory"):
        found.align(IMAGE, 128)


@pytest.mark.parametrize("margin", [2, -1e300])
def test_large_crops_are_cut_at_the_border(margin):
    found = Detections([[1, 2, 78, 58], [-3e38, -3e38, 3e38, 3e38]], [0.5, 0.4], image_size=IMAGE.shape[1::-1])
    sizes = {crop.size for crop in found.crop(IMAGE, margin)}
    assert sizes == {IMAGE.size if margin > 0 else 0}
    with pytest.raises(OptionError, match=r"margin is a share of the box, at most 2: 0\.2 is 20 %"):
        found.crop(IMAGE, margin=20)


@pytest.mark.parametrize(
    "margin", [float("nan"), float("inf"), "a lot", None, pytest.param(10**5000, id="5,001 digits"), 1j]
)
def test_invalid_margins_are_rejected(margin):
    found = Detections.empty(IMAGE.shape[1::-1])
    with pytest.raises(OptionError, match="margin must be a finite number"):
        found.crop(IMAGE, margin)


def test_aligning_requires_landmarks():
    found = Detections([[1, 2, 3, 4]], [0.5], image_size=(80, 60))
    with pytest.raises(DetectionsError, match="requires landmarks"):
        found.align(IMAGE)
    for call in (found.crop, found.align):
        with pytest.raises(DetectionsError, match="80×60, but this one is 40×60"):
            call(IMAGE[:, :40])
        with pytest.raises(ImageError, match="do not know their image"):
            call(None)
    with pytest.raises(OptionError, match="margin"):
        found.crop(IMAGE, margin=float("nan"))
    assert Detections.empty((80, 60)).align(IMAGE).shape == (0, 112, 112, 3)
    assert [crop.shape for crop in found.crop(IMAGE)] == [(2, 2, 3)]
