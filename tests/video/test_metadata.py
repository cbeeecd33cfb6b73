"""Metadata of copies: a list of what is kept, and names of what is dropped."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from scrfd_trt.video import EncodeOptions, Frame, VideoReader, VideoWriter, _metadata

av = pytest.importorskip("av")
Make = Callable[..., Path]
APPLE = "com.apple.quicktime."
PLAIN = {
    "title": "At Jane's",
    "artist": "Jane",
    "copyright": "(c) Jane",
    "creation_time": "2024-01-02T03:04:05.000000Z",
    "comment": "Jane was here",
    "location": "+48.2000+016.4000/",
}
PHONE = {
    f"{APPLE}make": "Phones",
    f"{APPLE}model": "P15",
    f"{APPLE}camera.lens_model": "wide lens",
    f"{APPLE}software": "17.1 of Jane",
    f"{APPLE}creationdate": "2024-01-02T03:04:05+0100",
    f"{APPLE}location.ISO6709": "+48.2000+016.4000/",
}
PLACE = "+48.2000+016.4000/"


def write_tagged(path: Path) -> Path:
    """Write an .mp4 file with a cover picture and chapters, or a .mov file of a phone with a timecode."""
    is_phone = path.suffix == ".mov"
    options = {"movflags": "use_metadata_tags"} if is_phone else {}
    with av.open(str(path), "w", container_options=options) as out:
        out.metadata.update(PHONE if is_phone else PLAIN)
        stream = out.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        cover = None
        if is_phone:
            stream.metadata["timecode"] = "01:00:00:00"
        else:
            times = {"time_base": Fraction(1, 1000)}
            out.set_chapters(
                [
                    {"id": 1, "start": 0, "end": 500, "metadata": {"title": "Jane's door"}, **times},
                    {"id": 2, "start": 500, "end": 1000, "metadata": {"title": "Jane"}, **times},
                ]
            )
            cover = out.add_stream("png", rate=1)
            cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
            cover.disposition = av.stream.Disposition.attached_pic
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 8, np.uint8), "bgr24")
            frame.pts = number
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
        if cover is not None:
            out.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), "rgb24")))
            out.mux(cover.encode())
    return path


def rewrite(source: Path, target: Path, *, extra_streams: tuple[str, ...] = (), **kept: bool) -> list[str]:
    with (
        VideoReader(source, extra_streams=extra_streams) as reader,
        VideoWriter(target, reader, EncodeOptions(), **kept) as writer,
    ):
        for item in reader.items():
            if isinstance(item, Frame):
                writer.write(item)
            else:
                writer.copy(item)
    return writer.omitted


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_only_listed_metadata_is_kept_and_only_on_request(suffix: str, tmp_path: Path) -> None:
    source = write_tagged(tmp_path / "clip.mp4")
    with av.open(str(source)) as container:
        assert [stream.type for stream in container.streams] == ["video", "data", "video"]
    titled = {name: PLAIN[name] for name in ("title", "artist", "copyright", "creation_time")}
    for keep, keep_location in ((False, False), (True, False), (False, True), (True, True)):
        target = tmp_path / f"out{suffix}"
        dropped = rewrite(source, target, keep_metadata=keep, keep_location=keep_location, overwrite=True)
        data = target.read_bytes()
        kept = (titled if keep else {}) | ({"location": PLACE} if keep_location else {})
        lost = ", ".join([*sorted(PLAIN.keys() - kept.keys() - {"comment"}), "comment"])
        assert dropped == ["cover picture", *([] if keep else ["chapter titles"]), f"metadata ({lost})"]
        assert (b"Jane" in data) is keep
        assert b"was here" not in data
        with av.open(str(target)) as container:
            found = {key.lower(): value for key, value in container.metadata.items()}
            assert {name: found.get(name) for name in PLAIN} == {name: kept.get(name) for name in PLAIN}
            assert len(container.streams.video) == 1
            chapters = [
                (float(one["start"] * one["time_base"]), one["metadata"]["title"]) for one in container.chapters()
            ]
        titles = ("Jane's door", "Jane") if keep else ("Chapter 1", "Chapter 2")
        assert chapters == [(0.0, titles[0]), (0.5, titles[1])]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_metadata_of_phones_keeps_the_names_of_apple(suffix: str, tmp_path: Path) -> None:
    source = write_tagged(tmp_path / "clip.mov")
    target = tmp_path / f"out{suffix}"
    lost = "date, lens, location, make, model, software"
    assert rewrite(source, target) == ["data stream", f"metadata ({lost})"]
    assert not [value for value in PHONE.values() if value.encode() in target.read_bytes()]
    kept = {"make": "Phones", "model": "P15", "lens": "wide lens", "date": PHONE[f"{APPLE}creationdate"]}
    dropped = rewrite(source, target, keep_metadata=True, overwrite=True)
    assert dropped == ["data stream", "metadata (location, software)"]
    with av.open(str(target)) as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
        assert found.items() >= kept.items()
        assert not any("location" in key for key in found)
        if suffix != ".mkv":
            names = {key: value for key, value in container.metadata.items() if key.startswith(APPLE)}
            assert names == {
                key: value for key, value in PHONE.items() if "location" not in key and "software" not in key
            }
    rewrite(source, target, keep_location=True, overwrite=True)
    with av.open(str(target)) as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
        assert found["location"] == PLACE
        assert "make" not in found


def test_language_of_the_sound_is_kept_under_the_name_that_quicktime_numbers(clip: Make) -> None:
    source = clip("clip.mkv", audio=0.3, options={"bf": "0"})
    tagged = source.with_name("tagged.mkv")
    with av.open(str(source)) as old, av.open(str(tagged), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        streams[1].metadata["language"] = "deu"
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    for suffix, language in ((".mov", "ger"), (".mp4", "deu"), (".mkv", "deu"), (".ts", "deu")):
        target = source.with_name(f"out{suffix}")
        rewrite(tagged, target, extra_streams=("audio",))
        with av.open(str(target)) as container:
            assert container.streams.audio[0].metadata["language"] == language


def test_attachments_are_dropped(tmp_path: Path, clip: Make) -> None:
    source = clip("clip.mp4", options={"bf": "0"})
    attached = tmp_path / "attached.mkv"
    with av.open(str(source)) as old, av.open(str(attached), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        if not hasattr(new, "add_attachment"):
            pytest.skip("this PyAV does not write attachments")
        for name in ("photo-of-jane.bin", "b.bin"):
            new.add_attachment(name, "application/octet-stream", b"Jane's face")
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert b"Jane's face" in attached.read_bytes()
    assert "2 attachments" in rewrite(attached, tmp_path / "out.mkv", keep_metadata=True)
    assert b"Jane's face" not in (tmp_path / "out.mkv").read_bytes()


def test_what_the_container_does_not_store_is_named(clip: Make) -> None:
    source = clip("clip.mkv", audio=0.3, rate=Fraction(25), options={"bf": "0", "x264-params": "sar=64/45"})
    tagged = source.with_name("tagged.mkv")
    times = {"time_base": Fraction(1, 1000), "metadata": {}}
    with av.open(str(source)) as old, av.open(str(tagged), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        new.set_chapters([{"id": 1, "start": 0, "end": 500, **times}])
        streams[1].metadata["language"] = "hrv"
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    for suffix, lost in (
        (".mp4", []),
        (".mkv", []),
        (".mov", ["language of audio (hrv)"]),
        (".avi", ["chapters", "language of audio (hrv)"]),
        (".ts", ["chapters"]),
        (".webm", ["pixel aspect ratio (64:45)"]),
    ):
        target = source.with_name(f"out{suffix}")
        assert rewrite(tagged, target, extra_streams=("audio",)) == lost, suffix
        with VideoReader(target) as reader:
            stretched = None if suffix == ".webm" else Fraction(64, 45)
            assert (reader.info.pixel_aspect or 1) == pytest.approx(stretched or 1, rel=0.01)


def test_names_without_a_meaning_are_counted() -> None:
    technical = {f"product_{number}": "x" for number in range(9)}
    names = _metadata.dropped(technical | {"title": "a"}, {})
    assert _metadata.listed(names) == "title, 9 other fields"
    assert _metadata.listed(_metadata.dropped(technical, {})) == "9 fields"
