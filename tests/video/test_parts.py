"""The small parts that tracking is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from scrfd_trt._nms import pairwise_iou
from scrfd_trt._tracking.matching import grown, pairs
from scrfd_trt._tracking.smoothing import slope, weights
from scrfd_trt.video import _scene_cuts
from scrfd_trt.video._first_pass import ahead


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (1, 1), (0, 4), (4, 0), (2, 2), (4, 4), (1, 6)])
def test_weights_leave_a_straight_line_as_it_is(before: int, after: int) -> None:
    steps = np.arange(-before, after + 1)
    found = weights(before, after)
    assert found.sum() == pytest.approx(1.0)
    assert found @ (3.0 + 2.0 * steps) == pytest.approx(3.0)


def test_weights_leave_a_parabola_as_it_is_where_both_sides_are_seen() -> None:
    assert weights(4, 4) @ (1.0 + 0.5 * np.arange(-4, 5) ** 2) == pytest.approx(1.0)


def test_weights_even_out_noise() -> None:
    assert np.square(weights(4, 4)).sum() < 0.3


def test_slopes() -> None:
    steps = np.array([0.0, 1.0, 4.0])
    np.testing.assert_allclose(slope(np.stack([2 * steps, -steps], 1), steps), [2.0, -1.0])
    np.testing.assert_array_equal(slope(np.array([[5.0]]), np.array([3.0])), [0.0])


def test_overlaps_of_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]], float)
    np.testing.assert_allclose(pairwise_iou(boxes[:1], boxes), [[1.0, 1 / 3, 0.0]])
    np.testing.assert_allclose(grown(boxes[:2], np.array([0.1, 0.2])), [[-1, -1, 11, 11], [3, -2, 17, 12]])
    assert pairwise_iou(boxes[:0], boxes).shape == (0, 3)


def test_pairs_are_the_best_in_sum() -> None:
    assert sorted(pairs(np.array([[0.9, 0.8], [0.85, 0.1]]), 0.05)) == [(0, 1), (1, 0)]
    assert pairs(np.array([[0.9, 0.8], [0.85, 0.1]]), 0.88) == [(0, 0)]
    assert pairs(np.zeros((0, 3)), 0.1) == []


def frame(image: np.ndarray, form: str = "yuv420p") -> object:
    av = pytest.importorskip("av")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "bgr24").reformat(format=form)


def scene(seed: int, shift: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (9, 40, 3), np.uint8)
    image = np.kron(blocks, np.ones((10, 10, 1), np.uint8))
    return image[:, shift : shift + 160]


def found(images: list[np.ndarray], form: str = "yuv420p", near: int = 30) -> list[int]:
    smalls = [(number, _scene_cuts.small(frame(image, form))) for number, image in enumerate(images)]
    return [number for number, cut in _scene_cuts.marked(smalls, near) if cut]


@pytest.mark.parametrize("form", ["yuv420p", "yuv444p10le", "rgb24", "gray", "yuvj422p"])
def test_a_cut_is_found(form: str) -> None:
    assert found([scene(1)] * 6 + [scene(2)] * 6, form) == [6]


def test_a_cut_at_the_last_frame() -> None:
    assert found([scene(1)] * 6 + [scene(2)]) == [6]


def test_a_still_a_pan_a_flash_a_lamp_and_a_fade_are_no_cuts() -> None:
    assert found([scene(1)] * 8) == []
    assert found([scene(1, shift) for shift in range(0, 200, 20)]) == []
    assert found([scene(1)] * 4 + [np.full_like(scene(1), 255)] + [scene(1)] * 4) == []
    dim = scene(1) // 2 + 20
    assert found([dim] * 4 + [dim + 60] * 4) == []
    near = scene(1)
    near[10:80, 30:90] = 255
    assert found([scene(1)] * 4 + [near] * 4) == []
    fade = [np.uint8(scene(1) * (1 - a) + scene(2) * a) for a in np.linspace(0, 1, 12)]
    assert found(fade) == []


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize("step", [10, 20, 40])
def test_a_pan_whose_pictures_are_repeated_is_no_cut(times: int, step: int) -> None:
    assert found([scene(1, shift) for shift in range(0, 240, step) for _ in range(times)]) == []


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_cut_between_repeated_pictures_is_found(times: int) -> None:
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
    ids=["half as bright", "a quarter", "flash", "black", "red", "somebody before the camera"],
)
def test_what_comes_back_was_never_left(other: Callable[[np.ndarray], np.ndarray], count: int) -> None:
    image = scene(1)
    assert found([image] * 10 + [other(image)] * count + [image] * 10) == []
    assert found([image] * 10 + [other(image)] * count) == ([10] if found([image] * 10 + [other(image)] * 50) else [])


@pytest.mark.parametrize("factor", [0.5, 0.25])
def test_another_light_is_no_new_scene(factor: float) -> None:
    dark = (scene(1) * factor).astype(np.uint8)
    assert found([scene(1)] * 10 + [dark] * 60) == []
    assert found([dark] * 10 + [scene(1)] * 60) == []


def test_a_scene_that_comes_back_late_was_left() -> None:
    assert found([scene(1)] * 10 + [scene(2)] * 31 + [scene(1)] * 10) == [10, 41]


def test_each_cut_was_suspected() -> None:
    images = [scene(1)] * 9 + [scene(2)] * 40 + [scene(3, n) for n in range(0, 90, 3)]
    suspicion = _scene_cuts.Suspicion()
    suspected = [n for n, image in enumerate(images) if suspicion.of(_scene_cuts.small(frame(image)))]
    assert set(found(images)) == {9, 49}
    assert suspected == [0, 9, 49]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2000, 3)])
def test_frames_of_any_size_can_be_compared(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    assert found([image] * 3, "yuv444p") == []


def test_none_and_one_frame() -> None:
    assert found([]) == []
    assert found([scene(1)]) == []


def test_ahead_keeps_the_order() -> None:
    with ahead(range(100), 3) as items:
        assert list(items) == list(range(100))


def test_ahead_raises_an_error_in_its_turn() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise RuntimeError("over")

    seen = []
    with ahead(broken()) as items, pytest.raises(RuntimeError, match="over"):
        seen.extend(iter(items))
    threads = [thread.name for thread in threading.enumerate()]
    assert "scrfd-trt-video" not in threads


def test_ahead_ends_when_nobody_wants_more_and_reads_no_further_than_it_says() -> None:
    read = []

    def endless() -> Iterator[int]:
        for number in range(10**9):
            read.append(number)
            yield number

    with ahead(endless(), 4) as items:
        assert next(items) == 0
    assert len(read) < 10
    assert "scrfd-trt-video" not in [thread.name for thread in threading.enumerate()]


def test_nothing_is_read_ahead_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt may come while the thread is being started, which then must not touch what is closed."""
    start, let_go, read = threading.Thread.start, threading.Event(), []

    def late(thread: threading.Thread) -> None:
        run = thread.run
        monkeypatch.setattr(thread, "run", lambda: (let_go.wait(20), run()))
        start(thread)
        raise KeyboardInterrupt

    def items() -> Iterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", late)
        with pytest.raises(KeyboardInterrupt), ahead(items()):
            pass
    running = [thread for thread in threading.enumerate() if thread.name == "scrfd-trt-video"]
    let_go.set()
    for thread in running:
        thread.join(20)
    assert running
    assert read == []


def test_a_second_interrupt_waits_for_what_is_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, let_go, read = threading.Event(), threading.Event(), []

    def items() -> Iterator[int]:
        yield 0
        reading.set()
        let_go.wait(20)
        read.append("to its end")
        yield 1

    wait = threading.Event.wait

    def again(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread() and not let_go.is_set():
            let_go.set()
            raise KeyboardInterrupt
        return wait(event, timeout)

    def stopped() -> None:
        with ahead(items()) as running:
            assert next(running) == 0
            wait(reading, 20)
            monkeypatch.setattr(threading.Event, "wait", again)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert read == ["to its end"]
