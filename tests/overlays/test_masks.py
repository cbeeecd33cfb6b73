from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overlays import _masks
from overlays._masks import Area, MaskOptions, areas, region_of, weights
from overlays._raster import Region
from scrfd_trt._crops import ARCFACE_TEMPLATE
from scrfd_trt._detections import Detections

WIDTH, HEIGHT = 50, 40
SHAPES = st.sampled_from(["ellipse", "rectangle", "aligned"])
PX, PY = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)


def face(box: tuple[float, ...], degrees: float | None = None) -> Detections:
    """One face; with an angle, landmarks that are turned by it."""
    if degrees is None:
        return Detections([box], [0.9], image_size=(WIDTH, HEIGHT))
    turn = np.deg2rad(degrees)
    points = (ARCFACE_TEMPLATE - 56) / 112 * (box[3] - box[1])
    points = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points += [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
    return Detections([box], [0.9], [points], image_size=(WIDTH, HEIGHT))


def mask_of(area: Area) -> NDArray[np.uint8]:
    """The mask on the whole image."""
    out = np.zeros((HEIGHT, WIDTH), np.uint8)
    region = region_of(area, np.empty((HEIGHT, WIDTH, 3), np.uint8))
    if region is not None:
        out[region.rows_columns] = weights(area, region)
    return out


def inside_of(area: Area, a: float, b: float, dx: float = 0.0, dy: float = 0.0) -> NDArray[np.bool_]:
    """The pixels whose point (dx, dy) from the middle lies in the shape with half sides a and b."""
    x, y = PX + dx - area.x, PY + dy - area.y
    u, v = (x * area.cos + y * area.sin) / a, (y * area.cos - x * area.sin) / b
    return (abs(u) < 1) & (abs(v) < 1) if area.shape == "rectangle" else u**2 + v**2 < 1


@settings(max_examples=200, deadline=None)
@given(
    SHAPES,
    st.floats(-30, 60),
    st.floats(-30, 60),
    st.floats(1, 90),
    st.floats(1, 90),
    st.floats(-180, 180),
    st.floats(0.1, 3),
    st.floats(0, 1),
    st.floats(0, 0.5),
)
def test_masks_are_full_on_the_shape_and_nothing_beyond_the_feather(
    shape: str, x: float, y: float, w: float, h: float, turn: float, scale: float, margin: float, feather: float
) -> None:
    options = MaskOptions(shape=shape, scale=scale, margin=margin, feather=feather)
    found = areas(options, face((x, y, x + w, y + h), turn))
    if not found:  # float32 has no room for so thin a box at this place
        return
    (area,) = found
    mask = mask_of(area)
    # Each pixel of which a point lies in the shape.
    for dx, dy in itertools.product((-0.49, 0.0, 0.49), repeat=2):
        assert (mask[inside_of(area, area.a, area.b, dx, dy)] == 255).all()
    a, b = (max(half, 0.5) + area.feather + 1.75 for half in (area.a, area.b))
    # At the tip of a long thin ellipse, whole pixels stick out of a slightly larger one.
    around = area if min(area.a, area.b) >= 8.0 else area._replace(shape="rectangle")
    assert not mask[~inside_of(around, a, b)].any()
    reach = area.reach.grown(1.5, 1.5)
    beyond = (reach.x1 > PX) | (reach.x2 < PX) | (reach.y1 > PY) | (reach.y2 < PY)
    assert not mask[beyond].any()
    # Upright shapes cover what was asked for, and less than a pixel more on each side.
    if shape != "aligned":
        grown = scale * (0.5 + margin)
        for half, side in ((area.a, w), (area.b, h)):
            assert side * grown - 0.01 <= half <= side * grown + 1.01


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
@pytest.mark.parametrize("box", [(10, 10, 30, 30), (10, 5, 31, 30), (13, 8, 30, 31)])
def test_small_masks_are_mirrored_from_a_quarter(
    shape: str, box: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (area,) = areas(MaskOptions(shape=shape), face(box))
    mirrored, part = mask_of(area), Region(12, 9, 25, 20)
    cut = weights(area, part)
    assert not cut.flags.writeable
    monkeypatch.setattr(_masks, "_CACHED", 0)
    assert (mask_of(area) == mirrored).all()
    assert (cut == mirrored[part.rows_columns]).all()


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_a_shape_that_is_next_to_nothing_leaves_its_soft_edge(shape: str) -> None:
    (area,) = areas(MaskOptions(shape=shape, scale=1e-20, feather=0.2), face((10, 10, 30, 30)))
    mask = mask_of(area)
    assert mask[19:21, 19:21].any()
    assert not mask[:10].any()


@pytest.mark.parametrize("shape", ["ellipse", "rectangle", "aligned"])
def test_feathers_fall_steadily_outside(shape: str) -> None:
    (area,) = areas(MaskOptions(shape=shape, margin=0.0, feather=0.4), face((10, 10, 30, 30), 0))
    row = mask_of(area)[20].astype(int)
    assert (row[11:29] == 255).all()
    assert (np.diff(row[29:]) <= 0).all()
    assert ((row[32:36] > 0) & (row[32:36] < 255)).all()
    assert (row[40:] == 0).all()


@pytest.mark.parametrize("shape", ["ellipse", "rectangle", "aligned"])
def test_hard_edges_have_no_half_tones(shape: str) -> None:
    (area,) = areas(MaskOptions(shape=shape, feather=0), face((10.5, 10.5, 30.2, 25.7), 20))
    assert set(np.unique(mask_of(area))) == {0, 255}


def test_the_aligned_ellipse_turns_with_the_face() -> None:
    """A face of 16×20 that leans by an angle, in the box around it, gets its own ellipse back."""
    for degrees in (0, 20, 45, 70, -30, 90, 160):
        turn = np.deg2rad(degrees)
        a, b = 8.0, 8.0 * 1.24
        across = np.hypot(a * np.cos(turn), b * np.sin(turn))
        down = np.hypot(a * np.sin(turn), b * np.cos(turn))
        (area,) = areas(
            MaskOptions(shape="aligned", margin=0), face((25 - across, 20 - down, 25 + across, 20 + down), degrees)
        )
        assert (area.a, area.b) == pytest.approx((a, b), rel=0.01)
        assert (area.cos, area.sin) == pytest.approx((np.cos(turn), np.sin(turn)), abs=0.01)
        assert (area.x, area.y) == pytest.approx((25, 20), abs=0.01)


def test_without_landmarks_the_aligned_ellipse_is_upright() -> None:
    (aligned,) = areas(MaskOptions(shape="aligned"), face((10, 10, 30, 34)))
    (upright,) = areas(MaskOptions(shape="ellipse"), face((10, 10, 30, 34)))
    assert aligned == upright._replace(shape="aligned")
    assert (mask_of(aligned) == mask_of(upright)).all()


def test_scale_and_margin_make_it_larger() -> None:
    def sides(**options: float) -> tuple[float, float]:
        (area,) = areas(MaskOptions(shape="rectangle", **options), face((10, 10, 20, 30)))
        return 2 * area.a, 2 * area.b

    assert sides(margin=0) == (10, 20)
    assert sides(margin=0.5) == (20, 40)
    assert sides(margin=0, scale=2) == (20, 40)
    assert sides(margin=0.5, scale=0.5) == (10, 20)
