"""Audio and subtitles in each container: what players play is copied, all else is encoded at the same times."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scrfd_trt.errors import OptionError, VideoError
from scrfd_trt.video import EncodeOptions, Frame, VideoReader, VideoWriter
from scrfd_trt.video._timestamps import DiscontinuityCorrector

av = pytest.importorskip("av")
RATE = 48000
ONSET = 0.4  # seconds of silence before the tone
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".ts", ".avi")


def tone(seconds: float, channels: int, rate: int, start: float = 0.0) -> Any:
    """Silence, and a tone from ONSET on: ``(channels, samples)`` float32."""
    at = np.arange(round(seconds * rate)) / rate + start
    wave = np.where(at >= ONSET, np.sin(at * 2800) * 0.5, 0.0).astype(np.float32)
    return np.tile(wave, (channels, 1))


def write_source(
    path: Path,
    codec: str,
    *,
    layout: str = "stereo",
    rate: int = RATE,
    video: str = "libx264",
    pieces: tuple[tuple[float, float], ...] = ((0.0, 1.0),),
    container: dict[str, str] | None = None,
    form: str | None = None,
    tracks: int = 1,
    **tags: str,
) -> Path:
    """Write ten frames a second for a second, and tracks of sound in pieces: start and length in seconds."""
    with av.open(str(path), "w", format=form, container_options=container or {}) as out:
        stream = out.add_stream(video, rate=25 if video == "mpeg2video" else 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sounds = []
        for _ in range(tracks):
            sound = out.add_stream(codec, rate=rate, options={"strict": "-2"})
            sound.codec_context.layout = layout
            if codec == "wmav2":
                sound.codec_context.bit_rate = 128_000
            sound.metadata.update(tags)
            sounds.append(sound)
        for number in range(25 if video == "mpeg2video" else 10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 8, np.uint8), "bgr24")
            frame.pts = number
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
        for sound in sounds:
            for start, length in pieces:
                samples = tone(length, sound.codec_context.layout.nb_channels, rate, start)
                for at in range(0, samples.shape[1], 1024):
                    packed = np.ascontiguousarray(samples[:, at : at + 1024].T).reshape(1, -1)
                    part = av.AudioFrame.from_ndarray(packed, "flt", layout)
                    part.sample_rate, part.time_base = rate, Fraction(1, rate)
                    part.pts = round(start * rate) + at
                    out.mux(sound.encode(part))
            out.mux(sound.encode(None))
    return path


def rewrite(source: Path, target: Path, damaged: Any = "stop", **options: Any) -> VideoWriter:
    with (
        VideoReader(source, damaged=damaged, extra_streams=("audio", "subtitle")) as reader,
        VideoWriter(target, reader, EncodeOptions(**options)) as writer,
    ):
        for item in reader.items():
            if isinstance(item, Frame):
                writer.write(item)
            else:
                writer.copy(item)
    return writer


def heard(path: Path, track: int = 0) -> tuple[str, int, float, float]:
    """Return codec and channels, and when the tone starts and ends, in seconds after the first frame."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        name, loud, channels = stream.codec_context.codec.canonical_name, [], stream.codec_context.layout.nb_channels
        resampler, end = av.AudioResampler("flt"), 0.0
        for frame in container.decode(stream):
            start = end if frame.time is None else frame.time  # ASF has times of packets only
            for packed in resampler.resample(frame):
                found = np.flatnonzero(np.abs(packed.to_ndarray()) > 0.2) // channels
                loud += [start + found[at] / frame.sample_rate for at in (0, -1) if len(found)]
            end = start + frame.samples / frame.sample_rate
    return name, channels, min(loud) - first, max(loud) - first


SOURCES: dict[str, dict[str, Any]] = {
    "aac.mkv": {"codec": "aac"},
    "flac.mkv": {"codec": "flac"},
    "alac.mov": {"codec": "alac"},
    "vorbis.mkv": {"codec": "vorbis"},
    "opus.mkv": {"codec": "libopus"},
    "mp2.ts": {"codec": "mp2"},
    "ac3.mkv": {"codec": "ac3", "layout": "5.1"},
    "wma.wmv": {"codec": "wmav2", "video": "wmv2"},
    "pcm.mov": {"codec": "pcm_s16be", "layout": "5.1", "rate": 44100},
    "pcm.mxf": {"codec": "pcm_s16le", "layout": "mono", "video": "mpeg2video"},
    "pcm.avi": {"codec": "pcm_s16le", "video": "mpeg4", "rate": 11025},
    "pcm24.mkv": {"codec": "pcm_s24le"},
    "bluray.m2ts": {"codec": "pcm_bluray", "container": {"mpegts_m2ts_mode": "1"}, "form": "mpegts"},
    "dvd.vob": {"codec": "pcm_dvd", "video": "mpeg2video"},
}
COPIED = {
    "aac": ".mp4 .mov .mkv .ts",
    "flac": ".mp4 .mkv",
    "alac": ".mp4 .mov .mkv",
    "vorbis": ".mkv .webm",
    "opus": ".mp4 .mkv .webm .ts",
    "mp2": ".mov .mkv .ts .avi",
    "ac3": ".mp4 .mov .mkv .ts .avi",
    "pcm_s16be": ".mov .mkv",
    "pcm_s16le": ".mov .mkv .avi",
    "pcm_s24le": ".mov .mkv .avi",
}
ENCODED = {".webm": "opus", ".avi": "pcm_s16le"}


@pytest.mark.parametrize("name", SOURCES)
def test_audio_is_copied_or_encoded_at_the_same_times(name: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / name, **SOURCES[name])
    codec, channels, start, end = heard(source)
    assert start == pytest.approx(ONSET, abs=0.06)
    for suffix in SUFFIXES:
        if suffix == ".avi" and name in ("mp2.ts", "bluray.m2ts", "dvd.vob"):
            continue  # AVI does not take videos that start late
        target = tmp_path / f"out{suffix}"
        writer = rewrite(source, target)
        expected = codec if suffix in COPIED.get(codec, "").split() else ENCODED.get(suffix, "aac")
        if expected == "aac" != codec and codec.startswith("pcm_") and suffix in (".mov", ".mkv"):
            expected = "pcm_s16le"
        if suffix == ".avi" and codec == "pcm_s24le":
            expected = "pcm_s24le"
        got = heard(target)
        assert got[:2] == (expected, channels), suffix
        assert got[2:] == pytest.approx((start, end), abs=0.012), suffix
        assert writer.converted == ([] if expected == codec else [f"audio {codec} as {expected}"])
        if expected != codec:
            before = sorted(tmp_path.iterdir())
            with pytest.raises(OptionError, match=f"do not play {codec} audio in {suffix} files") as caught:
                rewrite(source, tmp_path / f"copy{suffix}", audio="copy")
            assert caught.value.fields == ("audio",)
            assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sound_that_starts_late_and_has_a_gap_keeps_its_times(suffix: str, tmp_path: Path) -> None:
    """The tone is heard from 0.5 to 0.7 and from 0.9 to 1.1 seconds; the gap becomes silence."""
    source = write_source(tmp_path / "clip.mkv", "pcm_f32le", pieces=((0.5, 0.2), (0.9, 0.2)))
    target = tmp_path / f"out{suffix}"
    rewrite(source, target)
    assert heard(target)[2:] == pytest.approx((0.5, 1.1), abs=0.012)
    with av.open(str(target)) as container:
        first = next(container.decode(video=0)).time
        container.seek(0)
        quiet = [
            float(np.abs(frame.to_ndarray().astype(float)).max())
            for frame in container.decode(audio=0)
            if 0.74 < frame.time - first < 0.84
        ]
    assert max(quiet, default=0.0) < 0.02 * (32768 if suffix == ".avi" else 1)
    assert bool(quiet) is (suffix != ".mkv")  # copied there


def join(out: Any, *inputs: Any) -> None:
    """Copy all streams of containers into one."""
    pairs = [(one, [out.add_stream_from_template(stream) for stream in one.streams]) for one in inputs]
    for container, streams in pairs:
        for packet in container.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)


def test_copied_sound_that_starts_late_is_not_moved_in_avi(tmp_path: Path) -> None:
    source = write_source(tmp_path / "clip.mkv", "libmp3lame", pieces=((0.5, 0.5),))
    writer = rewrite(source, tmp_path / "out.avi")
    assert heard(tmp_path / "out.avi")[2] == pytest.approx(0.5, abs=0.03)
    assert writer.converted == ["audio mp3 as pcm_s16le"]


def test_each_track_keeps_language_and_disposition(tmp_path: Path) -> None:
    source = write_source(tmp_path / "clip.mkv", "flac", tracks=2, language="fra", title="Jane's phone")
    rewrite(source, tmp_path / "out.mov")
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mov")) as after:
        assert [one.codec_context.name for one in after.streams.audio] == ["aac", "aac"]
        for old, new in zip(before.streams.audio, after.streams.audio, strict=True):
            assert new.metadata["language"] == "fra"
            assert "Jane" not in str(new.metadata)
            assert old.disposition & new.disposition == old.disposition
    assert [heard(tmp_path / "out.mov", track)[2] for track in (0, 1)] == pytest.approx([ONSET, ONSET], abs=0.012)


FRONT, BACK = [300, 400], [600, 700]


@pytest.mark.parametrize(
    ("layout", "source", "suffix", "expected"),
    [
        ("mono", "mkv", ".mp4", [300]),
        ("3.0", "mkv", ".webm", [*FRONT, 500, 0, 0, 0]),
        ("2.1", "mov", ".webm", [*FRONT, 0, 500, 0, 0]),
        ("quad", "mkv", ".mp4", [*FRONT, 0, 0, 500, 600]),
        ("5.0", "mkv", ".webm", [*FRONT, 500, 0, *BACK]),
        ("5.0(side)", "mov", ".mp4", [*FRONT, 500, *BACK]),
        ("5.1(side)", "mov", ".webm", [*FRONT, 500, 600, 700, 800]),
        ("6.1", "mov", ".webm", [*FRONT, 500, 600, 700, 700, 800, 900]),
        ("7.1", "mkv", ".webm", [*FRONT, 500, 600, 700, 800, 900, 1000]),
        ("7.1(wide)", "mov", ".avi", [*FRONT, 500, 600, 700, 800, 900, 1000]),
        ("16 channels", "mkv", ".mov", [300 + 100 * number for number in range(16)]),
        ("16 channels", "mkv", ".avi", [300 + 100 * number for number in range(16)]),
    ],
)
def test_each_channel_stays_in_its_place(
    layout: str, source: str, suffix: str, expected: list[int], tmp_path: Path
) -> None:
    """Each channel has a tone of its own, in Hz; PCM in Matroska declares the number of channels only."""
    clip = write_channels(tmp_path / f"clip.{source}", layout)
    rewrite(clip, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        resampler = av.AudioResampler("flt", rate=RATE)
        frames = [part.to_ndarray() for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        channels = container.streams.audio[0].codec_context.layout.nb_channels
    spectrum = np.abs(np.fft.rfft(np.concatenate(frames, 1).reshape(-1, channels)[4800:14400], axis=0))
    hertz = np.round(spectrum.argmax(0) * 5, -2) * (spectrum.max(0) > 40)
    assert hertz.astype(int).tolist() == expected


def test_more_channels_than_the_codec_takes_are_an_error(tmp_path: Path) -> None:
    clip = write_channels(tmp_path / "clip.mkv", "16 channels")
    with pytest.raises(OptionError, match=r"audio with 16 channels cannot be encoded as aac; name a \.mov file"):
        rewrite(clip, tmp_path / "out.mp4")


def write_channels(path: Path, layout: str) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=RATE)
        sound.codec_context.layout = layout
        tones = 300 + 100 * np.arange(sound.codec_context.layout.nb_channels)
        waves = np.sin(2 * np.pi * np.arange(RATE * 4 // 10)[:, None] * tones / RATE) * 12000
        part = av.AudioFrame.from_ndarray(waves.astype(np.int16).reshape(1, -1), "s16", layout)
        part.sample_rate, part.pts, part.time_base = RATE, 0, Fraction(1, RATE)
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 8, np.uint8), "bgr24")
            frame.pts = number
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
        out.mux(sound.encode(part))
        out.mux(sound.encode())
    return path


def test_damaged_audio_is_an_error_or_becomes_silence(tmp_path: Path) -> None:
    source = write_source(tmp_path / "clip.mkv", "flac", pieces=((0.5, 1.0),))
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    for packet in packets[3:6]:
        at = data.index(packet)
        data[at : at + len(packet)] = bytes(len(packet))
    source.write_bytes(bytes(data))
    with pytest.raises(VideoError, match=r"the audio at .* is damaged .*; damaged='keep' replaces it by"):
        rewrite(source, tmp_path / "out.mov")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]
    rewrite(source, tmp_path / "out.mov", damaged="keep")
    assert heard(tmp_path / "out.mov")[2:] == pytest.approx((0.5, 1.5), abs=0.012)


def test_clock_that_jumps_makes_no_hours_of_silence(tmp_path: Path) -> None:
    source = write_source(tmp_path / "clip.mkv", "flac", pieces=((0.0, 0.6), (36000.0, 0.2)))
    with pytest.raises(VideoError, match=r"clock of the audio is damaged: it jumps from 0:00\.6\d to 10:00:00\.0\d;"):
        rewrite(source, tmp_path / "out.webm")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]
    rewrite(source, tmp_path / "out.webm", damaged="keep")
    assert heard(tmp_path / "out.webm")[2:] == pytest.approx((ONSET, 0.8), abs=0.05)


def test_audio_and_subtitles_can_be_dropped(tmp_path: Path) -> None:
    source = with_subtitles(tmp_path, "subrip")
    writer = rewrite(source, tmp_path / "out.mkv", audio="drop", subtitles=False)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert "audio aac" in writer.omitted


SRT = "1\n00:00:00,100 --> 00:00:00,400\nHello <i>you</i>\n\n2\n00:00:00,600 --> 00:00:00,900\nTwo\nlines\n"


def with_subtitles(folder: Path, codec: str) -> Path:
    """Write a clip with sound and subtitles; all codecs are made from SubRip."""
    path = folder / ("clip.mp4" if codec == "mov_text" else "clip.mkv")
    plain = write_source(folder / "plain.mp4", "aac")
    with (
        av.open(str(plain)) as source,
        av.open(io.BytesIO(SRT.encode()), format="srt") as text,
        av.open(str(path), "w") as out,
    ):
        streams = {one.index: out.add_stream_from_template(one) for one in source.streams}
        if codec == "subrip":
            titles = out.add_stream_from_template(text.streams[0])
        else:
            titles = out.add_stream(codec)
            titles.time_base = titles.codec_context.time_base = Fraction(1, 1000)
            text.streams[0].codec_context.open(strict=False)
            titles.codec_context.subtitle_header = text.streams[0].codec_context.subtitle_header
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
        for packet in text.demux():
            if packet.pts is None:
                continue
            line = packet
            if codec != "subrip":
                line = titles.codec_context.encode_subtitle(text.streams[0].codec_context.decode2(packet))
                line.pts = line.dts = packet.pts
                line.duration, line.time_base = packet.duration, packet.time_base
            line.stream = titles
            out.mux(line)
    plain.unlink()
    return path


def read_subtitles(path: Path) -> tuple[str, list[tuple[float, float, str]]]:
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            if packet.pts is not None and len(bytes(packet)) > 2:
                rects = packet.decode()
                text = rects[0].dialogue.decode() if rects else ""
                start = float(packet.pts * packet.time_base)
                found.append((start, start + float((packet.duration or 0) * packet.time_base), text))
        return stream.codec_context.codec.canonical_name, found


@pytest.mark.parametrize("codec", ["subrip", "ass", "webvtt", "mov_text"])
def test_subtitles_are_copied_or_converted(codec: str, tmp_path: Path) -> None:
    source = with_subtitles(tmp_path, codec)
    assert read_subtitles(source)[0] == codec
    wanted = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": codec, ".webm": "webvtt"}
    if codec == "mov_text":
        wanted[".mkv"] = "subrip"
    for suffix in SUFFIXES:
        target = tmp_path / f"out{suffix}"
        writer = rewrite(source, target)
        if suffix not in wanted:
            assert writer.omitted == [f"subtitles {codec}"]
            with av.open(str(target)) as container:
                assert [stream.type for stream in container.streams] == ["video", "audio"]
            continue
        name, lines = read_subtitles(target)
        assert name == wanted[suffix]
        assert (f"subtitles {codec} as {name}" in writer.converted) is (name != codec)
        np.testing.assert_allclose([line[:2] for line in lines], [(0.1, 0.4), (0.6, 0.9)], atol=0.03)
        assert "Hello" in lines[0][2]
        assert "you" in lines[0][2]
        assert "Two" in lines[1][2]


@pytest.mark.parametrize(("name", "codec"), [("clip.mkv", "aac"), ("clip.mkv", "flac"), ("clip.ts", "aac")])
def test_track_without_sound_is_no_error(name: str, codec: str, tmp_path: Path) -> None:
    """As in recordings whose microphone was off: the file declares a track, and no packet follows."""
    source = write_source(tmp_path / name, codec, pieces=())
    with av.open(str(source)) as container:
        assert len(container.streams.audio) == 1
    for suffix in SUFFIXES:
        if (name, suffix) == ("clip.ts", ".avi"):
            continue  # AVI does not take videos that start late
        writer = rewrite(source, tmp_path / f"out{suffix}")
        assert writer.omitted == (["audio aac without known format"] if name == "clip.ts" else [])
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            assert len(list(container.decode(video=0))) == 10


def presentation_graphics() -> bytes:
    """A subtitle of Blu-ray discs from 0.2 to 0.7 seconds: a picture of 16 by 8 pixels, and its end."""

    def segment(seconds: float, kind: int, data: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", round(seconds * 90_000), 0, kind, len(data)) + data

    lines = (b"\0\x90\x01" + b"\0\0") * 8  # sixteen pixels of colour 1, and the end of the line
    screen, window = struct.pack(">HHB", 64, 48, 0x10), struct.pack(">BBHHHH", 1, 0, 8, 8, 16, 8)
    picture = struct.pack(">HBB", 0, 0, 0xC0) + (len(lines) + 4).to_bytes(3, "big") + struct.pack(">HH", 16, 8) + lines
    shown = [(0x16, screen + b"\0\1\x80\0\0\1" + struct.pack(">HBBHH", 0, 0, 0, 8, 8)), (0x17, window)]
    shown += [(0x14, bytes([0, 0, 1, 200, 128, 128, 255])), (0x15, picture), (0x80, b"")]
    hidden = [(0x16, screen + b"\0\2\0\0\0\0"), (0x17, window), (0x80, b"")]
    return b"".join(segment(at, *one) for at, segments in ((0.2, shown), (0.7, hidden)) for one in segments)


def test_subtitles_of_pictures_are_copied_or_named(tmp_path: Path) -> None:
    plain, source = write_source(tmp_path / "plain.mp4", "flac"), tmp_path / "clip.mkv"
    with (
        av.open(str(plain)) as clip,
        av.open(io.BytesIO(presentation_graphics()), format="sup") as pictures,
        av.open(str(source), "w") as out,
    ):
        join(out, clip, pictures)
    for suffix in SUFFIXES:
        writer = rewrite(source, tmp_path / f"out{suffix}")
        assert writer.omitted == ([] if suffix == ".mkv" else ["subtitles hdmv_pgs_subtitle"])
    for name in ("clip.mkv", "out.mkv"):
        with av.open(str(tmp_path / name)) as container:
            packets = [(packet.pts, bytes(packet)) for packet in container.demux(subtitles=0) if packet.pts is not None]
            assert [pts for pts, _ in packets] == [200, 700]
            assert packets[0][1].count(b"\0\x90\x01") == 8


ASS = """[Script Info]
; Script of Jane
Title: Jane's party
Original Script: Jane
ScriptType: v4.00+
PlayResX: 64
PlayResY: 48

[Aegisub Project Garbage]
Video File: /home/jane/party.mkv

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,20,&H00FFFFFF,2

[Fonts]
fontname: jane.ttf

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.10,0:00:00.50,Default,,0,0,0,,Hello
"""


def test_head_of_ass_subtitles_names_nobody(tmp_path: Path) -> None:
    plain, source = write_source(tmp_path / "plain.mp4", "flac"), tmp_path / "clip.mkv"
    with (
        av.open(str(plain)) as clip,
        av.open(io.BytesIO(ASS.encode()), format="ass") as text,
        av.open(str(source), "w") as out,
    ):
        join(out, clip, text)
    assert source.read_bytes().lower().count(b"jane") == 5
    rewrite(source, tmp_path / "out.mkv")
    data = (tmp_path / "out.mkv").read_bytes()
    assert b"jane" not in data.lower()
    for kept in (b"PlayResX: 64", b"Style: Default,Arial", b"[Events]", b"Hello"):
        assert kept in data
    assert read_subtitles(tmp_path / "out.mkv")[1][0][2] == "Hello"


def test_head_of_vorbis_has_no_comments(tmp_path: Path) -> None:
    plain, source = write_source(tmp_path / "plain.mkv", "vorbis", video="mpeg4"), tmp_path / "clip.mkv"
    with av.open(str(plain)) as clip, av.open(str(source), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in clip.streams]
        head = streams[1].codec_context.extradata
        first, rest = head[3 : 3 + head[1]], head[3 + head[1] + head[2] :]
        tag = b"ARTIST=Jane" + b"x" * 600
        comments = b"\3vorbis" + bytes(4) + struct.pack("<II", 1, len(tag)) + tag + b"\1"
        sizes = bytes([2, len(first)]) + b"\xff" * (len(comments) // 255) + bytes([len(comments) % 255])
        streams[1].codec_context.extradata = sizes + first + comments + rest
        for packet in clip.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    assert b"ARTIST=Jane" in source.read_bytes()
    for suffix in (".mkv", ".webm"):
        rewrite(source, tmp_path / f"out{suffix}")
        assert b"ARTIST=Jane" not in (tmp_path / f"out{suffix}").read_bytes()
        assert heard(tmp_path / f"out{suffix}") == pytest.approx(heard(source), abs=0.01)


@pytest.mark.parametrize("number", [0, 5])
def test_recording_may_start_within_sound(number: int, tmp_path: Path) -> None:
    """Players start with the first frame that is complete; later ones are damaged."""
    source = write_source(tmp_path / "clip.mpg", "mp2", video="mpeg2video")
    with (
        VideoReader(source, extra_streams=("audio",)) as reader,
        VideoWriter(tmp_path / "out.mp4", reader) as writer,
    ):
        sound = (item for item in reader.items() if isinstance(item, av.Packet))
        for _ in range(number):
            writer.copy(next(sound))
        packet, part = next(sound), av.Packet(bytes(100))
        part.pts, part.dts, part.time_base, part.stream = packet.pts, packet.dts, packet.time_base, packet.stream
        if number:
            with pytest.raises(VideoError, match="is damaged and cannot be decoded"):
                writer.copy(part)
        else:
            writer.copy(part)
        writer.discard()


@pytest.mark.parametrize(
    ("kind", "duration", "kept"), [("audio", 23, [1, 1, 0, 0, 1]), ("audio", 1, [1] * 5), ("subtitle", 23, [1] * 5)]
)
def test_sound_that_overlaps_in_joined_files_is_left_out(kind: str, duration: int, kept: list[int]) -> None:
    """Muxers refuse it. Subtitles may overlap, and TrueHD has several frames in a tick of Matroska."""
    corrector, stream = DiscontinuityCorrector(), SimpleNamespace(index=1, type=kind)
    packets = [
        SimpleNamespace(stream=stream, pts=at, dts=at, duration=duration, time_base=Fraction(1, 1000))
        for at in (0, 23, 23, 10, 46)
    ]
    assert [corrector.correct(packet) for packet in packets] == kept
