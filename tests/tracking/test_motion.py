"""Motion of the background."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from scrfd_trt._tracking.motion import Grey, Motion, estimate_motion, grey_size

SIZE = (1280, 720)


def similarity(scale: float = 1.0, angle: float = 0.0, x: float = 0.0, y: float = 0.0) -> Motion:
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def wall(seed: int = 1) -> Grey:
    """A picture of blots, larger than a frame."""
    noise = np.random.default_rng(seed).normal(0, 1, (180, 320)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(128 + 250 * blurred, 0, 255).astype(np.uint8)


def seen(motion: Motion, image: Grey | None = None) -> Grey:
    """The middle of the wall, moved as frames of SIZE are."""
    middle = similarity(1.0, 0.0, -80.5, -45.5)
    scale = SIZE[0] / 160
    whole = np.vstack([motion, [0, 0, 1]])
    whole[:2, 2] /= scale
    shift = np.vstack([similarity(1.0, 0.0, 0.5, 0.5), [0, 0, 1]])
    moved = (np.linalg.inv(shift) @ whole @ shift @ np.vstack([middle, [0, 0, 1]]))[:2]
    return cv2.warpAffine(wall() if image is None else image, moved, (160, 90), flags=cv2.INTER_LINEAR)


@pytest.mark.parametrize(
    "motion",
    [
        similarity(x=1.0, y=-2.0),
        similarity(x=150.0, y=20.0),
        similarity(1.06, x=-40.0, y=-20.0),
        similarity(0.95, 0.05, 40.0, 10.0),
        similarity(1.0, -0.08, -20.0, 30.0),
    ],
)
def test_motion_of_background_is_estimated(motion: Motion) -> None:
    found = estimate_motion(seen(similarity()), seen(motion), SIZE)
    assert found is not None
    corners = np.array([[0, 0, 1], [SIZE[0], 0, 1], [0, SIZE[1], 1], [*SIZE, 1]])
    assert np.abs(corners @ (found - motion).T).max() < 4.0  # half a pixel of the small picture


def test_start_of_a_whip_is_a_shift() -> None:
    """In the second frame, blur leaves no point of the first."""
    sharp = seen(similarity())
    moved = [seen(similarity(x=x)).astype(np.float32) for x in np.linspace(60.0, 180.0, 21)]
    found = estimate_motion(sharp, np.mean(moved, axis=0).astype(np.uint8), SIZE)
    assert found is not None
    assert found[:, :2] == pytest.approx(np.eye(2))
    assert 59.0 < found[0, 2] < 181.0  # one of the shifts; which one depends on OpenCV
    assert found[1, 2] == pytest.approx(0.0, abs=5.0)


def test_no_motion_is_found_where_there_is_none() -> None:
    noisy = [
        np.clip(seen(similarity()) + np.random.default_rng(seed).normal(0, 2, (90, 160)), 0, 255).astype(np.uint8)
        for seed in (1, 2)
    ]
    crowd = noisy[1].copy()
    crowd[:, 80:] = seen(similarity(x=30.0))[:, 80:]
    flat = np.full((90, 160), 90, np.uint8)
    other = seen(similarity(), wall(2))
    for after in (noisy[1], crowd, flat, other, noisy[1][:80]):
        assert estimate_motion(noisy[0], after, SIZE) is None
    assert estimate_motion(flat, flat + 1, SIZE) is None


def test_pictures_keep_their_shape() -> None:
    assert [grey_size(*size) for size in ((1920, 1080), (1080, 1920), (5000, 3))] == [(160, 90), (90, 160), (160, 1)]
