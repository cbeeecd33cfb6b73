"""Smoothing weights, velocities, overlaps and assignment."""

from __future__ import annotations

import numpy as np
import pytest

from scrfd_trt._nms import pairwise_iou
from scrfd_trt._tracking.track import expand, slope, smoothing_weights
from scrfd_trt._tracking.tracker import assign


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (1, 1), (0, 4), (4, 0), (2, 2), (4, 4), (1, 6)])
def test_weights_preserve_a_line(before: int, after: int) -> None:
    steps = np.arange(-before, after + 1)
    found = smoothing_weights(before, after)
    assert found.sum() == pytest.approx(1.0)
    assert found @ (3.0 + 2.0 * steps) == pytest.approx(3.0)


def test_weights_preserve_a_parabola_with_samples_on_both_sides() -> None:
    assert smoothing_weights(4, 4) @ (1.0 + 0.5 * np.arange(-4, 5) ** 2) == pytest.approx(1.0)


def test_weights_reduce_noise() -> None:
    assert np.square(smoothing_weights(4, 4)).sum() < 0.3


@pytest.mark.parametrize(("before", "after", "degree"), [(4, 4, 2), (8, 3, 2), (1, 6, 1), (0, 8, 1), (2, 0, 1)])
def test_weights_are_those_of_savitzky_and_golay(before: int, after: int, degree: int) -> None:
    signal = pytest.importorskip("scipy.signal")
    expected = signal.savgol_coeffs(before + 1 + after, degree, pos=before, use="dot")
    np.testing.assert_allclose(smoothing_weights(before, after), expected, atol=1e-12)


def test_slope_of_line_and_of_single_sample() -> None:
    steps = np.array([0.0, 1.0, 4.0])
    np.testing.assert_allclose(slope(np.stack([2 * steps, -steps], 1), steps), [2.0, -1.0])
    np.testing.assert_array_equal(slope(np.array([[5.0]]), np.array([3.0])), [0.0])


def test_overlaps_and_expansion_of_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]], float)
    np.testing.assert_allclose(pairwise_iou(boxes[:1], boxes), [[1.0, 1 / 3, 0.0]])
    np.testing.assert_allclose(expand(boxes[:2], np.array([[0.1], [0.2]])), [[-1, -1, 11, 11], [3, -2, 17, 12]])
    assert pairwise_iou(boxes[:0], boxes).shape == (0, 3)


def test_assignment_has_largest_sum() -> None:
    assert sorted(assign(np.array([[0.9, 0.8], [0.85, 0.1]]), 0.05)) == [(0, 1), (1, 0)]
    assert assign(np.array([[0.9, 0.8], [0.85, 0.1]]), 0.88) == [(0, 0)]
    assert assign(np.zeros((0, 3)), 0.1) == []
