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


def test_overlays_draw_their_golden_pictures(golden: Golden, compare: Compare) -> None:
    path, draw = golden
    kept = cv2.imread(str(path))
    assert kept is not None, f"{path} is missing: python tests/make_golden.py"
    assert compare(draw(), kept) == "", f"{path.name} differs: python tests/make_golden.py, and look at it"


def test_golden_pictures_are_small(golden: Golden) -> None:
    assert golden[0].stat().st_size < 40_000


def test_the_comparison_refuses_an_image_nothing_was_drawn_on(golden: Golden, compare: Compare, image: Image) -> None:
    assert compare(image, golden[1]()) != ""


def test_the_comparison_refuses_a_picture_shifted_by_two_pixels(golden: Golden, compare: Compare) -> None:
    drawn = golden[1]()
    assert compare(np.roll(drawn, 2, 1), drawn) != ""


def test_the_comparison_refuses_other_options(image: Image, detections: Detections, compare: Compare) -> None:
    def refused(one: overlays.Overlay, other: overlays.Overlay) -> bool:
        return compare(one(image, detections), other(image, detections)) != ""

    assert refused(overlays.Skull(), overlays.Skull(opacity=0.8))
    assert refused(overlays.Skull(), overlays.Skull(scale=1.1))
    assert refused(overlays.Blur(), overlays.Blur(strength=0.35))
    assert refused(overlays.Blur(), overlays.Blur(method="pixelate"))
    assert refused(overlays.Landmarks(), overlays.Landmarks(score=False))
    assert refused(overlays.Landmarks(), overlays.Landmarks(box_color="red"))
    assert not refused(overlays.Skull(), overlays.Skull())
