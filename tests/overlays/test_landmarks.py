from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from overlays import Landmarks
from overlays._colors import COLORS
from scrfd_trt._detections import Detections
from scrfd_trt.errors import OptionError

GREEN = (0x58, 0xD1, 0x30)
FIVE = np.array([[85, 90], [115, 90], [100, 105], [88, 120], [112, 120]], np.float32)
BOX = (70.0, 65.0, 130.0, 140.0)


def render(
    overlay: Landmarks,
    boxes: tuple[tuple[float, ...], ...] = (BOX,),
    points: NDArray[np.float32] | None = FIVE,
    background: int = 128,
    size: tuple[int, int] = (200, 200),
) -> NDArray[np.uint8]:
    image = np.full((size[1], size[0], 3), background, np.uint8)
    five = None if points is None else np.repeat(points[None], len(boxes), 0)
    scores = np.linspace(0.876, 0.5, len(boxes))
    return overlay(image, Detections(boxes, scores, five, image_size=size))


def is_color(out: NDArray[np.uint8], color: tuple[int, int, int] = GREEN) -> NDArray[np.bool_]:
    return (out == np.array(color, np.uint8)).all(2)


def label_of(out: NDArray[np.uint8], color: tuple[int, int, int] = GREEN) -> tuple[int, int, int, int]:
    """Return rows and columns of the rectangle around a colour."""
    rows, columns = np.nonzero(is_color(out, color))
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def test_box_is_drawn_on_its_border() -> None:
    out = render(Landmarks(score=False, points=False))
    green = is_color(out)
    assert green[65, 70:130].all()
    assert green[139, 70:130].all()
    assert green[65:140, 70].all()
    assert green[65:140, 129].all()
    assert not green[70:135, 75:125].any()
    assert not green[:60].any()


def test_points_have_their_colors() -> None:
    out = render(Landmarks(box=False, score=False, left_color="#f00", right_color="#00ff00", nose_color="blue"))
    blue = tuple(int(COLORS["blue"][start : start + 2], 16) for start in (5, 3, 1))
    for (x, y), color in zip(FIVE.astype(int), [(0, 0, 255), (0, 255, 0), blue, (0, 0, 255), (0, 255, 0)], strict=True):
        assert out[y - 1 : y + 1, x - 1 : x + 1].reshape(-1, 3).tolist() == [list(color)] * 4
    changed = (out != 128).any(2)
    assert changed.sum() < 5 * 60


def test_channel_order_is_an_option() -> None:
    bgr, rgb = (render(Landmarks(color=color)) for color in ("bgr", "rgb"))
    assert (bgr == rgb[..., ::-1]).all()


@pytest.mark.parametrize(
    ("options", "same_as"),
    [({"box": False, "score": False, "points": False}, None), ({"box": False, "score": False}, "points")],
)
def test_parts_can_be_disabled(options: dict[str, bool], same_as: str | None) -> None:
    out = render(Landmarks(**options))
    assert (out != 128).any() == (same_as is not None)
    without = render(Landmarks(**options), points=None)
    assert (without == 128).all()


def test_without_landmarks_box_and_score_are_drawn() -> None:
    assert (render(Landmarks(), points=None) == render(Landmarks(points=False))).all()


@pytest.mark.parametrize("background", [0, 88, 128, 255])
@pytest.mark.parametrize("color", ["white", "black", "green", "#123456", "yellow"])
def test_score_is_readable_on_any_background(background: int, color: str) -> None:
    overlay = Landmarks(box=False, points=False, box_color=color)
    out = render(overlay, background=background)
    other = render(overlay, background=255 - background)
    changed = (out == other).all(2)
    rows, columns = np.nonzero(changed)
    label = out[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert changed.sum() == label.shape[0] * label.shape[1], "the label is a filled rectangle"
    light = cv2.cvtColor(label, cv2.COLOR_BGR2GRAY)
    assert int(light.max()) - int(light.min()) > 90
    assert 0.03 < float((np.abs(light - float(np.median(light))) > 60).mean()) < 0.5


def test_score_is_in_per_cent() -> None:
    overlay = Landmarks(box=False, points=False)
    image = np.zeros((200, 200, 3), np.uint8)

    def scored(score: float) -> NDArray[np.uint8]:
        return overlay(image, Detections([BOX], [score], image_size=(200, 200)))

    assert (scored(0.876) == scored(0.884)).all()
    assert (scored(0.876) != scored(0.886)).any()
    whole, part = label_of(scored(1.0)), label_of(scored(0.5))
    assert whole[3] - whole[2] > part[3] - part[2], "100% is wider than 50%"


@pytest.mark.parametrize(
    "box",
    [
        (-30.0, -30.0, 20.0, 20.0),
        (180.0, -30.0, 230.0, 20.0),
        (190.0, 150.0, 260.0, 260.0),
        (-10.0, 180.0, 30.0, 230.0),
        (-1e6, -1e6, 1e6, 1e6),
        (0.0, 0.0, 200.0, 200.0),
        (199.0, 199.0, 200.0, 200.0),
    ],
)
def test_labels_stay_inside_image(box: tuple[float, ...]) -> None:
    inside = label_of(render(Landmarks(points=False, box=False), (box,)))
    usual = label_of(render(Landmarks(points=False, box=False), ((80.0, 80.0, 80.0 + box[2] - box[0], 90.0),)))
    top, bottom, left, right = inside
    if box[2] - box[0] <= 200:
        assert right - left >= 0.8 * (usual[3] - usual[2])
    assert bottom - top >= 8


@pytest.mark.parametrize("top", [-30.0, 6.0, 12.0, 20.4])
def test_labels_stay_inside_narrow_image(top: float) -> None:
    strip = label_of(render(Landmarks(points=False, box=False), ((80.0, top, 120.0, 60.0),), size=(200, 20)))
    whole = label_of(render(Landmarks(points=False, box=False), ((80.0, 0.0, 120.0, 60.0),), size=(200, 20)))
    assert strip[1] - strip[0] == whole[1] - whole[0]


def test_labels_shrink_with_image_and_vanish_if_too_small() -> None:
    def width(side: int) -> int:
        out = render(Landmarks(box=False, points=False), ((0.0, 0.0, 9e3, 9e3),), size=(side, side))
        return int(is_color(out).any(0).sum())

    widths = [width(side) for side in (1, 12, 50, 300, 1200)]
    assert widths[0] == widths[1] == 0
    assert 0 < widths[2] <= 50
    assert widths[2] < widths[3] < widths[4]


def test_sizes_grow_with_image_and_face() -> None:
    def line(side: int, share: float, size: float = 1.0) -> int:
        half = side * share / 2
        box = (side / 2 - half, side / 2 - half, side / 2 + half, side / 2 + half)
        out = render(Landmarks(score=False, points=False, size=size), (box,), size=(side, side))
        return int(is_color(out)[side // 2].sum())

    assert line(100, 0.5) == 2
    assert line(2400, 0.5) > line(1200, 0.5) > 2
    assert line(2400, 0.5) > line(2400, 0.05)
    assert line(1200, 0.5, size=3) > line(1200, 0.5)


def test_faces_outside_get_no_label() -> None:
    assert (render(Landmarks(), ((300.0, 300.0, 350.0, 360.0),), FIVE + 400) == 128).all()


@pytest.mark.parametrize("color", ["pink", "#12", "#1234567", "12,3,4", ""])
def test_unknown_color_lists_names(color: str) -> None:
    with pytest.raises(OptionError, match=r"^nose_color: a colour is #rrggbb, #rgb or one of black, white"):
        Landmarks(nose_color=color)


def test_color_notations() -> None:
    same = Landmarks(box_color="white"), Landmarks(box_color="#FFF"), Landmarks(box_color="#ffffff")
    assert same[0] == same[1] == same[2]
