"""Properties of every overlay, for any faces and images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overlays import Blur, Compose, Landmarks, Overlay, Skull
from scrfd_trt._detections import Detections

pytestmark = pytest.mark.slow

OVERLAYS: dict[str, Overlay] = {
    "skull": Skull(),
    "skull see-through": Skull(opacity=0.4, scale=1.5),
    "landmarks": Landmarks(),
    "landmarks large": Landmarks(size=4),
    "compose": Compose(Blur(), Skull(opacity=0.5), Landmarks()),
} | {
    f"blur {method} {shape} {feather}": Blur(method=method, shape=shape, feather=feather)
    for method, shape, feather in itertools.product(("gaussian", "pixelate"), ("ellipse", "rectangle"), (0.0, 0.3))
}
BOXES = {
    "none": [],
    "one": [(20, 10, 60, 60)],
    "at the border": [(-20, -10, 30, 20), (70, 50, 130, 120), (0, 0, 96, 64), (96, 64, 100, 70)],
    "outside": [(-70, -70, -30, -30), (200, 10, 260, 60), (1e6, 1e6, 1e6 + 40, 1e6 + 40)],
    "one pixel": [(5, 5, 6, 6), (95, 63, 96, 64), (5.4, 5.4, 5.6, 5.6), (5.9, 5.9, 6.1, 6.1)],
    "no area": [(5, 5, 5, 5), (5, 5, 30, 5), (5, 5, 5, 30), (0, 0, 0, 0), (96, 64, 96, 64)],
    "slivers": [(10, 0, 10.01, 64), (0, 10, 96, 10.01), (10, 10, 10 + 1e-4, 10 + 1e-4)],
    "huge": [(-5e5, -5e5, 5e5, 5e5), (-1e6, 10, 20, 1e6), (-3e38, -3e38, 3e38, 3e38), (0, 0, 1e6, 1)],
}
POINTS = {
    "without": None,
    "usual": np.array([[0.3, 0.36], [0.7, 0.36], [0.5, 0.55], [0.35, 0.74], [0.65, 0.74]]),
    "all one": np.full((5, 2), 0.5),
    "in a row": np.linspace(0, 1, 5)[:, None] * [1.0, 0.5],
    "upside down": np.array([[0.7, 0.7], [0.3, 0.7], [0.5, 0.5], [0.65, 0.3], [0.35, 0.3]]),
    "mirrored": np.array([[0.7, 0.36], [0.3, 0.36], [0.5, 0.55], [0.65, 0.74], [0.35, 0.74]]),
    "far away": np.array([[-9e5, 3.0], [9e5, -8.0], [0.0, 9e5], [1.0, 1.0], [2.0, -9e5]]),
}


def noise(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def make(boxes: list[tuple[float, ...]], points: NDArray[np.float64] | None, size: tuple[int, int]) -> Detections:
    if not boxes:
        return Detections.empty(size, landmarks=points is not None)
    corners = np.array(boxes, np.float32).astype(np.float64)
    sides = corners[:, None, 2:] - corners[:, None, :2]
    five = None if points is None else np.clip(corners[:, None, :2] + sides * points, -3e38, 3e38)
    return Detections(corners, np.linspace(0.99, 0.1, len(boxes)), five, image_size=size)


def run(overlay: Overlay, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    """Call an overlay and check its result and its input."""
    before, columns = image.copy(), detections[:]
    out = overlay(image, detections)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert out.flags.writeable
    assert not np.shares_memory(out, image)
    assert (image == before).all()
    assert detections == columns
    return out


@pytest.fixture(params=sorted(OVERLAYS))
def overlay(request: pytest.FixtureRequest) -> Overlay:
    return OVERLAYS[request.param]


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("boxes", BOXES)
def test_any_faces_are_accepted(overlay: Overlay, boxes: str, points: str) -> None:
    image = noise(96, 64)
    out = run(overlay, image, make(BOXES[boxes], POINTS[points], (96, 64)))
    if boxes == "none" or (boxes == "outside" and points != "far away"):
        assert (out == image).all()
    if boxes == "one":
        assert (out != image).any()


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 300), (40_000, 1), (3, 3), (97, 31)])
def test_images_of_any_size_are_accepted(overlay: Overlay, size: tuple[int, int]) -> None:
    width, height = size
    boxes = [(0.0, 0.0, width, height), (width - 1.0, height - 1.0, width + 3.0, height + 5.0), (-1e6, -1e6, 1e6, 1e6)]
    run(overlay, noise(width, height), make(boxes, POINTS["usual"], size))


def test_views_give_the_same_image(overlay: Overlay) -> None:
    image = noise(96, 64)
    faces = make(BOXES["at the border"], POINTS["usual"], (96, 64))
    wanted = run(overlay, image, faces)
    read_only = image.copy()
    read_only.setflags(write=False)
    wide = np.zeros((128, 192, 3), np.uint8)
    wide[::2, ::2] = image
    alpha = np.dstack([image, image[..., :1]])
    views = [read_only, wide[::2, ::2], alpha[..., :3], image[::-1].copy()[::-1], np.asfortranarray(image)]
    views.append(image[..., ::-1].copy()[..., ::-1])
    for view in views:
        assert (run(overlay, view, faces) == wanted).all()


def test_thousands_of_faces_are_accepted(overlay: Overlay) -> None:
    rng = np.random.default_rng(4)
    corners = rng.uniform(-10, (330, 250), (3000, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 9, (3000, 2))], 1)
    run(overlay, noise(320, 240), make(boxes.tolist(), POINTS["usual"], (320, 240)))


@settings(max_examples=80)
@given(st.data())
def test_drawing_stays_near_the_box(data: st.DataObject) -> None:
    """A skull of scale 1 stays within the box's diagonal, a box within its line and label."""
    coordinate = st.floats(-60, 120, width=32) | st.floats(-1e6, 1e6, width=32)
    x, y = (
        sorted([data.draw(coordinate), data.draw(coordinate)]),
        sorted([data.draw(coordinate), data.draw(coordinate)]),
    )
    box = (x[0], y[0], x[1], y[1])
    assume(x[1] - x[0] >= 1.0 and y[1] - y[0] >= 1.0)
    points = data.draw(st.sampled_from(sorted(POINTS)))
    image = noise(64, 48)
    faces = make([box], POINTS[points], (64, 48))
    px, py = np.meshgrid(np.arange(64) + 0.5, np.arange(48) + 0.5)
    distance = np.maximum(np.maximum(x[0] - px, px - x[1]), np.maximum(y[0] - py, py - y[1]))
    for overlay, reach in (
        (Skull(), np.hypot(x[1] - x[0], y[1] - y[0]) + 2),
        (Landmarks(points=False, score=False), 4),
    ):
        out = run(overlay, image, faces)
        assert (out[distance > reach] == image[distance > reach]).all()
