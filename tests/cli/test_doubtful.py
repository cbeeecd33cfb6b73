"""A second look at doubtful faces: what it drops, and what says so for photographs."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt import Detections, _doubtful
from scrfd_trt._doubtful import CELL, SIDE, Sample, View
from scrfd_trt._jobs import images
from scrfd_trt.video import _copy_search

pytestmark = pytest.mark.slow
Run = Callable[..., Any]
Picture = Callable[..., Path]
BOX = (100.0, 100.0, 140.0, 150.0)


class Crops:
    """A detector that finds what is brighter than 150 in the middle of crops, with one score for each batch."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.seen = list(scores), 0

    def detect_batch(self, sheets: Any, *, threshold: float, max_faces: int) -> list[Detections]:
        self.seen += 1
        score = self.scores[min(self.seen, len(self.scores)) - 1]
        found = []
        for sheet in sheets:
            count = SIDE // CELL
            middles = ((np.stack(np.meshgrid(range(count), range(count)), -1).reshape(-1, 2) + 0.5) * CELL).astype(int)
            bright = [point for point in middles.tolist() if sheet[point[1], point[0]].mean() > 150]
            boxes = np.reshape([[x - 20, y - 20, x + 20, y + 20] for x, y in bright], (-1, 4))
            found.append(Detections(boxes, np.full(len(boxes), score), image_size=sheet.shape[1::-1]))
            assert max_faces >= len(middles)
        assert threshold <= score
        return found


def noise(brightness: int) -> Any:
    image = np.random.default_rng(1).integers(0, 100, (300, 300, 3), np.uint8)
    image[100:150, 100:140] = np.clip(image[100:150, 100:140].astype(int) + brightness, 0, 255)
    return image


def pixels(path: str | Path) -> Any:
    return cv2.imread(str(path))


def faces(score: float, box: tuple[float, ...] = BOX, degrees: float = 0.0) -> Detections:
    turn = cv2.getRotationMatrix2D((0, 0), -degrees, 1)[:, :2]
    points = np.array([[-9.0, -8], [9, -8], [0, 2], [-7, 9], [7, 9]]) @ turn.T
    middle = (np.array(box[:2]) + box[2:]) / 2
    return Detections([box], [score], (points + middle)[None], image_size=(300, 300))


LARGE, CUT = (60.0, 60.0, 160.0, 180.0), (-40.0, 60.0, 60.0, 180.0)


@pytest.mark.parametrize(
    ("box", "score", "crops", "kept"),
    [
        (BOX, 0.4, (0.9,), True),
        (BOX, 0.61, (0.06,), True),
        (BOX, 0.6, (0.06, 0.31), True),
        (BOX, 0.6, (0.06, 0.06, 0.31), True),
        (BOX, 0.6, (0.25,), False),
        (LARGE, 0.5, (0.06, 0.31), True),  # in one size only, as a face that is half hidden
        (LARGE, 0.5, (0.29,), False),
    ],
)
def test_faces_are_kept_that_their_crops_show(
    box: tuple[float, ...], score: float, crops: tuple[float, ...], kept: bool
) -> None:
    image = noise(0)
    image[60:180, :160] |= 0xC0
    assert _doubtful.find_dropped(Crops(*crops), image, faces(score, box)).tolist() == [not kept]


@pytest.mark.parametrize(
    ("box", "score", "crops", "kept"),
    [
        (LARGE, 0.5, (0.51,), True),
        (LARGE, 0.5, (0.4,), True),
        (LARGE, 0.5, (0.45, 0.06), False),  # in one size only
        (CUT, 0.5, (0.06, 0.36), True),  # by the border, so it does not show all
        (CUT, 0.5, (0.06, 0.3), False),
        (LARGE, 0.3, (0.27,), True),  # of its own score, enough
        (LARGE, 0.5, (0.06, 0.06, 0.61), True),
        (LARGE, 0.5, (0.06, 0.06, 0.55), False),
    ],
)
def test_large_faces_of_tracks_are_found_in_several_sizes(
    box: tuple[float, ...], score: float, crops: tuple[float, ...], kept: bool
) -> None:
    image = noise(0)
    image[60:180, :160] |= 0xC0
    sample = _doubtful.take(partial(part, image), faces(score, box), 0)
    assert _doubtful.are_faces(Crops(*crops), [[sample] * 2]).tolist() == [kept]


def test_small_and_blurred_faces_are_kept_without_a_find() -> None:
    detector = Crops(0.9)
    assert _doubtful.find_dropped(detector, noise(0), faces(0.4)).all()
    detector.seen = 0
    assert not _doubtful.find_dropped(detector, noise(0), faces(0.4, (100, 100, 118, 123))).any()
    blurred = cv2.GaussianBlur(noise(0), (0, 0), 8)
    assert not _doubtful.find_dropped(detector, blurred, faces(0.4)).any()
    assert not detector.seen


def test_blurred_faces_at_the_border_are_kept_without_a_find() -> None:
    """The border is no fine detail, also where it cuts the face."""
    image = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8), (0, 0), 16)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    for left in (-30.0, -12.0, 0.0):
        found = faces(0.4, (left, 100.0, left + 80, 190.0))
        assert not _doubtful.find_dropped(Crops(0.1), image, found).any()


def test_several_samples_decide_together() -> None:
    """Two of three samples with a low score are enough."""
    bright, dark = (_doubtful.take(partial(part, noise(each)), faces(0.4), 0) for each in (200, 0))
    tracks = [[bright, bright, dark], [bright, dark, dark], [dark, dark, dark]]
    assert _doubtful.are_faces(Crops(0.45), tracks).tolist() == [True, False, False]


def test_beyond_the_border_crops_are_grey() -> None:
    """Models see a face that the border cuts in this way, too."""
    image = np.full((300, 300, 3), 255, np.uint8)
    crop = _doubtful._crop(_doubtful.take(partial(part, image), faces(0.5, CUT), 0), View(48))
    assert (crop[:, :56] == _doubtful.GREY).all()
    assert (crop[40:88, 64:] == 255).all()


def part(image: Any, left: int, top: int, right: int, bottom: int) -> Any:
    return image[top:bottom, left:right]


def test_crops_are_upright_turned_and_mirrored() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[150:250, 180:220] = 255  # lies: 100 high, 40 wide, eyes one above the other
    image[150:160, 180:190, 0] = 0
    points = np.array([(210, 170), (210, 230), (200, 200), (190, 170), (190, 230)], np.float32)
    assert _doubtful.roll_of(points) == pytest.approx(90.0)
    found = Detections([[150, 150, 250, 250]], [0.4], points[None], image_size=(400, 400))
    sample: Sample = _doubtful.take(partial(part, image), found, 0)
    assert sample.side == _doubtful.STORED
    for angle, long in ((0, 0), (90, 1), (180, 0), (270, 1)):
        crop, mirrored = (_doubtful._crop(sample, View(40, angle, is_mirrored)) for is_mirrored in (False, True))
        assert np.array_equal(mirrored, crop[:, ::-1])
        assert not np.array_equal(mirrored, crop)
        rows, columns = (np.flatnonzero((crop[..., 2] > 128).any(axis)) for axis in (1, 0))
        sides = [len(columns), len(rows)]
        assert sides[long] == pytest.approx(40, abs=2)
        assert sides[1 - long] == pytest.approx(16, abs=2)
        assert rows.mean() == pytest.approx(CELL / 2 - 0.5, abs=1.5)


@pytest.mark.usefixtures("spots", "known_overlays")
def test_dropped_faces_are_told_and_kept_on_request(
    run: Run, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = picture()
    original = pixels(source)
    monkeypatch.setattr(images, "find_dropped", lambda _detector, _image, found: np.ones(len(found), bool))
    monkeypatch.setattr(_copy_search, "DROPPED_UP_TO", 0.9)  # the fake model has one score
    ran = run("anonymize", source, "-o", "out.png", "--save-detections", "f.jsonl", "--verify")
    assert ran.code == 0, ran.err
    assert "1 doubtful place not covered" in ran.err
    assert "--keep-doubtful" in ran.err
    assert f"{source}: --cover '" in ran.err
    assert np.array_equal(pixels("out.png"), original)
    (face,) = json.loads(Path("f.jsonl").read_text())["faces"]
    assert face["dropped"] is True
    place = ran.err.partition("--cover '")[2].partition("'")[0]
    for number, (more, hidden) in enumerate(
        [
            (("--cover", place), True),
            (("--detections", "f.jsonl"), False),
            (("--detections", "f.jsonl", "--keep-doubtful"), True),
            (("--keep-doubtful",), True),
        ]
    ):
        ran = run("anonymize", source, "-o", f"{number}.png", *more)
        assert ran.code == 0, ran.err
        assert np.array_equal(pixels(f"{number}.png"), original) is not hidden
        assert ("doubtful" in ran.err) is not hidden
