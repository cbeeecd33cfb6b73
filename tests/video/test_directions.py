"""Directions of scenes are found by searches in all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scrfd_trt import Detections
from scrfd_trt._passes import Look
from scrfd_trt._tracking.scene_cuts import THUMBNAIL_SHAPE
from scrfd_trt.video._directions import Directions, directions

ALL = (90, 180, 270)
RATE = 10
UPRIGHT = np.array([(-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)], np.float64)


def faces(*turns: int) -> Detections:
    """Return faces of people whose heads point up after a turn by so many degrees clockwise."""
    points = []
    for turn in turns:
        c, s = np.cos(np.radians(-turn)), np.sin(np.radians(-turn))
        points.append(UPRIGHT @ np.array([(c, s), (-s, c)]) * 10 + 50)
    boxes = np.tile([30.0, 30.0, 70.0, 70.0], (len(turns), 1))
    return Detections(boxes, np.full(len(turns), 0.9), np.array(points).reshape(-1, 5, 2), image_size=(100, 100))


class Finder:
    """A detector that finds faces in the frames from a time on."""

    def __init__(self, *found: tuple[float, int]) -> None:
        self.found, self.now = found, 0.0
        self.searched: list[float] = []

    def detect(self, look: Look, threshold: float) -> Detections:
        assert (look.min_face, look.rotations, threshold) == (20.0, ALL, 0.5)
        self.searched.append(self.now)
        return faces(*(turn for start, turn in self.found if self.now >= start))


def seen(finder: Finder, scenes: list[int], seconds: float, choices: tuple[int, ...] = ALL) -> list[Any]:
    """Return what the detector sees of each frame; scenes begin at these frames."""
    own, found = Directions(finder, 20.0, choices), []
    rng = np.random.default_rng(0)
    for number in range(round(seconds * RATE)):
        if number == 0 or number in scenes:
            thumbnail = rng.uniform(0, 255, THUMBNAIL_SHAPE).astype(np.float32)
        finder.now = number / RATE
        own.add(thumbnail, finder.now)
        found.append(own.look("image", finder.now))
    return found


def test_landmarks_give_directions() -> None:
    assert set(directions(faces(0, 90), ALL)) == {90}
    assert set(directions(faces(180, 270, 300, 20), ALL)) == {180, 270}
    assert set(directions(faces(180, 90), (270,))) == set()
    bare = Detections(np.array([[0.0, 0, 9, 9]]), np.array([0.9]), image_size=(10, 10))
    assert set(directions(bare, ALL)) == set(ALL)


def test_scene_is_searched_in_the_directions_of_its_first_frames() -> None:
    finder = Finder((0.0, 90))
    assert {look.rotations for look in seen(finder, [], 3.0)} == {(90,)}
    assert finder.searched == [0.0, 0.2, 1.2, 2.2]
    finder = Finder((0.0, 0))
    assert {look.rotations for look in seen(finder, [], 2.0)} == {()}


def test_later_search_finds_who_lies_down() -> None:
    looks = [look.rotations for look in seen(Finder((0.5, 270)), [], 2.0)]
    assert looks == [()] * 12 + [(270,)] * 8


def test_direction_of_one_search_ends() -> None:
    class Once(Finder):
        def detect(self, look: Look, threshold: float) -> Detections:
            return super().detect(look, threshold)[: 1 if self.now == 0.2 else 0]

    finder = Once((0.0, 90))
    assert [look.rotations for look in seen(finder, [], 2.0)] == [()] * 2 + [(90,)] * 10 + [()] * 8
    assert finder.searched == [0.0, 0.2, 0.4, 1.4]


def test_directions_end_after_a_cut() -> None:
    class Scenes(Finder):
        def detect(self, look: Look, threshold: float) -> Detections:
            found = super().detect(look, threshold)
            return found if self.now < 1.5 else found[:0]

    finder = Scenes((0.0, 180))
    looks = [look.rotations for look in seen(finder, [15], 4.0)]
    assert looks == [(180,)] * 25 + [()] * 15  # kept for a second, since a cut may be none
    assert 1.5 in finder.searched


def test_searches_have_a_distance() -> None:
    finder = Finder()
    seen(finder, list(range(1, 20)), 2.0)
    assert len(finder.searched) <= 2.0 / 0.2 + 1


def test_detectors_without_directions_see_plain_images() -> None:
    assert seen(Finder(), [], 1.0, ()) == ["image"] * RATE


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (3840, 2160)])
def test_cpu_affords_less_in_larger_frames(size: tuple[int, int]) -> None:
    looks = pytest.importorskip("scrfd_trt._cli.looks")

    class Detector:
        device, scales = "cpu", ((128, 128), (640, 640))

        class _pipeline:  # noqa: N801 - the attribute of a detector
            cuts_padding = True

    faces = [looks.Looks(gflops=work)._affordable(Detector, size, live=False) for work in (0.5, 10.0)]
    single = looks.Looks()._affordable(Detector, size, live=True)
    assert 16 <= faces[0] <= faces[1] <= single
    assert faces[0] <= 26
    assert single == max(16, round(size[0] / 40))
