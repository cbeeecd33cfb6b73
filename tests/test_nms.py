from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scrfd_trt._nms import nms, pairwise_iou


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0.0) * max(height, 0.0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def greedy(boxes, scores, threshold):
    """Definition: by descending score, drop each box that overlaps one that is kept."""
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        if all(iou(boxes[row], boxes[other]) <= threshold for other in kept):
            kept.append(int(row))
    return kept


boxes_of_a_crowd = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40), st.integers(1, 1000)),
    max_size=40,
)


@given(boxes_of_a_crowd, st.sampled_from([0.05, 0.25, 0.4, 0.7, 0.95]))
def test_equals_greedy_suppression(rows, threshold):
    # Not quite whole numbers, so that no overlap equals the threshold.
    boxes = np.array([(x, y, x + w + 0.001, y + h + 0.003) for x, y, w, h, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score / 1000 for *_, score in rows], np.float32)
    assert nms(boxes, scores, threshold).tolist() == greedy(boxes.astype(float), scores, threshold)


@given(boxes_of_a_crowd)
def test_result_is_a_fixed_point(rows):
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score / 1000 for *_, score in rows], np.float32)
    kept = nms(boxes, scores, 0.4)
    assert kept.dtype == np.intp
    assert nms(boxes[kept], scores[kept], 0.4).tolist() == list(range(len(kept)))
    assert (np.diff(scores[kept]) <= 0).all()


def test_first_of_equal_boxes_is_kept():
    boxes = np.tile(np.array([[5, 5, 20, 20]], np.float32), (4, 1))
    assert nms(boxes, np.array([0.6, 0.7, 0.7, 0.5], np.float32), 0.4).tolist() == [1]


def test_input_is_not_changed():
    boxes, scores = np.array([[0, 0, 9, 9], [1, 1, 9, 9]], np.float32), np.array([0.9, 0.8], np.float32)
    boxes.flags.writeable = scores.flags.writeable = False
    assert nms(boxes, scores, 0.4).tolist() == [0]


def test_boxes_without_area_are_dropped_and_suppress_nothing():
    boxes = np.array([[0, 0, 0, 0], [100, 100, 100, 100], [50, 50, 50, 90], [5, 5, 9, 9]], np.float32)
    assert nms(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32), 0.4).tolist() == [3]
    assert nms(boxes[:2], np.array([0.9, 0.8], np.float32), 0.4).dtype == np.intp


def test_infinite_boxes_are_kept_and_suppress_nothing():
    boxes = np.array([[0, 0, 9, 9], [1, 1, 9, np.inf], [0, 0, 9, 8], [-np.inf, 0, 3, 3], [0, 0, np.inf, 3]], np.float32)
    scores = np.array([0.8, 0.8, 0.7, 0.9, 0.0], np.float32)
    assert nms(boxes, scores, 0.4).tolist() == [3, 0, 1]
    boxes[3, 0] = np.nan
    assert nms(boxes, scores, 0.4).tolist() == [0, 1]


def test_pairwise_iou():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]], np.float32)
    assert np.allclose(pairwise_iou(boxes, boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])
    assert pairwise_iou(boxes[:0], boxes).shape == (0, 3)
    assert pairwise_iou(boxes.astype(np.float64), boxes[:1].astype(np.float64)).dtype == np.float64
