from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import overlays
from scrfd_trt._detections import Detections

Image = NDArray[np.uint8]
Golden = tuple[Path, Callable[[], Image]]
Compare = Callable[[Image, Image], str]


def test_overlays_match_golden_pictures(golden: Golden, compare: Compare) -> None:
    path, draw = golden
    kept = cv2.imread(str(path))
    assert kept is not None, f"{path} is missing: python tests/make_golden.py"
    assert compare(draw(), kept) == "", f"{path.name} differs: run python tests/make_golden.py and review it"


def test_golden_pictures_are_small(golden: Golden) -> None:
    assert golden[0].stat().st_size < 40_000


def test_comparison_rejects_undrawn_image(golden: Golden, compare: Compare, image: Image) -> None:
    assert compare(image, golden[1]()) != ""


def test_comparison_rejects_shift_by_two_pixels(golden: Golden, compare: Compare) -> None:
    drawn = golden[1]()
    assert compare(np.roll(drawn, 2, 1), drawn) != ""


def test_comparison_rejects_other_options(image: Image, detections: Detections, compare: Compare) -> None:
    def differs(one: overlays.Overlay, other: overlays.Overlay) -> bool:
        return compare(one(image, detections), other(image, detections)) != ""

    assert differs(overlays.Skull(), overlays.Skull(opacity=0.8))
    assert differs(overlays.Skull(), overlays.Skull(scale=1.1))
    assert differs(overlays.Blur(), overlays.Blur(strength=0.35))
    assert differs(overlays.Blur(), overlays.Blur(method="pixelate"))
    assert differs(overlays.Landmarks(), overlays.Landmarks(score=False))
    assert differs(overlays.Landmarks(), overlays.Landmarks(box_color="red"))
    assert not differs(overlays.Skull(), overlays.Skull())
