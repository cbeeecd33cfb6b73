"""``draw_text`` takes any text, place and size, and ``text_box`` is where it draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import overlays
from scrfd_trt.errors import OptionError

TEXTS = ("", " ", "Ada 0.97", "Grüße 顔\n\0", "\ud800e\u0301", "x" * 9999)
PLACES = ((10.0, 60.0), (-3.6, 20.2), (95.0, 63.9), (1e9, -1e300), (-4e5, 4e5), (float("nan"), float("inf")))


@pytest.mark.parametrize("height", [0, 0.4, 1, 7, 40, 91, 400, 1e6, 1e300, float("inf"), float("nan"), -5])
def test_any_text_is_drawn_within_its_box_or_not_at_all(height: float) -> None:
    for shape in ((64, 96, 3), (1, 1, 3), (2, 400, 3), (0, 5, 3)):
        for text in TEXTS:
            for x, y in PLACES:
                around = np.full((shape[0] + 8, shape[1] + 8, 3), 7, np.uint8)
                canvas = around[4:-4, 4:-4]
                overlays.draw_text(canvas, text, x, y, height=height, color=(0, 0, 255))
                region = overlays.text_box(text, x, y, height=height).clip(shape[1], shape[0])
                if region is not None:
                    canvas[region.slices] = 7
                assert (around == 7).all(), (text, x, y, shape)


@pytest.mark.parametrize("height", [9, 30, 80, 200])
def test_capitals_have_the_height_and_stand_on_the_line(height: int) -> None:
    canvas = np.zeros((300, 400, 3), np.uint8)
    overlays.draw_text(canvas, "H", 20, 250, height=height, color=(0, 128, 255))
    rows, columns = np.nonzero(canvas[..., 2] > 127)
    assert abs(rows.max() + 1 - 250) <= 1
    assert abs(rows.max() + 1 - rows.min() - height) <= max(1, height / 50)
    assert 20 <= columns.min() < 20 + height / 4
    assert tuple(canvas[rows[0] + 2, columns[0] + height // 15]) == (0, 128, 255)


def test_enlarged_letters_reach_every_pixel() -> None:
    canvas = np.zeros((50, 60, 3), np.uint8)
    box = overlays.text_box("I", 0, 0, height=1e6)
    overlays.draw_text(canvas, "I", 30 - box.center[0], 5e5, height=1e6, color=(9, 9, 9))
    assert (canvas == 9).all()


def test_font_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for content in (None, b"no font"):
        path = tmp_path / "letters.ttf"
        if content:
            path.write_bytes(content)
        with pytest.raises(OptionError, match=r"letters\.ttf is not a font that can be read"):
            overlays.text_box("a", 0, 0, height=9, font=path)
