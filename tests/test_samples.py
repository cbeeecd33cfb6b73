from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scrfd_trt import OptionError, samples


def test_names():
    assert samples.names() == ("group", "group-640x480", "portrait")


@pytest.mark.parametrize(
    ("name", "size", "faces"),
    [("group", (1280, 720), 6), ("group-640x480", (640, 480), 6), ("portrait", (640, 640), 1)],
)
def test_scene_has_image_and_true_faces(name, size, faces):
    scene = samples.load(name)
    assert scene.name == name
    assert (scene.image.shape, scene.image.dtype) == ((size[1], size[0], 3), np.uint8)
    assert (len(scene.faces), scene.faces.image_size) == (faces, size)
    assert (scene.faces.scores == 1.0).all()
    points = np.concatenate([scene.faces.boxes.reshape(-1, 2), scene.faces.landmarks.reshape(-1, 2)])
    assert ((points >= 0) & (points <= size)).all()


def test_channels_are_blue_green_red():
    """The sky of the park is blue."""
    blue, green, red = samples.load("group").image[:40].reshape(-1, 3).mean(0)
    assert blue > green > red


def test_each_call_returns_new_arrays():
    first = samples.load("portrait")
    first.image[:] = 0
    first.faces.boxes.flags.writeable = True
    first.faces.boxes[:] = 0
    again = samples.load("portrait")
    assert again.image.mean() > 50
    assert again.faces.boxes.min() > 0


def test_scene_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        samples.load("portrait").name = "other"


@pytest.mark.parametrize("name", ["crowd", "group.png", "../assets/group", ""])
def test_unknown_name_is_rejected(name):
    with pytest.raises(OptionError, match=r"^no scene '.*'; choose one of: group, group-640x480, portrait$"):
        samples.load(name)
