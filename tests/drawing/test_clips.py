"""Clips and photographs: the truth that comes with them holds, through cameras, cuts and changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from drawing import clips

pytestmark = pytest.mark.slow

SIZE = (256, 144)


def drawn_box(shot, time):
    """Return the bounds of what people without bodies and hair change in a frame, and the frame's faces."""
    image, faces = clips.render(shot, SIZE, time)
    empty, _ = clips.render(shot._replace(world=shot.world._replace(actors=())), SIZE, time)
    rows, columns = np.nonzero((image != empty).any(2))
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), faces


@pytest.mark.parametrize("name", ["zoom", "roll", "handheld"])
def test_camera_moves_faces_and_truth_alike(name):
    (shot,) = clips.CLIPS[name].shots(SIZE, 0)
    nearest = max(shot.world.actors, key=lambda actor: actor.way(0.0)[2])
    alone = clips.Shot(shot.world._replace(actors=[nearest], things=()), shot.camera)
    for time in (0.1, 0.9):
        (left, top, right, bottom), (face,) = drawn_box(alone, time)
        x1, y1, x2, y2 = face.box
        assert left <= x1
        assert top <= y1
        assert right >= min(x2, SIZE[0]) - 1
        assert bottom >= min(y2, SIZE[1]) - 1
        assert x1 - left < 0.5 * (x2 - x1) + 0.9 * abs(y2 - y1)


def test_small_faces_have_their_sizes():
    recipe = clips.CLIPS["small1080"]
    (shot,) = recipe.shots((240, 135), 0)
    heights = sorted(actor.way(0.0)[2] * 8 for actor in shot.world.actors)
    assert (len(heights), *heights[:: len(heights) - 1]) == (60, pytest.approx(14), pytest.approx(25))


def first_frames(name, number, seconds=4.0):
    return list(itertools.islice(clips.frames(name, seconds=seconds, size=(96, 54)), number))


def test_scenes_cut_dissolve_and_fade():
    cut, dissolve, fade = first_frames("cut", 10, 0.4), first_frames("dissolve", 27), first_frames("fade", 27)
    assert [number for number, (_, _, begins) in enumerate(cut) if begins] == [3, 5, 8]
    assert not any(begins for _, _, begins in dissolve + fade)
    assert not cut[4][1]
    assert fade[15][0].mean() < 5
    assert all(face.shown < 0.1 for face in fade[15][1])
    assert not fade[16][1]
    shown = [max((face.shown for face in faces), default=0.0) for _, faces, _ in dissolve]
    assert shown[10] == 1.0
    assert 0.3 < shown[19] < 0.5
    assert shown[25] == 0.0
    assert np.abs(np.diff([image.mean() for image, _, _ in dissolve])).max() < 5


def test_lying_people_are_those_of_the_static_clip():
    upright, turned = (next(clips.frames(name, size=SIZE)) for name in ("static", "lying"))
    assert np.array_equal(np.rot90(upright[0], -1), turned[0])
    (x1, y1, x2, y2), box = upright[1][0].box, turned[1][0].box
    assert box == (SIZE[1] - y2, x1, SIZE[1] - y1, x2)


def test_nearer_people_hide_those_behind():
    places = [(100.0, 70.0, 30.0, 0.0), (104.0, 72.0, 60.0, 0.0), (30.0, 70.0, 30.0, 0.0)]
    actors = [clips.Actor(n, clips.Look(), lambda _, place=place: place) for n, place in enumerate(places)]
    world = clips.World(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), actors)
    shown = {face.track: face.shown for face in clips.render(clips.Shot(world), SIZE, 0.0)[1]}
    assert 0 not in shown
    assert shown == {1: 1.0, 2: 1.0}


def test_faces_outside_are_not_shown():
    actor = clips.Actor(1, clips.Look(), lambda time: (256.0 + 100 * time, 70.0, 40.0, 0.0))
    shot = clips.Shot(clips.World(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), [actor]))
    assert clips.render(shot, SIZE, 0.0)[1][0].shown == pytest.approx(0.5, abs=0.1)
    assert clips.render(shot, SIZE, 1.0)[1] == []


def test_clip_and_truth_are_written(tmp_path):
    av = pytest.importorskip("av")
    path, truth = clips.make("cut", tmp_path, seconds=0.4, size=(96, 54))
    with av.open(str(path)) as clip:
        assert len(list(clip.decode(video=0))) == len(truth.frames) == 10
        assert clip.streams.audio
    read = clips.Truth.load(tmp_path / "cut.truth.json")
    assert read.cuts == truth.cuts == [3, 5, 8]
    assert read.size == (96, 54)
    assert [face.track for face in read.frames[0]] == [face.track for face in truth.frames[0]]
    np.testing.assert_allclose(read.frames[0][0].box, truth.frames[0][0].box, atol=0.01)
