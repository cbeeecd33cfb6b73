"""The tracker on synthetic detections."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrfd_trt import Detections
from scrfd_trt.video import Face, FrameFaces, FrameObservation, Tracker, TrackingOptions

SIZE = (640, 360)
RATE = 30
Box = Sequence[float]


def found(*faces: tuple[Box, float]) -> Detections:
    boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
    points = np.stack([boxes[:, [0, 1]]] * 5, axis=1) + 10 if faces else np.empty((0, 5, 2))
    return Detections(boxes, [score for _, score in faces], points, image_size=SIZE)


def at(x: float, y: float = 100, side: float = 50) -> Box:
    return (x, y, x + side, y + side)


def track_faces(
    frames_in: Iterable[Detections | None],
    *,
    cuts: Sequence[int] = (),
    dissolve: tuple[int, int] = (-1, 0),
    times: Sequence[float] | None = None,
    delay: int | None = None,
    rate: int = RATE,
    **options: object,
) -> list[FrameFaces]:
    tracker = Tracker(TrackingOptions(**options), rate, delay=delay)
    frames = []
    for number, detections in enumerate(frames_in):
        time = number / RATE if times is None else times[number]
        transition = dissolve[1] if number == dissolve[0] else number in cuts
        frames += tracker.push(FrameObservation(number, time, detections, transition))
    return [*frames, *tracker.finish()]


def of_track(frames: Sequence[FrameFaces], track: int) -> dict[int, Face]:
    return {frame.number: face for frame in frames for face in frame if face.track == track}


def test_no_frames_and_no_faces() -> None:
    assert track_faces([]) == []
    frames = track_faces([found()] * 5)
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    assert not any(len(frame) for frame in frames)
    assert len(frames[0].detections(SIZE)) == 0


def test_one_frame() -> None:
    (frame,) = track_faces([found((at(10), 0.9))])
    (face,) = frame
    np.testing.assert_allclose(face.box, at(10), atol=1e-3)
    assert (face.track, face.origin, face.score) == (1, "detected", pytest.approx(0.9))


def test_gap_is_interpolated() -> None:
    frames_in = [found() if 10 <= n < 16 else found((at(10 + 4 * n), 0.9)) for n in range(30)]
    track = of_track(track_faces(frames_in), 1)
    assert sorted(track) == list(range(30))
    assert {n for n, face in track.items() if face.origin == "interpolated"} == set(range(10, 16))
    for number, face in track.items():
        x = (face.box[0] + face.box[2]) / 2
        assert x == pytest.approx(35 + 4 * number, abs=0.01)
        assert face.box[2] - face.box[0] >= 50 - 1e-6
    # What is not seen is covered with something to spare.
    assert track[12].box[2] - track[12].box[0] > 52


def test_gap_is_interpolated_by_time() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.9, 1.0, 1.1, 1.2]
    frames_in = [found() if n in (3, 4) else found((at(10 + 20 * times[n]), 0.9)) for n in range(8)]
    track = of_track(track_faces(frames_in, times=times, smooth=False), 1)
    middles = [(track[n].box[0] + track[n].box[2]) / 2 for n in (3, 4)]
    assert middles == pytest.approx([35 + 20 * 0.3, 35 + 20 * 0.9], abs=0.01)


def test_crossing_faces_keep_their_tracks() -> None:
    frames_in = [found((at(100 + 8 * n, 100), 0.9), (at(420 - 8 * n, 160), 0.8)) for n in range(40)]
    frames = track_faces(frames_in)
    left, right = of_track(frames, 1), of_track(frames, 2)
    assert sorted(left) == sorted(right) == list(range(40))
    assert left[39].box[0] == pytest.approx(100 + 8 * 39, abs=1)
    assert right[39].box[0] == pytest.approx(420 - 8 * 39, abs=1)


@pytest.mark.parametrize(("missed", "tracks"), [(29, 1), (30, 2)])
def test_track_lost_beyond_bridge_gets_new_id(missed: int, tracks: int) -> None:
    frames_in = [found((at(100), 0.9))] * 3 + [found()] * missed + [found((at(100), 0.9))] * 3
    frames = track_faces(frames_in, bridge=1.0)
    assert {face.track for frame in frames for face in frame} == set(range(1, tracks + 1))


def test_tracks_are_extended_at_both_ends() -> None:
    frames_in = [found((at(100 + 2 * n), 0.9)) if 20 <= n < 40 else found() for n in range(60)]
    track = of_track(track_faces(frames_in, extend=0.2), 1)
    assert sorted(track) == list(range(14, 46))
    assert {track[n].origin for n in (14, 19, 40, 45)} == {"extended"}
    assert track[45].box[0] > track[39].box[0]
    assert track[14].box[0] < track[20].box[0]


def test_no_track_crosses_cut() -> None:
    frames = track_faces([found((at(100), 0.9))] * 20, cuts=[10])
    assert sorted(of_track(frames, 1)) == list(range(10))
    assert sorted(of_track(frames, 2)) == list(range(10, 20))
    late = track_faces([found()] * 12 + [found((at(100), 0.9))] * 8, cuts=[10])
    assert sorted(of_track(late, 1)) == list(range(10, 20))


@pytest.mark.parametrize("cuts", [[10], [9], [12]])
def test_face_in_same_place_is_covered_up_to_cut_from_both_sides(cuts: list[int]) -> None:
    """The cut may be a false one. Track numbers differ all the same: it may be another person."""
    frames_in = [found() if 2 < n < 20 else found((at(100 + n), 0.9)) for n in range(26)]
    frames = track_faces(frames_in, cuts=cuts)
    assert sorted(of_track(frames, 1)) == list(range(cuts[0]))
    assert sorted(of_track(frames, 2)) == list(range(cuts[0], 26))
    for frame in frames:
        assert frame[0].box[0] == pytest.approx(100 + frame.number, abs=8)
    assert {face.origin for frame in frames[3:20] for face in frame} == {"interpolated"}


def test_no_face_is_extended_into_scene_without_one() -> None:
    frames_in = [found((at(100), 0.9)) if n < 6 else found((at(400), 0.9)) if n >= 16 else found() for n in range(30)]
    frames = track_faces(frames_in, cuts=[12])
    assert sorted(of_track(frames, 1)) == list(range(12))
    assert sorted(of_track(frames, 2)) == list(range(12, 30))
    gone = track_faces([found((at(100), 0.9))] * 10 + [found()] * 20, cuts=[10])
    assert not any(len(frame) for frame in gone[10:])


@pytest.mark.parametrize("rate", [1, 2, 5])
def test_short_gaps_are_filled_at_any_rate(rate: int) -> None:
    blind = (0, 1, 7, 8, 9, 18, 19)
    frames_in = [found() if n in blind else found((at(100), 0.9)) for n in range(20)]
    assert all(len(frame) for frame in track_faces(frames_in, times=[n / rate for n in range(20)], rate=rate))
    off = track_faces(frames_in, times=[n / rate for n in range(20)], rate=rate, extend=0.0, bridge=0.0)
    assert [frame.number for frame in off if not len(frame)] == list(blind)


def test_consecutive_detections_are_one_track_without_bridge() -> None:
    frames_in = [found((at(100), 0.9 if n < 10 else 0.2)) for n in range(20)]
    frames = track_faces(frames_in, bridge=0.0, extend=0.0)
    assert sorted(of_track(frames, 1)) == list(range(20))
    assert all(len(frame) == 1 for frame in frames)


def test_limits_in_seconds_at_variable_rate() -> None:
    """A second of 60 frames, and then one per minute: one frame per second on average."""
    times = [n / 60 for n in range(60)] + [60.0 * n for n in range(1, 3)]
    frames_in = [found() if 20 <= n < 40 or n < 10 else found((at(100), 0.9)) for n in range(62)]
    frames = track_faces(frames_in, times=times, rate=1)
    assert [frame.number for frame in frames if not len(frame)] == []
    slow = track_faces([found((at(100), 0.9))] + [found()] * 20, times=[n / 5 for n in range(21)], rate=30)
    assert [frame.number for frame in slow if len(frame)] == [0, 1, 2]


def test_low_score_faces_continue_tracks_and_start_none() -> None:
    frames_in = [found((at(100), 0.9 if n in (0, 20) else 0.2), (at(400), 0.2)) for n in range(21)]
    frames = track_faces(frames_in, bridge=0.2, threshold=0.5)
    assert {face.track for frame in frames for face in frame} == {1}
    assert {face.origin for face in of_track(frames, 1).values()} == {"detected"}


def test_new_track_is_traced_back_through_low_score_faces() -> None:
    frames_in = [found((at(100 + n), 0.2 if n < 12 else 0.9)) for n in range(20)]
    track = of_track(track_faces(frames_in, extend=0.0), 1)
    assert sorted(track) == list(range(20))
    assert track[3].origin == "detected"


def test_low_score_face_elsewhere_is_not_matched() -> None:
    frames_in = [found((at(100), 0.9)) if n < 10 or n >= 14 else found((at(128), 0.2)) for n in range(24)]
    track = of_track(track_faces(frames_in), 1)
    assert all(abs(face.box[0] - 100) < 6 for face in track.values())


def test_only_every_nth_frame() -> None:
    frames_in = [found((at(100 + 3 * n), 0.9)) if n % 5 == 0 else None for n in range(41)]
    track = of_track(track_faces(frames_in, every=5), 1)
    assert sorted(track) == list(range(41))
    assert track[17].box[:2].mean() == pytest.approx(np.mean([151, 100]), abs=6)
    assert track[17].origin == "interpolated"


def test_empty_boxes_without_landmarks() -> None:
    flat = Detections([(10, 10, 10, 10)], [0.9], None, image_size=SIZE)
    frames = track_faces([flat] * 5)
    assert all(len(frame) >= 1 for frame in frames)
    assert all(face.landmarks is None for frame in frames for face in frame)
    assert frames[0].detections(SIZE).landmarks is None


def test_numbers_of_frames_may_start_anywhere() -> None:
    tracker, frames = Tracker(TrackingOptions(), RATE), []
    for number in range(10**9, 10**9 + 30):
        faces = found() if number % 7 == 3 else found((at(100), 0.9))
        frames += tracker.push(FrameObservation(number, number / RATE, faces))
    assert [len(frame) for frame in [*frames, *tracker.finish()]] == [1] * 30


def test_frames_come_out_after_delay() -> None:
    tracker = Tracker(TrackingOptions(), RATE, delay=3)
    out = [len(tracker.push(FrameObservation(n, n / RATE, found((at(100), 0.9))))) for n in range(6)]
    assert out == [0, 0, 0, 1, 1, 1]
    gap = [found() if n in (5, 6) else found((at(100), 0.9)) for n in range(12)]
    for delay in (0, 1, 3):
        track = of_track(track_faces(gap, delay=delay), 1)
        assert sorted(track) == list(range(12)), delay


def test_final_frames_do_not_depend_on_much_later_ones() -> None:
    frames_in = [found() if n % 7 == 3 else found((at(100 + n), 0.9)) for n in range(90)]
    whole = track_faces(frames_in + [found()] * 200)
    short = track_faces(frames_in + [found()] * 40)
    for one, other in zip(whole, short, strict=False):
        assert one.number == other.number
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.box, b.box)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video() -> None:
    """People come and go, and are missed now and then."""
    tracker, sizes = Tracker(TrackingOptions(), RATE), []
    tracemalloc.start()
    try:
        for number in range(900):
            faces = [(at(100 * n + number % 60, 50), 0.9) for n in range(4) if (number + 13 * n) % 60 < 50 + number % 2]
            tracker.push(FrameObservation(number, number / RATE, found(*faces)))
            if number % 300 == 299:
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[2] < sizes[1] + 12_000


def test_faces_with_and_without_landmarks() -> None:
    bare = Detections([at(100)], [0.9], None, image_size=SIZE)
    frames = track_faces([bare if 10 <= n < 20 else found((at(100), 0.9), (at(300), 0.8)) for n in range(40)])
    assert [face.landmarks is None for face in frames[15]] == [True, False]  # one is filled
    assert [face.landmarks is None for face in frames[30]] == [False, False]
    np.testing.assert_allclose(frames[15].boxes[0], at(100), atol=1e-3)


def test_detections_have_tracks_and_time() -> None:
    frames = track_faces([found((at(100), 0.9), (at(300), 0.7))] * 3)
    detections = frames[1].detections(SIZE)
    assert detections.track_ids is not None
    assert detections.track_ids.tolist() == [1, 2]
    assert detections.pts_seconds == pytest.approx(1 / RATE)


@settings(max_examples=20)
@given(st.data())
def test_every_frame_between_detections_has_the_face(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.tuples(st.floats(-5, 5), st.floats(-3, 3)), min_size=30, max_size=60))
    way = np.cumsum(np.array([(200.0, 120.0), *steps[1:]]), axis=0)
    blind = data.draw(st.lists(st.booleans(), min_size=len(way), max_size=len(way)))
    seen = [n for n in range(len(way)) if not blind[n] or n % 8 == 0]
    frames_in = [found((at(*way[n]), 0.9)) if n in set(seen) else found() for n in range(len(way))]
    frames = track_faces(frames_in)
    assert [frame.number for frame in frames] == list(range(len(way)))
    covered = {frame.number for frame in frames if len(frame)}
    assert covered >= set(range(seen[0], seen[-1] + 1))
    for number in seen:
        inner = np.array(at(*way[number])) + np.array([5, 5, -5, -5])
        boxes = [face.box for face in frames[number]]
        assert any((box[:2] <= inner[:2]).all() and (box[2:] >= inner[2:]).all() for box in boxes)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_scores_are_compared_with_the_threshold_in_float32(threshold: float) -> None:
    """As a float32, 0.7 is below 0.7, and 0.3 is above 0.3."""
    frames = track_faces([found((at(100), threshold)) for _ in range(9)], threshold=threshold)
    assert all(np.allclose(face.box, at(100)) for frame in frames for face in frame)
    assert sum(len(frame) for frame in frames) == 9


def test_dissolve_has_faces_of_both_scenes_and_nothing_of_the_old_one_follows() -> None:
    frames_in = [found(*[(at(20), 0.9)] * (n < 16), *[(at(300), 0.9)] * (n >= 15)) for n in range(40)]
    frames = track_faces(frames_in, dissolve=(10, 8), extend=0.5)
    assert [frame.number for frame in frames if frame.cut] == [10]
    assert sorted(of_track(frames, 1)) == list(range(17))
    assert sorted(of_track(frames, 2)) == list(range(10, 40))


@pytest.mark.parametrize(("score", "side", "after"), [(0.6, 100, 1), (0.8, 100, 5), (0.6, 80, 5)])
def test_uncertain_faces_are_not_enlarged_by_a_zoom(score: float, side: float, after: int) -> None:
    """The camera zooms in by 1.25 a frame after the last detection, or out before the first."""
    for is_after in (True, False):
        tracker, frames = Tracker(TrackingOptions(smooth=False), 25), list[FrameFaces]()
        factor = 1.25 if is_after else 0.8
        for number in range(40):
            is_seen = (number < 20) is is_after
            is_zoom = not is_seen or (number == 20 and not is_after)
            motion = np.array([[factor, 0, 0], [0, factor, 0]]) if is_zoom else None
            faces = found(*[(at(100, side=side), score)] * is_seen)
            frames += tracker.push(FrameObservation(number, number / 25, faces, 0, motion))
        known = of_track([*frames, *tracker.finish()], 1)
        assert sum(face.origin == "extended" for face in known.values()) == after, is_after
