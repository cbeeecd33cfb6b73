"""Stickers, emoji, boxes, spotlight and crops."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import overlays
from drawing import emoji
from overlays._colors import PALETTE
from overlays._geometry import TYPICAL_LANDMARKS
from overlays.testing import faces, noise
from scrfd_trt._detections import Detections
from scrfd_trt.errors import ImageError, OptionError

SIZE = (200, 200)
GRAY = np.full((200, 200, 3), 128, np.uint8)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A transparent picture with a coloured dot on each typical landmark."""
    pixels = np.zeros((100, 80, 4), np.uint8)
    for number, (x, y) in enumerate(TYPICAL_LANDMARKS * (80, 100)):
        cv2.circle(pixels, (round(x), round(y)), 5, (40 * number, 0, 255 - 40 * number, 255), -1)
    cv2.imwrite(str(tmp_path / "marks.png"), pixels)
    return tmp_path / "marks.png"


def rotated(degrees: float, squeeze: float = 1.0) -> Detections:
    angle = np.deg2rad(degrees)
    points = (
        (TYPICAL_LANDMARKS - 0.5)
        * (80 * squeeze, 100)
        @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    )
    return Detections([(60, 50, 140, 150)], [0.9], [points + 100], image_size=SIZE)


@pytest.mark.parametrize(("fit", "count"), [("two", 2), ("three", 2), ("five", 5)])
@pytest.mark.parametrize("degrees", [0.0, 30.0, -80.0])
def test_fit_moves_picture_points_to_landmarks(marks: Path, fit: str, count: int, degrees: float) -> None:
    found = rotated(degrees)
    out = overlays.Sticker(picture=marks, fit=fit)(GRAY, found)
    for number, (x, y) in enumerate(found.landmarks[0][:count].round().astype(int)):
        assert out[y, x].tolist() == pytest.approx([40 * number, 0, 255 - 40 * number], abs=12)


def test_fit_three_follows_head_in_profile(marks: Path) -> None:
    found = rotated(10.0, squeeze=0.7)
    out = overlays.Sticker(picture=marks, fit="three")(GRAY, found)
    x, y = found.landmarks[0, 3:].mean(0).round().astype(int)
    for number, (x, y) in enumerate(found.landmarks[0][:2].round().astype(int)):
        assert out[y, x].tolist() == pytest.approx([40 * number, 0, 255 - 40 * number], abs=12)
    rows, columns = np.nonzero((out != GRAY).any(2))
    assert np.ptp(columns) < 0.8 * np.ptp(rows)


def test_points_option(marks: Path) -> None:
    text = " ".join(f"{value:g}" for value in TYPICAL_LANDMARKS.ravel())
    parsed = overlays.parse(f'image:picture={marks},fit=five,points="{text}"')
    assert (parsed(GRAY, rotated(20)) == overlays.Sticker(picture=marks, fit="five")(GRAY, rotated(20))).all()
    moved = overlays.Sticker(picture=marks, fit="five", points=(TYPICAL_LANDMARKS * 0.5).ravel().tolist())
    assert (moved(GRAY, rotated(20)) != parsed(GRAY, rotated(20))).any()
    with pytest.raises(OptionError, match="points are ten numbers"):
        overlays.parse(f'image:picture={marks},points="1 2 3"')


def test_picture_is_required() -> None:
    with pytest.raises(OptionError, match=r"^overlay 'image' requires picture: for example image:picture=FILE$"):
        overlays.create("image")
    with pytest.raises(ImageError, match="cannot be read"):
        overlays.create("image", picture="nowhere.png")


def test_each_track_keeps_its_emoji() -> None:
    def render(track: int, place: float) -> np.ndarray:
        box = (place, place, place + 60, place + 60)
        return overlays.Emoji()(GRAY, Detections([box], [0.9], image_size=SIZE, track_ids=[track], pts_seconds=place))

    for track, kind in enumerate(emoji.KINDS * 2):
        out = render(track, 70.0)
        assert (np.roll(render(track, 90.0), (-20, -20), (0, 1)) == out).mean() > 0.99
        alone = Detections([(70, 70, 130, 130)], [0.9], image_size=SIZE)
        assert (overlays.Emoji(kind=kind)(GRAY, alone) == out).all()
    assert (render(0, 70.0) != render(1, 70.0)).any()


def test_emoji_drawings_are_cached_and_read_only() -> None:
    for kind in emoji.KINDS:
        drawing = emoji.draw(kind)
        assert drawing.shape == (emoji.SIDE, emoji.SIDE, 4)
        assert drawing is emoji.draw(kind)
        assert not drawing.flags.writeable
        assert 0.5 < (drawing[..., 3] > 0).mean() < 0.95


def test_each_track_keeps_its_box_colour() -> None:
    boxes = [(20, 40, 80, 100), (110, 40, 180, 100)]
    for tracks in ([3, 14], [14, 3]):
        found = Detections(boxes, [0.9, 0.8], image_size=SIZE, track_ids=tracks)
        out = overlays.Boxes(label="none", style="full")(GRAY, found)
        for (x1, y1, _, y2), track in zip(boxes, tracks, strict=True):
            color = PALETTE[track % len(PALETTE)]
            assert out[(y1 + y2) // 2, x1].tolist() == [int(color[i : i + 2], 16) for i in (5, 3, 1)]


def test_label_option_of_boxes() -> None:
    plain, tracked = faces(((40, 60, 160, 190),), SIZE), faces(((40, 60, 160, 190),), SIZE, tracked=True)

    def render(label: str, found: Detections) -> bytes:
        return overlays.Boxes(label=label, box_color=PALETTE[0])(GRAY, found).tobytes()

    assert render("auto", tracked) == render("track", tracked) != render("score", tracked)
    assert render("auto", plain) == render("score", plain) != render("none", plain)
    assert render("track", plain) == render("none", plain)


def test_spotlight_dims_linear_light() -> None:
    out = overlays.Spotlight(amount=0.5)(np.full((64, 96, 3), 255, np.uint8), faces(()))
    assert out.min() == out.max() == 188
    assert (overlays.Spotlight(amount=0)(noise(), faces()) == noise()).all()


def test_crops_are_upright_and_sorted_by_score() -> None:
    image = np.full((200, 300, 3), 90, np.uint8)
    five = (TYPICAL_LANDMARKS - 0.5) * 60 @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    points = five + np.array([[[60, 60]], [[160, 60]]])
    boxes = [(30, 30, 90, 90), (130, 30, 190, 90)]
    image[30:60, 30:90] = (255, 0, 0)  # the left side of the first face, which lies on its side
    image[30:90, 130:190] = (0, 0, 255)
    found = Detections(boxes, [0.5, 0.9], [points[0], points[1]], image_size=(300, 200))
    out = overlays.CropSheet(side="bottom", size=0.5, margin=0.0)(image, found)
    assert (out[:100] == image[:100]).all()
    assert out[150, 100].tolist() == [0, 0, 255], "the highest score comes first"
    assert out[150, 180].tolist() == [255, 0, 0], "rotated upright, its left side is on the left"
    assert out[150, 220].tolist() == [90, 90, 90]
    without = Detections(boxes, [0.5, 0.9], image_size=(300, 200))
    assert overlays.CropSheet(size=0.5, margin=0.0)(image, without)[120, 200].tolist() == [255, 0, 0]


def test_crops_that_do_not_fit_are_left_out() -> None:
    many = faces(tuple((x, 2.0, x + 3.0, 5.0) for x in range(90)))
    for most in (1, 7, 1000):
        out = overlays.CropSheet(max_faces=most)(noise(), many)
        assert (out[:50] == noise()[:50]).all()
    tiny = faces(tuple((x, 0.0, x + 3.0, 1.0) for x in range(3)), (4, 1))
    overlays.CropSheet(side="whole")(noise(4, 1), tiny)


def test_box_color_replaces_track_colours() -> None:
    found = faces(tracked=True)
    orange = overlays.Boxes(box_color="orange", label="none")
    assert (orange(noise(), found) == orange(noise(), faces())).all()
    assert (orange(noise(), found) != overlays.Boxes(label="none")(noise(), found)).any()
    assert (overlays.Boxes()(noise(), faces()) == overlays.Boxes(box_color="green")(noise(), faces())).all()


def test_grey_spotlight_respects_channel_order() -> None:
    image, found = noise(), faces()
    wanted = overlays.Spotlight(effect="grey")(image, found)
    assert (overlays.Spotlight(effect="grey", color="rgb")(image[..., ::-1], found)[..., ::-1] == wanted).all()


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_crops_show_background_outside_image(degrees: float) -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    inside, outside = (80.0, 20.0, 120.0, 60.0), (-30.0, 20.0, 10.0, 60.0)
    sheet = overlays.CropSheet(side="whole", background="#0000ff", margin=0.0)
    out = sheet(image, faces((inside, outside), (200, 100), degrees=degrees))
    left, right = out[50, :100], out[50, 100:]
    assert (left == 128).all(1).any()
    assert not (out == 0).all(2).any()
    assert ((right == 128).all(1) | (right == [255, 0, 0]).all(1)).mean() > 0.9
    assert (right == [255, 0, 0]).all(1).mean() > 0.5


def test_crops_of_tracks_keep_their_order() -> None:
    boxes, image = [(10, 10, 40, 40), (60, 10, 90, 40)], noise()
    one, other = (
        Detections(boxes, scores, image_size=(96, 64), track_ids=[4, 2]) for scores in ([0.9, 0.8], [0.8, 0.9])
    )
    assert (overlays.CropSheet()(image, one) == overlays.CropSheet()(image, other)).all()


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("solid:color=red", "for the colour write fill="),
        ("boxes:color=#fff", "for the colour write box_color="),
        (
            "landmarks:color=green",
            "for the colour write box_color=.* or left_color=.* or right_color=.* or nose_color=",
        ),
        ("skull:color=red", "bgr or rgb"),
    ],
)
def test_colour_given_as_channel_order_is_explained(spec: str, hint: str) -> None:
    name = spec.partition(":")[0]
    with pytest.raises(OptionError, match=f"^overlay '{name}': color: this is the channel order.*{hint}"):
        overlays.parse(spec)
    with pytest.raises(OptionError, match=f"channel order.*{hint}"):
        overlays.create(name, color=(255, 0, 0))
    with pytest.raises(OptionError, match="color: must be 'bgr' or 'rgb'"):
        overlays.parse(f"{name}:color=gbr")
