"""What is told of single overlays of the set: stickers, emoji, boxes, spotlight and crops."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import overlays
from drawing import emoji
from overlays._colors import PALETTE
from overlays.testing import FIVE, faces, noise
from scrfd_trt._detections import Detections
from scrfd_trt.errors import ImageError, OptionError

SIZE = (200, 200)
GRAY = np.full((200, 200, 3), 128, np.uint8)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A clear picture with a coloured dot on each of the usual five points."""
    pixels = np.zeros((100, 80, 4), np.uint8)
    for number, (x, y) in enumerate(FIVE * (80, 100)):
        cv2.circle(pixels, (round(x), round(y)), 5, (40 * number, 0, 255 - 40 * number, 255), -1)
    cv2.imwrite(str(tmp_path / "marks.png"), pixels)
    return tmp_path / "marks.png"


def turned(degrees: float, squeeze: float = 1.0) -> Detections:
    angle = np.deg2rad(degrees)
    points = (
        (FIVE - 0.5) * (80 * squeeze, 100) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    )
    return Detections([(60, 50, 140, 150)], [0.9], [points + 100], image_size=SIZE)


@pytest.mark.parametrize(("fit", "count"), [("two", 2), ("three", 2), ("five", 5)])
@pytest.mark.parametrize("degrees", [0.0, 30.0, -80.0])
def test_points_of_a_picture_come_to_lie_on_the_landmarks(marks: Path, fit: str, count: int, degrees: float) -> None:
    found = turned(degrees)
    out = overlays.Sticker(picture=marks, fit=fit)(GRAY, found)
    for number, (x, y) in enumerate(found.landmarks[0][:count].round().astype(int)):
        assert out[y, x].tolist() == pytest.approx([40 * number, 0, 255 - 40 * number], abs=12)


def test_three_points_follow_a_head_that_looks_aside(marks: Path) -> None:
    found = turned(10.0, squeeze=0.7)
    out = overlays.Sticker(picture=marks, fit="three")(GRAY, found)
    x, y = found.landmarks[0, 3:].mean(0).round().astype(int)
    for number, (x, y) in enumerate(found.landmarks[0][:2].round().astype(int)):
        assert out[y, x].tolist() == pytest.approx([40 * number, 0, 255 - 40 * number], abs=12)
    rows, columns = np.nonzero((out != GRAY).any(2))
    assert np.ptp(columns) < 0.8 * np.ptp(rows)


def test_points_of_a_picture_can_be_told(marks: Path) -> None:
    text = " ".join(f"{value:g}" for value in FIVE.ravel())
    told = overlays.parse(f'image:picture={marks},fit=five,points="{text}"')
    assert (told(GRAY, turned(20)) == overlays.Sticker(picture=marks, fit="five")(GRAY, turned(20))).all()
    moved = overlays.Sticker(picture=marks, fit="five", points=(FIVE * 0.5).ravel().tolist())
    assert (moved(GRAY, turned(20)) != told(GRAY, turned(20))).any()
    with pytest.raises(OptionError, match="points are ten numbers"):
        overlays.parse(f'image:picture={marks},points="1 2 3"')


def test_a_picture_is_needed() -> None:
    with pytest.raises(OptionError, match=r"^overlay 'image' needs picture: give it as image:picture=FILE$"):
        overlays.create("image")
    with pytest.raises(ImageError, match="cannot be read"):
        overlays.create("image", picture="nowhere.png")


def test_each_track_keeps_its_emoji() -> None:
    def drawn(track: int, place: float) -> np.ndarray:
        box = (place, place, place + 60, place + 60)
        return overlays.Emoji()(GRAY, Detections([box], [0.9], image_size=SIZE, track_ids=[track], pts_seconds=place))

    for track, kind in enumerate(emoji.KINDS * 2):
        out = drawn(track, 70.0)
        assert (np.roll(drawn(track, 90.0), (-20, -20), (0, 1)) == out).mean() > 0.99
        alone = Detections([(70, 70, 130, 130)], [0.9], image_size=SIZE)
        assert (overlays.Emoji(kind=kind)(GRAY, alone) == out).all()
    assert (drawn(0, 70.0) != drawn(1, 70.0)).any()


def test_emoji_drawings_are_made_once_and_cannot_be_spoilt() -> None:
    for kind in emoji.KINDS:
        drawing = emoji.draw(kind)
        assert drawing.shape == (emoji.SIDE, emoji.SIDE, 4)
        assert drawing is emoji.draw(kind)
        assert not drawing.flags.writeable
        assert 0.5 < (drawing[..., 3] > 0).mean() < 0.95


def test_each_track_keeps_the_colour_of_its_box() -> None:
    boxes = [(20, 40, 80, 100), (110, 40, 180, 100)]
    for tracks in ([3, 14], [14, 3]):
        found = Detections(boxes, [0.9, 0.8], image_size=SIZE, track_ids=tracks)
        out = overlays.Boxes(label="none", style="full")(GRAY, found)
        for (x1, y1, _, y2), track in zip(boxes, tracks, strict=True):
            color = PALETTE[track % len(PALETTE)]
            assert out[(y1 + y2) // 2, x1].tolist() == [int(color[i : i + 2], 16) for i in (5, 3, 1)]


def test_labels_of_boxes_are_what_was_asked_for() -> None:
    plain, tracked = faces(((40, 60, 160, 190),), SIZE), faces(((40, 60, 160, 190),), SIZE, tracked=True)

    def drawn(label: str, found: Detections) -> bytes:
        return overlays.Boxes(label=label, box_color=PALETTE[0])(GRAY, found).tobytes()

    assert drawn("auto", tracked) == drawn("track", tracked) != drawn("score", tracked)
    assert drawn("auto", plain) == drawn("score", plain) != drawn("none", plain)
    assert drawn("track", plain) == drawn("none", plain)


def test_spotlights_dim_light_and_not_levels() -> None:
    out = overlays.Spotlight(amount=0.5)(np.full((64, 96, 3), 255, np.uint8), faces(()))
    assert out.min() == out.max() == 188
    assert (overlays.Spotlight(amount=0)(noise(), faces()) == noise()).all()


def test_crops_are_upright_and_in_the_order_of_scores() -> None:
    image = np.full((200, 300, 3), 90, np.uint8)
    five = (FIVE - 0.5) * 60 @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    points = five + np.array([[[60, 60]], [[160, 60]]])
    boxes = [(30, 30, 90, 90), (130, 30, 190, 90)]
    image[30:60, 30:90] = (255, 0, 0)  # the left side of the first face, which lies on its side
    image[30:90, 130:190] = (0, 0, 255)
    found = Detections(boxes, [0.5, 0.9], [points[0], points[1]], image_size=(300, 200))
    out = overlays.CropSheet(side="bottom", size=0.5, margin=0.0)(image, found)
    assert (out[:100] == image[:100]).all()
    assert out[150, 100].tolist() == [0, 0, 255], "the surest face comes first"
    assert out[150, 180].tolist() == [255, 0, 0], "turned upright, its left side is at the left"
    assert out[150, 220].tolist() == [90, 90, 90]
    without = Detections(boxes, [0.5, 0.9], image_size=(300, 200))
    assert overlays.CropSheet(size=0.5, margin=0.0)(image, without)[120, 200].tolist() == [255, 0, 0]


def test_faces_that_find_no_room_are_left_out() -> None:
    many = faces(tuple((x, 2.0, x + 3.0, 5.0) for x in range(90)))
    for most in (1, 7, 1000):
        out = overlays.CropSheet(most=most)(noise(), many)
        assert (out[:50] == noise()[:50]).all()
    tiny = faces(tuple((x, 0.0, x + 3.0, 1.0) for x in range(3)), (4, 1))
    overlays.CropSheet(side="whole")(noise(4, 1), tiny)


def test_a_colour_that_was_asked_for_is_that_of_all_boxes() -> None:
    found = faces(tracked=True)
    asked = overlays.Boxes(box_color="orange", label="none")
    assert (asked(noise(), found) == asked(noise(), faces())).all()
    assert (asked(noise(), found) != overlays.Boxes(label="none")(noise(), found)).any()
    assert (overlays.Boxes()(noise(), faces()) == overlays.Boxes(box_color="green")(noise(), faces())).all()


def test_a_grey_spotlight_weighs_channels_in_their_order() -> None:
    image, found = noise(), faces()
    wanted = overlays.Spotlight(effect="grey")(image, found)
    assert (overlays.Spotlight(effect="grey", color="rgb")(image[..., ::-1], found)[..., ::-1] == wanted).all()


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_beyond_the_image_crops_show_the_ground(degrees: float) -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    inside, outside = (80.0, 20.0, 120.0, 60.0), (-30.0, 20.0, 10.0, 60.0)
    sheet = overlays.CropSheet(side="whole", ground="#0000ff", margin=0.0)
    drawn = sheet(image, faces((inside, outside), (200, 100), degrees=degrees))
    left, right = drawn[50, :100], drawn[50, 100:]
    assert (left == 128).all(1).any()
    assert not (drawn == 0).all(2).any()
    assert ((right == 128).all(1) | (right == [255, 0, 0]).all(1)).mean() > 0.9
    assert (right == [255, 0, 0]).all(1).mean() > 0.5


def test_crops_of_a_video_keep_their_order_when_scores_change() -> None:
    boxes, image = [(10, 10, 40, 40), (60, 10, 90, 40)], noise()
    one, other = (
        Detections(boxes, scores, image_size=(96, 64), track_ids=[4, 2]) for scores in ([0.9, 0.8], [0.8, 0.9])
    )
    assert (overlays.CropSheet()(image, one) == overlays.CropSheet()(image, other)).all()


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("solid:color=red", "the colour is fill"),
        ("boxes:color=#fff", "the colour is box_color"),
        ("landmarks:color=green", "the colour is box_color or left_color or right_color or nose_color"),
        ("skull:color=red", "bgr or rgb"),
    ],
)
def test_who_takes_the_order_of_channels_for_a_colour_is_told(spec: str, hint: str) -> None:
    name = spec.partition(":")[0]
    with pytest.raises(OptionError, match=f"^overlay '{name}': color: this is the order of the channels.*{hint}"):
        overlays.parse(spec)
    with pytest.raises(OptionError, match="color: Input should be 'bgr' or 'rgb'"):
        overlays.parse(f"{name}:color=gbr")
