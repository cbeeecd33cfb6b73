"""Directions of scenes are found by searches in all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scrfd_trt import Detections
from scrfd_trt._passes import Look
from scrfd_trt._tracking.scene_cuts import THUMBNAIL_SHAPE
from scrfd_trt.video._directions import Directions, counted, directions

pytestmark = pytest.mark.slow

ALL = (90, 180, 270)
RATE = 10
UPRIGHT = np.array([(-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)], np.float64)


def faces(*turns: int, score: float = 0.9, at: float = 50.0) -> Detections:
    """Return faces of people whose heads point up after a turn by so many degrees clockwise."""
    points = []
    for turn in turns:
        c, s = np.cos(np.radians(-turn)), np.sin(np.radians(-turn))
        points.append(UPRIGHT @ np.array([(c, s), (-s, c)]) * 10 + at)
    boxes = np.tile([at - 20, at - 20, at + 20, at + 20], (len(turns), 1))
    return Detections(boxes, np.full(len(turns), score), np.array(points).reshape(-1, 5, 2), image_size=(200, 200))


NONE = faces()


class Finder:
    """A detector that finds what a function of the time says."""

    def __init__(self, found: Callable[[float], Detections]) -> None:
        self.found, self.now = found, 0.0
        self.searched: list[float] = []

    def detect(self, look: Look, threshold: float) -> Detections:
        assert (look.min_face, look.rotations, threshold) == (20.0, ALL, 0.15)
        self.searched.append(self.now)
        return self.found(self.now)


def seen(finder: Finder, scenes: list[int], seconds: float) -> tuple[list[tuple[int, ...]], dict[float, Detections]]:
    """Return the directions of each frame, and the faces of searched ones; scenes begin at these frames."""
    own, looks, known = Directions(finder, 0.15, 20.0, ALL), [], {}
    rng = np.random.default_rng(0)
    for number in range(round(seconds * RATE)):
        if number == 0 or number in scenes:
            thumbnail = rng.uniform(0, 255, THUMBNAIL_SHAPE).astype(np.float32)
        finder.now = number / RATE
        own.add(thumbnail, finder.now)
        look, found = own.look("image", finder.now)
        looks.append(look.rotations)
        if found is not None:
            known[finder.now] = found
    return looks, known


def test_landmarks_give_directions() -> None:
    assert directions(faces(0, 90, 180, 270, 300, 20)).tolist() == [0, 90, 180, 270, 270, 0]
    assert directions(NONE).tolist() == []


def test_scene_is_searched_in_the_directions_of_its_first_frames() -> None:
    finder = Finder(lambda now: faces(0, 90))
    looks, known = seen(finder, [], 3.0)
    assert set(looks) == {(90,)}
    assert finder.searched == [0.0, 0.2, 1.2, 2.2]
    assert [len(found) for found in known.values()] == [2] * 4
    assert set(seen(Finder(lambda now: faces(0)), [], 2.0)[0]) == {()}


def test_later_search_finds_who_lies_down() -> None:
    looks, _ = seen(Finder(lambda now: faces(270) if now >= 0.5 else NONE), [], 2.0)
    assert looks == [()] * 12 + [(270,)] * 8


def test_doubtful_direction_takes_two_finds_in_one_place() -> None:
    """Boxes of the first do not count, and two searches follow each other once, not at every doubtful find."""
    finder = Finder(lambda now: faces(90, score=0.6))
    looks, known = seen(finder, [], 2.0)
    assert looks == [()] * 2 + [(90,)] * 18
    assert [len(found) for found in known.values()] == [0, 1, 1]
    elsewhere = Finder(lambda now: faces(90, score=0.6, at=40 + 70 * (round(now * RATE) % 3 > 0)))
    other = Finder(lambda now: faces(90 if now in {0.0, 1.2, 2.4} else 180, score=0.6))
    weak = Finder(lambda now: faces(90, score=0.49))
    for finder in (elsewhere, other, weak):
        looks, known = seen(finder, [], 3.0)
        assert set(looks) == {()}
        assert not any(len(found) for found in known.values())
        assert len(finder.searched) <= 6


def test_only_likely_faces_of_active_directions_count() -> None:
    for turn, score, counts in ((0, 0.2, True), (90, 0.6, True), (90, 0.4, False), (180, 0.9, False)):
        assert len(counted(faces(turn, score=score), (90,))) == counts
    for score, counts in ((0.6, False), (0.8, True)):  # a face of 120 pixels in a frame of 200
        turned = faces(90, score=score)
        large = Detections(
            np.add(turned.boxes, [-40, -40, 40, 40]), turned.scores, turned.landmarks, image_size=(200, 200)
        )
        assert len(counted(large, (90,))) == counts


def test_without_landmarks_all_directions_are_searched_while_there_are_faces() -> None:
    bare = Detections(np.array([[0.0, 0, 9, 9]]), np.array([0.9]), image_size=(10, 10))
    looks, known = seen(Finder(lambda now: bare), [], 1.0)
    assert set(looks) == {ALL}
    assert len(known[0.0]) == 1


def test_directions_end_after_a_cut() -> None:
    finder = Finder(lambda now: faces(180) if now < 1.5 else NONE)
    looks, _ = seen(finder, [15], 4.0)
    assert looks == [(180,)] * 25 + [()] * 15  # kept for a second, since a cut may be none
    assert 1.5 in finder.searched


def test_searches_have_a_distance() -> None:
    finder = Finder(lambda now: NONE)
    seen(finder, list(range(1, 20)), 2.0)
    assert len(finder.searched) <= 2.0 / 0.2 + 1


def test_detectors_without_directions_see_plain_images() -> None:
    assert Directions(object(), 0.15, 20.0, ()).look("image", 0.0) == ("image", None)


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (3840, 2160)])
def test_cpu_affords_less_in_larger_frames(size: tuple[int, int]) -> None:
    looks = pytest.importorskip("scrfd_trt._looks")

    class Detector:
        device, scales = "cpu", ((128, 128), (640, 640))

        class _pipeline:  # noqa: N801 - the attribute of a detector
            cuts_padding = True

    faces = [looks.Looks(gflops=work)._affordable(Detector, size, live=False) for work in (0.5, 10.0)]
    single = looks.Looks()._affordable(Detector, size, live=True)
    assert 16 <= faces[0] <= faces[1] <= single
    assert faces[0] <= 26
    assert single == max(16, round(size[0] / 40))
