"""What networks find in the drawn pictures, against the truth that comes with them."""

from __future__ import annotations

import numpy as np
import pytest

import drawing
from scrfd_trt import SCRFDDetector

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def detector(network_500m):
    with SCRFDDetector.from_onnx(network_500m, device="cpu") as opened:
        yield opened


def share(one, other):
    """Return intersection over union of two boxes."""
    sides = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    both = float(np.prod(sides))
    return both / (sum(float(np.prod(box[2:] - box[:2])) for box in (one, other)) - both)


def assert_found(found, truth, *, score, iou, points):
    """Check that every true face is found once, and nothing else."""
    assert len(found) == len(truth)
    for box, marks in zip(truth.boxes, truth.landmarks, strict=True):
        best = int(np.argmax([share(box, other) for other in found.boxes]))
        assert found.scores[best] >= score
        assert share(box, found.boxes[best]) >= iou
        away = np.linalg.norm(found.landmarks[best] - marks, axis=1).max()
        assert away <= points * max(box[2:] - box[:2])


def test_all_faces_of_default_scene_are_detected(detector):
    scene = drawing.scene()
    assert_found(detector.detect(scene.image), scene.faces, score=0.67, iou=0.75, points=0.1)


@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("backdrop", ["park", "room"])
def test_all_faces_of_other_scenes_are_detected(detector, seed, backdrop):
    scene = drawing.scene(seed=seed, backdrop=backdrop)
    assert_found(detector.detect(scene.image), scene.faces, score=0.6, iou=0.65, points=0.15)


@pytest.mark.parametrize("backdrop", drawing.BACKDROPS)
def test_backdrops_have_no_faces(detector, backdrop):
    assert len(detector.detect(drawing.scene(faces=0, backdrop=backdrop).image, threshold=0.3)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_face_that_fills_the_frame_needs_the_small_pass(network_500m, seed):
    scene = drawing.portrait((640, 640), seed=seed)
    with SCRFDDetector.from_onnx(network_500m, device="cpu", scales=(640,)) as one_pass:
        assert len(one_pass.detect(scene.image)) == 0
    with SCRFDDetector.from_onnx(network_500m, device="cpu") as both:
        assert_found(both.detect(scene.image), scene.faces, score=0.7, iou=0.7, points=0.1)


def test_crowd_is_detected(detector):
    scene = drawing.scene((1920, 1080), 20, seed=0)
    assert_found(detector.detect(scene.image), scene.faces, score=0.5, iou=0.6, points=0.15)
