from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrfd_trt._decode import Candidates, decode, merge
from scrfd_trt._heads import HeadLayout
from scrfd_trt._letterbox import Letterbox

FLAT = HeadLayout("flat", (8, 16, 32), 2, (0, 1, 2), (3, 4, 5), (6, 7, 8))


def heads(size, rng, kps=True):
    """Return random flat heads for an input of (width, height) pixels."""
    rows = [FLAT.rows(stride, size) for stride in FLAT.strides]
    scores = [rng.random((count, 1), np.float32) for count in rows]
    boxes = [rng.uniform(0, 6, (count, 4)).astype(np.float32) for count in rows]
    points = [rng.uniform(-6, 6, (count, 10)).astype(np.float32) for count in rows] if kps else []
    return [*scores, *boxes, *points]


def decode_rows(outputs, size, threshold, kps=True):
    """Decode row by row, as the format is defined."""
    found = []
    for level, stride in enumerate(FLAT.strides):
        row = 0
        for y in range(-(-size[1] // stride)):
            for x in range(-(-size[0] // stride)):
                for _ in range(FLAT.anchors):
                    score = outputs[level][row, 0]
                    if score >= threshold:
                        left, top, right, bottom = outputs[3 + level][row] * stride
                        center = np.array([x * stride, y * stride], np.float32)
                        box = [center[0] - left, center[1] - top, center[0] + right, center[1] + bottom]
                        points = center + outputs[6 + level][row].reshape(5, 2) * stride if kps else None
                        found.append((box, score, points))
                    row += 1
    return found


@settings(max_examples=25)
@given(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.floats(0.3, 1.0), st.integers(0, 2**31), st.booleans())
def test_decoding_equals_its_definition(cells, threshold, seed, kps):
    size = (32 * cells[0], 32 * cells[1])
    layout = FLAT if kps else HeadLayout("flat", FLAT.strides, 2, FLAT.scores, FLAT.boxes, None)
    outputs = heads(size, np.random.default_rng(seed), kps)
    got, expected = decode(layout, outputs, 0, size, threshold), decode_rows(outputs, size, threshold, kps)
    assert len(got) == len(expected)
    if not expected:
        assert got.boxes.shape == (0, 4)
        return
    assert np.allclose(got.boxes, [box for box, _, _ in expected], atol=1e-3)
    assert np.array_equal(got.scores, np.array([score for _, score, _ in expected], np.float32))
    if kps:
        assert np.allclose(got.landmarks, [points for _, _, points in expected], atol=1e-3)
    else:
        assert got.landmarks is None


def test_all_layouts_decode_alike():
    size, rng = (96, 64), np.random.default_rng(3)
    flat = heads(size, rng)
    expected = decode(FLAT, flat, 0, size, 0.5)
    batched = [np.stack([np.zeros_like(output), output]) for output in flat]
    grid = []
    for output, stride in zip(batched, FLAT.strides * 3, strict=True):
        down, across, width = size[1] // stride, size[0] // stride, output.shape[-1]
        grid.append(output.reshape(2, down, across, 2, width).transpose(0, 3, 4, 1, 2).reshape(2, -1, down, across))
    for kind, outputs in (("batched", batched), ("grid", grid)):
        layout = HeadLayout(kind, FLAT.strides, 2, FLAT.scores, FLAT.boxes, FLAT.landmarks)
        got = decode(layout, outputs, 1, size, 0.5)
        assert np.array_equal(got.boxes, expected.boxes)
        assert np.array_equal(got.scores, expected.scores)
        assert np.array_equal(got.landmarks, expected.landmarks)
        assert len(decode(layout, outputs, 0, size, 0.5)) == 0


def test_results_do_not_share_memory_with_the_outputs():
    outputs = heads((64, 64), np.random.default_rng(4))
    got = decode(FLAT, outputs, 0, (64, 64), 0.1)
    for array in (got.boxes, got.scores, got.landmarks):
        assert not any(np.shares_memory(array, output) for output in outputs)


def test_half_precision_and_negative_distances():
    outputs = [output.astype(np.float16) for output in heads((32, 32), np.random.default_rng(5))]
    outputs[3][:] = -1
    got = decode(FLAT, outputs, 0, (32, 32), 0.0)
    assert got.boxes.dtype == got.scores.dtype == got.landmarks.dtype == np.float32
    assert (got.boxes[:, 2:] >= got.boxes[:, :2]).all()


def test_half_scores_are_compared_with_the_threshold_in_float32():
    outputs = [output.astype(np.float16) for output in heads((32, 32), np.random.default_rng(5))]
    for output in outputs[:3]:
        output[:] = 0.3001  # the nearest float16 is 0.30005
    assert len(decode(FLAT, outputs, 0, (32, 32), 0.3001)) == 0
    assert len(decode(FLAT, outputs, 0, (32, 32), 0.30004)) == sum(len(output) for output in outputs[:3])


def test_float32_threshold_is_the_nearest_one():
    outputs = heads((32, 32), np.random.default_rng(5))
    for threshold in (0.3, 0.7):  # rounded up, and down
        for output in outputs[:3]:
            output[:] = threshold
        assert len(decode(FLAT, outputs, 0, (32, 32), threshold)) == sum(len(output) for output in outputs[:3])


@pytest.mark.parametrize("kps", [True, False])
def test_merging_and_mapping_back(kps):
    points = np.ones((2, 5, 2), np.float32) if kps else None
    part = Candidates(np.ones((2, 4), np.float32), np.ones(2, np.float32), points)
    both = merge([part.to_source(Letterbox.fit((64, 64), (32, 32))), part])
    assert len(both) == 4
    assert np.array_equal(both.boxes[:, 0], [2, 2, 1, 1])
    assert (both.landmarks is None) is not kps
    taken = both.select(np.array([2]))
    assert np.array_equal(taken.boxes, [[1, 1, 1, 1]])
