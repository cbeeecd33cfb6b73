from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlays._geometry import Box, Region

SIDES = st.floats(-1e7, 1e7) | st.floats(-40, 80)


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
def test_clip_box_at_image_border(box: Box, region: Region | None) -> None:
    assert box.clip(20, 10) == region


@given(SIDES, SIDES, SIDES, SIDES, st.integers(1, 60), st.integers(1, 60))
def test_regions_lie_inside_and_are_not_empty(a: float, b: float, c: float, d: float, w: int, h: int) -> None:
    region = Box(min(a, c), min(b, d), max(a, c), max(b, d)).clip(w, h)
    if region is not None:
        assert 0 <= region.left < region.right <= w
        assert 0 <= region.top < region.bottom <= h
