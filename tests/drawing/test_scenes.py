"""Scenes and portraits: the same again from the same seed, and a truth that holds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

import drawing
from scrfd_trt.errors import OptionError

pytestmark = pytest.mark.slow


def overlap(one, other):
    """Return the share of the smaller box that the other covers."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(np.prod(np.clip(sides, 0, None)) / min(areas))


def assert_inside(scene, width, height):
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.faces.image_size == (width, height)
    points = np.concatenate([scene.faces.boxes.reshape(-1, 2), scene.faces.landmarks.reshape(-1, 2)])
    assert (points >= 0).all()
    assert (points <= (width, height)).all()


def test_default_scene():
    scene = drawing.scene()
    assert len(scene.faces) == 6
    assert_inside(scene, 1280, 720)
    heights = scene.faces.boxes[:, 3] - scene.faces.boxes[:, 1]
    assert heights.min() < 60
    assert heights.max() > 180
    assert (scene.faces.scores == 1.0).all()


@pytest.mark.parametrize("seed", range(4))
def test_faces_do_not_cover_each_other(seed):
    boxes = drawing.scene((640, 360), seed=seed).faces.boxes
    assert max(overlap(one, other) for one, other in combinations(boxes, 2)) < 0.05


def test_same_seed_gives_same_picture():
    first, again, other = (drawing.scene((320, 200), seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert first.faces == again.faces
    assert not np.array_equal(first.image, other.image)


def test_pictures_are_not_shared():
    first = drawing.scene((160, 100))
    first.image[:] = 0
    assert drawing.scene((160, 100)).image.mean() > 50


@pytest.mark.parametrize(
    ("size", "faces"),
    [((97, 61), 6), ((61, 97), 2), ((300, 1000), 6), ((1000, 300), 6), ((333, 333), 3), ((40, 40), 1)],
)
def test_odd_sizes(size, faces):
    scene = drawing.scene(size, faces)
    assert len(scene.faces) == faces
    assert_inside(scene, *size)


@pytest.mark.parametrize("faces", [1, 2, 9, 20])
def test_numbers_of_faces(faces):
    scene = drawing.scene((960, 540), faces, seed=1)
    assert len(scene.faces) == faces
    assert_inside(scene, 960, 540)


@pytest.mark.parametrize("size", [(1, 1), (97, 61), (3, 50), (50, 3), (1280, 720)])
@pytest.mark.parametrize("backdrop", drawing.BACKDROPS)
def test_backdrop_without_people(size, backdrop):
    scene = drawing.scene(size, 0, backdrop=backdrop)
    assert len(scene.faces) == 0
    assert scene.faces.landmarks.shape == (0, 5, 2)
    assert_inside(scene, *size)


@pytest.mark.parametrize("backdrop", drawing.BACKDROPS)
def test_people_on_every_backdrop(backdrop):
    empty, full = (drawing.scene((320, 180), faces, backdrop=backdrop) for faces in (0, 4))
    for x1, y1, x2, y2 in full.faces.boxes.astype(int):
        change = np.abs(full.image.astype(int) - empty.image)[y1:y2, x1:x2].max(-1)
        assert (change > 8).mean() > 0.6


@pytest.mark.parametrize("size", [(640, 640), (97, 61), (200, 500), (1920, 1080)])
def test_portrait_fills_frame(size):
    scene = drawing.portrait(size, seed=2)
    assert len(scene.faces) == 1
    assert_inside(scene, *size)
    x1, y1, x2, y2 = scene.faces.boxes[0]
    assert max((x2 - x1) / size[0], (y2 - y1) / size[1]) == pytest.approx(0.94, abs=1e-5)


def test_portrait_of_a_look():
    look = drawing.Look.random(8, style="afro")
    scene = drawing.portrait((200, 200), fill=0.5, look=look)
    assert scene.faces.boxes[0, 3] - scene.faces.boxes[0, 1] == pytest.approx(100, abs=0.01)
    assert np.array_equal(scene.image, drawing.portrait((200, 200), fill=0.5, look=look).image)
    assert not np.array_equal(scene.image, drawing.portrait((200, 200), fill=0.5).image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (0, 100)}, r"size must be width and height from 1 to 8192, not \(0, 100\)"),
        ({"size": (9000, 100)}, "size"),
        ({"size": (100.5, 100)}, "size"),
        ({"size": (100,)}, "size"),
        ({"size": 640}, "size"),
        ({"faces": -1}, "faces must be an integer of at least 0"),
        ({"faces": 2.5}, "faces"),
        ({"faces": 61}, r"61 faces do not fit .* \(at most 60\)"),
        ({"size": (30, 20), "faces": 12}, r"12 faces do not fit into 30×20"),
        ({"size": (5, 5), "faces": 1}, "do not fit"),
        ({"seed": -3}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"backdrop": "moon"}, "no backdrop 'moon'; choose one of: park, room, studio"),
    ],
)
def test_invalid_scene_raises_option_error(arguments, message):
    with pytest.raises(OptionError, match=message) as caught:
        drawing.scene(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"fill": 0.0}, {"fill": 1.2}, {"fill": "all"}, {"size": (0, 0)}, {"seed": -1}])
def test_invalid_portrait_raises_option_error(arguments):
    with pytest.raises(OptionError):
        drawing.portrait(**arguments)
