from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlays.raster import Box, Region, Shape, blend, clip_box, soft_mask, stack

SIDES = st.floats(-1e7, 1e7) | st.floats(-40, 80)
SHAPES = st.sampled_from(["ellipse", "rectangle"])


@pytest.mark.parametrize(
    ("box", "region"),
    [
        (Box(1.2, 2.0, 3.0, 4.1), Region(1, 2, 3, 5)),
        (Box(-5, -5, 5, 5), Region(0, 0, 5, 5)),
        (Box(-3e38, -3e38, 3e38, 3e38), Region(0, 0, 20, 10)),
        (Box(0.2, 0.2, 0.3, 0.3), Region(0, 0, 1, 1)),
        (Box(20, 0, 30, 5), None),
        (Box(-9, 0, 0, 5), None),
        (Box(4, 4, 4, 8), None),
    ],
)
def test_boxes_are_cut_at_the_border(box: Box, region: Region | None) -> None:
    assert clip_box(box, 20, 10) == region


@given(SIDES, SIDES, SIDES, SIDES, st.integers(1, 60), st.integers(1, 60))
def test_regions_lie_inside_and_are_never_empty(a: float, b: float, c: float, d: float, w: int, h: int) -> None:
    region = clip_box(Box(min(a, c), min(b, d), max(a, c), max(b, d)), w, h)
    if region is not None:
        assert 0 <= region.left < region.right <= w
        assert 0 <= region.top < region.bottom <= h


@given(SHAPES, st.floats(-30, 60), st.floats(-30, 60), st.floats(0.01, 90), st.floats(0.01, 90), st.floats(0, 20))
def test_masks_are_one_inside_and_nothing_beyond_the_feather(
    shape: Shape, x: float, y: float, w: float, h: float, feather: float
) -> None:
    box = Box(x, y, x + w, y + h)
    region = Region(0, 0, 50, 40)
    mask = soft_mask(shape, box, feather, region)
    assert mask.dtype == np.float32
    assert mask.shape == (40, 50)
    assert mask.min() >= 0.0
    assert mask.max() <= 1.0
    px, py = np.meshgrid(np.arange(50) + 0.5, np.arange(40) + 0.5)
    reached = (abs(px - (x + w / 2)) < w / 2 + feather + 1) & (abs(py - (y + h / 2)) < h / 2 + feather + 1)
    assert not mask[~reached].any()
    # Each pixel of which a point lies in the shape.
    for dx, dy in itertools.product((-0.49, -0.2, 0.0, 0.2, 0.49), repeat=2):
        u, v = (px + dx - x - w / 2) / (w / 2), (py + dy - y - h / 2) / (h / 2)
        inside = (abs(u) < 1) & (abs(v) < 1) if shape == "rectangle" else u**2 + v**2 < 1
        assert (mask[inside] == 1.0).all()


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_feathers_fall_steadily_outside(shape: Shape) -> None:
    row = soft_mask(shape, Box(10, 10, 30, 30), 8.0, Region(0, 0, 50, 40))[20]
    assert (row[10:30] == 1.0).all()
    assert (np.diff(row[30:]) <= 0).all()
    assert ((row[31:37] > 0) & (row[31:37] < 1)).all()
    assert (row[39:] == 0).all()


def test_hard_edges_have_no_half_tones() -> None:
    for shape in ("ellipse", "rectangle"):
        mask = soft_mask(shape, Box(10.5, 10.5, 30.2, 25.7), 0.0, Region(0, 0, 50, 40))
        assert set(np.unique(mask)) == {0.0, 1.0}


@given(st.integers(0, 255), st.integers(0, 255), st.floats(0, 1, width=32))
def test_blending_rounds_to_the_nearest_level(below: int, above: int, weight: float) -> None:
    canvas = np.full((3, 4, 3), below, np.uint8)
    patch = np.full((1, 2, 3), above, np.uint8)
    blend(canvas, Region(1, 1, 3, 2), patch, np.full((1, 2), weight, np.float32))
    exact = below + (above - below) * weight
    assert np.abs(canvas[1, 1:3].astype(float) - exact).max() <= 0.501
    canvas[1, 1:3] = below
    assert (canvas == below).all()


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_stacking_keeps_clear_and_takes_opaque_pixels(below: int, above: int, alpha: int) -> None:
    canvas = np.full((3, 4, 3), below, np.uint8)
    value = round(above * alpha / 255)
    stack(canvas, Region(1, 1, 3, 2), np.full((1, 2, 4), (value, value, value, alpha), np.uint8))
    exact = below + (above - below) * alpha / 255
    assert np.abs(canvas[1, 1:3].astype(float) - exact).max() <= 1.0
    if alpha in (0, 255):
        assert (canvas[1, 1:3] == (above if alpha else below)).all()
    canvas[1, 1:3] = below
    assert (canvas == below).all()
