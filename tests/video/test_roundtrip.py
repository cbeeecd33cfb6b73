"""Reading and writing preserves frames, times, audio, size and colours of many kinds of clips."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrfd_trt.errors import OptionError, OutputError
from scrfd_trt.video import EncodeOptions, Frame, VideoReader, VideoWriter, _colors, _encoders
from scrfd_trt.video._colors import LAYOUTS, planes

VARIABLE = [0, 40, 73, 74, 200, 233, 500, 540, 900, 1000, 1033, 1300]
SRT = "1\n00:00:00,100 --> 00:00:00,500\none\n\n2\n00:00:00,500 --> 00:00:00,900\ntwo\n"
KINDS: dict[str, dict[str, Any]] = {
    "constant 29.97": {"audio": 1.0},
    "variable": {"times": VARIABLE, "time_base": Fraction(1, 1000), "audio": 1.3},
    "rotated 90": {"rotation": 90, "audio": 1.0},
    "rotated 180": {"rotation": 180},
    "rotated 270": {"rotation": 270, "size": (63, 48), "pixel_format": "yuv444p"},
    "B-frames": {"options": {"bf": "3", "b-adapt": "0"}, "audio": 1.0},
    "audio longer": {"audio": 2.5},
    "no audio": {},
    "odd width": {"size": (63, 48), "pixel_format": "yuv444p"},
    "odd height": {"size": (64, 47), "pixel_format": "yuv422p"},
    "odd both": {"size": (61, 45), "pixel_format": "yuv444p", "audio": 1.0},
    "odd 4:2:0": {"name": "clip.mkv", "size": (61, 45), "codec": "ffv1"},
    "10 bits": {"pixel_format": "yuv420p10le", "audio": 1.0},
    "full range": {"colours": (1, 2, 1, 1)},
    "BT.601": {"colours": (5, 1, 6, 5)},
    "BT.2020 10 bits": {"colours": (9, 1, 16, 9), "pixel_format": "yuv420p10le"},
    "subtitles": {"name": "clip.mkv", "audio": 1.0, "subtitles": SRT},
    "starts late": {"times": [1000 + 40 * n for n in range(20)], "time_base": Fraction(1, 1000), "audio": 2.0},
    "matroska": {"name": "clip.mkv", "audio": 1.0},
    "transport stream": {"name": "clip.ts", "audio": 1.0},
}

MakeClip = Callable[..., Path]
Probe = Callable[[Path], Any]


def rewrite(source: Path, target: Path, draw: Any = None, **how: Any) -> Path:
    with (
        VideoReader(source, extra_streams=("audio", "subtitle")) as reader,
        VideoWriter(target, reader, how.pop("options", None), **how) as writer,
    ):
        for item in reader.items():
            if isinstance(item, Frame):
                writer.write(item, None if draw is None else draw(item.image))
            else:
                writer.copy(item)
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_everything_but_pixels_is_preserved(kind: str, clip: MakeClip, probed: Probe) -> None:
    source = clip(**KINDS[kind])
    before, after = probed(source), probed(rewrite(source, source.with_name(f"out{source.suffix}")))
    assert len(after.times) == len(before.times)
    np.testing.assert_allclose(after.times, before.times, atol=0.0005)
    assert after.duration == pytest.approx(before.duration, abs=0.001)
    for name in ("audio", "subtitle"):
        assert [s.codec for s in after.of(name)] == [s.codec for s in before.of(name)]
        for old, new in zip(before.of(name), after.of(name), strict=True):
            assert [data for *_, data in new.packets] == [data for *_, data in old.packets]
            np.testing.assert_allclose([p[0] for p in new.packets], [p[0] for p in old.packets], atol=0.0005)
    for name in ("colorspace", "color_range", "color_trc", "color_primaries"):
        assert getattr(after.frames[0], name) == getattr(before.frames[0], name), name


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("rotated 90", (48, 64)),
        ("rotated 180", (64, 48)),
        ("rotated 270", (48, 63)),
        ("odd both", (61, 45)),
        ("odd 4:2:0", (61, 45)),
    ],
)
def test_output_has_size_of_upright_frame(kind: str, size: tuple[int, int], clip: MakeClip, probed: Probe) -> None:
    source = clip(**KINDS[kind])
    frames = probed(rewrite(source, source.with_name("out.mp4"))).frames
    assert {(frame.width, frame.height) for frame in frames} == {size}
    assert {frame.rotation for frame in frames} == {0}


@pytest.mark.parametrize(("kind", "turns"), [("rotated 90", 3), ("rotated 180", 2), ("rotated 270", 1)])
def test_rotated_frames_are_upright(kind: str, turns: int, clip: MakeClip, rotate: Any) -> None:
    """Clockwise by 90 degrees is three quarter turns counterclockwise, NumPy's direction."""
    flat = clip(**KINDS[kind] | {"rotation": 0})
    source = flat.with_name("turned.mp4")
    source.write_bytes(flat.read_bytes())
    rotate(source, KINDS[kind]["rotation"])
    with VideoReader(source) as turned, VideoReader(flat) as plain:
        for one, other in zip(turned, plain, strict=True):
            np.testing.assert_array_equal(planes(one.picture)[0], np.rot90(planes(other.picture)[0], turns))
            # Subsampled chroma is interpolated at slightly different positions.
            assert np.abs(one.image.astype(int) - np.rot90(other.image, turns)).mean() < 1


MATRICES: dict[str, tuple[tuple[int, int, int, int], Callable[[Any], Any]]] = {
    "as it is": ((1, 0, 0, 1), lambda plane: plane),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "turned by 180": ((-1, 0, 0, -1), lambda plane: np.rot90(plane, 2)),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), np.transpose),
    "turned by 90": ((0, 1, -1, 0), lambda plane: np.rot90(plane, 3)),
    "transversed": ((0, -1, -1, 0), lambda plane: np.rot90(plane, 2).T),
    "turned by 270": ((0, -1, 1, 0), np.rot90),
}


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_turn_and_mirror(name: str, clip: MakeClip, turn: Any, probed: Probe) -> None:
    matrix, wanted = MATRICES[name]
    flat = clip(frames=2, pixel_format="yuv444p", size=(64, 48))
    source = flat.with_name("turned.mp4")
    source.write_bytes(flat.read_bytes())
    turn(source, matrix)
    with VideoReader(source) as turned, VideoReader(flat) as plain:
        for one, other in zip(turned, plain, strict=True):
            for plane, before in zip(planes(one.picture), planes(other.picture), strict=True):
                np.testing.assert_array_equal(plane, wanted(before))
            assert turned.info.size == one.image.shape[1::-1]
    frame = probed(rewrite(source, source.with_name("out.mp4"))).frames[0]
    assert "DISPLAYMATRIX" not in [data.type.name for data in frame.side_data]


@pytest.mark.parametrize(
    ("kind", "codec", "wanted"),
    [
        ("10 bits", "h264", "yuv420p10le"),
        ("10 bits", "hevc", "yuv420p10le"),
        ("10 bits", "vp9", "yuv420p"),
        ("constant 29.97", "h264", "yuv420p"),
        ("full range", "h264", "yuvj420p"),
        ("odd width", "h264", "yuv444p"),
        ("odd height", "h264", "yuv422p"),
        ("odd 4:2:0", "vp9", "yuv420p"),
    ],
)
def test_pixel_format(kind: str, codec: str, wanted: str, clip: MakeClip, probed: Probe) -> None:
    source = clip(**KINDS[kind])
    options = EncodeOptions(codec=codec)  # type: ignore[arg-type]
    assert probed(rewrite(source, source.with_name("out.mkv"), options=options)).frames[0].format.name == wanted


@pytest.mark.parametrize("kind", ["constant 29.97", "10 bits", "full range", "BT.601", "odd both", "odd height"])
def test_only_pixels_under_overlay_change(kind: str, clip: MakeClip) -> None:
    """With a lossless encoder, pixels outside of the overlay have the same bits."""
    source = clip(**KINDS[kind])

    def draw(image: Any) -> Any:
        drawn = image.copy()
        drawn[11:31, 21:44] = (20, 160, 240)
        return drawn

    options = EncodeOptions(codec="h264", crf=0)
    out = rewrite(source, source.with_name("out.mkv"), draw, options=options)
    with VideoReader(source) as reader, VideoReader(out) as drawn:
        for before, after in zip(reader, drawn, strict=True):
            deep = LAYOUTS[before.picture.format.name].bits > 8  # of 1023; x264 is lossless with 8 bits only
            for old, new in zip(planes(before.picture), planes(after.picture), strict=True):
                down, across = round(before.picture.height / old.shape[0]), round(before.picture.width / old.shape[1])
                changed = np.abs(new.astype(int) - old)
                changed[10 // down : 32 // down, 20 // across : 44 // across] = 0
                assert changed.max() <= 16 * deep
            assert np.abs(after.image[14:28, 26:40].astype(int) - (20, 160, 240)).max() <= 8


def test_mp4_index_precedes_media_data(clip: MakeClip) -> None:
    out = rewrite(clip(audio=1.0), clip().with_name("out.mp4")).read_bytes()
    assert out.index(b"moov") < out.index(b"mdat")


def test_stream_titles_are_dropped_but_language_is_kept(clip: MakeClip) -> None:
    av = pytest.importorskip("av")
    source = clip("clip.mkv", audio=0.5, options={"bf": "0"})
    tagged = source.with_name("tagged.mkv")
    with av.open(str(source)) as old, av.open(str(tagged), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        streams[1].metadata.update({"title": "Jane's phone at 48.1 N", "comment": "x", "language": "eng"})
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    for keep, title in ((False, None), (True, "Jane's phone at 48.1 N")):
        with av.open(str(rewrite(tagged, tagged.with_name(f"{keep}.mkv"), keep_metadata=keep))) as out:
            tags = out.streams.audio[0].metadata
            assert (tags["language"], tags.get("title"), tags.get("comment")) == ("eng", title, None)


def test_interlaced_frames_stay_interlaced(clip: MakeClip, probed: Probe) -> None:
    source = clip(size=(64, 64), options={"flags": "+ildct+ilme", "x264-params": "tff=1"})
    with VideoReader(source) as reader:
        assert reader.info.interlaced

    def draw(image: Any) -> Any:
        drawn = image.copy()
        drawn[10:30, 10:30] = 0
        return drawn

    assert all(frame.interlaced_frame for frame in probed(rewrite(source, source.with_name("out.mp4"), draw)).frames)
    plain = clip("plain.mp4")
    assert not any(frame.interlaced_frame for frame in probed(rewrite(plain, plain.with_name("b.mp4"))).frames)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_hdr10_metadata_is_kept(codec: str, clip: MakeClip, probed: Probe) -> None:
    light = "hdr10=1:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,500)"
    source = clip(
        codec="libx265",
        options={"x265-params": f"log-level=error:{light}:max-cll=1000,400"},
        colours=(9, 1, 16, 9),
        pixel_format="yuv420p10le",
        frames=5,
    )
    options = EncodeOptions(codec=codec)  # type: ignore[arg-type]
    out = rewrite(source, source.with_name("out.mp4"), options=options)
    for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        before, after = (bytes(probed(path).frames[0].side_data.get(kind)) for path in (source, out))
        assert before == after, kind


@pytest.mark.parametrize(("suffix", "tag"), [(".mp4", "hvc1"), (".mov", "hvc1"), (".mkv", None)])
def test_ten_bits_become_hevc_that_phones_play(suffix: str, tag: str | None, clip: MakeClip, probed: Probe) -> None:
    """HLG, as phones record it: transfer 18, primaries and matrix of BT.2020."""
    source = clip(
        "clip.mkv", pixel_format="yuv420p10le", colours=(9, 1, 18, 9), frames=5, options={"preset": "superfast"}
    )
    out = rewrite(source, source.with_name(f"out{suffix}"))
    after = probed(out)
    assert after.of("video")[0].codec == "hevc"
    frame = after.frames[0]
    assert (frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries) == (9, 1, 18, 9)
    assert frame.format.name == "yuv420p10le"
    assert (b"hvc1" in out.read_bytes()) is (tag is not None)
    assert b"hev1" not in out.read_bytes()


def test_tag_of_hevc_is_for_players_of_apple(clip: MakeClip) -> None:
    source = clip(frames=3)
    out = rewrite(source, source.with_name("out.mp4"), options=EncodeOptions(codec="hevc", preset="ultrafast"))
    assert b"hvc1" in out.read_bytes()
    assert b"hev1" not in out.read_bytes()


def test_ten_bits_stay_h264_without_an_encoder_of_hevc(
    clip: MakeClip, probed: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_encoders, "has_encoder", lambda _: False)
    source = clip(pixel_format="yuv420p10le", frames=3)
    assert probed(rewrite(source, source.with_name("out.mp4"))).of("video")[0].codec == "h264"


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "mpeg4"])
def test_crf_0_is_the_best_quality(codec: str, clip: MakeClip) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    source = clip(frames=4, draw=lambda number, size: noise[number : number + size[1], number : number + size[0]])
    worst, best, default = (
        rewrite(source, source.with_name(f"{crf}.mkv"), options=EncodeOptions(codec=codec, crf=crf))  # type: ignore[arg-type]
        for crf in (40, 0, None)
    )

    def error(path: Path) -> float:
        with VideoReader(source) as before, VideoReader(path) as after:
            pairs = zip(before, after, strict=True)
            return float(np.mean([np.abs(one.image.astype(int) - other.image).mean() for one, other in pairs]))

    assert error(best) < error(default) < error(worst)


@pytest.mark.parametrize("times", [None, [0, 1, 2, 3, 6, 7, 8, 11]])
def test_avi_has_constant_frame_rate(times: list[int] | None, clip: MakeClip, probed: Probe) -> None:
    source = clip("clip.mkv", times=times, audio=1.0, audio_codec="libmp3lame", options={"bf": "3"})
    before, after = probed(source), probed(rewrite(source, source.with_name("out.avi")))
    assert after.of("video")[0].codec == "mpeg4"
    np.testing.assert_allclose(after.times, np.array(before.times) - before.times[0], atol=0.0015)
    data = [[packet[2] for packet in one.of("audio")[0].packets] for one in (before, after)]
    assert data[0] == data[1]


def test_avi_rejects_codec_that_reorders_frames(clip: MakeClip) -> None:
    source = clip()
    with pytest.raises(OptionError, match=r"AVI stores no timestamps for libx264; .* \.mp4 file, or use mpeg4"):
        rewrite(source, source.with_name("out.avi"), options=EncodeOptions(codec="h264"))


def test_full_range_becomes_limited_without_range_tag(clip: MakeClip, probed: Probe) -> None:
    source = clip("clip.avi", codec="mjpeg", pixel_format="yuvj420p", rate=Fraction(25))
    out = rewrite(source, source.with_name("out.avi"))
    for before, after in zip(probed(source).frames, probed(out).frames, strict=True):
        away = before.to_ndarray(format="bgr24").astype(int) - after.to_ndarray(format="bgr24")
        assert np.abs(away).mean() < 3
        assert abs(away.mean()) < 1


def test_mpeg4_quality_changes_size(clip: MakeClip) -> None:
    source = clip(size=(65, 47), pixel_format="yuv444p")
    sizes = [
        rewrite(source, source.with_name(f"{crf}.avi"), options=EncodeOptions(codec="mpeg4", crf=crf)).stat().st_size
        for crf in (0, 10, 40)
    ]
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2]


def test_avi_rejects_variable_frame_rate(clip: MakeClip) -> None:
    source = clip(**KINDS["variable"] | {"audio": 0.0})
    with pytest.raises(
        OutputError, match=r"frame \d+ at 0:00\.\d+ does not fit a constant rate .* name a \.mkv"
    ) as caught:
        rewrite(source, source.with_name("out.avi"))
    assert str(caught.value).count("cannot write") == 1
    assert [path.name for path in source.parent.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9"])
@pytest.mark.parametrize("subtitles", [True, False])
def test_closed_captions_are_kept_as_subtitles_are(codec: Any, subtitles: bool, captioned: Path) -> None:
    options = EncodeOptions(codec=codec, subtitles=subtitles)
    with VideoReader(captioned) as reader, VideoWriter(captioned.with_name("out.mkv"), reader, options) as writer:
        assert reader.info.has_captions
        for frame in reader:
            writer.write(frame)
    with VideoReader(writer.path) as reader:
        assert reader.info.has_captions == (subtitles and codec != "vp9")
    assert writer.omitted == (["closed captions"] if subtitles and codec == "vp9" else [])
    assert b"unknown" not in writer.path.read_bytes()


def test_mpeg4_of_transport_stream(clip: MakeClip) -> None:
    source = clip("clip.ts", frames=5)
    options = EncodeOptions(codec="mpeg4")
    with VideoReader(source) as reader, VideoWriter(source.with_name("out.mp4"), reader, options) as writer:
        for frame in reader:
            writer.write(frame)
    assert writer.frames == 5


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (["DOVI_RPU_BUFFER", "DOVI_METADATA"], ("Dolby Vision",)),
        (["DYNAMIC_HDR_PLUS"], ("HDR10+",)),
        (["SEI_UNREGISTERED"], ()),
    ],
)
def test_hdr_that_differs_between_frames_is_named_as_lost(
    kinds: list[str], names: tuple[str, ...], clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No encoder here writes such metadata, so the side data of frames is made up."""
    monkeypatch.setattr(_colors, "side_data", lambda _: dict.fromkeys(kinds, b"data"))
    source = clip(frames=3)
    with VideoReader(source) as reader, VideoWriter(source.with_name("out.mp4"), reader) as writer:
        assert reader.info.dynamic_hdr == names
        for frame in reader:
            writer.write(frame)
    assert writer.omitted == list(names)


@pytest.mark.parametrize(
    ("how", "options", "lost"),
    [
        ({"pixel_format": "yuv420p10le"}, {"codec": "vp9"}, ["10 bits per component"]),
        ({"pixel_format": "yuv420p10le"}, {"codec": "h264"}, []),
        ({"codec": "ffv1", "pixel_format": "yuva420p"}, {}, ["alpha channel"]),
    ],
)
def test_what_the_encoder_loses_is_named(
    how: dict[str, Any], options: dict[str, Any], lost: list[str], clip: MakeClip
) -> None:
    source = clip("clip.mkv", frames=3, **how)
    target = source.with_name("out.mkv")
    with VideoReader(source) as reader, VideoWriter(target, reader, EncodeOptions(**options)) as writer:
        for frame in reader:
            writer.write(frame)
    assert writer.omitted == lost
