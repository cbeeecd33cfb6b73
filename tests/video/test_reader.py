"""Reading files: frames, times, damaged and truncated videos."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scrfd_trt.errors import ClosedError, OptionError, VideoError
from scrfd_trt.video import Frame, VideoReader
from scrfd_trt.video._completeness import FrameCheck
from scrfd_trt.video._timestamps import format_time

MakeClip = Callable[..., Path]


def test_info_before_reading(clip: MakeClip) -> None:
    with VideoReader(clip(audio=1.0, frames=30)) as reader:
        info = reader.info
    assert (info.size, info.frames, info.codec, info.pixel_format, info.bit_depth) == (
        (64, 48),
        30,
        "h264",
        "yuv420p",
        8,
    )
    assert info.rate == pytest.approx(30000 / 1001)
    assert info.duration == pytest.approx(1.001, abs=0.001)
    assert info.color_tags == (1, 1, 1, 1)
    assert not info.live


def test_frames_have_numbers_times_and_images(clip: MakeClip) -> None:
    times = [0, 40, 73, 500, 733]
    with VideoReader(clip(times=times, time_base=Fraction(1, 1000), size=(66, 50))) as reader:
        frames = list(reader)
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([frame.pts_seconds for frame in frames], np.array(times) / 1000, atol=0.0005)
    assert {(frame.image.shape, frame.image.dtype) for frame in frames} == {((50, 66, 3), np.dtype("uint8"))}
    assert not frames[0].image.flags.writeable


@pytest.mark.parametrize("colours", [(1, 1, 1, 1), (5, 1, 6, 5), (1, 2, 1, 1), (2, 0, 2, 2)])
def test_image_has_source_colours(colours: tuple[int, int, int, int], clip: MakeClip) -> None:
    def plain(number: int, size: tuple[int, int]) -> Any:
        return np.full((size[1], size[0], 3), (200, 120, 60), np.uint8)

    matrix = colours if colours[0] != 2 else (5, 1, 2, 2)
    path = clip(draw=plain, colours=matrix, frames=3)
    with VideoReader(path) as reader:
        np.testing.assert_allclose(next(iter(reader)).image[24, 32], (200, 120, 60), atol=4)


def test_extra_streams_on_request(clip: MakeClip) -> None:
    path = clip(audio=0.5, frames=10)
    with VideoReader(path, extra_streams=("audio",)) as reader:
        kinds = {type(item).__name__ for item in reader.items()}
        assert [stream.type for stream in reader.extra_streams] == ["audio"]
    assert kinds == {"Frame", "Packet"}
    with VideoReader(path) as reader:
        assert {type(item).__name__ for item in reader.items()} == {"Frame"}


def test_image_sequence(tmp_path: Path) -> None:
    import cv2

    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), np.full((20, 30, 3), number * 40, np.uint8))
    with VideoReader(tmp_path / "%03d.png") as reader:
        assert [int(frame.image.mean()) for frame in reader] == [0, 40, 80, 120, 160]


def test_closed_reader_raises(clip: MakeClip) -> None:
    reader = VideoReader(clip(frames=5))
    reader.close()
    reader.close()
    with pytest.raises(ClosedError):
        list(reader)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as a video: No such file or directory"),
        (b"", "cannot be read as a video: "),
        (b"just words\n" * 50, "cannot be read as a video: Invalid data"),
    ],
)
def test_invalid_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=message):
        VideoReader(path)


def test_audio_file_is_no_video(clip: MakeClip, tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.m4a"
    with av.open(str(clip(audio=0.5))) as source, av.open(str(path), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(VideoError, match="it contains no video, only audio"):
        VideoReader(path)


def test_damaged_lists_choices(clip: MakeClip) -> None:
    with pytest.raises(OptionError, match="the choices are: stop, keep"):
        VideoReader(clip(frames=3), damaged="skip")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["clip.mkv", "fast.mp4"])
def test_truncated_video(name: str, clip: MakeClip, tmp_path: Path) -> None:
    whole = clip("clip.mkv", frames=90, audio=3.0, size=(128, 96))
    if name == "fast.mp4":
        from scrfd_trt.video import VideoWriter

        whole = tmp_path / "whole.mp4"
        with VideoReader(tmp_path / "clip.mkv") as reader, VideoWriter(whole, reader) as writer:
            for frame in reader:
                writer.write(frame)
    path = tmp_path / f"cut-{name}"
    path.write_bytes(whole.read_bytes()[: round(whole.stat().st_size * 0.6)])
    with VideoReader(path) as reader, pytest.raises(VideoError, match=r"frame \d+") as caught:
        list(reader)
    assert "\n" not in str(caught.value)
    with VideoReader(path, damaged="keep") as reader:
        assert 20 < len(list(reader)) < 85


@pytest.mark.parametrize(("name", "codec"), [("clip.mkv", "libx264"), ("clip.webm", "libvpx-vp9")])
@pytest.mark.parametrize("audio", [0.0, 5.0])
def test_few_frames_missing_at_end(name: str, codec: str, audio: float, clip: MakeClip) -> None:
    fast = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {"preset": "ultrafast"}
    how = {"codec": codec, "options": fast, "audio": audio, "audio_codec": "libopus"}
    path = clip(name, **how, frames=60, size=(64, 48), draw=noise)
    with VideoReader(path) as reader:
        assert len(list(reader)) == reader.info.frames == 60
    if not audio:
        path.write_bytes(path.read_bytes()[: round(path.stat().st_size * 0.95)])
        with VideoReader(path) as reader, pytest.raises(VideoError, match=r"ends early, after frame 5\d, at 0:01"):
            list(reader)


@pytest.mark.parametrize(("rate", "options"), [(15, {}), (10, {}), (25, {"preset": "veryslow"})])
def test_reordered_first_packets_are_no_discontinuity(rate: int, options: dict[str, str], clip: MakeClip) -> None:
    """Matroska stores no decoding times for the first packets if there are B-frames."""
    path = clip("clip.mkv", rate=Fraction(rate), frames=40, options=options, draw=panned, audio=2.0)
    with VideoReader(path) as reader:
        times = [frame.pts_seconds for frame in reader]
    assert times == pytest.approx([times[0] + n / rate for n in range(40)], abs=0.0011)


def panned(number: int, size: tuple[int, int]) -> Any:
    wall = np.kron(np.random.default_rng(0).integers(0, 255, (8, 20, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    return wall[: size[1], number : number + size[0]]


def noise(number: int, size: tuple[int, int]) -> Any:
    return np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)


@pytest.mark.parametrize("audio", [0.0, 1.0, 1.5])
def test_times_continue_after_discontinuity(audio: float, clip: MakeClip) -> None:
    piece = clip("a.ts", audio=audio, options={"bf": "2"})
    with VideoReader(piece, extra_streams=("audio",)) as reader:
        items = list(reader.items())
    once = [item.pts_seconds for item in items if isinstance(item, Frame)]
    both = piece.with_name("both.ts")
    both.write_bytes(piece.read_bytes() * 3)
    with VideoReader(both, extra_streams=("audio",)) as reader:
        read = list(reader.items())
    times = [item.pts_seconds for item in read if isinstance(item, Frame)]
    packets = [item for item in read if not isinstance(item, Frame)]
    assert len(times) == 3 * len(once)
    assert len(packets) == 3 * (len(items) - len(once))
    shifts = np.array(times[30:60]) - once
    assert np.ptp(shifts) < 1e-6
    assert shifts[0] == pytest.approx(max(audio, 1.001), abs=0.04)
    np.testing.assert_allclose(np.array(times[60:]) - once, 2 * shifts[0], atol=0.001)
    assert (np.diff([packet.dts for packet in packets]) > 0).all()
    with VideoReader(both) as reader:
        assert [frame.pts_seconds for frame in reader] == times


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.ts"])
def test_damaged_frame_is_named(name: str, clip: MakeClip) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (200, 260, 3)).astype(np.uint8)
    how = {"frames": 60, "size": (128, 96), "options": {"g": "10"}}
    path = clip(name, draw=lambda n, size: noise[n : n + size[1], n : n + size[0]], **how)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = random.integers(0, 255, 6000).astype(np.uint8).tobytes()
    path.write_bytes(bytes(data))
    with VideoReader(path) as reader, pytest.raises(VideoError, match=rf"{name}: frame [23]\d, after 0:0[01]\.\d\d: "):
        list(reader)
    with VideoReader(path, damaged="keep") as reader:
        assert len(list(reader)) == 60
        assert reader.lost > 0


DATA = Path(__file__).parent.parent / "data"


def count(path: Path, **how: Any) -> tuple[int, int]:
    with VideoReader(path, **how) as reader:
        return len(list(reader)), reader.lost


def packets(path: Path) -> list[bytes]:
    import av

    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_packets_without_data_show_frame_again() -> None:
    """25 frames of Theora; 20 of them are the same as those before."""
    path = DATA / "theora.ogv"
    with VideoReader(path) as reader:
        frames = list(reader)
        assert (reader.info.codec, reader.lost) == ("theora", 0)
    assert [frame.pts_seconds for frame in frames] == pytest.approx([n / 25 for n in range(25)])
    assert (frames[3].image == frames[2].image).all()
    assert (frames[20].image != frames[2].image).any()
    assert len({id(frame.picture) for frame in frames}) == 25
    assert count(path, damaged="keep") == (25, 0)


@pytest.mark.parametrize("part", [0.1, 0.5, 1.0])
def test_damaged_page_of_ogg(part: float, tmp_path: Path) -> None:
    """FFmpeg leaves out a page whose checksum is wrong."""
    data = bytearray((DATA / "theora.ogv").read_bytes())
    pages = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"][2:]
    data[pages[round(part * (len(pages) - 1))] + 40] ^= 1
    path = tmp_path / "a.ogv"
    path.write_bytes(bytes(data))
    with pytest.raises(
        VideoError, match=r"a\.ogv: (frame \d|the file is cut off or damaged at its end|it contains no)"
    ):
        count(path)


def test_matroska_that_starts_late_is_whole(clip: MakeClip) -> None:
    """FFmpeg counts the duration of such files from 0, other programs from the first packet."""
    assert count(clip("late.mkv", frames=10, rate=Fraction(25), times=range(90000, 90010))) == (10, 0)


def first_slice(path: Path) -> int:
    """Return where the header of the first slice of an HEVC transport stream begins."""
    data = path.read_bytes()
    return next(at for at in range(len(data)) if data[at : at + 3] == b"\0\0\1" and 16 <= data[at + 3] >> 1 & 63 <= 21)


@pytest.mark.parametrize("where", ["start", "end"])
def test_damage_at_start_and_end_is_noticed(where: str, clip: MakeClip) -> None:
    """The decoder skips frames without an error: those up to the next key frame, and one whose type is not known."""
    options = {"x265-params": "keyint=8:bframes=3:log-level=error"}
    path = clip("clip.ts", codec="libx265", options=options, frames=24)
    assert count(path) == (24, 0)
    data = bytearray(path.read_bytes())
    if where == "start":
        data[first_slice(path) + 5] ^= 0x7F
    else:
        slices = [at for at in range(len(data)) if data[at : at + 3] == b"\0\0\1" and data[at + 3] >> 1 < 10]
        data[slices[-1] + 3] = 48 << 1  # an unspecified type
    path.write_bytes(bytes(data))
    with pytest.raises(
        VideoError, match=r"frame \d+.*: the frame at 0:0\d\.\d\d is damaged and cannot be decoded; copy"
    ):
        count(path)
    found, lost = count(path, damaged="keep")
    assert found < 24
    assert found + lost == 24


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "10", "bf": "2", "x264-params": "open-gop=1"}),
        ("libx265", {"x265-params": "keyint=10:bframes=3:open-gop=1:log-level=error"}),
        ("mpeg2video", {"g": "10", "bf": "2"}),
    ],
)
def test_recording_that_starts_anywhere_is_whole(codec: str, options: dict[str, str], clip: MakeClip) -> None:
    """Players start at the first key frame, and skip frames that refer to those before it."""
    path = clip("clip.ts", codec=codec, options=options, frames=50, rate=Fraction(25), size=(128, 96), draw=panned)
    data = path.read_bytes()
    for part in (0.2, 0.3, 0.4, 0.5):
        path.write_bytes(data[round(part * len(data) / 188) * 188 :])
        found, lost = count(path)
        assert 5 < found < 50
        assert lost == 0
        assert count(path, damaged="keep") == (found, 0)
    path.write_bytes(data[len(data) // 376 * 188 :] + data)
    assert count(path) == (found + 50, 0)


def test_frames_hidden_by_edit_list_are_not_missing(clip: MakeClip) -> None:
    path = clip(frames=50, rate=Fraction(25), options={"g": "50", "bf": "2"})
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 8
    assert int.from_bytes(data[at : at + 4], "big") == 1
    ticks = int.from_bytes(data[at + 8 : at + 12], "big")
    data[at + 8 : at + 12] = (ticks + 512 * 10).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    assert count(path) == (40, 0)


def test_avi_without_index_is_whole(clip: MakeClip) -> None:
    path = clip("clip.avi", codec="mpeg4", options={"bf": "1"}, rate=Fraction(25))
    data = path.read_bytes()
    data = data[: data.rindex(b"idx1")]
    path.write_bytes(data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:])
    assert count(path) == (30, 0)


def test_packed_mpeg4_is_whole(clip: MakeClip) -> None:
    """DivX put a B-frame into the packet of the frame before it, and an empty picture into the next packet."""
    import av

    path = clip("clip.avi", codec="mpeg4", options={"bf": "1"}, rate=Fraction(25), frames=31)
    data, packed, at = packets(path), path.with_name("packed.avi"), 0
    divx = b"\0\0\1\xb2DivX503b1393p"
    picture_start = b"\0\0\1\xb6"
    joined: list[bytes] = []
    while at < len(data):
        is_pair = at + 1 < len(data) and data[at + 1].partition(picture_start)[2][0] >> 6 == 2
        joined += [data[at] + data[at + 1], picture_start + b"\x50\x70\x1f"] if is_pair else [data[at]]
        at += 1 + is_pair
    joined[0] = divx + joined[0]
    with av.open(str(path)) as source, av.open(str(packed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, one in enumerate(joined):
            packet = av.Packet(one)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = number == 0
            target.mux(packet)
    assert picture_start + b"\x50\x70\x1f" in joined
    assert count(packed) == (31, 0)


def flv_tags(data: bytes) -> list[bytes]:
    tags, at = [], 13
    while at + 15 <= len(data):
        size = 15 + int.from_bytes(data[at + 1 : at + 4], "big")
        tags.append(data[at : at + size])
        at += size
    return tags


def test_stream_that_appears_late(clip: MakeClip, caplog: pytest.LogCaptureFixture) -> None:
    """FFmpeg finds streams of FLV as it reads, and PyAV fails at the end if it did."""
    path = clip("clip.flv", frames=100, rate=Fraction(5), options={"bf": "0"})
    sound = [tag for tag in flv_tags(clip("sound.flv", frames=5, audio=1.0).read_bytes()) if tag[0] == 8]
    data = path.read_bytes()
    tags = flv_tags(data)
    path.write_bytes(data[:13] + b"".join([*tags[:90], *sound, *tags[90:]]))
    assert count(path) == (100, 0)
    assert not caplog.records
    assert count(path, extra_streams=("audio",)) == (100, 0)
    assert [record.message for record in caplog.records] == [
        f"{path}: a stream that begins later than the others is not read"
    ]


def test_windows_media_with_late_sound_is_whole(clip: MakeClip) -> None:
    """Its duration counts what precedes the first packets, too; its size tells whether it is cut off."""
    path = clip("clip.wmv", codec="wmv2", frames=50, rate=Fraction(25), audio=1.0, audio_codec="mp2")
    data = bytearray(path.read_bytes())
    at = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 64
    data[at : at + 8] = (int.from_bytes(data[at : at + 8], "little") + 15_000_000).to_bytes(8, "little")
    path.write_bytes(bytes(data))
    assert count(path) == (50, 0)
    path.write_bytes(bytes(data[: round(len(data) * 0.6)]))
    with pytest.raises(VideoError):
        count(path)


@pytest.mark.parametrize("name", ["clip.mjpeg", "clip.h264", "clip.hevc", "clip.m2v", "clip.ivf"])
def test_streams_without_container(name: str, clip: MakeClip) -> None:
    codecs = {".mjpeg": "mjpeg", ".h264": "libx264", ".hevc": "libx265", ".m2v": "mpeg2video", ".ivf": "libvpx-vp9"}
    options = {"x265-params": "log-level=error"} if name == "clip.hevc" else {}
    format_ = "yuvj420p" if name == "clip.mjpeg" else "yuv420p"
    path = clip(
        name, codec=codecs[Path(name).suffix], frames=20, rate=Fraction(25), pixel_format=format_, options=options
    )
    with VideoReader(path) as reader:
        times = [frame.pts_seconds for frame in reader]
        assert reader.lost == 0
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-6)
    assert len(times) == 20


def frame_check(codec: str) -> FrameCheck:
    context = SimpleNamespace(codec=SimpleNamespace(canonical_name=codec), extradata=None)
    container = SimpleNamespace(format=SimpleNamespace(name="mpegts"))
    return FrameCheck(container, SimpleNamespace(codec_context=context))


def fake_packet(pts: int, *units: int, data: bytes = b"") -> Fake:
    packet = Fake(b"".join(b"\0\0\1" + bytes((unit,)) + bytes(20) for unit in units) or data)
    packet.pts, packet.is_discard, packet.is_keyframe = pts, False, pts == 0
    return packet


def test_second_fields_are_not_missing() -> None:
    """In transport streams, each field of a frame that is coded as two pictures has a packet of its own."""
    check = frame_check("h264")
    for number in range(200):
        check.add(fake_packet(number * 1800, *((0x41,) if number else (0x67, 0x65))), 1)
        if number % 2:
            check.show(SimpleNamespace(pts=(number - 1) * 1800, interlaced_frame=True))
    check.finish()
    assert check.missing == 0


@pytest.mark.parametrize(
    ("codec", "start", "picture", "without"),
    [
        ("h264", (0x67, 0x65), 0x41, ((6,), (9, 6), (12,), (10,))),
        ("hevc", (0x40, 0x26), 0x02, ((0x46,), (0x4E,), (0x48,))),
        ("mpeg2video", (0xB3, 0x00), 0x00, ((0xB7,), (0xB2,))),
    ],
)
def test_packets_without_pictures_are_not_missing(
    codec: str, start: tuple[int, ...], picture: int, without: tuple[tuple[int, ...], ...]
) -> None:
    check = frame_check(codec)
    check.add(fake_packet(0, *start), 1)
    check.show(SimpleNamespace(pts=0, interlaced_frame=False))
    for number in range(1, 100):
        check.add(fake_packet(number * 10, picture), 1)
        check.add(fake_packet(number * 10 + 1, *without[number % len(without)]), 1)
        if number != 50:
            check.show(SimpleNamespace(pts=number * 10, interlaced_frame=False))
    check.finish()
    assert (check.missing, check.first_missing) == (1, 500)


class Fake(bytearray):
    """A packet, of which only what is set exists."""

    pts: int
    is_discard: bool
    is_keyframe: bool

    @property
    def size(self) -> int:
        return len(self)


def test_frame_size_change_is_an_error(tmp_path: Path, clip: MakeClip) -> None:
    first, second = clip("a.ts", frames=10), clip("b.ts", frames=10, size=(80, 60))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with VideoReader(both) as reader, pytest.raises(VideoError, match="the frame size changes from 64×48 to 80×60"):
        list(reader)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.00"), (59.999, "1:00.00"), (75.5, "1:15.50"), (3723.456, "1:02:03.46"), (-1, "-0:01.00")],
)
def test_format_time(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_unknown_codec_is_refused(clip: MakeClip) -> None:
    path = clip("a.avi", codec="mpeg4", options={})
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"zz9z"))
    with pytest.raises(VideoError, match="FFmpeg has no decoder for its codec"):
        VideoReader(path)
