"""A second look at doubtful tracks: what is kept, what is dropped, and what says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scrfd_trt import Detections, _doubtful
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt.video import (
    FacesReader,
    TrackSelection,
    VideoReader,
    detect_video,
    find_faces,
    overlay_video,
    render_video,
)
from scrfd_trt.video import _second_look as second_look

pytestmark = pytest.mark.slow
SIZE, FRAMES = (160, 120), 12
PLACES = {1: (20, 30, 60, 80), 2: (90, 30, 130, 80)}
SCORES = {1: 0.45, 2: 0.4}


class Looks:
    """A detector of two doubtful faces; in crops, it finds what is brighter than 150 in the middle."""

    score = 0.4

    def __init__(self) -> None:
        self.images = 0

    def stream(self, images: Any, **_: Any) -> Iterator[Detections]:
        for _ in images:
            yield Detections(list(PLACES.values()), list(SCORES.values()), image_size=SIZE)

    def detect_batch(self, images: Any, *, threshold: float, max_faces: int) -> list[Detections]:
        found = []
        for image in images:
            self.images += 1
            cells = range(_doubtful.SIDE // _doubtful.CELL)
            middles = [_doubtful.CELL * (np.array([x, y]) + 0.5) for y in cells for x in cells]
            half = 20
            bright = [at for at in middles if image[int(at[1]) - 3 :][:6, int(at[0]) - 3 :][:, :6].mean() > 150]
            boxes = [(x - half, y - half, x + half, y + half) for x, y in bright]
            found.append(Detections(np.reshape(boxes, (-1, 4)), np.full(len(boxes), self.score), image_size=(640, 640)))
        assert threshold < self.score
        assert max_faces >= 25
        return found


class Streams:
    """The same without a method for batches."""

    def __init__(self) -> None:
        self.stream = Looks().stream


def draw(number: int, size: tuple[int, int]) -> Any:
    image = np.random.default_rng(number).integers(0, 100, (size[1], size[0], 3), np.uint8)
    image[30:80, 20:60] |= 0xC0  # bright, so a face in the second look
    return image


@pytest.fixture
def film(clip: Callable[..., Path]) -> Path:
    return clip(frames=FRAMES, size=SIZE, draw=draw)


def tracks(path: Path) -> set[int]:
    with FacesReader(path) as file:
        return {number for frame in file for number in frame.track_ids.tolist()}


def hide(image: Any, faces: Detections) -> Any:
    drawn = image.copy()
    for x1, y1, x2, y2 in faces.boxes.astype(int).clip(0).tolist():
        drawn[y1:y2, x1:x2] = 255
    return drawn


def hidden(path: Path) -> set[int]:
    with VideoReader(path) as reader:
        image = next(iter(reader)).image
    return {n for n, (x1, y1, x2, y2) in PLACES.items() if image[y1 + 9 : y2 - 9, x1 + 9 : x2 - 9].min() > 200}


def test_track_without_face_in_its_crops_is_dropped(film: Path, tmp_path: Path) -> None:
    faces, out = tmp_path / "a.faces.jsonl", tmp_path / "o.mp4"
    detector = Looks()
    summary = detect_video(film, faces, detector)
    assert detector.images
    assert (set(summary.tracks), set(summary.dropped), summary.faces) == ({1}, {2}, FRAMES)
    assert summary.dropped[2].frames == FRAMES
    assert json.loads(faces.read_text().splitlines()[0])["dropped"] == [2]
    with VideoReader(film) as reader:
        assert {each for frame in find_faces(reader, detector) for each in frame.track_ids.tolist()} == {1, 2}
    with FacesReader(faces) as file:
        assert {each for _, frame in file.covered(TrackSelection()) for each in frame.track_ids.tolist()} == {1}
    assert tracks(faces) == {1, 2}
    assert [path.name for path in tmp_path.iterdir() if "faces" in path.name] == [faces.name]
    for selection, covered, dropped in (
        (None, {1}, {2}),
        (TrackSelection(keep_doubtful=True), {1, 2}, set()),
        (TrackSelection(only_tracks={2}), {2}, set()),
        (TrackSelection(drop_tracks={2}), {1}, set()),
    ):
        summary = render_video(film, out, faces, hide, selection=selection, overwrite=True)
        assert (hidden(out), set(summary.dropped)) == (covered, dropped)
        assert summary.left_out == ({1} if covered == {2} else set())


def test_whoever_asks_keeps_all(film: Path, tmp_path: Path) -> None:
    for detector, selection in ((Streams(), None), (Looks(), TrackSelection(keep_doubtful=True))):
        faces = tmp_path / f"{type(detector).__name__}.jsonl"
        summary = overlay_video(
            film, tmp_path / "o.mp4", detector, hide, selection=selection, faces_file=faces, overwrite=True
        )
        assert (set(summary.tracks), summary.dropped, hidden(tmp_path / "o.mp4")) == ({1, 2}, {}, {1, 2})
        assert "dropped" not in json.loads(faces.read_text().splitlines()[0])


@pytest.mark.parametrize(
    ("name", "value"), [("MIN_SHARPNESS", 9.0), ("MIN_LENGTH", 99), ("DOUBTFUL", 0.39), ("MAX_BYTES", -1)]
)
def test_doubt_without_proof_keeps(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    """Tracks out of focus, small ones, those with a higher score, and those for whose crops memory is missing."""
    monkeypatch.setattr(_doubtful if name == "MIN_SHARPNESS" else second_look, name, value)
    assert not detect_video(film, tmp_path / "a.jsonl", Looks()).dropped


def faces_of(number: int, box: tuple[int, ...], score: float) -> FrameFaces:
    return FrameFaces(
        number, 0.04 * number, False, np.array([1]), np.array([box], float), np.array([score]), None,
        np.full(1, "detected"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("box", "score", "frames", "dropped"),
    [
        ((10, 5, 70, 105), 0.1, 1, {1}),
        ((10, 5, 70, 105), 0.3, 1, set()),
        ((20, 30, 60, 80), 0.1, 1, {1}),
        ((10, 5, 70, 105), 0.1, 2, {1}),
        ((20, 30, 60, 80), 0.1, 2, set()),  # one sample does not stand for a small face
    ],
)
def test_face_with_one_sample_is_dropped_if_no_crop_shows_any(
    box: tuple[int, ...], score: float, frames: int, dropped: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Looks()
    monkeypatch.setattr(detector, "score", score)
    looks = second_look.SecondLook(detector, 0.3)
    frame: Any = SimpleNamespace(number=0, is_on_gpu=False, image=draw(0, SIZE))
    looks.take(frame, Detections([box], [0.4], image_size=SIZE))
    for number in range(frames):
        looks.add(faces_of(number, box, 0.4 if number == 0 else 0.2))
    assert looks.finish() == dropped


@pytest.mark.parametrize(
    ("likely", "highest", "dropped"), [(1, 0.65, {1}), (2, 0.65, set()), (1, 0.71, set()), (0, 0.6, {1})]
)
def test_face_is_doubtful_if_its_score_is_high_in_few_frames(likely: int, highest: float, dropped: set[int]) -> None:
    """A score above 0.6 in at least 6 % of the frames, or once above 0.7, makes a face sure."""
    box = PLACES[2]
    looks = second_look.SecondLook(Looks(), 0.3)
    for number in range(30):
        score = highest if number == 0 else 0.65 if number < likely else 0.4
        frame: Any = SimpleNamespace(number=number, is_on_gpu=False, image=draw(number, SIZE))
        looks.take(frame, Detections([box], [score], image_size=SIZE))
        looks.add(faces_of(number, box, score))
    assert looks.finish() == dropped


RECORDED = [
    json.loads(line) for line in (Path(__file__).parents[1] / "data" / "second_look.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("track", RECORDED, ids=lambda track: track["name"])
def test_recorded_crops_tell_faces_from_things(track: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of the crops of drawn clips and panned photographs, by 500m_bnkps."""
    blank = np.zeros((2, 2, 3), np.uint8)
    samples = [
        _doubtful.Sample(blank, (float(number), 0.0), 48.0, 0.0, length, score, bool(is_cut))
        for number, (score, length, is_cut, _) in enumerate(track["samples"])
    ]
    views = [view for stage in _doubtful.STAGES for view in stage]

    def scores(_: Any, looks: Any) -> Any:
        rows = [track["samples"][int(sample.middle[0])][3] for sample, _ in looks]
        return np.array([row[views.index(view)] for row, (_, view) in zip(rows, looks, strict=True)])

    monkeypatch.setattr(_doubtful, "_scores", scores)
    monkeypatch.setattr(_doubtful, "_is_sharp", lambda _: True)
    assert _doubtful.are_faces(None, [samples]).tolist() == [track["face"]]


class Lying(Looks):
    """A detector that finds faces only if their crop is turned by 90 degrees."""

    def detect_batch(self, images: Any, **how: Any) -> list[Detections]:
        before = self.images
        found = super().detect_batch(images, **how)
        return found if before else [faces[:0] for faces in found]


def test_faces_that_lie_are_kept(film: Path, tmp_path: Path) -> None:
    """They have the landmarks of upright faces, and are found only once they are turned."""
    assert set(detect_video(film, tmp_path / "a.jsonl", Lying()).dropped) == {2}


def test_samples_are_of_the_track_in_their_place() -> None:
    """Detections of the same score are common with engines of half precision."""
    looks = second_look.SecondLook(Looks(), 0.3)
    image = np.zeros((120, 160, 3), np.uint8)
    boxes = np.array(list(PLACES.values()), np.float32)
    frame: Any = SimpleNamespace(number=0, is_on_gpu=False, image=image)
    looks.take(frame, Detections(boxes[1:], [0.4], image_size=SIZE))
    looks.add(
        FrameFaces(
            0, 0.0, False, np.array([1, 2]), boxes.astype(float), np.array([0.4, 0.4]), None, np.full(2, "detected")
        )
    )
    assert {number: len(samples or ()) for number, samples in looks._tracks.items()} == {2: 1}
