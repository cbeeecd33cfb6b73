from __future__ import annotations

import numpy as np
import pytest

from scrfd_trt import Detections
from scrfd_trt.agreement import differences

BOXES = np.array([[10, 10, 60, 70], [100, 20, 160, 90], [200, 200, 230, 240]], np.float32)
POINTS = np.random.default_rng(0).uniform(0, 200, (3, 5, 2)).astype(np.float32)


def faces(boxes=BOXES, scores=(0.9, 0.7, 0.52), points=POINTS):
    return Detections(boxes, scores, points, image_size=(300, 300))


def test_equal_faces_agree():
    assert differences(faces(), faces(), above=0.55) == []
    empty = Detections.empty((300, 300))
    assert differences(empty, empty, above=0.55) == []


def test_faces_near_the_threshold_may_come_and_go():
    assert differences(faces()[:2], faces(), above=0.55) == []
    assert differences(faces(), faces()[:2], above=0.55) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (faces()[:1], "score 0.70: best overlap is 0.00"),
        (faces(BOXES + np.float32([0, 5, 0, 5])), "best overlap is 0.8"),
        (faces(scores=(0.9, 0.7, 0.6), boxes=BOXES + np.float32([[0], [0], [50]])), "there should be none"),
        (faces(points=POINTS + np.float32(3)), "a landmark is 4.2 pixels off"),
        (Detections.empty((300, 300)), "best overlap is 0.00"),
    ],
)
def test_differences_are_told(found, said):
    assert said in "; ".join(differences(found, faces(), above=0.55))
