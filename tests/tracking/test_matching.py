"""Smoothing weights, velocities, overlaps and matching."""

from __future__ import annotations

import numpy as np
import pytest

from scrfd_trt._nms import pairwise_iou
from scrfd_trt._tracking import tracker
from scrfd_trt._tracking.tracker import _second_best, assign, match, overlaps, take_best
from scrfd_trt._tracking.tracks import ranges, slopes, smoothing_weights


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (1, 1), (0, 4), (4, 0), (2, 2), (4, 4), (1, 6)])
def test_weights_preserve_a_line(before: int, after: int) -> None:
    steps = np.arange(-before, after + 1)
    found = smoothing_weights(before, after, 8)[8 - before : 9 + after]
    assert found.sum() == pytest.approx(1.0)
    assert found @ (3.0 + 2.0 * steps) == pytest.approx(3.0)


def test_weights_preserve_a_parabola_with_samples_on_both_sides() -> None:
    assert smoothing_weights(4, 4, 4) @ (1.0 + 0.5 * np.arange(-4, 5) ** 2) == pytest.approx(1.0)


def test_weights_reduce_noise() -> None:
    assert np.square(smoothing_weights(4, 4, 4)).sum() < 0.3


@pytest.mark.parametrize(("before", "after", "degree"), [(4, 4, 2), (8, 3, 2), (1, 6, 1), (0, 8, 1), (2, 0, 1)])
def test_weights_are_those_of_savitzky_and_golay(before: int, after: int, degree: int) -> None:
    steps = np.arange(-before, after + 1)
    expected = np.linalg.pinv(np.vander(steps, degree + 1))[-1]  # the value at 0 of the polynomial that fits best
    found = smoothing_weights(before, after, 8)
    np.testing.assert_allclose(found[8 - before : 9 + after], expected, atol=1e-12)
    assert np.count_nonzero(found) <= before + 1 + after


def test_slopes_of_lines_and_of_single_samples() -> None:
    steps = np.array([[0.0, 1.0, 4.0], [0.0, 1.0, np.inf], [0.0, np.inf, np.inf], [0.0, 3.0, -40.0]])
    values = np.where(np.isfinite(steps), steps, 7.0)[:, :, None] * [2.0, -1.0]
    expected = [[2, -1], [2, -1], [0, 0], [2, -1]]
    np.testing.assert_allclose(slopes(values, steps), expected, atol=1e-12)
    assert slopes(values[:0], steps[:0]).shape == (0, 2)


def test_overlaps_of_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]], float).T
    np.testing.assert_allclose(overlaps(boxes[:, :1], boxes), [1.0, 1 / 3, 0.0])
    np.testing.assert_allclose(overlaps(boxes[:, :, None], boxes[:, None]), pairwise_iou(boxes.T, boxes.T))


def test_ranges() -> None:
    at, numbers = ranges(np.array([3, 9, 0]), np.array([5, 7, 3]))
    assert (at.tolist(), numbers.tolist()) == ([0, 0, 2, 2, 2], [3, 4, 0, 1, 2])


def test_pairs_have_largest_sum() -> None:
    rows, columns = np.array([0, 0, 1, 1, 4]), np.array([0, 1, 0, 1, 7])
    found = assign(rows, columns, np.array([0.9, 0.8, 0.85, 0.1, 0.5]))
    assert sorted(zip(*found, strict=True)) == [(0, 1), (1, 0), (4, 7)]


def test_second_best_in_the_same_group() -> None:
    groups, values = np.array([3, 0, 3, 5, 3, 0]), np.array([0.4, 0.2, 0.9, 0.7, 0.5, 0.3])
    np.testing.assert_array_equal(_second_best(groups, values), [np.inf, np.inf, 0.5, 0.0, np.inf, 0.2])


@pytest.mark.parametrize("seed", range(4))
def test_match_is_the_assignment_of_all_pairs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    corners, sides = rng.random((60, 2)) * (400, 200), rng.uniform(4, [60, 30, 200, 8][seed], (60, 2))
    found = np.concatenate([corners, corners + sides], axis=1)
    moved = found[rng.permutation(60)[:50]] + rng.normal(0, 4, (2, 50, 1))
    like = np.maximum(*(pairwise_iou(each, found) for each in moved))
    rows, columns = optimize.linear_sum_assignment(np.where(like >= 0.15, like, 0.0), maximize=True)
    expected = [(r, c) for r, c in zip(rows, columns, strict=True) if like[r, c] >= 0.15]
    assert len(expected) > 20
    for limit in (10_000, 0):  # all pairs, and only those found to be near
        monkeypatch.setattr(tracker, "MAX_DENSE_PAIRS", limit)
        assert sorted(zip(*match(moved.transpose(2, 0, 1), found.T, 0.15), strict=True)) == expected


def test_best_is_taken_in_order() -> None:
    similarity = np.array([[0.6, 0.7, 0.0], [0.0, 0.9, 0.0], [0.4, 0.1, 0.2], [0.1, 0.8, 0.75]])
    assert take_best(similarity, 0.5) == ([0, 3], [1, 2])
    assert take_best(np.zeros((3, 0)), 0.5) == ([], [])
