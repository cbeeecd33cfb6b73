"""Real networks' outputs for the drawn scene, played back through layout, decode, NMS and the map back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scrfd_trt import Detections, SCRFDDetector
from scrfd_trt.backends import RecordedBackend
from scrfd_trt.samples import scene

FOLDER = Path(__file__).parent / "data" / "recorded"
NETWORKS = {
    "scrfd_500m_bnkps": "batched",
    "scrfd_2.5g_kps_640_flat": "batched",
    "scrfd_2.5g_bnkps_640_grid": "grid",
}


@pytest.fixture(scope="module")
def picture():
    return scene()


@pytest.mark.parametrize(("name", "kind"), NETWORKS.items())
def test_the_faces_are_those_that_were_found(name, kind, picture):
    wanted = Detections.from_json((FOLDER / f"{name}.json").read_bytes())
    with SCRFDDetector.from_backend(RecordedBackend(FOLDER / f"{name}.npz")) as detector:
        assert detector.layout.kind == kind
        found = detector.detect(picture.image)
    assert len(found) == len(wanted) == len(picture.faces)
    # Recordings hold half precision: a distance of 10 strides of 32 pixels is kept to 0.1 pixels.
    order = np.abs(found.boxes[None] - wanted.boxes[:, None]).max(axis=2).argmin(axis=1)
    assert sorted(order) == list(range(len(wanted)))
    assert np.abs(found.boxes[order] - wanted.boxes).max() < 0.5
    assert np.abs(found.landmarks[order] - wanted.landmarks).max() < 0.5
    assert np.abs(found.scores[order] - wanted.scores).max() < 1e-3


def test_the_drawn_faces_lie_where_they_were_drawn(picture):
    for name in NETWORKS:
        found = Detections.from_json((FOLDER / f"{name}.json").read_bytes())
        off = np.abs(found.boxes[None] - picture.faces.boxes[:, None]).max(axis=2).min(axis=1)
        sides = (picture.faces.boxes[:, 2:] - picture.faces.boxes[:, :2]).max(axis=1)
        assert (off < 0.35 * sides).all()
