"""Tracks of a made scene, with values that an earlier tracker computed face by face."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrfd_trt import Detections
from scrfd_trt._tracking import tracks
from scrfd_trt._tracking.motion import Motion
from scrfd_trt.video import FrameFaces, FrameObservation, Tracker, TrackingOptions

KNOWN = Path(__file__).parents[1] / "data" / "known_tracks.json"
SIZE = (640, 360)
CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "live": {"delay": 4},
    "rough": {"smooth": False, "bridge": 0.3},
    "alone": {"bridge": 0.0, "extend": 0.0},
    "some frames": {"every": 3},
}


def scene() -> list[FrameObservation]:
    """Twelve people who wave about in two scenes, and are missed in many frames or seen with low scores."""
    frames = []
    for number in range(90):
        people = np.arange(12)
        chance = np.sin(number * 12.9898 + people * 78.233) * 43758.5453 % 1.0  # the same on all machines, within 1e-6
        score = np.round(0.1 + 0.85 * (chance * 7.31 % 1.0), 3)
        x = 40 + 46 * people + 30 * np.sin(number / (9 + people)) + (people % 3 - 1) * number * 1.3
        y = 60 + 20 * (people % 5) + 25 * np.cos(number / 17 + people) + (number >= 50) * 40 * (people % 2)
        side = 30 + 2 * people + 6 * np.sin(number / 11 + people)
        there = (chance > 0.25) & ((number + 9 * people) % 61 > 7)
        boxes = np.round(np.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], 1), 2)[there]
        points = boxes[:, None, :2] + side[there, None, None] * np.array(
            [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]
        )
        found = Detections(boxes, score[there], points, image_size=SIZE)
        frames.append(FrameObservation(number, number / 25 + (number > 30) * 0.05, found, number == 50))
    return frames


def track(
    observed: list[FrameObservation], delay: int | None = None, every: int = 1, **options: Any
) -> list[FrameFaces]:
    tracker = Tracker(TrackingOptions(every=every, **options), 25, delay=delay)
    frames: list[FrameFaces] = []
    for frame in observed:
        frames += tracker.push(frame if frame.number % every == 0 else frame._replace(detections=None))
    return [*frames, *tracker.finish()]


def as_rows(frames: list[FrameFaces]) -> list[list[Any]]:
    """Every sixteenth frame: track, score, origin, box and the left eye."""
    return [
        [
            frame.number,
            face.track,
            round(face.score, 6),
            face.origin,
            *np.round([*face.box, *face.landmarks[0]], 4).tolist(),
        ]
        for frame in frames[6::16]
        for face in frame
    ]


@pytest.mark.parametrize("case", CASES)
def test_tracks_are_the_known_ones(case: str) -> None:
    found, known = as_rows(track(scene(), **CASES[case])), json.loads(KNOWN.read_text())[case]
    assert [row[:4] for row in found] == [row[:4] for row in known]
    np.testing.assert_allclose([row[4:] for row in found], [row[4:] for row in known], atol=2e-4)


def similarity(scale: float = 1.0, angle: float = 0.0, x: float = 0.0, y: float = 0.0) -> Motion:
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def moved_scene(poses: list[Motion]) -> list[FrameObservation]:
    """The scene of the known tracks, as a camera with these poses sees it."""
    frames, last = [], np.eye(3)
    for frame, pose in zip(scene(), poses, strict=True):
        found, whole = frame.detections, np.vstack([pose, [0, 0, 1]])
        assert found is not None
        detections = Detections(*moved(pose, found.boxes, found.scores, found.landmarks), image_size=SIZE)
        frames.append(frame._replace(detections=detections, motion=(whole @ np.linalg.inv(last))[:2]))
        last = whole
    return frames


def moved(pose: Motion, boxes, scores, landmarks):  # type: ignore[no-untyped-def]
    points = [part @ pose[:, :2].T + pose[:, 2] for part in (boxes[:, :2], boxes[:, 2:], landmarks.reshape(-1, 2))]
    return np.concatenate(points[:2], axis=1), scores, points[2].reshape(-1, 5, 2)


@pytest.mark.parametrize("max_scale", [10.0, 0.1], ids=["one origin", "many origins"])
@pytest.mark.parametrize("options", [{}, {"smooth": False, "bridge": 0.3}], ids=["smooth", "rough"])
def test_tracks_follow_the_camera(
    options: dict[str, object], max_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that pans and zooms fast gives the tracks of one at rest."""
    monkeypatch.setattr(tracks, "MAX_SCALE", max_scale)
    poses = [similarity(1.03**n, 0.0, 60.0 * n * 1.03**n, -30.0 * n) for n in range(90)]
    for pose, one, other in zip(poses, track(scene(), **options), track(moved_scene(poses), **options), strict=True):
        assert one.track_ids.tolist() == other.track_ids.tolist()
        assert one.origins.tolist() == other.origins.tolist()
        boxes, _, points = moved(pose, one.boxes, one.scores, one.landmarks)
        np.testing.assert_allclose(other.boxes, boxes, rtol=1e-4, atol=0.01)
        np.testing.assert_allclose(other.landmarks, points, rtol=1e-4, atol=0.01)


def test_gap_follows_a_roll() -> None:
    poses = [similarity(1.0, 0.04 * n, 300.0, 0.0) for n in range(30)]
    frames, last = [], np.eye(3)
    for number, pose in enumerate(poses):
        centre = pose @ [300.0, 100.0, 1.0]
        boxes = [] if 8 <= number < 20 else [[*(centre - 20), *(centre + 20)]]
        found = Detections(np.reshape(boxes, (-1, 4)), [0.9] * len(boxes), None, image_size=SIZE)
        whole = np.vstack([pose, [0, 0, 1]])
        frames.append(FrameObservation(number, number / 25, found, False, (whole @ np.linalg.inv(last))[:2]))
        last = whole
    for pose, faces in zip(poses, track(frames), strict=True):
        assert faces.track_ids.tolist() == [1]
        centre = (faces.boxes[0, :2] + faces.boxes[0, 2:]) / 2
        np.testing.assert_allclose(centre, pose @ [300.0, 100.0, 1.0], atol=0.01)
