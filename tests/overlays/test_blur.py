from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overlays import Blur
from overlays._filters import blur_region, pixelate_region
from overlays._geometry import Box, Region
from scrfd_trt._detections import Detections
from scrfd_trt.errors import OptionError

METHODS = ("gaussian", "pixelate")
SHAPES = ("ellipse", "rectangle")
KINDS = list(itertools.product(METHODS, SHAPES))


def checkerboard(width: int, height: int, cell: int = 1) -> NDArray[np.uint8]:
    cells = np.add.outer(np.arange(height) // cell, np.arange(width) // cell) % 2
    return np.repeat((cells * 200 + 20).astype(np.uint8)[..., None], 3, 2)


def faces(width: int, height: int, *boxes: tuple[float, float, float, float]) -> Detections:
    return Detections(boxes, np.linspace(0.9, 0.5, len(boxes)), image_size=(width, height))


def covered(overlay: Blur, box: tuple[float, float, float, float], width: int, height: int) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies in the shape, including the margin."""
    x1, y1, x2, y2 = box
    grown = Box(*box).padded((x2 - x1) * overlay.margin, (y2 - y1) * overlay.margin)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    dx, dy = (x - grown.center[0]) / (grown.width / 2), (y - grown.center[1]) / (grown.height / 2)
    inside: NDArray[np.bool_] = (dx**2 + dy**2 < 1) if overlay.shape == "ellipse" else (abs(dx) < 1) & (abs(dy) < 1)
    return inside


@pytest.mark.parametrize(("method", "shape"), KINDS)
@pytest.mark.parametrize("strength", [0.2, 0.25, 1.0])
@pytest.mark.parametrize("size", [20, 60, 300])
def test_no_detail_left_under_shape(method: str, shape: str, strength: float, size: int) -> None:
    """A checkerboard with cells a twelfth of the face loses its variance, however large the face."""
    side = size * 2
    image = checkerboard(side, side, max(1, size // 24))
    box = (size * 0.5, size * 0.4, size * 1.4, size * 1.4)
    overlay = Blur(method=method, shape=shape, strength=strength)
    out = overlay(image, faces(side, side, box))
    inside = covered(overlay, box, side, side)
    assert image[inside].std() > 95
    assert out[inside].std() < 20
    assert abs(float(out[inside].mean()) - 120) < 10


@settings(max_examples=60)
@given(
    st.sampled_from(KINDS),
    st.floats(-20, 70),
    st.floats(-20, 50),
    st.floats(1, 60),
    st.floats(1, 60),
    st.floats(0, 1),
    st.floats(0, 0.5),
)
def test_pixels_change_inside_shape_and_not_beyond_feather(
    kind: tuple[str, str], x: float, y: float, w: float, h: float, margin: float, feather: float
) -> None:
    overlay = Blur(method=kind[0], shape=kind[1], margin=margin, feather=feather)
    box = tuple(np.array((x, y, x + w, y + h), np.float32).astype(float).tolist())
    image = checkerboard(64, 48)
    out = overlay(image, faces(64, 48, box))
    reach = Box(*box).padded(margin * w + feather * max(w, h) + 2.01, margin * h + feather * max(w, h) + 2.01)
    px, py = np.meshgrid(np.arange(64) + 0.5, np.arange(48) + 0.5)
    beyond = (px < reach.x1) | (px > reach.x2) | (py < reach.y1) | (py > reach.y2)
    assert (out[beyond] == image[beyond]).all()
    if min(w, h) >= 8:
        # Pixels of the shape come from the blur alone.
        inside = covered(overlay, box, 64, 48)
        if inside.any():
            (mask,) = overlay.masks(faces(64, 48, box))
            region = mask.region(image)
            assert region is not None
            alpha = np.zeros((48, 64), np.uint8)
            alpha[region.slices] = mask.rasterize(region)
            assert (alpha[inside] == 255).all()
        assert not inside.any() or float(out[inside].std()) < 60


@pytest.mark.parametrize(("method", "shape"), KINDS)
def test_overlapping_small_and_large_face_are_both_blurred(method: str, shape: str) -> None:
    image = checkerboard(200, 200, 8)
    large, small = (40.0, 40.0, 160.0, 160.0), (85.0, 85.0, 101.0, 101.0)
    overlay = Blur(method=method, shape=shape)
    alone = overlay(image, faces(200, 200, small))
    assert alone[86:100, 86:100].std() > 25, "the small face alone keeps cells that are large for it"
    for order in ((large, small), (small, large)):
        out = overlay(image, faces(200, 200, *order))
        assert out[covered(overlay, large, 200, 200)].std() < 20
        assert out[86:100, 86:100].std() < 10


@pytest.mark.parametrize("method", METHODS)
def test_order_of_faces_does_not_matter(method: str, image: NDArray[np.uint8]) -> None:
    height, width = image.shape[:2]
    one, other = (20.0, 20.0, 90.0, 100.0), (60.0, 60.0, 110.0, 118.0)
    overlay = Blur(method=method)
    assert (overlay(image, faces(width, height, one, other)) == overlay(image, faces(width, height, other, one))).all()


@pytest.mark.parametrize(("method", "shape"), KINDS)
def test_no_black_at_image_border(method: str, shape: str) -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    boxes = ((-20.0, -20.0, 25.0, 30.0), (60.0, 30.0, 120.0, 90.0), (-500.0, -500.0, 600.0, 600.0))
    assert (Blur(method=method, shape=shape)(image, faces(80, 60, *boxes)) == 200).all()


def test_strength_is_relative_to_face_size() -> None:
    """A face of twice the size, in an image of twice the size, looks the same."""
    small = cv2.GaussianBlur(checkerboard(120, 120, 6), (0, 0), 2.0)
    large = cv2.resize(small, (240, 240), interpolation=cv2.INTER_CUBIC)
    box = np.array([30.0, 30.0, 90.0, 90.0])
    for method in METHODS:
        one = Blur(method=method)(small, faces(120, 120, tuple(box)))
        two = Blur(method=method)(large, faces(240, 240, tuple(box * 2)))
        assert np.abs(cv2.resize(two, (120, 120), interpolation=cv2.INTER_AREA).astype(int) - one).mean() < 2


def test_pixelate_averages_blocks() -> None:
    image = np.random.default_rng(5).integers(0, 256, (120, 120, 3), np.uint8)
    overlay = Blur(method="pixelate", shape="rectangle", margin=0, feather=0, strength=0.25)
    out = overlay(image, faces(120, 120, (20.0, 20.0, 100.0, 100.0)))
    cells = out[20:100, 20:100].reshape(4, 20, 4, 20, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    means = image[20:100, 20:100].reshape(4, 20, 4, 20, 3).mean((1, 3))
    assert np.abs(cells[:, 0, :, 0] - means).max() <= 1
    assert len(np.unique(out[20:100, 20:100].reshape(-1, 3), axis=0)) == 16


@pytest.mark.parametrize("sigma", [0.8, 3.0, 7.5, 40.0])
def test_wide_blur_is_gaussian(sigma: float) -> None:
    image = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (300, 260, 3), np.uint8), (0, 0), 4.0)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    exact = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    away = np.abs(blur_region(image, Region(0, 0, 260, 300), sigma).astype(int) - exact)
    assert away.mean() < 1.5
    assert away.max() <= 12


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
@pytest.mark.parametrize("detail", [0.1, 2.0, 1e6])
def test_regions_of_any_size_can_be_blurred(size: tuple[int, int], detail: float) -> None:
    pixels = np.full((*size, 3), 77, np.uint8)
    whole = Region(0, 0, size[1], size[0])
    assert blur_region(pixels, whole, detail).shape == pixels.shape
    assert (blur_region(pixels, whole, detail) == 77).all()
    assert (pixelate_region(pixels, whole, math.ceil(detail)) == 77).all()


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 0.19},
        {"strength": 1.5},
        {"method": "median"},
        {"shape": "circle"},
        {"margin": -0.1},
        {"feather": 2},
    ],
)
def test_options_out_of_range_raise_option_error(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=f"^{next(iter(options))}: "):
        Blur(**options)
