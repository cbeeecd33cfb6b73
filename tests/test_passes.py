"""Views: what the model looks at, and where faces in them are in the image."""

import math

import numpy as np
import pytest

from scrfd_trt._decode import Candidates
from scrfd_trt._letterbox import FREE_SCALES, Letterbox, normalize_into
from scrfd_trt._passes import CHIP, CHIP_FACE, FOUND_FROM, MAX_TILE, Sheet, View, ViewTable, keep, plan_views

LARGE = (4000, 3000)


def inside(view, box):
    x, y, width, height = view.window
    return x <= box[0] and y <= box[1] and x + width >= box[2] and y + height >= box[3]


def test_without_options_the_views_are_the_whole_image_at_each_scale():
    views = plan_views((1280, 720), FREE_SCALES, cut=True)
    assert views == tuple(View((0, 0, 1280, 720), 0, Letterbox.fit((1280, 720), scale).cut()) for scale in FREE_SCALES)
    assert plan_views((1280, 720), FREE_SCALES, cut=True, min_face=200) == views


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("size", [LARGE, (10_000, 2_500), (1920, 1080), (900, 20_000), (641, 3), (30, 30)])
def test_each_face_is_whole_and_large_enough_in_a_view_that_is_responsible_for_it(size, cut):
    views = plan_views(size, FREE_SCALES, cut=cut, min_face=10, rotations=(90, 180, 270))
    random, table = np.random.default_rng(0), ViewTable(views, size)
    for _ in range(30):
        side = min(10 * 2 ** random.uniform(0, 9), *size)
        x, y = random.uniform(0, size[0] - side), random.uniform(0, size[1] - side)
        box = np.array([[x, y, x + side, y + side]], np.float32)
        given_way = table.gives_way(box.repeat(len(views), axis=0), np.arange(len(views)))
        for rotation in (0, 90, 180, 270):
            assert any(
                not aside
                and inside(view, box[0])
                and side * max(view.box.scale) >= FOUND_FROM * min(1, side / 10) - 0.1
                for view, aside in zip(views, given_way, strict=True)
                if view.rotation == rotation
            )
    assert all(math.prod(view.target) <= MAX_TILE**2 for view in views)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_boxes_and_landmarks_of_a_turned_tile_are_where_its_pixels_are(rotation):
    picture = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    window = (10, 5, 32, 24)
    turned = (32, 24) if rotation in {0, 180} else (24, 32)
    view = View(window, rotation, Letterbox.fit(turned, (32, 32)))
    blob = np.empty((3, 32, 32), np.float32)
    normalize_into(blob, view.crop(picture), view.box, "rgb", rotation=rotation)
    across, down = turned
    for x, y in ((0, 0), (3, 7), (across - 1, down - 1)):
        cell = np.array([[x, y, x + 1, y + 1]], np.float32)
        points = np.full((1, 5, 2), (x + 0.5, y + 0.5), np.float32)
        inside_window = Candidates(cell, np.ones(1, np.float32), points).to_source(view.box)
        found = ViewTable([view], (60, 40)).to_source(inside_window, np.zeros(1, int))
        column, row = found.boxes[0, :2].astype(int)
        assert np.array_equal(found.boxes[0, 2:], found.boxes[0, :2] + 1)
        assert np.array_equal(found.landmarks[0, 0], found.boxes[0, :2] + 0.5)
        assert np.allclose(blob[:, y, x] * 128 + 127.5, picture[row, column])


def test_what_gives_way_is_kept_only_where_nothing_covers_it():
    boxes = np.array([[0, 0, 50, 100], [0, 0, 100, 100], [300, 0, 350, 100], [500, 0, 540, 40]], np.float32)
    candidates = Candidates(boxes, np.array([0.9, 0.6, 0.5, 0.7], np.float32), None)
    assert keep(candidates, np.array([True, False, True, False]), 0.4).tolist() == [3, 1, 2]
    assert keep(candidates, np.zeros(4, bool), 0.4).tolist() == [0, 3, 2]


def test_faces_far_out_in_a_wide_panorama_are_on_the_sheet():
    picture = np.zeros((50, 40_000, 3), np.uint8)
    picture[20, 39_000] = 255
    face = Candidates(np.array([[38_990, 10, 39_011, 31]], np.float32), np.ones(1, np.float32), None)
    bright = np.argwhere(Sheet(picture, face, np.zeros(1)).image[:, :, 0] > 100)
    assert np.abs(bright - CHIP / 2).max() < 4


@pytest.mark.parametrize("tilt", [0.0, 115.0, -25.0])
def test_faces_of_a_sheet_are_mapped_back_to_the_image(tilt):
    faces = Candidates(
        np.array([[100, 200, 140, 250], [300, 50, 320, 75]], np.float32),
        np.ones(2, np.float32),
        np.zeros((2, 5, 2), np.float32),
    )
    picture = np.zeros((400, 500, 3), np.uint8)
    picture[225, 120] = picture[62, 310] = 255
    sheet = Sheet(picture, faces, np.full(2, tilt))
    middles = np.array([[CHIP / 2, CHIP / 2], [1.5 * CHIP, CHIP / 2], [2.5 * CHIP, CHIP / 2], [20, 20]], np.float32)
    bright = np.argwhere(sheet.image[:, :, 0] > 100)[:, ::-1]
    assert all(np.abs(bright - middle).max(axis=1).min() < 2 for middle in middles[:2])
    radius = CHIP_FACE / 2
    found = Candidates(np.hstack([middles - radius, middles + radius]), np.full(4, 0.8, np.float32), None)
    back = sheet.to_source(found)
    assert np.allclose(back.boxes, [[95, 200, 145, 250], [297.5, 50, 322.5, 75]], atol=0.1)
