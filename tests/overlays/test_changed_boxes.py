"""No pixel outside a mask or a picture changes, for any boxes, sizes, angles and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import overlays
from overlays._emoji import KINDS
from overlays.testing import assert_changes_within_boxes, faces, noise
from scrfd_trt._crops import ARCFACE_TEMPLATE
from scrfd_trt._detections import Detections

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 72, 48
PX, PY = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
IMAGE = noise(WIDTH, HEIGHT)
SIDE = st.floats(-60, 120, width=32) | st.floats(-1e5, 1e5, width=32)
SHARE = st.floats(0, 1)


@st.composite
def some_faces(draw: st.DrawFn) -> Detections:
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        x, y = sorted([draw(SIDE), draw(SIDE)]), sorted([draw(SIDE), draw(SIDE)])
        boxes.append((x[0], y[0], x[1], y[1]))
    landmarks, degrees = draw(st.booleans()), draw(st.floats(-180, 180))
    return faces(tuple(boxes), (WIDTH, HEIGHT), landmarks=landmarks, degrees=degrees, tracked=draw(st.booleans()))


MASK = {
    "shape": st.sampled_from(["ellipse", "rectangle", "aligned"]),
    "scale": st.floats(0.05, 4),
    "margin": st.floats(0, 1),
    "feather": st.floats(0, 0.6),
}
MIX = {"opacity": SHARE, "blending": st.sampled_from(["linear", "srgb"])}
LARGE = st.floats(0.25, 8)
CHOICES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "blur": MASK | MIX | {"strength": st.floats(0.2, 1), "method": st.sampled_from(["gaussian", "pixelate"])},
    "pixelate": MASK | MIX | {"strength": st.floats(0.2, 1), "block": st.none() | st.integers(2, 60)},
    "solid": MASK | MIX | {"fill": st.sampled_from(["black", "white", "#123456"])},
    "skull": MIX | {"scale": st.floats(0.01, 10)},
    "emoji": MIX | {"scale": st.floats(0.01, 10), "kind": st.sampled_from(["each", *KINDS])},
    "image": MIX | {"scale": st.floats(0.01, 10), "fit": st.sampled_from(["box", "two", "three", "five"])},
    "landmarks": {"size": LARGE, "box": st.booleans(), "score": st.booleans(), "points": st.booleans()},
    "boxes": {
        "size": LARGE,
        "style": st.sampled_from(["full", "corners"]),
        "label": st.sampled_from(["auto", "score", "track", "none"]),
    },
    "crop": {
        "side": st.sampled_from(["bottom", "top", "left", "right", "whole"]),
        "size": st.floats(0.05, 0.9),
        "margin": st.floats(0, 2),
        "max_faces": st.integers(1, 5),
    },
}
COVERING = ("blur", "pixelate", "solid")


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_no_pixel_outside_changed_boxes_changes(name: str, picture: Path) -> None:
    fixed = {"picture": picture} if name == "image" else {}

    @settings(max_examples=60)
    @given(st.fixed_dictionaries({}, optional=CHOICES[name]), some_faces())
    def check(options: dict[str, Any], found: Detections) -> None:
        assert_changes_within_boxes(overlays.create(name, **fixed, **options), IMAGE, found)

    check()


def shape_of(options: dict[str, Any], found: Detections, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Independent model of a mask: the pixels that it covers, and those that it may change at most."""
    x1, y1, x2, y2 = found.boxes[row].astype(float)
    scale, feather = options.get("scale", 1.0) * (1 + 2 * options.get("margin", 0.15)), options.get("feather", 0.1)
    a, b, soft = (x2 - x1) / 2 * scale, (y2 - y1) / 2 * scale, feather * max(x2 - x1, y2 - y1)
    dx, dy = np.abs(PX - (x1 + x2) / 2), np.abs(PY - (y1 + y2) / 2)
    shape = options.get("shape", "ellipse")
    if a <= 0 or b <= 0:
        return np.zeros_like(PX, bool), np.zeros_like(PX, bool)
    # Sides and feather are rounded up to whole pixels, and touched pixels are covered.
    far = soft + 3.0
    if shape == "rectangle":
        return (dx < a) & (dy < b), (dx < a + far) & (dy < b + far)
    if shape == "ellipse":
        # Rounding moves each side by up to a pixel, more than a larger ellipse has at its tips.
        x, y = np.maximum(dx - 3.01, 0) / (a + soft), np.maximum(dy - 3.01, 0) / (b + soft)
        return np.hypot(dx / a, dy / b) < 1, np.hypot(x, y) < 1
    # A rotated ellipse lies in the circle around it.
    points = None if found.landmarks is None else found.landmarks[row]
    return in_rotated_ellipse(points, ((x1 + x2) / 2, (y1 + y2) / 2), (a, b)), np.hypot(dx, dy) < np.hypot(a, b) + far


def angle_of(points: np.ndarray | None) -> float:
    """Rotation of the landmarks: in complex numbers, the factor that fits the template to them."""
    if points is None:
        return 0.0
    from_, to = (each.astype(float) @ [1, 1j] for each in (ARCFACE_TEMPLATE, points))
    return float(np.angle(np.linalg.lstsq((from_ - from_.mean())[:, None], to - to.mean(), rcond=None)[0][0]))


def in_rotated_ellipse(
    points: np.ndarray | None, middle: tuple[float, float], half: tuple[float, float]
) -> NDArray[np.bool_]:
    """The pixels whose centre lies in the ellipse that is rotated by the landmarks and touches the box's four sides.

    The half sides of the box determine those of the ellipse, except near 45 degrees; there the typical aspect of 1:1.24
    with the same diagonal is used, weighted by the square of the sine of twice the angle.
    """
    angle = angle_of(points)
    c, s, known = np.cos(angle) ** 2, np.sin(angle) ** 2, np.cos(2 * angle) ** 2
    squares = (1 - known) * sum(np.square(half)) / (1 + 1.24**2) * np.array([1, 1.24**2])
    if known > 1e-6:
        squares += known * np.linalg.solve([[c, s], [s, c]], np.square(half))
    a, b = np.sqrt(np.maximum(squares, 1e-9)) * 0.99
    turned = ((PX - middle[0]) + 1j * (PY - middle[1])) * np.exp(-1j * angle)
    return np.hypot(turned.real / a, turned.imag / b) < 1


@pytest.mark.parametrize("name", COVERING)
def test_covering_overlays_cover_their_shape_only(name: str) -> None:
    # Differs from black everywhere, so that covering is visible.
    image = np.full((HEIGHT, WIDTH, 3), 250, np.uint8)

    @settings(max_examples=150)
    @given(st.fixed_dictionaries({}, optional=CHOICES[name]), some_faces())
    def check(options: dict[str, Any], found: Detections) -> None:
        out = overlays.create(name, **options)(IMAGE, found)
        shapes = [shape_of(options, found, row) for row in range(len(found))]
        reached = np.any([np.zeros_like(PX, bool)] + [most for _, most in shapes], axis=0)
        assert (out == IMAGE)[~reached].all()
        if name == "solid":
            kept = options | {"fill": "black", "opacity": 1.0}
            drawn = overlays.create("solid", **kept)(image, found)
            covered = np.any([np.zeros_like(PX, bool)] + [least for least, _ in shapes], axis=0)
            assert not drawn[covered].any()

    check()


@pytest.mark.parametrize("effect", ["dim", "blur", "grey"])
def test_spotlight_keeps_faces(effect: str) -> None:
    @settings(max_examples=60)
    @given(st.fixed_dictionaries({}, optional=MASK | {"amount": SHARE}), some_faces())
    def check(options: dict[str, Any], found: Detections) -> None:
        out = overlays.Spotlight(effect=effect, **options)(IMAGE, found)
        shown = options | {"margin": options.get("margin", 0.25)}
        for row in range(len(found)):
            covered, _ = shape_of(shown, found, row)
            assert (out == IMAGE)[covered].all()

    check()


def test_reference_ellipse_is_rotated() -> None:
    """The ellipse of a face rotated by 30 degrees contains its chin and forehead, and not their mirror images."""
    turn = np.deg2rad(30)
    half = (np.hypot(8 * np.cos(turn), 10 * np.sin(turn)), np.hypot(8 * np.sin(turn), 10 * np.cos(turn)))
    points = (ARCFACE_TEMPLATE - 56) / 6 @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    inside = in_rotated_ellipse(points + np.array([36, 24]), (36, 24), half)
    assert inside.sum() == pytest.approx(np.pi * 8 * 10, rel=0.05)
    down = np.array([-np.sin(turn), np.cos(turn)]) * 9
    assert [inside[int(24 + y), int(36 + x)] for x, y in (down, -down)] == [True, True]
    assert not inside[int(24 + down[1]), int(36 - down[0])]
