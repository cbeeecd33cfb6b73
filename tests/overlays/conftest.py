"""A drawn test image with known faces, the golden pictures of it, and the comparison of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import overlays
from scrfd_trt._detections import Detections

WIDTH, HEIGHT = 240, 180
CAT = Path(overlays.__file__).parent / "assets" / "emoji-cat.png"
GOLDEN_FOLDER = Path(__file__).resolve().parents[1] / "data" / "golden" / "overlays"

# Centre, half width, half height and rotation in degrees of each drawn face; the third crosses the border.
FACES = ((72, 84, 40, 52, -8), (168, 60, 24, 32, 25), (226, 138, 30, 38, 0), (150, 148, 9, 12, -15))
SCORES = (0.91, 0.84, 0.77, 0.62)
# The five landmarks, relative to the centre, in half widths and half heights.
POINTS = np.array([[-0.45, -0.25], [0.45, -0.25], [0.0, 0.15], [-0.35, 0.5], [0.35, 0.5]])


def _landmarks(x: float, y: float, a: float, b: float, degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return POINTS * [a, b] @ rotation + [x, y]


def _box(x: float, y: float, a: float, b: float, degrees: float) -> tuple[float, float, float, float]:
    angle = np.deg2rad(degrees)
    half_width = np.hypot(a * np.cos(angle), b * np.sin(angle))
    half_height = np.hypot(a * np.sin(angle), b * np.cos(angle))
    return x - half_width, y - half_height, x + half_width, y + half_height


def draw_image() -> NDArray[np.uint8]:
    """Draw a gradient, a checkerboard in its right half, and faces as ellipses with eyes and a mouth."""
    # In steps of 8, for small files.
    ramp = np.linspace(60, 200, WIDTH)[None, :] * np.linspace(0.7, 1.0, HEIGHT)[:, None] // 8 * 8
    image = np.stack([ramp, ramp[:, ::-1], np.full_like(ramp, 120)], 2).round().astype(np.uint8)
    checks = (np.arange(WIDTH)[None, :] // 6 + np.arange(HEIGHT)[:, None] // 6) % 2 == 1
    checks[:, : WIDTH // 2] = False
    image[checks] //= 2
    for x, y, a, b, degrees in FACES:
        cv2.ellipse(image, (x, y), (a, b), degrees, 0, 360, (150, 185, 225), -1)
        five = _landmarks(x, y, a, b, degrees).round().astype(int).tolist()
        for eye in five[:2]:
            cv2.circle(image, eye, max(1, a // 8), (60, 40, 30), -1)
        cv2.line(image, five[3], five[4], (70, 60, 170), max(1, b // 12))
    return image


def draw_detections(landmarks: bool = True, **video: Any) -> Detections:
    points = [_landmarks(*face) for face in FACES] if landmarks else None
    return Detections([_box(*face) for face in FACES], SCORES, points, image_size=(WIDTH, HEIGHT), **video)


def draw_with(overlay: overlays.Overlay, **video: Any) -> NDArray[np.uint8]:
    return overlay(draw_image(), draw_detections(**video))


def sticker(**options: Any) -> overlays.Overlay:
    """An overlay that draws a cat."""
    return overlays.Sticker(picture=CAT, **options)


# Without the score: fonts differ between versions of OpenCV.
GOLDEN: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "skull": lambda: overlays.Skull()(draw_image(), draw_detections()),
    "skull_boxes_only": lambda: overlays.Skull(opacity=0.6, scale=0.9)(draw_image(), draw_detections(False)),
    "blur_gaussian_ellipse": lambda: overlays.Blur()(draw_image(), draw_detections()),
    "blur_pixelate_rectangle": lambda: overlays.Blur(
        method="pixelate", shape="rectangle", strength=0.2, margin=0.1, feather=0.0
    )(draw_image(), draw_detections()),
    "landmarks": lambda: overlays.Landmarks(score=False)(draw_image(), draw_detections()),
    "boxes": lambda: draw_with(overlays.Boxes(label="none"), track_ids=[0, 1, 2, 3]),
    "crop": lambda: draw_with(overlays.CropSheet(side="right", size=0.3, background="blue")),
    "emoji": lambda: draw_with(overlays.Emoji(), track_ids=[0, 2, 4, 1]),
    "image_box": lambda: draw_with(sticker()),
    "image_three": lambda: draw_with(sticker(fit="three", opacity=0.7)),
    "pixelate_aligned": lambda: draw_with(overlays.Pixelate(shape="aligned")),
    "solid_aligned": lambda: draw_with(overlays.Solid(shape="aligned", fill="orange", feather=0.2)),
    "solid_rectangle": lambda: draw_with(overlays.Solid(shape="rectangle", margin=0, feather=0)),
    "spotlight_blur": lambda: draw_with(overlays.Spotlight(effect="blur")),
    "spotlight_dim": lambda: draw_with(overlays.Spotlight()),
}
"""The golden pictures by file name; ``tests/make_golden.py`` writes them."""


def difference(image: NDArray[np.uint8], golden: NDArray[np.uint8]) -> str:
    """Describe the difference of two pictures; empty if it is within that of OpenCV versions."""
    if image.shape != golden.shape:
        return f"shape {image.shape}, not {golden.shape}"
    levels = np.abs(image.astype(np.int16) - golden)
    near = float((levels.max(2) <= 8).mean())
    if levels.mean() < 1.0 and near >= 0.995:
        return ""
    return f"mean difference {levels.mean():.2f} levels, {near:.2%} of the pixels within 8 levels"


@pytest.fixture(scope="session")
def picture() -> Path:
    """Path of a picture with alpha: a drawn cat."""
    return CAT


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return draw_image()


@pytest.fixture
def detections() -> Detections:
    return draw_detections()


@pytest.fixture(params=sorted(GOLDEN))
def golden(request: pytest.FixtureRequest) -> tuple[Path, Callable[[], NDArray[np.uint8]]]:
    """The file of a golden picture, and the function that draws it."""
    return GOLDEN_FOLDER / f"{request.param}.png", GOLDEN[request.param]


@pytest.fixture
def compare() -> Callable[[NDArray[np.uint8], NDArray[np.uint8]], str]:
    return difference
