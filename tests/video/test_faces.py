"""Detections files, track selections and summaries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrfd_trt import Detections
from scrfd_trt.errors import ClosedError, DetectionsError, OptionError
from scrfd_trt.video import (
    Face,
    FacesReader,
    FacesWriter,
    FrameFaces,
    Summary,
    TrackingOptions,
    TrackSelection,
    VideoInfo,
    find_faces,
)

INFO = VideoInfo(
    "some/folder/clip.mp4", (64, 48), Fraction(25), Fraction(1, 25), 10, 0.4, "yuv420p", 8, (1, 1, 1, 1), None, "h264"
)


def face(track: int = 1, x: float = 10, score: float = 0.9, origin: str = "detected") -> Face:
    points = np.full((5, 2), x) if origin == "detected" else None
    return Face(track, np.array([x, 10.0, x + 20, 30.0]), score, points, origin)  # type: ignore[arg-type]


def columns(number: int, pts_seconds: float, cut: bool, faces: list[Face]) -> FrameFaces:
    points = [np.full((5, 2), np.nan) if one.landmarks is None else one.landmarks for one in faces]
    return FrameFaces(
        number,
        pts_seconds,
        cut,
        np.array([one.track for one in faces], np.int64),
        np.array([one.box for one in faces]).reshape(-1, 4),
        np.array([one.score for one in faces]),
        np.array(points).reshape(-1, 5, 2),
        np.array([one.origin for one in faces], "U12"),
    )


def frames(count: int = 4) -> list[FrameFaces]:
    return [columns(n, n / 25, n == 2, [face(1, 10 + n), face(2, 30, 0.4, "interpolated")]) for n in range(count)]


def test_frames_and_summaries_are_described_in_short() -> None:
    summary = Summary((64, 48), 0.5)
    assert repr(summary) == "<Summary: 0 frames, 0 tracks, 0 faces>"
    summary.add(frames()[0][:1])
    assert repr(summary) == "<Summary: 1 frame, 1 track, 1 face>"
    assert list(map(repr, [frames()[0][:1], frames()[2]])) == [
        "<FrameFaces 0 at 0.000 s: 1 face>", "<FrameFaces 2 at 0.080 s, cut: 2 faces>",
    ]  # fmt: skip


def test_summary_as_table_has_a_row_for_each_track() -> None:
    pytest.importorskip("pandas")
    summary = Summary((64, 48), 0.5)
    assert summary.to_pandas().empty
    for n in range(4):
        faces = [face(1, 10 + n, score=0.6 + n / 10)] + [face(2, 30)] * (n == 2)
        summary.add(columns(n, n / 10, False, faces))
    expected = {
        "track_id": [1, 2],
        "first_frame": [0, 2],
        "last_frame": [3, 2],
        "start": [0.0, 0.2],
        "end": [0.3, 0.2],
        "frames": [4, 1],
        "best_frame": [3, 2],
    }
    table = summary.to_pandas()
    assert table.drop(columns="best_score").to_dict("list") == expected
    assert table["best_score"].tolist() == pytest.approx([0.9, 0.9])


def test_path_is_no_reader() -> None:
    with pytest.raises(OptionError, match=r"^reader must be an open reader, .*, not 'a\.avi'$"):
        next(find_faces("a.avi", None))  # type: ignore[arg-type]


def write(path: Path, what: list[FrameFaces]) -> Path:
    with FacesWriter(path, INFO, TrackingOptions(every=2)) as file:
        for frame in what:
            file.write(frame)
    return path


def test_faces_file_round_trip(tmp_path: Path) -> None:
    with FacesReader(write(tmp_path / "clip.faces.jsonl", frames())) as file:
        assert (file.header.video, file.header.size, file.header.rate) == ("clip.mp4", (64, 48), 25.0)
        assert TrackingOptions.model_validate(file.header.tracking).every == 2
        for _ in range(2):
            again = list(file)
            assert [(f.number, f.pts_seconds, f.cut) for f in again] == [
                (f.number, f.pts_seconds, f.cut) for f in frames()
            ]
            for one, other in zip(again[3], frames()[3], strict=True):
                assert (one.track, one.score, one.origin) == (other.track, other.score, other.origin)
                np.testing.assert_array_equal(one.box, other.box)
            assert again[3][1].landmarks is None


def test_faces_are_written_as_the_json_of_their_rounded_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    low = np.concatenate([rng.normal(0, [[1], [50], [3000]], (3, 2)), [[-9.9e6, 0.004], [-0.004, 0.125], [0.0, 1.105]]])
    points = rng.normal(100, 200, (6, 5, 2))
    points[2] = np.nan
    ids, scores = np.array([0, 7, 19, 2**62, 1234, 3]), np.array([0.0, 1.0, 0.5, 0.00005, 0.12345, 2 / 3], np.float32)
    origins = np.array(["detected", "interpolated", "extended"] * 2)
    faces = FrameFaces(0, 0.04, True, ids, np.concatenate([low, low + 0.3], 1), scores.astype(float), points, origins)
    few = replace(faces, number=1, cut=False, landmarks=None)
    lines = write(tmp_path / "a.jsonl", [faces, few, FrameFaces(2, 0.12)]).read_text().splitlines()[1:]
    for frame, line in zip((faces, few), lines, strict=False):
        rows = [
            {
                "track": face.track,
                "box": np.round(face.box, 2).tolist(),
                "score": round(face.score, 4),
                "landmarks": None if face.landmarks is None else np.round(face.landmarks, 2).tolist(),
                "from": face.origin,
            }
            for face in frame
        ]
        start = {"frame": frame.number, "pts_seconds": 0.04} | ({"cut": True} if frame.cut else {})
        assert line == json.dumps(start | {"faces": rows}, separators=(",", ":"))
    assert lines[2] == '{"frame":2,"pts_seconds":0.12,"faces":[]}'


def test_error_leaves_no_file(tmp_path: Path) -> None:
    def stops(number: int) -> FrameFaces:
        return frames()[number] if number < 2 else pytest.fail("over")

    with pytest.raises(pytest.fail.Exception), FacesWriter(tmp_path / "a.jsonl", INFO) as file:
        any(file.write(stops(number)) for number in range(5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_full_disk_is_reported(tmp_path: Path) -> None:
    """A limit on file sizes replaces the full disk; a short file fails only when it is closed."""
    program = """
        import resource, signal, sys
        from test_faces import INFO, frames
        from scrfd_trt.errors import OutputError
        from scrfd_trt.video import FacesWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            with FacesWriter(sys.argv[1], INFO) as file:
                for frame in frames(int(sys.argv[2])):
                    file.write(frame)
        except OutputError as error:
            print(error)
    """
    for count in ("2", "400"):
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "a.jsonl"), count],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == f"cannot write {tmp_path / 'a.jsonl'}: File too large\n"
        assert list(tmp_path.iterdir()) == []


def test_existing_file_needs_overwrite(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", frames(1))
    with pytest.raises(OptionError, match="already exists"):
        FacesWriter(path, INFO)
    with FacesWriter(path, INFO, overwrite=True):
        pass
    with FacesReader(path) as file:
        assert list(file) == []


HEAD = '{"format":"scrfd_trt.faces","version":1,"video":"a","size":[1,1],"rate":1,"tracking":{},"later":1}'


def test_unknown_header_fields_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(HEAD.replace("{}", '{"threshold":0.4,"patience":7}') + "\n")
    with FacesReader(path) as file:
        assert TrackingOptions.model_validate(file.header.tracking) == TrackingOptions(threshold=0.4)
        assert file.header.fingerprint is None


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (0, "{}", "line 1, format: this is not a detections file|line 1, video: this is not a"),
        (0, "hello", "line 1: this is not a detections file"),
        (0, '{"format":"scrfd_trt.faces","version":2,"video":"a","size":[1,1],"rate":1}', "line 1, version"),
        (
            0,
            HEAD.replace("{}", '{"threshold":3}'),
            "line 1, tracking: threshold: must be at most",
        ),
        (
            0,
            HEAD.replace("{}", '{"every":"x"}'),
            "line 1, tracking: every: must be a whole number",
        ),
        (0, HEAD.replace("{}", "7"), "line 1, tracking: Input should be an object"),
        (2, "not json", "line 3: Invalid JSON"),
        (2, '{"frame":5,"pts_seconds":0.1,"faces":[]}', "line 3: expected frame 1, not 5"),
        (
            2,
            '{"frame":1,"pts_seconds":0.1,"faces":[{"track":1,"box":[1,2,3],"score":0.5}]}',
            "line 3, face 1, box: must be four numbers",
        ),
        (
            2,
            '{"frame":1,"pts_seconds":0.1,"faces":[{"track":1,"box":[1,2,3,4],"score":5}]}',
            "line 3, face 1, score: must be at most 1",
        ),
    ],
)
def test_error_in_file_names_line_and_field(tmp_path: Path, line: int, text: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", frames())
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines))
    with pytest.raises(DetectionsError, match=message), FacesReader(path) as file:
        list(file)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n", "\r\n \t\r\n\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
def test_blank_lines_and_ends_of_lines_change_nothing(start: str, ends: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", frames())
    path.write_bytes((start + ends.join([*path.read_text().splitlines(), ""])).encode())
    with FacesReader(path) as file:
        assert [(frame.number, frame.pts_seconds) for frame in file] == [(n, n / 25) for n in range(4)]


def test_error_after_blank_lines_names_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", frames())
    head, first, *_ = path.read_text().splitlines()
    path.write_text(f"\n{head}\n\n{first}\n\n\n{first}\n")
    with pytest.raises(DetectionsError, match="line 7: expected frame 1, not 0"), FacesReader(path) as file:
        list(file)


FRAME = '{"frame":0,"pts_seconds":0,"faces":[{"track":1,"box":[1,2,3,4],"score":0.5}]}'


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('"pts_seconds":0', '"pts_seconds":1e308', "pts_seconds: must be at most"),
        ('"pts_seconds":0', '"pts_seconds":NaN', "pts_seconds"),
        ('"pts_seconds":0', '"pts_seconds":-Infinity', "pts_seconds"),
        ('"track":1', f'"track":{1 << 63}', r"face 1, track: must be below"),
        ('"track":1', f'"track":{"9" * 400}', r"face 1, track"),
        ('"track":1', f'"track":{"9" * 5000}', ""),
        ('"track":1', '"track":-1', r"face 1, track: must be at least 0"),
        ('"frame":0', f'"frame":{"9" * 30}', "expected frame 0, not 9"),
        ("[1,2,3,4]", "[1,2,1e300,4]", r"face 1, box: must be at most"),
        ("[1,2,3,4]", "[3,2,1,4]", r"face 1, box: must be x1, y1, x2, y2"),
        ("[1,2,3,4]", "[1,2,NaN,4]", r"face 1, box"),
        ('"score":0.5', '"score":NaN', r"face 1, score"),
        ('"score":0.5', f'"score":0.5,"later":{"[" * 100_000}{"]" * 100_000}', "Invalid JSON: recursion"),
        ('"score":0.5', '"score":0.5,"from":"\udce9"', ""),
    ],
)
def test_value_out_of_range_names_line(old: str, new: str, where: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert old in FRAME
    path.write_text(f"{HEAD}\n{FRAME.replace(old, new)}\n", "utf-8", "surrogateescape")
    with pytest.raises(DetectionsError, match=rf"line 2.*{where}") as caught, FacesReader(path) as file:
        list(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("box", "more", "why"),
    [
        ("[0.1,0.1,0.3,0.4]", "", "is smaller than 1 pixel; boxes are in pixels of the image, not in fractions"),
        ("[0.1,0.1,0.3,0.4]", ',"from":"detected"', "is smaller than 1 pixel; boxes are in pixels"),
        ("[50,50,60,60]", "", r"lies outside of the image of 40×30 pixels"),
        ("[50,50,60,60]", ',"from":"detected"', ""),
        ("[-30,-30,-3,-3]", ',"from":"detected"', ""),
        ("[50,50,60,60]", ',"from":"extended"', ""),
        ("[35,25,60,60]", "", ""),
    ],
)
def test_box_that_covers_nothing_is_refused_if_made_by_hand(box: str, more: str, why: str, tmp_path: Path) -> None:
    """Trackers place boxes outside of the frame."""
    path = tmp_path / "a.jsonl"
    frame = FRAME.replace("[1,2,3,4]", box).replace('"score":0.5', f'"score":0.5{more}')
    path.write_text(f"{HEAD.replace('[1,1]', '[40,30]')}\n{frame}\n")
    with FacesReader(path) as file:
        if not why:
            assert [len(one) for one in file] == [1]
            return
        with pytest.raises(DetectionsError, match=rf"line 2, face 1, box: \[.*\] {why}"):
            list(file)


@pytest.mark.parametrize("new", ['"size":[0,1]', '"size":[1,1e30]', '"rate":NaN', '"rate":0', '"rate":1e999'])
def test_header_out_of_range(new: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    name = new.partition(":")[0]
    path.write_text(HEAD.replace('"size":[1,1]' if name == '"size"' else '"rate":1', new) + "\n")
    with pytest.raises(DetectionsError, match=f"line 1, {name[1:-1]}"):
        FacesReader(path)


def test_line_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrfd_trt.video._detections_file.MAX_LINE", 1 << 20)
    path = tmp_path / "a.jsonl"
    path.write_text(HEAD + "\n" + " " * (3 << 20) + FRAME)
    with pytest.raises(DetectionsError, match="line 2: more than 1 MiB"), FacesReader(path) as file:
        list(file)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    for path in (tmp_path, tmp_path / "a.jsonl"):
        with pytest.raises(DetectionsError, match="not a regular file"):
            FacesReader(path)


def test_closed_file_raises(tmp_path: Path) -> None:
    file = FacesReader(write(tmp_path / "a.jsonl", frames()))
    file.close()
    with pytest.raises(ClosedError):
        list(file)


def test_name_of_video_that_is_not_utf8(tmp_path: Path) -> None:
    info = replace(INFO, name=os.fsdecode(b"caf\xe9.mp4"))
    with FacesWriter(tmp_path / "a.jsonl", info) as file:
        file.write(frames(1)[0])
    with FacesReader(tmp_path / "a.jsonl") as reader:
        assert reader.header.video == "caf\ufffd.mp4"
        assert len(list(reader)) == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DetectionsError, match="cannot be read: No such file"):
        FacesReader(tmp_path / "none.jsonl")


def tracks(selection: TrackSelection) -> list[set[int]]:
    """Faces on the left (1), in the centre (2), and one that moves from left to right (3)."""
    clip = [columns(n, n / 10, False, [face(1, 0), face(2, 40), face(3, 8.0 * n)]) for n in range(10)]
    resolved = selection.resolve_regions(clip, (640, 480))
    return [{one.track for one in resolved.apply(frame)} for frame in clip]


def test_regions_outside_of_the_picture_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    for regions in ({"only_regions": ((0, 0, 9, 9), (640, 0, 9, 9))}, {"except_regions": ((-9, 0, 9, 9),)}):
        caplog.clear()
        tracks(TrackSelection(**regions))
        (line,) = caplog.messages
        x = regions[max(regions)][-1][0]
        assert line == f"the region {x},0,9,9 lies outside of the picture of 640×480 pixels, and selects no face"


ALL = {1, 2, 3}


@pytest.mark.parametrize(
    ("selection", "first", "last"),
    [
        (TrackSelection(), ALL, ALL),
        (TrackSelection(only_tracks=frozenset({2, 3})), {2, 3}, {2, 3}),
        (TrackSelection(except_tracks=frozenset({2})), {1, 3}, {1, 3}),
        (TrackSelection(only_regions=((0, 0, 30, 48),)), {1}, {1}),
        (TrackSelection(except_regions=((0, 0, 30, 48),)), {2, 3}, {2, 3}),
        (TrackSelection(only_regions=((500, 0, 5, 5),)), set(), set()),
        (TrackSelection(only_tracks=frozenset({1, 2}), only_regions=((30, 0, 100, 48),)), {2}, {2}),
        (TrackSelection(only_spans=((0.0, 0.45),)), ALL, set()),
        (TrackSelection(except_spans=((0.0, 0.45),)), set(), ALL),
    ],
)
def test_selection(selection: TrackSelection, first: set[int], last: set[int]) -> None:
    found = tracks(selection)
    assert (found[0], found[-1]) == (first, last)


def test_face_that_crosses_left_region_stays_covered() -> None:
    assert all(3 in found for found in tracks(TrackSelection(except_regions=((30, 0, 20, 48),))))


def test_summary_counts_and_moments_to_review() -> None:
    summary = Summary((640, 480), 0.3)
    for n in range(40):
        origin = "interpolated" if 10 <= n < 18 else "detected"
        faces = [face(1, 100 + n, 0.2 if 30 <= n < 33 else 0.9, origin)]
        if n < 20:
            faces.append(face(2, 300))
        summary.add(columns(n, n / 10, n == 25, faces if n != 39 else []))
    assert (summary.frames, summary.empty, summary.bridged, summary.cuts, summary.faces) == (40, 1, 8, 1, 59)
    one = summary.tracks[1]
    assert (one.first.number, one.last.number, one.frames) == (0, 38, 39)
    assert one.counts == {"detected": 31, "interpolated": 8, "extended": 0, "by hand": 0}
    assert summary.tracks[2].frames == 20
    found = [(moment.doubt, moment.track, moment.start, moment.end) for moment in summary.moments_to_review()]
    assert ("bridged", 1, 1.0, 1.7) in found
    assert ("faint", 1, 3.0, 3.2) in found
    assert ("lost", 2, 2.0, 2.0) in found
    assert ("lost", 1, 3.9, 3.9) in found
    assert len(summary.moments_to_review(2)) == 2
    for every, doubts in ((8, ["bridged"]), (9, [])):
        summary = Summary((640, 480), 0.3, every)
        for n in range(40):
            summary.add(columns(n, n / 10, False, [face(1, 100, 0.9, "interpolated" if 10 <= n < 18 else "detected")]))
        assert [moment.doubt for moment in summary.moments_to_review()] == doubts


def test_summary_of_tracks_that_are_twice_in_a_frame() -> None:
    """Files of other programs may have them."""
    summary = Summary((640, 480), 0.3)
    for n in range(30):
        summary.add(columns(n, n / 10, False, [face(1 + i // 2, 100, 0.5 + i / 100, "extended") for i in range(40)]))
    assert (summary.faces, len(summary.tracks), summary.tracks[20].frames) == (1200, 20, 60)
    best = summary.tracks[20].best
    assert (best.score, best.origin, best.landmarks, summary.tracks[20].best_frame) == (0.89, "extended", None, 0)


@pytest.mark.parametrize("score", [0.3, 0.7])
def test_summary_compares_scores_in_float32(score: float) -> None:
    for same in (score, float(np.float32(score))):  # as a detections file and as a detector give it
        summary = Summary((640, 480), score)
        for n in range(9):
            summary.add(columns(n, n / 10, False, [face(1, 100, same)]))
        assert [moment.doubt for moment in summary.moments_to_review()] == []


def test_selected_faces_of_image() -> None:
    boxes = [[0, 0, 20, 20], [30, 0, 50, 20], [60, 0, 80, 20]]
    faces = Detections(boxes, [0.9, 0.8, 0.7], image_size=(90, 30), track_ids=[4, 5, 6])

    def selected(**options: Any) -> list[int]:
        found = TrackSelection(**options).select(faces).track_ids
        return [] if found is None else found.tolist()

    assert selected() == [4, 5, 6]
    assert selected(only_tracks={5, 9}) == [5]
    assert selected(except_tracks={5}) == [4, 6]
    assert selected(only_regions=[(0, 0, 40, 30)]) == [4]  # the centre at x = 40 is outside
    assert selected(except_regions=[(0, 0, 41, 30), (69, 9, 2, 2)]) == []
    assert selected(only_regions=[(20, 0, 90, 30)], except_tracks={6}) == [5]
    assert selected(only_spans=[(0, 1)], except_spans=[(0, 1)]) == [4, 5, 6]
    without = Detections(boxes, [0.9, 0.8, 0.7], image_size=(90, 30))
    with pytest.raises(DetectionsError, match="no track ids, so none can be selected"):
        TrackSelection(except_tracks=frozenset({1})).select(without)
