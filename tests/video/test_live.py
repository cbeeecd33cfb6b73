"""Live sources: reconnection, dropped frames, clocks and errors."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scrfd_trt.errors import ClosedError, OptionError, VideoError
from scrfd_trt.video import Frame, LiveReader, VideoWriter
from scrfd_trt.video._live_reader import DroppingQueue
from scrfd_trt.video._timestamps import LiveClock

MakeClip = Callable[..., Path]
Serve = Callable[..., Any]


@pytest.fixture
def stream(clip: MakeClip) -> Callable[..., bytes]:
    """A transport stream with many key frames, as bytes."""

    def make(name: str = "clip.ts", **how: Any) -> bytes:
        return clip(name, **{"options": {"g": "5", "tune": "zerolatency"}, **how}).read_bytes()

    return make


def until(met: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.01)


def rising(values: list[float]) -> bool:
    return all(one < other for one, other in pairwise(values))


def test_stream_ends_without_reconnect(stream: Callable[..., bytes], serve: Serve) -> None:
    with LiveReader(serve(stream()).address, reconnect=0, queue=100) as reader:
        assert (reader.info.live, reader.info.size, reader.info.frames) == (True, (64, 48), None)
        frames = list(reader)
        assert list(reader) == []
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert len(frames) == 30
    assert frames[0].pts_seconds == 0
    assert frames[-1].pts_seconds == pytest.approx(29 * 1001 / 30000, abs=0.001)
    assert (reader.dropped, reader.reconnects) == (0, 0)


def test_slow_consumer_gets_newest_frames(stream: Callable[..., bytes], serve: Serve) -> None:
    with LiveReader(serve(stream(frames=60)).address, reconnect=0, queue=3) as reader:
        until(lambda: reader.dropped == 57)
        frames = list(reader)
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert frames[-1].pts_seconds == pytest.approx(59 * 1001 / 30000, abs=0.001)


def test_reconnects_after_break(stream: Callable[..., bytes], serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    data = stream()
    server = serve(data, b"", data[: len(data) // 2], {"data": data, "hold": True})
    with caplog.at_level(logging.WARNING, "scrfd_trt"), LiveReader(server.address, queue=100) as reader:
        frames = []
        for frame in reader:
            frames.append(frame)
            if reader.reconnects == 2 and len(frames) > 55:
                break
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert rising([frame.pts_seconds for frame in frames])
    assert [record.message for record in caplog.records] == [f"{server.address}: the stream ended; reconnecting"] * 2


def test_reconnect_timeout_is_an_error(stream: Callable[..., bytes], serve: Serve) -> None:
    with LiveReader(serve(stream()).address, reconnect=0.3, queue=100) as reader:
        with pytest.raises(VideoError, match=r"within 0\.3 s: Connection refused \(after frame 29, at 0:00\.97\)"):
            list(reader)
        with pytest.raises(VideoError, match="the stream ended; it did not come back"):
            next(iter(reader))


def test_silent_stream_breaks_after_timeout(stream: Callable[..., bytes], serve: Serve) -> None:
    server = serve({"data": stream(frames=60), "hold": True})
    with (
        LiveReader(server.address, reconnect=0, queue=100, timeout=1) as reader,
        pytest.raises(VideoError, match=r"the stream broke: no data arrived in time \(after frame \d+, "),
    ):
        list(reader)


def test_frame_size_changes_after_reconnection(stream: Callable[..., bytes], serve: Serve) -> None:
    server = serve(stream(), stream("other.ts", size=(80, 60)))
    with (
        LiveReader(server.address, queue=100) as reader,
        pytest.raises(VideoError, match=r"changes from 64×48 to 80×60 after a reconnection; .* \(after frame 29, "),
    ):
        list(reader)


def test_frame_size_changes_within_stream(stream: Callable[..., bytes], serve: Serve) -> None:
    other = stream("other.ts", size=(80, 60))
    with (
        LiveReader(serve(stream() + other, other).address, queue=100) as reader,
        pytest.raises(VideoError, match="changes from 64×48 to 80×60"),
    ):
        list(reader)


def test_connection_refused(serve: Serve) -> None:
    server = serve()
    until(lambda: not server._thread.is_alive())
    with pytest.raises(VideoError, match="cannot be read as a video: Connection refused"):
        LiveReader(server.address)


@pytest.mark.parametrize("how", [{"queue": 0}, {"timeout": 0}, {"timeout": float("inf")}, {"reconnect": -1}])
def test_invalid_option_is_named(how: dict[str, Any], serve: Serve) -> None:
    with pytest.raises(OptionError, match=next(iter(how))):
        LiveReader("tcp://127.0.0.1:9", **how)


def test_close_ends_iteration_in_another_thread(stream: Callable[..., bytes], serve: Serve) -> None:
    server = serve({"data": stream(frames=60), "hold": True})
    reader = LiveReader(server.address, queue=100, timeout=1)
    seen: list[Frame] = []
    consumer = threading.Thread(target=lambda: seen.extend(reader))
    consumer.start()
    until(lambda: len(seen) > 20)
    reader.close()
    consumer.join(120)
    assert not consumer.is_alive()
    assert not reader._thread.is_alive()
    reader.close()
    with pytest.raises(ClosedError):
        list(reader)


def test_close_while_reconnecting(stream: Callable[..., bytes], serve: Serve) -> None:
    reader = LiveReader(serve(stream()).address, reconnect=None)
    until(lambda: reader._pause > 0.3)
    reader.close()
    assert not reader._thread.is_alive()


def test_no_thread_or_file_handle_leaks(stream: Callable[..., bytes], serve: Serve) -> None:
    data = stream()
    server = serve(*[data] * 22)
    handles = Path("/proc/self/fd")

    def read_once() -> None:
        with LiveReader(server.address, extra_streams=("audio",)) as reader:
            next(iter(reader))
            until(lambda: reader.reconnects > 0)

    read_once()
    threads, before = threading.active_count(), len(list(handles.iterdir())) if handles.exists() else 0
    for _ in range(9):
        read_once()
    assert threading.active_count() == threads
    until(lambda: not handles.exists() or len(list(handles.iterdir())) <= before + 1)  # one may belong to the server


def test_audio_is_copied_across_reconnection(
    stream: Callable[..., bytes], serve: Serve, tmp_path: Path, probed: Callable[[Path], Any]
) -> None:
    data = stream(frames=30, audio=1.0, metadata={"title": "secret"})
    path = tmp_path / "out.mp4"
    with (
        LiveReader(serve(data, data).address, reconnect=0.5, queue=100, extra_streams=("audio",)) as reader,
        VideoWriter(path, reader, keep_metadata=True) as writer,
        suppress(VideoError),
    ):
        for item in reader.items():
            writer.write(item) if isinstance(item, Frame) else writer.copy(item)
    found = probed(path)
    assert len(found.frames) == 60
    assert rising(found.times)
    (sound,) = found.of("audio")
    assert len(sound.packets) > 60
    assert rising([at for at, _, _ in sound.packets])
    assert "title" not in found.metadata


def test_clock_going_back_is_a_break(stream: Callable[..., bytes], serve: Serve) -> None:
    data = stream(frames=60)
    with LiveReader(serve(data + data, data).address, reconnect=0.5, queue=300) as reader:
        frames: list[Frame] = []
        with pytest.raises(VideoError, match="did not come back"):
            frames.extend(reader)
    assert rising([frame.pts_seconds for frame in frames])
    assert frames[-1].pts_seconds < 10


def picture(pts: int, base: Fraction = Fraction(1, 10)) -> Any:
    return SimpleNamespace(pts=pts, time_base=base, duration=1)


def test_frame_times_increase_across_breaks_and_jumps() -> None:
    now = 0.0
    line = LiveClock(Fraction(1, 10), lambda: now)
    found = []
    for at, pts, broken in [(0, 50, 0), (0.1, 51, 0), (0.1, 51, 0), (3.1, 7, 1), (3.2, 8, 0), (3.3, 9000, 0)]:
        now = at
        if broken:
            line.reset()
        one = picture(pts)
        line.shift_frame(one)
        found.append(one.pts)
    assert found == [0, 1, 2, 32, 33, 34]


def test_packet_times_shift_with_frames() -> None:
    line = LiveClock(Fraction(1, 10), lambda: 0.0)
    packets = [SimpleNamespace(pts=pts, dts=pts, time_base=Fraction(1, 100)) for pts in (510, 510, 520)]
    assert not line.shift_packet(packets[0], 0)
    line.shift_frame(picture(50))
    assert [line.shift_packet(packet, 0) for packet in packets] == [True, False, True]
    assert [packets[0].pts, packets[2].dts] == [10, 20]


def test_queue_drops_oldest_frames_and_keeps_packets() -> None:
    latest = DroppingQueue(1)
    frames = [Frame(number, picture(number)) for number in range(3)]
    for item in (frames[0], "a", frames[1], "b", frames[2]):
        latest.put(item)
    latest.end(ValueError("over"))
    latest.end()
    latest.put("late")
    assert [latest.get() for _ in range(3)] == ["a", "b", frames[2]]
    assert latest.dropped == 2
    with pytest.raises(ValueError, match="over"):
        latest.get()


def test_queue_limits_packets() -> None:
    latest = DroppingQueue(1)
    for number in range(DroppingQueue.MAX_PACKETS + 5):
        latest.put(number)
    assert latest.get() == 5
    latest.end(discard=True)
    assert latest.get() is None
