"""Scene cuts, from thumbnails of drawn frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scrfd_trt._tracking.scene_cuts import THUMBNAIL_SHAPE, CutCandidates, _Products, mark_cuts
from scrfd_trt.video._first_pass import make_preview

pytestmark = pytest.mark.slow


def frame(image: np.ndarray, form: str = "yuv420p") -> object:
    av = pytest.importorskip("av")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "bgr24").reformat(format=form)


def scene(seed: int, shift: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (9, 40, 3), np.uint8)
    image = np.kron(blocks, np.ones((10, 10, 1), np.uint8))
    return image[:, shift : shift + 160]


def changes(images: list[np.ndarray], form: str = "yuv420p", near: int = 30) -> list[tuple[int, int]]:
    """The frames at which new scenes begin, and how long that takes."""
    thumbnails = [(number, make_preview(frame(image, form)).thumbnail) for number, image in enumerate(images)]
    return [(number, length) for number, length in mark_cuts(thumbnails, near) if length]


def found(images: list[np.ndarray], form: str = "yuv420p", near: int = 30) -> list[int]:
    """The frames of cuts, if nothing else begins a scene."""
    marked = changes(images, form, near)
    assert all(length == 1 for _, length in marked)
    return [number for number, _ in marked]


@pytest.mark.parametrize("form", ["yuv420p", "yuv444p10le", "rgb24", "gray", "yuvj422p"])
def test_cut_is_found_in_any_pixel_format(form: str) -> None:
    assert found([scene(1)] * 6 + [scene(2)] * 6, form) == [6]


def test_cut_at_last_frame() -> None:
    assert found([scene(1)] * 6 + [scene(2)]) == [6]


def test_no_cut_in_still_pan_flash_lamp_and_occlusion() -> None:
    assert found([scene(1)] * 8) == []
    assert found([scene(1, shift) for shift in range(0, 200, 20)]) == []
    assert found([scene(1)] * 4 + [np.full_like(scene(1), 255)] + [scene(1)] * 4) == []
    dim = scene(1) // 2 + 20
    assert found([dim] * 4 + [dim + 60] * 4) == []
    near = scene(1)
    near[10:80, 30:90] = 255
    assert found([scene(1)] * 4 + [near] * 4) == []


def mixed(one: np.ndarray, other: np.ndarray, frames: int) -> list[np.ndarray]:
    """The frames in which one picture becomes another; the last is the other."""
    return [np.uint8(one * (1 - a) + other * a) for a in np.arange(1, frames + 1) / frames]


@pytest.mark.parametrize("frames", [5, 12, 25])
def test_dissolve_is_found_with_its_length(frames: int) -> None:
    images = [scene(1)] * 9 + mixed(scene(1), scene(2), frames) + [scene(2)] * 9
    assert changes(images) == [(9, frames)]
    moving = [scene(1, n) for n in range(9)] + mixed(scene(1, 9), scene(2), frames) + [scene(2, n) for n in range(9)]
    assert [number + length for number, length in changes(moving)] == [9 + frames]


def test_fades_are_found_and_lamps_are_none() -> None:
    black = np.zeros_like(scene(1))
    out, into = mixed(scene(1), black, 8), mixed(black, scene(2), 10)
    assert changes([scene(1)] * 9 + out + into + [scene(2)] * 9) == [(9, 8), (17, 10)]
    lamp = mixed(scene(1), black, 8) + mixed(black, scene(1), 8)
    assert changes([scene(1)] * 9 + lamp + [scene(1)] * 9) == []
    assert changes([scene(1)] * 9 + mixed(scene(1), scene(1) // 3, 8) + [scene(1) // 3] * 9) == []


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize("step", [10, 20, 40])
def test_no_cut_in_pan_with_repeated_frames(times: int, step: int) -> None:
    assert found([scene(1, shift) for shift in range(0, 240, step) for _ in range(times)]) == []


@pytest.mark.parametrize("times", [1, 2, 3])
def test_cut_between_repeated_frames_is_found(times: int) -> None:
    before, after = ([scene(seed, shift) for shift in range(16) for _ in range(times)] for seed in (1, 2))
    assert found(before + after) == [16 * times]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "other",
    [
        lambda image: image // 2,
        lambda image: image // 4,
        lambda image: np.minimum(image.astype(int) + 150, 255).astype(np.uint8),
        np.zeros_like,
        lambda image: np.full_like(image, (0, 0, 200)),
        lambda image: scene(2),
    ],
    ids=["half as bright", "a quarter", "flash", "black", "red", "person before the camera"],
)
def test_no_cut_if_scene_returns_soon(other: Callable[[np.ndarray], np.ndarray], count: int) -> None:
    image = scene(1)
    assert found([image] * 10 + [other(image)] * count + [image] * 10) == []
    assert found([image] * 10 + [other(image)] * count) == ([10] if found([image] * 10 + [other(image)] * 50) else [])


@pytest.mark.parametrize("factor", [0.5, 0.25])
def test_no_cut_if_only_light_changes(factor: float) -> None:
    dark = (scene(1) * factor).astype(np.uint8)
    assert found([scene(1)] * 10 + [dark] * 60) == []
    assert found([dark] * 10 + [scene(1)] * 60) == []


def test_cuts_around_scene_that_returns_late() -> None:
    assert found([scene(1)] * 10 + [scene(2)] * 31 + [scene(1)] * 10) == [10, 41]


def test_every_cut_is_a_candidate() -> None:
    images = [scene(1)] * 9 + [scene(2)] * 40 + [scene(3, n) for n in range(0, 90, 3)]
    candidates = CutCandidates()
    candidates_found = [n for n, image in enumerate(images) if candidates.add(make_preview(frame(image)).thumbnail)]
    assert set(found(images)) == {9, 49}
    assert candidates_found == [0, 9, 49]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2000, 3)])
def test_frames_of_any_size_are_compared(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    assert found([image] * 3, "yuv444p") == []


def test_no_frame_and_one_frame() -> None:
    assert found([]) == []
    assert found([scene(1)]) == []


def test_products_of_the_latest_thumbnails() -> None:
    products, thumbnails = _Products(5), np.random.default_rng(1).uniform(0, 255, (12, *THUMBNAIL_SHAPE))
    for count, thumbnail in enumerate(thumbnails.astype(np.float32), 1):
        products.add(thumbnail)
        vectors = thumbnails[max(0, count - 4) : count].reshape(-1, thumbnail.size) - 128.0
        places = products.latest(4)
        np.testing.assert_allclose(products.table[np.ix_(places, places)], vectors @ vectors.T, rtol=1e-4, atol=100.0)
