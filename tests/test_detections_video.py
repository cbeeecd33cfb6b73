"""Detections of video frames: track ids and time."""

from __future__ import annotations

import numpy as np
import pytest

from scrfd_trt._detections import Detections
from scrfd_trt.errors import DetectionsError

BOXES = [(0, 0, 4, 4), (2, 2, 8, 8), (1, 1, 3, 3)]


def tracked(**columns: object) -> Detections:
    about = {"image_size": (10, 10), "track_ids": [7, 8, 9], "pts_seconds": 1.5} | columns
    return Detections(BOXES, [0.5, 0.9, 0.7], **about)


def test_track_ids_are_those_of_their_rows():
    faces = tracked()[[1, 2, 0]]
    assert faces.track_ids.tolist() == [8, 9, 7]
    assert faces.track_ids.dtype == np.int64
    assert faces[faces.scores < 0.8].track_ids.tolist() == [9, 7]
    assert faces[::-1].track_ids.tolist() == [7, 9, 8]
    assert faces[[2]].pts_seconds == 1.5
    assert [face.track_id for face in faces] == [8, 9, 7]
    assert Detections.from_rows(faces, faces.image_size).track_ids.tolist() == [8, 9, 7]


def test_single_images_have_neither_track_ids_nor_time():
    faces = Detections(BOXES, [0.9, 0.8, 0.7], image_size=(10, 10))
    assert faces.track_ids is None
    assert faces.pts_seconds is None
    assert "pts_seconds" not in faces.to_json()


def test_track_ids_and_time_are_compared():
    assert tracked() == tracked()
    assert tracked() != tracked(track_ids=[7, 8, 10])
    assert tracked() != tracked(track_ids=None)
    assert tracked() != tracked(pts_seconds=1.6)


def test_track_ids_are_copied():
    numbers = np.array([7, 8, 9])
    faces = Detections(BOXES, [0.9, 0.8, 0.7], image_size=(10, 10), track_ids=numbers)
    numbers[:] = 0
    assert faces.track_ids.tolist() == [7, 8, 9]
    part = faces[:]
    part.track_ids[0] = 5
    assert faces.track_ids[0] == 7


def test_json_keeps_track_ids_and_time():
    assert Detections.from_json(tracked().to_json()) == tracked()
    empty = Detections([], [], image_size=(10, 10), track_ids=[], pts_seconds=0.25)
    assert Detections.from_json(empty.to_json()).pts_seconds == 0.25
    unsorted = (
        '{"image_size": [9, 9], "track_ids": [3, 4], "faces": ['
        '{"box": [0, 0, 1, 1], "score": 0.2}, {"box": [1, 1, 2, 2], "score": 0.8}]}'
    )
    assert Detections.from_json(unsorted).track_ids.tolist() == [3, 4]
    with pytest.raises(DetectionsError, match=r"must have shape \(2,\), not"):
        Detections.from_json(unsorted.replace("[3, 4]", "[3]"))


def test_supervision_keeps_track_ids():
    supervision = pytest.importorskip("supervision")
    there = tracked().to_supervision()
    assert isinstance(there, supervision.Detections)
    assert there.tracker_id.tolist() == [7, 8, 9]
    assert Detections.from_supervision(there, (10, 10)) == tracked(pts_seconds=None)
    there.tracker_id = np.array([7, -1, 9])  # -1: not confirmed yet
    assert Detections.from_supervision(there, (10, 10)).track_ids is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"track_ids": [1, 2]}, r"must have shape \(3,\), not \(2,\)"),
        ({"track_ids": [1, 2, -3]}, "non-negative integers"),
        ({"track_ids": [1.0, 2.0, 3.5]}, "non-negative integers"),
        ({"track_ids": [1, 2, 2**63]}, "non-negative integers"),
        ({"track_ids": np.array([1, 2, 2**64 - 1], np.uint64)}, "non-negative integers"),
        ({"track_ids": [1, 2, 10**30]}, "non-negative integers"),
        ({"track_ids": [1, 2, 1e300]}, "non-negative integers"),
        ({"track_ids": [1, 2, float("inf")]}, "non-negative integers"),
        ({"track_ids": [1, 2, float("nan")]}, "non-negative integers"),
        ({"track_ids": [1, 2, [3]]}, "track_ids must"),
        ({"pts_seconds": 10**400}, "finite number"),
        ({"pts_seconds": float("nan")}, "finite number"),
        ({"pts_seconds": "soon"}, "finite number, not 'soon'"),
    ],
)
def test_invalid_track_ids_and_times_are_rejected(columns: dict[str, object], message: str):
    with pytest.raises(DetectionsError, match=message):
        tracked(**columns)
