from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlays._blending import LINEAR_TO_SRGB, SRGB_TO_LINEAR, BlendOptions, blend, blend_premultiplied
from overlays._geometry import Region
from scrfd_trt.errors import OptionError

LEVEL = st.integers(0, 255)
BLENDING = st.sampled_from(["linear", "srgb"])
HERE = Region(1, 1, 3, 2)


def light(level: float) -> float:
    """IEC 61966-2-1."""
    value = level / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def mixed(below: int, above: int, weight: int, blending: str) -> np.ndarray:
    canvas = np.full((3, 4, 3), below, np.uint8)
    blend(canvas, HERE, np.full((1, 2, 3), above, np.uint8), np.full((1, 2), weight, np.uint8), blending)
    out = canvas[1, 1:3].copy()
    canvas[1, 1:3] = below
    assert (canvas == below).all()
    assert (out == out[0, 0]).all()
    return out[0, :1]


def stacked(below: int, above: int, alpha: int, blending: str) -> np.ndarray:
    canvas = np.full((3, 4, 3), below, np.uint8)
    value = round(above * alpha / 255)
    blend_premultiplied(canvas, HERE, np.full((1, 2, 4), (value, value, value, alpha), np.uint8), blending)
    out = canvas[1, 1:3].copy()
    canvas[1, 1:3] = below
    assert (canvas == below).all()
    return out[0, :1]


@given(LEVEL, LEVEL, LEVEL)
def test_srgb_blending_is_exact_to_one_level(below: int, above: int, weight: int) -> None:
    exact = below + (above - below) * weight / 255
    assert abs(float(mixed(below, above, weight, "srgb")[0]) - exact) <= 1.0
    assert abs(float(stacked(below, above, weight, "srgb")[0]) - exact) <= 1.0


@given(LEVEL, LEVEL, LEVEL)
def test_linear_blending_is_exact_to_one_level(below: int, above: int, weight: int) -> None:
    out = int(mixed(below, above, weight, "linear")[0])
    exact = light(below) + (light(above) - light(below)) * weight / 255
    assert light(out - 1.02) <= exact <= light(out + 1.02)


@given(LEVEL, LEVEL, BLENDING)
def test_alpha_0_keeps_and_alpha_255_replaces(below: int, above: int, blending: str) -> None:
    for do in (mixed, stacked):
        assert do(below, above, 0, blending)[0] == below
        assert do(below, above, 255, blending)[0] == above


@given(LEVEL, LEVEL, BLENDING)
def test_equal_colours_stay_unchanged(level: int, weight: int, blending: str) -> None:
    assert mixed(level, level, weight, blending)[0] == level


def test_half_white_over_black() -> None:
    assert mixed(0, 255, 128, "linear")[0] == pytest.approx(188, abs=1)
    assert stacked(0, 255, 128, "linear")[0] == pytest.approx(188, abs=1)
    assert mixed(0, 255, 128, "srgb")[0] == 128


def test_conversion_tables_are_inverse() -> None:
    assert (LINEAR_TO_SRGB[np.rint(SRGB_TO_LINEAR).astype(int)] == np.arange(256)).all()
    assert (np.diff(SRGB_TO_LINEAR) > 0).all()
    assert SRGB_TO_LINEAR[188] / SRGB_TO_LINEAR[255] == pytest.approx(light(188))


def test_options_out_of_range_raise_option_error() -> None:
    for wrong in ({"opacity": 1.1}, {"blending": "screen"}):
        with pytest.raises(OptionError, match=f"^{next(iter(wrong))}: "):
            BlendOptions(**wrong)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.9]), st.booleans())
def test_sparse_and_dense_paths_blend_alike(seed: int, share: float, straight: bool) -> None:
    """Each pixel must have the value that it has when blended alone."""
    rng = np.random.default_rng(seed)
    canvas = rng.integers(0, 256, (6, 8, 3), np.uint8)
    alpha = np.where(rng.random((4, 5)) < share, rng.integers(1, 255, (4, 5)), rng.choice([0, 255], (4, 5)))
    alpha = alpha.astype(np.uint8)
    patch = rng.integers(0, 256, (4, 5, 3), np.uint8)
    premultiplied = np.dstack([np.rint(patch * (alpha[..., None] / 255)).astype(np.uint8), alpha])
    wanted = canvas.copy()
    for y in range(4):
        for x in range(5):
            one = Region(2 + x, 1 + y, 3 + x, 2 + y)
            if straight:
                blend(wanted, one, patch[y : y + 1, x : x + 1], alpha[y : y + 1, x : x + 1], "linear")
            else:
                blend_premultiplied(wanted, one, premultiplied[y : y + 1, x : x + 1], "linear")
    if straight:
        blend(canvas, Region(2, 1, 7, 5), patch, alpha, "linear")
    else:
        blend_premultiplied(canvas, Region(2, 1, 7, 5), premultiplied, "linear")
    assert (canvas == wanted).all()
