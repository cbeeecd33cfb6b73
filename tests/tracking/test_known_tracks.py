"""Tracks of a made scene, with values that an earlier tracker computed face by face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrfd_trt import Detections
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


def track(delay: int | None = None, every: int = 1, **options: Any) -> list[FrameFaces]:
    tracker = Tracker(TrackingOptions(every=every, **options), 25, delay=delay)
    frames: list[FrameFaces] = []
    for frame in scene():
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
    found, known = as_rows(track(**CASES[case])), json.loads(KNOWN.read_text())[case]
    assert [row[:4] for row in found] == [row[:4] for row in known]
    np.testing.assert_allclose([row[4:] for row in found], [row[4:] for row in known], atol=2e-4)
