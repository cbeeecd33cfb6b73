"""Places that are covered by hand, and tracks that are no faces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import overlays
from scrfd_trt import Detections
from scrfd_trt._cli.video_report import report_lines
from scrfd_trt.errors import ClosedError, DetectionsError, OptionError
from scrfd_trt.video import (
    Cover,
    FacesReader,
    FacesWriter,
    FrameFaces,
    Summary,
    TrackSelection,
    VideoReader,
    VideoWriter,
    detect_video,
    find_faces,
    overlay_video,
    render_video,
)
from scrfd_trt.video._detections_file import write_faces
from scrfd_trt.video._selection import check_covers

pytest.importorskip("av")
pytestmark = pytest.mark.slow

MakeClip = Callable[..., Path]
MOVING = Cover(boxes=((0, 0, 10, 10), (0, 0, 10, 10), (40, 20, 60, 40)), pts_seconds=(0.04, 0.08, 0.16))
STILL = Cover(boxes=((50, 2, 60, 12),))


class OneFace:
    """Detects one face at the same place of all images."""

    def stream(self, images: Any, **_: Any) -> Iterator[Detections]:
        for _ in images:
            yield Detections([(44.0, 30.0, 60.0, 46.0)], [0.9], None, image_size=(64, 48))


@pytest.fixture
def grey(clip: MakeClip) -> Path:
    return clip(
        "grey.mkv",
        frames=6,
        rate=Fraction(25),
        size=(64, 48),
        codec="ffv1",
        draw=lambda *_: np.full((48, 64, 3), 128, np.uint8),
    )


def black_boxes(path: Path) -> list[list[list[int]]]:
    """Return the borders of what is black, by frame and region of connected pixels."""
    cv2 = pytest.importorskip("cv2")
    found = []
    with VideoReader(path) as reader:
        for frame in reader:
            count, _, stats, _ = cv2.connectedComponentsWithStats((frame.image[..., 0] < 30).astype(np.uint8))
            found.append(sorted([[int(x), int(y), int(x + w), int(y + h)] for x, y, w, h, _ in stats[1:count]]))
    return found


def test_cover_moves_between_its_times() -> None:
    boxes = [MOVING.box_at(seconds) for seconds in (0.02, 0.031, 0.06, 0.12, 0.16, 0.169, 0.2)]
    assert [None if box is None else box.round(6).tolist() for box in boxes] == [
        None, [0, 0, 10, 10], [0, 0, 10, 10], [20, 10, 35, 25], [40, 20, 60, 40], [40, 20, 60, 40], None,
    ]  # fmt: skip
    assert np.array_equal(STILL.box_at(1e6), (50, 2, 60, 12))  # type: ignore[arg-type]
    check_covers([Cover(boxes=((-80, 10, -20, 70), (500, 10, 560, 70)), pts_seconds=(0, 1))], (480, 270))  # crosses it


@pytest.mark.parametrize(
    ("boxes", "times", "why"),
    [
        ([], [], "at least 1"),
        ([(0, 0, 0.5, 9)], [], "one pixel wide"),
        ([(9, 9, 0, 0)], [], "one pixel wide"),
        ([(0, 0, 9, 9)], [1], "one box without times"),
        ([(0, 0, 9, 9)] * 2, [], "one box without times"),
        ([(0, 0, 9, 9)] * 2, [2, 1], "must increase"),
        ([(0, 0, 9, float("nan"))], [], "finite"),
    ],
)
def test_invalid_cover(boxes: Any, times: Any, why: str) -> None:
    with pytest.raises(OptionError, match=why):
        Cover(boxes=boxes, pts_seconds=times)


def test_video_is_covered_by_hand_and_file_keeps_it(grey: Path, tmp_path: Path) -> None:
    draw = overlays.create("solid", shape="rectangle", margin=0.05)
    selection = TrackSelection(covers=(MOVING, STILL), except_tracks=frozenset({1}))
    faces = tmp_path / "grey.faces.jsonl"
    summary = overlay_video(grey, tmp_path / "a.mkv", OneFace(), draw, selection=selection, faces_file=faces)
    assert (summary.by_hand, summary.left_out, summary.faces) == (2, {1}, 6 + 4)
    assert not summary.moments_to_review()
    (tmp_path / "a.mkv").unlink()
    # The covers of the file and the same ones of the selection are covered once.
    again = render_video(grey, tmp_path / "a.mkv", faces, draw, selection=selection)
    assert again.faces == 10
    shown = black_boxes(tmp_path / "a.mkv")
    assert [len(boxes) for boxes in shown] == [1, 2, 2, 2, 2, 1]
    assert all(any(np.abs(np.array(box) - [49, 1, 61, 13]).max() <= 1 for box in boxes) for boxes in shown)
    with FacesReader(faces) as file:
        assert file.header.covers == (MOVING, STILL)
        kinds = [sorted(frame.origins.tolist()) for frame in file]
    assert kinds[2] == ["by hand", "by hand", "detected"]


def test_file_states_tracks_that_stay_visible(grey: Path, tmp_path: Path) -> None:
    faces, edited = tmp_path / "faces.jsonl", tmp_path / "edited.jsonl"
    seen: list[int] = []
    detect_video(grey, faces, OneFace(), watch=lambda frame: seen.append(frame.number))
    assert seen == list(range(6))
    with FacesReader(faces) as file:
        write_faces(edited, file.header.model_copy(update={"visible": (1,), "covers": (STILL,)}), file)
    assert edited.read_text().split("\n", 1)[1] == faces.read_text().split("\n", 1)[1]
    summary = render_video(grey, tmp_path / "out.mkv", edited, overlays.create("solid"))
    assert (summary.left_out, summary.by_hand, len(summary.tracks)) == ({1}, 1, 1)
    chosen = TrackSelection(only_tracks={1})
    assert not render_video(grey, tmp_path / "all.mkv", edited, overlays.create("solid"), selection=chosen).left_out, (
        "who names a track wants it covered"
    )


def test_dropped_track_is_neither_covered_nor_counted(grey: Path, tmp_path: Path) -> None:
    faces, output = tmp_path / "grey.faces.jsonl", tmp_path / "a.mkv"
    detect_video(grey, faces, OneFace())
    summary = render_video(
        grey, output, faces, overlays.create("solid"), selection=TrackSelection(drop_tracks=frozenset({1}))
    )
    assert (summary.faces, summary.tracks, summary.left_out, black_boxes(output)) == (0, {}, set(), [[]] * 6)
    assert list(summary.no_faces) == [1]
    (line,) = report_lines(summary)
    assert re.fullmatch(r"dropped and not covered, as requested: track 1 \(score 0\.\d\d\)", line)


def test_cover_that_ends_after_the_video_gives_one_warning(
    grey: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    late = TrackSelection(covers=(Cover(boxes=[(0, 0, 9, 9)] * 2, pts_seconds=(0, 9)), STILL, MOVING))
    overlay_video(grey, tmp_path / "a.mkv", OneFace(), overlays.create("solid"), selection=late)
    (message,) = caplog.messages
    assert "a cover by hand ends at 0:09.00, and the video at 0:00.24; check its times" in message


def test_span_and_cover_beside_it(grey: Path, tmp_path: Path) -> None:
    selection = TrackSelection(covers=(MOVING,), only_spans=((0.0, 0.01),))
    assert selection.detected_spans == ((0.0, 0.01), (0.04, 0.16))
    overlay_video(grey, tmp_path / "a.mkv", OneFace(), overlays.create("solid"), selection=selection)
    assert [len(boxes) for boxes in black_boxes(tmp_path / "a.mkv")] == [1, 1, 1, 1, 1, 0]


def test_cover_that_hides_nothing_is_refused(grey: Path, tmp_path: Path) -> None:
    faces = tmp_path / "grey.faces.jsonl"
    detect_video(grey, faces, OneFace(), spans=[(0.0, 0.08)])
    outside, late = Cover(boxes=((64, 0, 70, 9),)), MOVING.model_copy(update={"pts_seconds": (3.0, 4.0, 5.0)})

    def render(*covers: Cover) -> None:
        selection = TrackSelection(covers=covers, only_spans=((0.0, 0.08),))
        render_video(grey, tmp_path / "a.mkv", faces, overlays.create("solid"), selection=selection)

    with pytest.raises(DetectionsError, match=r"detected only from 0:00\.00 to 0:00\.08"):
        render(late)
    detect_video(grey, faces, OneFace(), overwrite=True)
    with pytest.raises(OptionError, match=r"no frame lies from 0:03\.00 to 0:05\.00; the video lasts 0:00\.24"):
        render(late)
    with pytest.raises(OptionError, match="the cover 64,0,6,9 lies outside of the picture of 64×48 pixels"):
        render(outside)
    with pytest.raises(OptionError, match="lies outside of the picture"):
        detect_video(grey, faces, OneFace(), covers=[outside], overwrite=True)
    header, rest = faces.read_text().split("\n", 1)
    for boxes, why in (([[64, 0, 70, 9]], "lies outside of the picture"), ([[0, 0, 0, 9]], "one pixel wide")):
        faces.write_text(json.dumps(json.loads(header) | {"covers": [{"boxes": boxes}]}) + "\n" + rest)
        with pytest.raises(DetectionsError, match=rf"line 1, covers: .*{why}"):
            FacesReader(faces)
    assert not (tmp_path / "a.mkv").exists()


@pytest.mark.parametrize("points", [None, np.zeros((1, 5, 2), np.float32)])
def test_image_is_covered_by_hand(points: Any) -> None:
    faces = Detections([(1, 2, 3, 4)], [0.5], points, image_size=(64, 48), track_ids=[7])
    selection = TrackSelection(covers=(STILL, MOVING), drop_tracks=frozenset({7}))
    covered = selection.select(faces)
    assert (covered.boxes.tolist(), covered.scores.tolist()) == ([[50, 2, 60, 12]], [1])
    assert (covered.landmarks is None) == (points is None)
    assert [len(TrackSelection().select(faces)), len(selection.with_covers(faces))] == [1, 2]


def test_faces_with_and_without_landmarks_are_joined() -> None:
    bare = FrameFaces(0, 0.0, False, np.array([1]), np.zeros((1, 4)), np.ones(1), None, np.array(["detected"], "U12"))
    assert FrameFaces(0, 0.0).joined(bare).landmarks is None
    assert bare.joined(FrameFaces(0, 0.0)) is bare
    with_points = FrameFaces(
        0, 0.0, False, np.array([2]), np.zeros((1, 4)), np.ones(1), np.ones((1, 5, 2)), np.array(["by hand"], "U12")
    )
    both = bare.joined(with_points)
    assert both.landmarks is not None
    assert np.isnan(both.landmarks).any(axis=(1, 2)).tolist() == [True, False]
    summary = Summary((64, 48), 0.5)
    summary.add(both)
    assert (len(summary.tracks), summary.by_hand) == (2, 1)


def test_a_video_is_never_replaced_by_what_is_made_of_it(grey: Path, tmp_path: Path) -> None:
    before, faces, link = grey.read_bytes(), tmp_path / "a.faces.jsonl", tmp_path / "link.mkv"
    detect_video(grey, faces, OneFace())
    link.hardlink_to(grey)
    blur = overlays.create("blur")
    how: dict[str, Any] = {"overwrite": True}
    with VideoReader(grey) as reader:
        for call in (
            lambda: overlay_video(grey, link, OneFace(), blur, **how),
            lambda: overlay_video(grey, grey, OneFace(), blur, **how),
            lambda: render_video(grey, grey, faces, blur, **how),
            lambda: detect_video(grey, grey, OneFace(), **how),
            lambda: FacesWriter(grey, reader.info, **how),
            lambda: VideoWriter(grey, reader, **how),
            lambda: render_video(grey, faces, faces, blur, **how),
        ):
            with pytest.raises(OptionError, match=r" is the (input|detections file); name another file$"):
                call()
    assert grey.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.faces.jsonl", "grey.mkv", "link.mkv"]


@pytest.mark.parametrize("option", ["only_tracks", "except_tracks", "drop_tracks"])
def test_a_selected_track_that_does_not_exist_is_an_error(grey: Path, tmp_path: Path, option: str) -> None:
    faces, out = tmp_path / "a.faces.jsonl", tmp_path / "out.mkv"
    selection = TrackSelection(**{option: {1, 99}})
    with pytest.raises(OptionError, match=r"grey\.mkv: there is no track 99; the tracks are: 1$"):
        overlay_video(grey, out, OneFace(), overlays.create("blur"), selection=selection, faces_file=faces)
    with pytest.raises(OptionError, match=r"faces\.jsonl: there is no track 99; the tracks are: 1$"):
        render_video(grey, out, faces, overlays.create("blur"), selection=selection)
    assert not out.exists()


def test_a_reader_that_was_read_refuses_to_be_read_again(grey: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VideoReader(grey) as reader:
        assert len(list(find_faces(reader, OneFace(), spans=[(5, 9)]))) == 6
        assert "no frame lies from 0:05.00 to 0:09.00, so no face is detected" in caplog.text
        with pytest.raises(ClosedError, match=r"has been read to its end; open it again"):
            list(find_faces(reader, OneFace()))
