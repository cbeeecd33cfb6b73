"""A face drawn at a place: where the truth says it is, and smooth when it moves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from drawing import STYLES, Look, draw_face
from scrfd_trt.errors import ImageError, OptionError

pytestmark = pytest.mark.slow


def canvas(width=240, height=200, value=120):
    return np.full((height, width, 3), value, np.uint8)


def drawn(look=4, **where):
    image = canvas()
    face = draw_face(image, look=look, **{"center": (120.0, 100.0), "size": 80.0, **where})
    return image.astype(float), face


def test_box_has_the_given_height_and_center():
    _, face = drawn()
    x1, y1, x2, y2 = face.box
    assert y2 - y1 == pytest.approx(80.0)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((120.0, 100.0))
    assert 0.7 < (x2 - x1) / (y2 - y1) < 0.85
    assert face.score == 1.0


def test_landmarks_are_ordered_and_in_the_box():
    _, face = drawn()
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    x1, y1, x2, y2 = face.box
    assert all(x1 < x < x2 and y1 < y < y2 for x, y in face.landmarks)


def test_position_size_and_angle_move_the_truth():
    _, plain = drawn()
    _, moved = drawn(center=(123.5, 90.25), size=40.0)
    points, half = np.array(plain.landmarks) - (120, 100), np.array(moved.landmarks) - (123.5, 90.25)
    np.testing.assert_allclose(half, points / 2, atol=1e-9)
    _, turned = drawn(angle=90.0)
    quarter = np.array(turned.landmarks) - (120, 100)
    np.testing.assert_allclose(quarter, np.column_stack([-points[:, 1], points[:, 0]]), atol=1e-9)


def test_pupils_are_at_the_landmarks():
    look = Look.random(1, glasses=False, turn=0.0, style="bald", eyes=(20, 20, 20))
    image = canvas(600, 600, 200)
    face = draw_face(image, (300.0, 300.0), 400.0, angle=12.0, look=look)
    for x, y in face.landmarks[:2]:
        spot = image[int(y) - 12 : int(y) + 13, int(x) - 12 : int(x) + 13].mean(-1)
        around = image[int(y) - 12 : int(y) + 13, int(x) - 34 : int(x) + 35].mean(-1)
        assert np.median(spot) < 70 < around.max() - 60


def test_steps_of_a_quarter_pixel_change_the_picture_evenly():
    frames = [drawn(center=(100.0 + 0.25 * step, 100.0), size=60.0)[0] for step in range(9)]
    changes = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert min(changes) > 0.0
    assert max(changes) < 1.1 * min(changes)


def test_growth_is_smooth_between_levels():
    frames = [drawn(size=94.0 + 0.5 * step)[0] for step in range(9)]
    changes = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert max(changes) < 1.5 * min(changes)


def test_pixels_far_from_the_person_are_unchanged():
    image = canvas(600, 400)
    draw_face(image, (100.0, 100.0), 40.0, look=2)
    assert (image[:, 300:] == 120).all()
    assert (image[:40] == 120).all()
    assert (image[100, 100] != 120).any()


@pytest.mark.parametrize("center", [(-30.0, 100.0), (260.0, 190.0), (120.0, -60.0), (-5000.0, 1e6)])
def test_person_partly_or_completely_outside(center):
    image = canvas()
    face = draw_face(image, center, 80.0, look=6)
    assert face.box[0] == pytest.approx(center[0], abs=40)


def test_without_body_only_the_head_is_drawn():
    head, whole = canvas(), canvas()
    look = Look.random(5, style="short")
    draw_face(head, (120.0, 60.0), 60.0, look=look, body=False)
    draw_face(whole, (120.0, 60.0), 60.0, look=look)
    assert (head[100:] == 120).all()
    assert (whole[150, 120] != 120).any()


@pytest.mark.parametrize("style", STYLES)
def test_every_hair_style(style):
    image, _ = drawn(look=Look.random(9, style=style), size=60.0)
    plain, _ = drawn(look=Look.random(9, style="bald"), size=60.0)
    above = np.abs(image - plain)[60:85, 90:150].max()
    assert (above > 20) == (style != "bald")


@pytest.mark.parametrize("angle", [-170.0, 90.0, 359.0, 720.0])
def test_any_angle(angle):
    image, face = drawn(angle=angle)
    assert np.abs(image - 120).max() > 50
    assert face.box[2] > face.box[0]


def test_canvas_can_be_a_view():
    large = canvas(480, 400)
    view = large[100:300, 120:360]
    draw_face(view, (120.0, 100.0), 80.0, look=4)
    assert np.array_equal(view, drawn()[0].astype(np.uint8))
    assert (large[:100] == 120).all()


@pytest.mark.parametrize(
    ("where", "message"),
    [({"size": 0.0}, "above 0"), ({"size": float("nan")}, "finite"), ({"center": (np.inf, 0.0)}, "finite")],
)
def test_invalid_position_raises_option_error(where, message):
    with pytest.raises(OptionError, match=message):
        drawn(**where)


def test_invalid_canvas_raises_image_error():
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), [[1]], np.zeros((5, 5, 4), np.uint8)):
        with pytest.raises(ImageError, match="shape"):
            draw_face(wrong, (1.0, 1.0), 5.0)
    locked = canvas()
    locked.setflags(write=False)
    with pytest.raises(ImageError, match="read-only"):
        draw_face(locked, (1.0, 1.0), 5.0)
    with pytest.raises(ImageError, match="at most 16000"):
        draw_face(np.zeros((1, 16001, 3), np.uint8), (1.0, 1.0), 5.0)
