"""Regions of frames that are drawn on: the same pixels as drawing on the whole frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import overlays
from scrfd_trt import Detections
from scrfd_trt.errors import OverlayError

pytest.importorskip("av")

from scrfd_trt.video import Frame, _colors
from scrfd_trt.video._canvas import MARGIN, Canvas, join_boxes

SIZE = (430, 290)
FACES = ((20.0, 14.0, 43.5, 47.0), (410.3, 250.0, 450.0, 300.0), (220.2, 150.7, 231.0, 164.0))
COVERS = [overlays.create("blur"), overlays.Compose(overlays.create("pixelate", block=7), overlays.create("boxes"))]


def noise(name: str, size: tuple[int, int], tags: tuple[int, int] = (1, 1)) -> Frame:
    av = pytest.importorskip("av")
    picture, random = av.VideoFrame(*size, name), np.random.default_rng(3)
    for plane in _colors.planes(picture):
        plane[...] = random.integers(0, 1 << _colors.LAYOUTS[name].bits, plane.shape)
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    picture.colorspace, picture.color_range = tags
    return Frame(0, picture)


def detections(size: tuple[int, int] = SIZE, boxes: Any = FACES) -> Detections:
    corners = np.array(boxes, np.float32)
    return Detections(corners, np.linspace(0.9, 0.5, len(corners)), None, image_size=size)


def drawn(frame: Frame, overlay: Any, found: Detections) -> tuple[list[_colors.Patch], list[NDArray[Any]]]:
    """The frame drawn on by its regions."""
    with Canvas().drawn(frame, overlay, found) as patches:
        return patches, _colors.planes(_colors.paste_changes(frame.picture, patches))


@pytest.mark.parametrize("overlay", COVERS, ids=["blur", "mosaic and boxes"])
@pytest.mark.parametrize("tags", [(1, 1), (5, 2), (9, 1)], ids=["BT.709", "BT.601 full", "BT.2020"])
@pytest.mark.parametrize("name", _colors.LAYOUTS)
def test_regions_give_the_same_samples_as_whole_frames(name: str, tags: tuple[int, int], overlay: Any) -> None:
    frame, found = noise(name, SIZE, tags), detections()
    whole = _colors.Patch(0, 0, frame.image, overlay(frame.image, found))
    expected = _colors.planes(_colors.paste_changes(_colors.copy(frame.picture), [whole]))
    patches, planes = drawn(frame, overlay, found)
    assert len(patches) == len(FACES)
    assert all((plane == other).all() for plane, other in zip(planes, expected, strict=True))


@pytest.mark.parametrize("away", [9, 13, 40])
def test_faces_beside_the_frame_change_nothing(away: int) -> None:
    frame, (width, height) = noise("yuv420p", SIZE), SIZE
    expected = [plane.copy() for plane in _colors.planes(frame.picture)]
    beside = [
        (-30 - away, 50, -away, 80),
        (50, -30 - away, 80, -away),
        (width + away, 150, width + 30 + away, 180),
        (150, height + away, 180, height + 30 + away),
    ]
    solid = overlays.create("solid", shape="rectangle", scale=1.0, margin=0.0)
    _, planes = drawn(frame, solid, detections(boxes=beside))
    assert all((plane == other).all() for plane, other in zip(planes, expected, strict=True))


@pytest.mark.parametrize("size", [(431, 290), (430, 291)])
def test_frames_of_odd_size_are_drawn_on_as_a_whole(size: tuple[int, int]) -> None:
    found = detections(size)
    patches, _ = drawn(noise("yuv444p", size), COVERS[0], found)
    assert [patch.before.shape[:2] for patch in patches] == [size[::-1]]


def test_overlay_without_used_boxes_draws_on_whole_frame() -> None:
    def corner(image: NDArray[np.uint8], _: Detections) -> NDArray[np.uint8]:
        out = image.copy()
        out[-4:, -4:] = 255 - out[-4:, -4:]
        return out

    frame = noise("yuv420p", SIZE)
    before = [plane.copy() for plane in _colors.planes(frame.picture)]
    _, planes = drawn(frame, corner, detections())
    assert [int((one != other).any()) for one, other in zip(planes, before, strict=True)] == [1, 1, 1]


class BlackCorner(overlays.OverlayModel):
    """Draws where it does not say."""

    is_local = True

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        canvas[100, 2] = 0

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        return detections.boxes.astype(np.float64)


def test_pixels_changed_outside_used_boxes_are_an_error() -> None:
    canvas = Canvas()
    for _ in range(2):
        with (
            pytest.raises(OverlayError, match=r"BlackCorner\(\) changes pixels outside its used_boxes"),
            canvas.drawn(noise("yuv420p", SIZE), BlackCorner(), detections()),
        ):
            pass
    with canvas.drawn(noise("yuv420p", SIZE), COVERS[0], detections()) as patches:
        assert len(patches) == len(FACES)


@pytest.mark.parametrize("count", [0, 1, 30, 600])
def test_regions_are_disjoint_and_cover_all_boxes(count: int) -> None:
    random = np.random.default_rng(count)
    corners = random.uniform(-20, 1940, (count, 2)) * (1, 0.3)
    boxes = np.concatenate([corners, corners + random.uniform(1, 60, (count, 2))], 1)
    regions = join_boxes(boxes, (1920, 1080))
    assert regions is not None
    assert len(regions) < max(2, count)
    uses = np.zeros((1080, 1920), np.uint8)
    for region in regions:
        uses[region.slices] += 1
    assert uses.max(initial=0) <= 1
    for left, top, right, bottom in boxes:
        rows = slice(max(int(top) - MARGIN, 0), max(int(bottom) + MARGIN, 0))
        assert uses[rows, max(int(left) - MARGIN, 0) : max(int(right) + MARGIN, 0)].all()


def test_crowd_is_converted_as_a_whole() -> None:
    corners = np.stack(np.meshgrid(np.arange(0, 1900, 70.0), np.arange(0, 1060, 70.0)), -1).reshape(-1, 2)
    assert join_boxes(np.concatenate([corners, corners + 30], 1), (1920, 1080)) is None
