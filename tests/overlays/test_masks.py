from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overlays import _masks
from overlays._geometry import Region
from overlays._masks import Mask, MaskOptions
from scrfd_trt._crops import ARCFACE_TEMPLATE
from scrfd_trt._detections import Detections

WIDTH, HEIGHT = 50, 40
SHAPES = st.sampled_from(["ellipse", "rectangle", "aligned"])
PX, PY = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)


def face(box: tuple[float, ...], degrees: float | None = None) -> Detections:
    """One face; with an angle, it has landmarks rotated by it."""
    if degrees is None:
        return Detections([box], [0.9], image_size=(WIDTH, HEIGHT))
    turn = np.deg2rad(degrees)
    points = (ARCFACE_TEMPLATE - 56) / 112 * (box[3] - box[1])
    points = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points += [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
    return Detections([box], [0.9], [points], image_size=(WIDTH, HEIGHT))


def pixels_of(mask: Mask) -> NDArray[np.uint8]:
    """The mask's pixels on the whole image."""
    out = np.zeros((HEIGHT, WIDTH), np.uint8)
    region = mask.region(np.empty((HEIGHT, WIDTH, 3), np.uint8))
    if region is not None:
        out[region.slices] = mask.rasterize(region)
    return out


def inside_of(mask: Mask, a: float, b: float, dx: float = 0.0, dy: float = 0.0) -> NDArray[np.bool_]:
    """The pixels whose point (dx, dy) from the centre lies in the shape with half sides a and b."""
    x, y = PX + dx - mask.x, PY + dy - mask.y
    u, v = (x * mask.cos + y * mask.sin) / a, (y * mask.cos - x * mask.sin) / b
    return (abs(u) < 1) & (abs(v) < 1) if mask.shape == "rectangle" else u**2 + v**2 < 1


@settings(max_examples=200)
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
def test_mask_is_full_on_shape_and_zero_beyond_feather(
    shape: str, x: float, y: float, w: float, h: float, turn: float, scale: float, margin: float, feather: float
) -> None:
    options = MaskOptions(shape=shape, scale=scale, margin=margin, feather=feather)
    found = options.masks(face((x, y, x + w, y + h), turn))
    if not found:  # too thin for float32 at this position
        return
    (mask,) = found
    pixels = pixels_of(mask)
    # Each pixel that the shape touches.
    for dx, dy in itertools.product((-0.49, 0.0, 0.49), repeat=2):
        assert (pixels[inside_of(mask, mask.a, mask.b, dx, dy)] == 255).all()
    a, b = (max(half, 0.5) + mask.feather + 1.75 for half in (mask.a, mask.b))
    # At the tip of a thin ellipse, whole pixels extend beyond a slightly larger one.
    around = mask if min(mask.a, mask.b) >= 8.0 else mask._replace(shape="rectangle")
    assert not pixels[~inside_of(around, a, b)].any()
    reach = mask.box.padded(1.5, 1.5) if mask.sin == 0.0 else mask.box.padded(0.5, 0.5)
    beyond = (reach.x1 > PX) | (reach.x2 < PX) | (reach.y1 > PY) | (reach.y2 < PY)
    assert not pixels[beyond].any()
    # Upright shapes have the size of the options, and less than a pixel more on each side.
    if shape != "aligned":
        grown = scale * (0.5 + margin)
        for half, side in ((mask.a, w), (mask.b, h)):
            assert side * grown - 0.01 <= half <= side * grown + 1.01


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
@pytest.mark.parametrize("box", [(10, 10, 30, 30), (10, 5, 31, 30), (13, 8, 30, 31)])
def test_cached_mask_equals_uncached_mask(shape: str, box: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    (mask,) = MaskOptions(shape=shape).masks(face(box))
    mirrored, part = pixels_of(mask), Region(12, 9, 25, 20)
    cut = mask.rasterize(part)
    assert not cut.flags.writeable
    monkeypatch.setattr(_masks, "_CACHED_PIXELS", 0)
    assert (pixels_of(mask) == mirrored).all()
    assert (cut == mirrored[part.slices]).all()


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_tiny_shape_keeps_its_soft_edge(shape: str) -> None:
    (mask,) = MaskOptions(shape=shape, scale=1e-20, feather=0.2).masks(face((10, 10, 30, 30)))
    pixels = pixels_of(mask)
    assert pixels[19:21, 19:21].any()
    assert not pixels[:10].any()


@pytest.mark.parametrize("shape", ["ellipse", "rectangle", "aligned"])
def test_feather_decreases_monotonically(shape: str) -> None:
    (mask,) = MaskOptions(shape=shape, margin=0.0, feather=0.4).masks(face((10, 10, 30, 30), 0))
    row = pixels_of(mask)[20].astype(int)
    assert (row[11:29] == 255).all()
    assert (np.diff(row[29:]) <= 0).all()
    assert ((row[32:36] > 0) & (row[32:36] < 255)).all()
    assert (row[40:] == 0).all()


@pytest.mark.parametrize("shape", ["ellipse", "rectangle", "aligned"])
def test_mask_without_feather_is_binary(shape: str) -> None:
    (mask,) = MaskOptions(shape=shape, feather=0).masks(face((10.5, 10.5, 30.2, 25.7), 20))
    assert set(np.unique(pixels_of(mask))) == {0, 255}


def test_aligned_ellipse_rotates_with_face() -> None:
    """A rotated face of 16×20, given by the box around it, gets its own ellipse back."""
    for degrees in (0, 20, 45, 70, -30, 90, 160):
        turn = np.deg2rad(degrees)
        a, b = 8.0, 8.0 * 1.24
        across = np.hypot(a * np.cos(turn), b * np.sin(turn))
        down = np.hypot(a * np.sin(turn), b * np.cos(turn))
        rotated = face((25 - across, 20 - down, 25 + across, 20 + down), degrees)
        (mask,) = MaskOptions(shape="aligned", margin=0).masks(rotated)
        assert (mask.a, mask.b) == pytest.approx((a, b), rel=0.01)
        assert (mask.cos, mask.sin) == pytest.approx((np.cos(turn), np.sin(turn)), abs=0.01)
        assert (mask.x, mask.y) == pytest.approx((25, 20), abs=0.01)


def test_aligned_ellipse_without_landmarks_is_upright() -> None:
    (aligned,) = MaskOptions(shape="aligned").masks(face((10, 10, 30, 34)))
    (upright,) = MaskOptions(shape="ellipse").masks(face((10, 10, 30, 34)))
    assert aligned == upright._replace(shape="aligned")
    assert (pixels_of(aligned) == pixels_of(upright)).all()


def test_scale_and_margin_enlarge_mask() -> None:
    def sides(**options: float) -> tuple[float, float]:
        (mask,) = MaskOptions(shape="rectangle", **options).masks(face((10, 10, 20, 30)))
        return 2 * mask.a, 2 * mask.b

    assert sides(margin=0) == (10, 20)
    assert sides(margin=0.5) == (20, 40)
    assert sides(margin=0, scale=2) == (20, 40)
    assert sides(margin=0.5, scale=0.5) == (10, 20)
