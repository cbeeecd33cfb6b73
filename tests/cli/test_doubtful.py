"""A second look at doubtful faces of photographs: what it drops, and what says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt import Detections
from scrfd_trt._cli import doubtful, images
from scrfd_trt.video import _copy_search

pytestmark = pytest.mark.slow
Run = Callable[..., Any]
Picture = Callable[..., Path]
BOX = (100.0, 100.0, 140.0, 150.0)


class Crops:
    """A detector that finds what is brighter than 150 in the middle of crops, with one score."""

    _takes_looks = False

    def __init__(self, score: float = 0.9) -> None:
        self.score, self.seen = score, 0

    def detect_batch(self, sheets: Any, *, threshold: float, max_faces: int) -> list[Detections]:
        found = []
        for sheet in sheets:
            self.seen += 1
            grid = np.stack(np.meshgrid(np.arange(doubtful.COLUMNS), np.arange(doubtful.COLUMNS)), -1).reshape(-1, 2)
            middles = ((grid + 0.5) * doubtful.CELL).astype(int)
            bright = [point for point in middles.tolist() if sheet[point[1], point[0]].mean() > 150]
            boxes = np.reshape([[x - 20, y - 20, x + 20, y + 20] for x, y in bright], (-1, 4))
            found.append(Detections(boxes, np.full(len(boxes), self.score), image_size=sheet.shape[1::-1]))
        assert threshold < self.score
        assert max_faces >= len(grid)
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


@pytest.mark.parametrize(
    ("score", "brightness", "crops", "dropped"),
    [
        (0.4, 0, 0.9, True),
        (0.4, 200, 0.9, False),
        (0.61, 0, 0.9, False),
        (0.6, 200, 0.3, True),
        (0.35, 200, 0.3, False),
    ],
)
def test_faces_are_dropped_if_no_crop_shows_them(score: float, brightness: int, crops: float, dropped: bool) -> None:
    detector: Any = Crops(crops)
    assert doubtful.find_dropped(detector, noise(brightness), faces(score)).tolist() == [dropped]


def test_small_and_blurred_faces_are_kept_without_a_find() -> None:
    detector: Any = Crops()
    assert not doubtful.find_dropped(detector, noise(0), faces(0.4, (100, 100, 118, 123))).any()
    assert not detector.seen
    blurred = cv2.GaussianBlur(noise(0), (0, 0), 8)
    assert not doubtful.find_dropped(detector, blurred, faces(0.4)).any()


def test_large_faces_that_lie_need_higher_scores() -> None:
    detector: Any = Crops(0.4)
    image, box = noise(0), (60.0, 60.0, 160.0, 180.0)
    image[60:180, 60:160] |= 0xC0
    upright, lying = (doubtful.find_dropped(detector, image, faces(0.5, box, degrees)) for degrees in (0, 90))
    assert (upright.tolist(), lying.tolist()) == ([False], [True])


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
    for number, (more, hidden) in enumerate(
        [
            (("--detections", "f.jsonl"), False),
            (("--detections", "f.jsonl", "--keep-doubtful"), True),
            (("--keep-doubtful",), True),
        ]
    ):
        ran = run("anonymize", source, "-o", f"{number}.png", *more)
        assert ran.code == 0, ran.err
        assert np.array_equal(pixels(f"{number}.png"), original) is not hidden
        assert ("doubtful" in ran.err) is not hidden
