"""Copies are searched again: faces that a detector missed are covered, and covers that do not hide are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import overlays
from scrfd_trt import Detections
from scrfd_trt.errors import OutputError
from scrfd_trt.video import EncodeOptions, FacesReader, FrameFaces, TrackSelection, VideoReader, detect_video
from scrfd_trt.video._copy_search import MAX_ROUNDS, NO_FACES, CopySearcher, FoundFace, Known, _collect, render_verified

pytest.importorskip("av")
pytestmark = pytest.mark.slow

Image = NDArray[np.uint8]
SIZE = (160, 96)
FACES = ((10, 20, 30, 50), (64, 30, 84, 60), (120, 10, 140, 40))
FRAMES = 12
QUIET: Callable[..., None] = lambda *_: None  # noqa: E731


class Whites:
    """Detects the faces of ``FACES`` that are white at their places, or mirrored; misses what ``hidden`` says."""

    def __init__(self, hidden: Callable[[int, int], bool] = lambda *_: False, score: float = 0.9) -> None:
        self.hidden, self.score, self.seen = hidden, score, 0

    def stream(self, images: Iterable[Image], **_: Any) -> Iterator[Detections]:
        for number, image in enumerate(images):
            self.seen += 1
            boxes = [
                box
                for index, face in enumerate(FACES)
                for box in (face, (SIZE[0] - face[2], face[1], SIZE[0] - face[0], face[3]))
                if np.mean(image[box[1] : box[3], box[0] : box[2]]) > 160 and not self.hidden(number, index)
            ]
            yield Detections(
                np.array(boxes).reshape(-1, 4), [self.score] * len(boxes), np.zeros((len(boxes), 5, 2)), image_size=SIZE
            )


def street(*_: Any) -> Image:
    image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    for x1, y1, x2, y2 in FACES:
        image[y1:y2, x1:x2] = 255
    return image


@pytest.fixture
def film(clip: Callable[..., Path]) -> Path:
    return clip("street.mkv", frames=FRAMES, rate=Fraction(12), size=SIZE, codec="ffv1", draw=street)


def whiteness(path: Path) -> NDArray[np.float64]:
    """Return the mean level ``(frames, faces)`` of each face of :data:`FACES`."""
    with VideoReader(path) as reader:
        return np.array([[frame.image[y1:y2, x1:x2].mean() for x1, y1, x2, y2 in FACES] for frame in reader])


def verify(film: Path, first: Whites, second: Whites, output: Path, **how: Any) -> Any:
    faces = output.with_suffix(".faces.jsonl")
    detect_video(film, faces, first, overwrite=True)
    how = {"overlay": overlays.create("solid"), "selection": TrackSelection(), **how}
    encode = EncodeOptions(preset="ultrafast")
    return render_verified(film, output, faces, how.pop("overlay"), second, progress=QUIET, encode=encode, **how)


def test_faces_that_the_detector_missed_are_covered_from_the_source(film: Path, tmp_path: Path) -> None:
    # One face is missed throughout, one in the first half, longer than gaps are filled.
    misses = Whites(lambda number, face: face == 1 or (face == 2 and number < 6))
    detector = Whites()
    summary = verify(film, misses, detector, tmp_path / "a.mkv")
    assert [len(one.of_kind("uncovered")) for one in summary.searches] == [2, 0]
    assert all(one.seconds > 0 for one in summary.searches)
    assert detector.seen == 1 * 2 + 2 * 2 * FRAMES  # each frame and its mirror image, in two searches
    shown = whiteness(tmp_path / "a.mkv")
    assert shown.max() < 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.faces.jsonl", "a.mkv", "street.mkv"]
    with FacesReader(tmp_path / "a.faces.jsonl") as file:
        assert [sorted(frame.track_ids.tolist()) for frame in file][::11] == [[1, 3, 4], [1, 2, 3]]


def test_rounds_end_and_what_is_left_is_told(film: Path, tmp_path: Path) -> None:
    class Stubborn(Whites):
        """Finds a face at another place in each search."""

        def stream(self, images: Iterable[Image], **how: Any) -> Iterator[Detections]:
            for found in super().stream(images, **how):
                x = 2 + 30 * ((self.seen - 3) // (2 * FRAMES))
                boxes = [(x, 70, x + 15, 90)] if self.seen % 2 and self.seen > 2 else []
                yield Detections(np.array(boxes).reshape(-1, 4), [0.6] * len(boxes), None, image_size=found.image_size)

    summary = verify(film, Whites(), Stubborn(), tmp_path / "a.mkv")
    assert len(summary.searches) == 1 + MAX_ROUNDS
    (left,) = summary.searches[-1].of_kind("uncovered")
    assert (left.score, left.start, round(left.end, 2)) == (pytest.approx(0.6), 0.0, 0.92)
    assert (tmp_path / "a.mkv").exists()


def test_faces_left_visible_on_purpose_stay_so(film: Path, tmp_path: Path) -> None:
    for selection in ({"except_tracks": {1}}, {"only_regions": [(60, 0, 100, 96)]}):
        chosen = TrackSelection(**selection)
        summary = verify(film, Whites(), Whites(), tmp_path / "a.mkv", selection=chosen, overwrite=True)
        assert [one.faces for one in summary.searches] == [[]]
        assert whiteness(tmp_path / "a.mkv")[:, 0].min() > 200
    assert TrackSelection(except_regions=((0, 0, 40, 96),)).wants_new(np.array(FACES)).tolist() == [False, True, True]
    assert not TrackSelection(only_tracks={1}).wants_new(np.array(FACES)).any()
    spans = TrackSelection(only_spans=((0.0, 0.2),))
    summary = verify(film, Whites(lambda _, face: face == 0), Whites(), tmp_path / "b.mkv", selection=spans)
    assert [len(one.of_kind("uncovered")) for one in summary.searches] == [1, 0]
    assert (whiteness(tmp_path / "b.mkv") < 60).all(axis=1).tolist() == [True] * 3 + [False] * (FRAMES - 3)


def test_weak_cover_is_named_and_doubtful_place_listed(film: Path, tmp_path: Path) -> None:
    def pale(image: Image, faces: Detections, **_: Any) -> Image:
        """Cover a face with the same light grey, unless it is covered several times."""
        image = image.copy()
        for x1, y1, x2, y2 in np.clip(faces.boxes, 0, 999).astype(int):
            image[y1:y2, x1:x2] = (image[y1:y2, x1:x2] * 0.75).astype(np.uint8)
        return image

    summary = verify(film, Whites(), Whites(score=0.5), tmp_path / "a.mkv", overlay=pale)
    weak = [one.of_kind("weak") for one in summary.searches]
    assert [len(one) for one in weak] == [3, 0]
    assert sorted((one.track, round(one.score, 2)) for one in weak[0]) == [(1, 0.5), (2, 0.5), (3, 0.5)]
    # Faces that only the search finds get stronger covers, too.
    summary = verify(film, Whites(lambda *_: True), Whites(score=0.5), tmp_path / "c.mkv", overlay=pale)
    assert [(len(one.of_kind("uncovered")), len(one.of_kind("weak"))) for one in summary.searches] == [
        (3, 0), (0, 3), (0, 0),
    ]  # fmt: skip
    faint = verify(film, Whites(lambda _, face: face == 1), Whites(score=0.25), tmp_path / "b.mkv")
    (doubtful,) = faint.searches[0].of_kind("doubtful")
    assert np.abs(np.array(doubtful.box) - FACES[1]).max() < 3


def test_overlay_that_draws_faces_is_told(film: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Everywhere(Whites):
        """Finds a face on whatever the overlay drew."""

        def stream(self, images: Iterable[Image], **_: Any) -> Iterator[Detections]:
            for image in images:
                places = [face for face in FACES if np.mean(image[face[1] : face[3], face[0] : face[2]]) < 50]
                size = (image.shape[1], image.shape[0])
                yield Detections(np.array(places).reshape(-1, 4), [0.9] * len(places), None, image_size=size)

    def black(image: Image, faces: Detections, **_: Any) -> Image:
        return np.zeros_like(image) if len(faces) else image

    summary = verify(film, Whites(), Everywhere(), tmp_path / "a.mkv", overlay=black)
    assert "the overlay draws faces" in caplog.text
    assert [one.faces for one in summary.searches] == [[]]


def test_copy_that_cannot_be_searched_is_not_written(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any, **__: Any) -> None:
        from scrfd_trt.errors import VideoError

        raise VideoError("frame 3 is damaged", subject="a part")

    monkeypatch.setattr("scrfd_trt.video._copy_search.open_source", unreadable)
    with pytest.raises(OutputError, match=r"a\.mkv cannot be verified: frame 3 is damaged"):
        verify(film, Whites(), Whites(), tmp_path / "a.mkv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.faces.jsonl", "street.mkv"]


def test_copy_of_image_is_searched() -> None:
    searcher = CopySearcher(Whites(), overlays.create("solid"), TrackSelection())
    image = street()
    image[20:50, 10:30] = 0
    # The first face is covered; the second stays visible although a cover lies on more than half of it.
    covers = np.array([FACES[0], (60, 30, 80, 60)])
    known = FrameFaces.of(Detections([FACES[0], FACES[1]], [0.9, 0.9], None, image_size=SIZE))
    covered = FrameFaces.of(Detections(covers, [0.9, 0.9], None, image_size=SIZE))
    search, more = searcher.search_image(image, Known(known, NO_FACES, covered))
    assert [one.kind for one in search.faces] == ["uncovered"]
    assert (more.boxes.tolist(), more.track_ids.tolist()) == ([list(FACES[2])], [3])


@pytest.mark.parametrize(("score", "found"), [(0.5, 0), (0.7, 1)])
def test_dropped_track_needs_a_higher_score_to_be_covered(score: float, found: int) -> None:
    searcher = CopySearcher(Whites(score=score), overlays.create("solid"), TrackSelection())
    image = street()
    image[:, 60:] = 0
    dropped = FrameFaces.of(Detections([FACES[0]], [0.5], None, image_size=SIZE))
    search, _ = searcher.search_image(image, Known(NO_FACES, dropped, NO_FACES))
    assert len(search.of_kind("uncovered")) == found


@pytest.mark.parametrize(("score", "of_cover", "is_covered"), [(0.49, 0.4, False), (0.5, 0.4, True), (0.4, 0.9, True)])
def test_large_places_with_low_scores_are_not_covered(score: float, of_cover: float, is_covered: bool) -> None:
    """Blurred bushes look like faces that fill a third of the picture."""
    large = Detections([(30, 0, 90, 90)], [score], None, image_size=SIZE)
    cover = FrameFaces.of(Detections([(30, 0, 90, 90)], [of_cover], None, image_size=SIZE))
    for covered, kind in ((NO_FACES, "uncovered"), (cover, "weak")):
        search, to_cover = _collect([(FrameFaces.of(large), Known(NO_FACES, NO_FACES, covered))], SIZE)
        is_new = covered is NO_FACES
        assert bool(to_cover) is (is_covered and (score >= 0.5 or not is_new))
        assert [face.kind for face in search.faces] == [kind if to_cover or not is_new else "doubtful"]


def test_place_of_a_face_that_moves_holds_its_whole_way() -> None:
    first = FoundFace(0.4, (10, 10, 20, 20), 1.0, 1.0, 1.0)
    later = FoundFace(0.5, (40, 5, 50, 15), 2.0, 2.0, 2.0)
    assert first.joined(later) == FoundFace(0.5, (10, 5, 50, 20), 2.0, 1.0, 2.0)
