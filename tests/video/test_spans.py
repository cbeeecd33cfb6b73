"""A span of time limits detection, and changes nothing in the faces within it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrfd_trt import Detections
from scrfd_trt.errors import DetectionsError, OptionError
from scrfd_trt.video import (
    EncodeOptions,
    FacesReader,
    FrameFaces,
    TrackingOptions,
    TrackSelection,
    VideoReader,
    detect_video,
    find_faces,
    overlay_video,
    render_video,
)

pytest.importorskip("av")

pytestmark = pytest.mark.slow
MakeClip = Callable[..., Path]
FRAMES = 500
SIZE = (64, 48)
FAST = EncodeOptions(preset="ultrafast")


def numbered(number: int, size: tuple[int, int]) -> Any:
    """A frame that shows its number in binary, without scene cuts but one."""
    image = np.full((size[1], size[0], 3), 120 if number < 260 else 30, np.uint8)
    for bit in range(10):
        image[:, bit * 6 : bit * 6 + 6] += np.uint8(40 * (number >> bit & 1))
    return image


class Walkers:
    """Detects three faces that move, with gaps and low scores; ``seen`` are the frames that it was given."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def stream(self, images: Iterable[Any], **_: Any) -> Iterator[Detections]:
        for image in images:
            row = image[10, 3:63:6, 0].astype(int)
            number = sum(int(value > (140 if row.min() > 80 else 50)) << bit for bit, value in enumerate(row))
            self.seen.append(number)
            faces = [(5 + number / 20, 5, 0.9), (40 - number / 20, 8, 0.2 if number // 7 % 3 else 0.8)]
            faces += [(20, 25 + number / 40, 0.6)] if number // 15 % 2 else []
            boxes = [(x, y, x + 9, y + 12) for x, y, _ in faces]
            yield Detections(np.array(boxes), [score for *_, score in faces], None, image_size=SIZE)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 seconds of 25 frames per second."""
    from conftest import write_clip

    path = tmp_path_factory.mktemp("long") / "long.mkv"
    return write_clip(path, frames=FRAMES, rate=Fraction(25), size=SIZE, draw=numbered, codec="ffv1")


def find(path: Path, **how: Any) -> tuple[list[FrameFaces], list[int]]:
    detector = Walkers()
    with VideoReader(path) as reader:
        return list(find_faces(reader, detector, **how)), detector.seen


def values(frame: FrameFaces) -> list[Any]:
    faces = [(face.box.tolist(), face.score, face.origin) for face in frame]
    return [frame.number, frame.pts_seconds, frame.cut, sorted(faces)]


@pytest.mark.parametrize(
    ("tracking", "spans"),
    [
        (TrackingOptions(), [(0.0, 1.0)]),
        (TrackingOptions(), [(11.0, 11.5)]),
        (TrackingOptions(every=3), [(3.0, 3.5), (18.0, 18.0)]),
        (TrackingOptions(bridge=0.2, extend=0.0, smooth=False), [(10.0, 10.4)]),
    ],
)
def test_faces_within_span_are_those_of_whole_video(
    tracking: TrackingOptions, spans: list[tuple[float, float]], long: Path
) -> None:
    whole, _ = find(long, tracking=tracking)
    some, seen = find(long, tracking=tracking, spans=spans)
    assert [frame.number for frame in some] == list(range(len(some)))
    for frame in whole:
        if any(start <= frame.pts_seconds <= end for start, end in spans):
            assert values(some[frame.number]) == values(frame)
            assert len(frame)
        elif frame.number < len(some):
            assert not len(some[frame.number])
    context = 9 * 25  # before a span, and half as much behind it
    wanted = [range(int(start * 25) - context, int(end * 25) + context // 2) for start, end in spans]
    assert all(any(number in part for part in wanted) for number in seen)
    assert len(some) <= max(end for _, end in spans) * 25 + context // 2 + 2


def test_span_costs_what_it_lasts(long: Path, tmp_path: Path) -> None:
    """Neither are frames detected in that are far away, nor is the rest of the video read in the first pass."""
    faces, detector = tmp_path / "a.faces.jsonl", Walkers()
    calls: list[tuple[int, int | None]] = []
    detect_video(long, faces, detector, spans=[(0.0, 1.0)], progress=lambda _, *now: calls.append(now))
    assert 26 <= len(detector.seen) < 125
    assert len(faces.read_text().splitlines()) < 130
    assert calls[0] == (1, 25)


def test_file_states_its_spans_and_covers_nothing_else(long: Path, tmp_path: Path) -> None:
    faces, out = tmp_path / "a.faces.jsonl", tmp_path / "out.mkv"
    summary = detect_video(long, faces, Walkers(), spans=[(2.0, 4.0), (1.0, 3.0)])
    assert summary.spans == ((1.0, 4.0),)
    with FacesReader(faces) as file:
        assert file.header.spans == ((1.0, 4.0),)
    for selection in (None, TrackSelection(only_spans=((3.0, 5.0),)), TrackSelection(except_spans=((0.0, 1.0),))):
        with pytest.raises(DetectionsError, match=r"detected only from 0:01\.00 to 0:04\.00; cover those") as caught:
            render_video(long, out, faces, draw, selection=selection)
        assert caught.value.fields == ("only_spans",)
        assert not out.exists()
    summary = render_video(long, out, faces, draw, selection=TrackSelection(only_spans=((1.5, 2.0), (3.0, 4.0))))
    assert (summary.frames, summary.spans) == (FRAMES, ((1.5, 2.0), (3.0, 4.0)))
    assert covered(out) == [*range(38, 51), *range(75, 101)]
    lines = faces.read_text().splitlines()
    faces.write_text("\n".join(lines[:60]))
    with pytest.raises(DetectionsError, match="has 59 frames, and the video has more"):
        render_video(long, tmp_path / "b.mkv", faces, draw, selection=TrackSelection(only_spans=((1.5, 2.0),)))


def draw(image: Any, faces: Detections) -> Any:
    drawn = image.copy()
    drawn[40:, :] = 255
    return drawn


def covered(path: Path) -> list[int]:
    with VideoReader(path) as reader:
        return [frame.number for frame in reader if frame.image[44:, :].min() > 200]


@pytest.mark.parametrize(
    ("selection", "wanted", "most"),
    [
        (TrackSelection(only_spans=((0.0, 1.0),)), range(26), 125),
        (TrackSelection(except_spans=((1.02, 19.0),)), [*range(26), *range(476, 500)], 330),
        (TrackSelection(only_spans=((0.0, 1.0),), except_spans=((0.0, 1.0),)), [], 0),
        (TrackSelection(only_spans=((0.0, 1.0),), only_regions=((0, 0, 64, 48),)), range(26), FRAMES),
    ],
)
def test_selection_limits_detection(
    selection: TrackSelection, wanted: Iterable[int], most: int, long: Path, tmp_path: Path
) -> None:
    """All of its frames decide whether a track is in a region."""
    detector = Walkers()
    summary = overlay_video(long, tmp_path / "out.mkv", detector, draw, selection=selection, encode=FAST)
    assert summary.frames == FRAMES
    assert covered(tmp_path / "out.mkv") == list(wanted)
    assert len(detector.seen) <= most


def test_open_ends_are_null_in_file(long: Path, tmp_path: Path) -> None:
    faces = tmp_path / "a.faces.jsonl"
    selection = TrackSelection(except_spans=((5.0, 18.0), (6.0, 19.0)))
    overlay_video(long, tmp_path / "out.mkv", Walkers(), draw, selection=selection, faces_file=faces)
    assert json.loads(faces.read_text().splitlines()[0])["spans"] == [[None, 5.0], [19.0, None]]
    with FacesReader(faces) as file:
        file.check_selection(selection)
    assert covered(tmp_path / "out.mkv") == [*range(125), *range(476, 500)]


@pytest.mark.parametrize(
    ("spans", "field"),
    [
        ({"only_spans": ((100.0, 200.0),)}, "only_spans"),
        ({"only_spans": ((0.0, 1.0), (100.0, 200.0))}, "only_spans"),
        ({"except_spans": ((100.0, 200.0),)}, "except_spans"),
    ],
)
def test_span_without_frame_is_refused(spans: dict[str, Any], field: str, long: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    with pytest.raises(
        OptionError, match=r"no frame lies from 1:40\.00 to 3:20\.00; the video lasts 0:20\.00"
    ) as caught:
        overlay_video(long, out, Walkers(), draw, selection=TrackSelection(**spans))
    assert caught.value.fields == (field,)
    assert not out.exists()


def test_spans_that_leave_nothing_give_warning(long: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    selection = TrackSelection(only_spans=((0.0, 1.0),), except_spans=((0.0, 1.0),))
    with caplog.at_level(logging.WARNING, "scrfd_trt"):
        overlay_video(long, tmp_path / "out.mkv", Walkers(), draw, selection=selection, encode=FAST)
    assert [record.message for record in caplog.records] == [
        f"{long}: the spans leave out every frame, so nothing is covered"
    ]


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_times_count_from_start_of_video(suffix: str, clip: MakeClip, tmp_path: Path, probed: Any) -> None:
    """Transport streams start after more than a second; players show this as 0."""
    source = clip(f"late{suffix}", frames=8, times=range(50, 58), rate=Fraction(25))
    late = probed(source).times[0]
    assert late > 1
    with VideoReader(source) as reader:
        frames = list(reader)
        assert [frame.pts_seconds for frame in frames] == pytest.approx([number / 25 for number in range(8)], abs=1e-3)
        assert float(frames[0].picture.pts * frames[0].picture.time_base) == late
    out = tmp_path / f"out{suffix}"
    selection = TrackSelection(only_spans=((0.0, 0.1),))
    summary = overlay_video(source, out, Walkers(), draw, selection=selection, faces_file=tmp_path / "a.faces.jsonl")
    assert covered(out) == [0, 1, 2]
    assert summary.tracks[1].first.pts_seconds == 0
    assert '"pts_seconds":0.04,' in (tmp_path / "a.faces.jsonl").read_text()
    assert probed(out).times == pytest.approx(probed(source).times if suffix == ".mkv" else probed(out).times)


@pytest.mark.parametrize("span", [(2.0, 1.0), (float("nan"), 1.0)])
def test_invalid_spans(span: tuple[float, float], long: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="only_spans"):
        TrackSelection(only_spans=(span,))
    with pytest.raises(OptionError, match="ends before it starts"):
        detect_video(long, tmp_path / "a.jsonl", Walkers(), spans=[span])
