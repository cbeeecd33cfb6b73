from __future__ import annotations

import copy
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drawing import skull
from overlays import Skull
from overlays._skull import FACE_BOX, LANDMARKS
from scrfd_trt._crops import similarity
from scrfd_trt._detections import Detections
from scrfd_trt.errors import ImageError, OptionError

Points = NDArray[np.float64]


def face(size: float = 100.0, x: float = 150.0, y: float = 150.0, degrees: float = 0.0) -> tuple[Points, Points]:
    """Return the skull's box ``(4,)`` and landmarks ``(5, 2)``, scaled, rotated and moved."""
    scale = size / (FACE_BOX[3] - FACE_BOX[1])
    turn = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    x1, y1, x2, y2 = FACE_BOX
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    points = (LANDMARKS - middle) @ linear.T + [x, y]
    half = np.array([x2 - x1, y2 - y1]) / 2 * scale
    extent = np.hypot(half * np.cos(turn), half[::-1] * np.sin(turn))
    return np.array([x, y, x, y]) + np.concatenate([-extent, extent]), points


def render(overlay: Skull, box: Points, points: Points | None = None, side: int = 300) -> NDArray[np.uint8]:
    image = np.full((side, side, 3), (200, 120, 60), np.uint8)
    return overlay(image, Detections([box], [0.9], None if points is None else [points], image_size=(side, side)))


def painted(out: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (out != np.array((200, 120, 60), np.uint8)).any(2)


def center_of(mask: NDArray[np.bool_]) -> Points:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def test_drawing_is_cached_and_read_only() -> None:
    drawing = skull.draw()
    assert drawing.shape == (skull.HEIGHT, skull.WIDTH, 4)
    assert drawing.dtype == np.uint8
    assert skull.draw() is drawing
    assert not drawing.flags.writeable


def test_drawing_has_eyes_nose_and_teeth_at_its_landmarks() -> None:
    drawing = skull.draw()
    light = drawing[..., :3].mean(2)

    def at(point: Points, radius: int) -> float:
        x, y = point.astype(int)
        return float(light[y - radius : y + radius, x - radius : x + radius].mean())

    eyes, nose = LANDMARKS[:2].astype(float), LANDMARKS[2].astype(float)
    forehead = np.array([256.0, 150.0])
    assert at(forehead, 30) > 170
    assert max(at(eyes[0], 20), at(eyes[1], 20), at(nose, 12)) < 60
    teeth = light[470:505, 190:322]
    assert teeth.max() > 180
    assert teeth.min() < 60
    assert (drawing[..., 3] == 255).mean() > 0.6
    assert (drawing[0, :, 3].max(), drawing[:, 0, 3].max(), drawing[-1, :, 3].max()) == (0, 0, 0)


@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
@pytest.mark.parametrize("size", [30, 120])
def test_skull_is_fitted_to_landmarks(degrees: float, size: float) -> None:
    box, points = face(size, degrees=degrees)
    out = render(Skull(), box, points)
    fit = similarity(LANDMARKS, points.astype(np.float32))
    assert np.hypot(fit[0, 0], fit[1, 0]) * 490 == pytest.approx(size, rel=1e-3)
    whole = center_of(skull.draw()[..., 3] > 127) @ fit[:, :2].T + fit[:, 2]
    assert center_of(painted(out)) == pytest.approx(whole, abs=0.02 * size + 0.5)
    area = (skull.draw()[..., 3] > 127).sum() * (size / 490) ** 2
    assert painted(out).sum() == pytest.approx(area, rel=0.02 + 4 / size)
    # The dark sockets lie over the eyes.
    light = out.mean(2)
    for x, y in points[:2].astype(int):
        assert light[y, x] < 60


def test_skull_without_landmarks_stands_upright_on_box() -> None:
    box, points = face(120)
    assert np.abs(render(Skull(), box).astype(int) - render(Skull(), box, points)).mean() < 0.5


@pytest.mark.parametrize("points", [np.full((5, 2), 150.0), np.full((5, 2), -1e6)])
def test_coinciding_landmarks_are_ignored(points: Points) -> None:
    box, _ = face(120)
    assert (render(Skull(), box, points) == render(Skull(), box)).all()


@pytest.mark.parametrize("factor", [0.01, 50.0])
def test_size_by_landmarks_is_bounded_by_box(factor: float) -> None:
    box, points = face(60)
    out = painted(render(Skull(), box, (points - 150) * factor + 150))
    usual = painted(render(Skull(), box, points))
    assert 0.4 < out.sum() / usual.sum() < 2.0


def test_skull_covers_face_from_chin_to_hairline() -> None:
    box, points = face(120)
    out = painted(render(Skull(), box, points))
    x1, y1, x2, y2 = box.astype(int)
    column = (x1 + x2) // 2
    assert out[y1 : y2 + 1, column].all()
    assert out[(y1 + y2) // 2 - 10, x1 + 2 : x2 - 1].all()


def test_opacity_is_linear() -> None:
    box, points = face(120)
    clear, half, full = (
        render(Skull(opacity=opacity, blending="srgb"), box, points).astype(float) for opacity in (0.0, 0.5, 1.0)
    )
    assert not painted(clear.astype(np.uint8)).any()
    assert np.abs(half - (clear + full) / 2).max() <= 1.5


def test_scale_is_about_face_centre() -> None:
    box, points = face(60)
    small, large = (painted(render(Skull(scale=scale), box, points)) for scale in (1.0, 2.0))
    assert large.sum() == pytest.approx(4 * small.sum(), rel=0.05)
    assert not (small & ~large).any()


def test_highest_score_lies_on_top() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    boxes = np.stack([face(100, 130)[0], face(100, 170)[0]])

    def last_alone(scores: list[float]) -> NDArray[np.uint8]:
        return Skull()(image, Detections(boxes, scores, image_size=(300, 300)))

    alone = Skull()(image, Detections(boxes[:1], [0.9], image_size=(300, 300)))
    inside = (slice(120, 180), slice(110, 160))
    assert (last_alone([0.9, 0.6])[inside] == alone[inside]).all()
    assert (last_alone([0.6, 0.9])[inside] != alone[inside]).any()


def test_channel_order_is_an_option(tmp_path: Path) -> None:
    box, points = face(120)
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((8, 8, 3), (255, 0, 0), np.uint8))
    for options in ({}, {"image": tmp_path / "blue.png"}):
        bgr = render(Skull(**options), box, points)
        image = np.full((300, 300, 3), (60, 120, 200), np.uint8)
        rgb = Skull(color="rgb", **options)(image, Detections([box], [0.9], [points], image_size=(300, 300)))
        assert (rgb[..., ::-1] == bgr).all()


@pytest.mark.parametrize(("width", "height"), [(40, 50), (64, 20), (20, 90)])
def test_custom_picture_covers_box(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "plain.png"
    cv2.imwrite(str(path), np.full((height, width, 3), (10, 20, 250), np.uint8))
    out = render(Skull(image=path), np.array([200.0, 180.0, 280.0, 290.0]), side=500)
    assert (out[180:290, 200:280] == (10, 20, 250)).all()
    wide, tall = painted(out).any(0).sum(), painted(out).any(1).sum()
    assert wide == pytest.approx(80, abs=1) or tall == pytest.approx(110, abs=1)
    assert center_of(painted(out)) == pytest.approx([240, 235], abs=1)


def test_custom_picture_is_rotated_by_eyes(tmp_path: Path) -> None:
    """The left half is red, the right half blue; a face rotated by 90 degrees has its left eye on top."""
    pixels = np.zeros((50, 40, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:] = (0, 0, 255), (255, 0, 0)
    cv2.imwrite(str(tmp_path / "halves.png"), pixels)
    box, points = face(100, degrees=90)
    assert points[0, 1] < points[1, 1]
    out = render(Skull(image=tmp_path / "halves.png"), box, points)
    assert out[120, 150].tolist() == [0, 0, 255]
    assert out[180, 150].tolist() == [255, 0, 0]


@pytest.mark.parametrize("degrees", [0, 45, 110])
def test_rotated_custom_picture_keeps_its_sides(tmp_path: Path, degrees: float) -> None:
    cv2.imwrite(str(tmp_path / "plain.png"), np.full((60, 60, 3), 250, np.uint8))
    box, points = face(80, degrees=degrees)
    mask = painted(render(Skull(image=tmp_path / "plain.png"), box, points))
    width, height, turn = box[2] - box[0], box[3] - box[1], np.deg2rad(degrees)
    axes = np.cos(turn), np.sin(turn)
    side = max(np.hypot(width * axes[0], height * axes[1]), np.hypot(width * axes[1], height * axes[0]))
    assert mask.sum() == pytest.approx(side**2, rel=0.06)
    assert cv2.minAreaRect(np.argwhere(mask).astype(np.float32))[1] == pytest.approx((side, side), rel=0.04)


def test_alpha_of_custom_picture_is_used(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    cv2.circle(pixels, (20, 20), 15, (0, 0, 255, 128), -1)
    cv2.imwrite(str(tmp_path / "ring.png"), pixels)
    out = render(Skull(image=tmp_path / "ring.png", blending="srgb"), np.array([100.0, 100.0, 180.0, 180.0]))
    assert not painted(out)[100:105, 100:105].any()
    assert out[140, 140].tolist() == pytest.approx([100, 60, 158], abs=2)
    lit = render(Skull(image=tmp_path / "ring.png"), np.array([100.0, 100.0, 180.0, 180.0]))
    assert lit[140, 140].tolist() == pytest.approx([146, 86, 191], abs=2), "half of the light of both"


def test_picture_is_read_at_construction(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"the picture .*none\.png cannot be read: No such file .*check the path"):
        Skull(image=tmp_path / "none.png")
    path = tmp_path / "gone.png"
    cv2.imwrite(str(path), np.full((8, 8, 3), 200, np.uint8))
    overlay = Skull(image=path)
    path.unlink()
    assert painted(render(overlay, face(100)[0])).any()


@pytest.mark.parametrize(
    "options", [{"opacity": -0.1}, {"opacity": 1.1}, {"scale": 0}, {"scale": 11}, {"color": "gray"}, {"opacity": "x"}]
)
def test_options_out_of_range_raise_option_error(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=f"^{next(iter(options))}: "):
        Skull(**options)


def test_copy_compare_and_pickle(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8, 3), 200, np.uint8))
    overlay = Skull(opacity=0.5, image=tmp_path / "a.png")
    for other in (copy.deepcopy(overlay), pickle.loads(pickle.dumps(overlay)), Skull(**overlay.model_dump())):
        assert other == overlay
        assert (render(other, face()[0]) == render(overlay, face()[0])).all()
    assert overlay != Skull(opacity=0.5)
    assert hash(Skull()) == hash(Skull())
