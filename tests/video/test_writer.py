"""Writing files: errors, overwriting and killed processes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scrfd_trt.errors import ClosedError, OptionError, OutputError
from scrfd_trt.video import EncodeOptions, Frame, VideoReader, VideoWriter, _writer
from scrfd_trt.video._verify import COLOR_TAGS, StreamRecord, verify

MakeClip = Callable[..., Path]
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_at_end(clip: MakeClip, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with VideoReader(clip()) as reader, VideoWriter(out, reader) as writer:
        for frame in reader:
            writer.write(frame)
            assert not out.exists()
    assert names(tmp_path) == ["clip.mp4", "out.mp4"]
    assert writer.frames == 30


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_leaves_nothing(error: type[BaseException], clip: MakeClip, tmp_path: Path) -> None:
    def write_some(writer: VideoWriter) -> None:
        with writer:
            for frame in itertools.islice(reader, 20):
                writer.write(frame)
            raise error

    with VideoReader(clip()) as reader:
        writer = VideoWriter(tmp_path / "out.mp4", reader)
        with pytest.raises(error):
            write_some(writer)
        assert names(tmp_path) == ["clip.mp4"]
        with pytest.raises(ClosedError):
            writer.write(next(iter(reader)))


def test_existing_file_needs_overwrite(clip: MakeClip, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("existing")
    with VideoReader(clip()) as reader:
        with pytest.raises(OptionError, match="already exists"):
            VideoWriter(out, reader)
        assert out.read_text() == "existing"
        with VideoWriter(out, reader, overwrite=True) as writer:
            for frame in reader:
                writer.write(frame)
    assert out.stat().st_size > 500


def test_video_without_frames_is_an_error(clip: MakeClip, tmp_path: Path) -> None:
    with VideoReader(clip()) as reader, pytest.raises(OutputError, match="there is no frame"):  # noqa: SIM117
        with VideoWriter(tmp_path / "out.mp4", reader):
            pass
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.xyz", {}, r"videos are not written as \.xyz; use one of: \.mp4"),
        ("out.mp4", {"pixel_format": "nope"}, "libx264 does not support 'nope'; the choices are: yuv420p"),
        ("no/out.mp4", {}, "there is no folder .*no; create it first"),
        ("out.webm", {"codec": "h264"}, r"cannot write .*out\.webm"),
    ],
)
def test_invalid_outputs(name: str, options: dict[str, str], message: str, clip: MakeClip, tmp_path: Path) -> None:
    with VideoReader(clip()) as reader, pytest.raises((OptionError, OutputError), match=message):  # noqa: SIM117
        with VideoWriter(tmp_path / name, reader, EncodeOptions(**options)) as writer:  # type: ignore[arg-type]
            writer.write(next(iter(reader)))
    assert names(tmp_path) == ["clip.mp4"]


def test_unknown_codec() -> None:
    with pytest.raises(OptionError, match="codec: must be 'auto', 'h264'"):
        EncodeOptions(codec="h266")  # type: ignore[arg-type]


def test_encoder_error_is_one_line(clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with VideoReader(clip(size=(256, 256))) as reader, pytest.raises(OutputError, match="h264_nvenc") as caught:
        VideoWriter(tmp_path / "out.mp4", reader, EncodeOptions(codec="h264_nvenc"))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.slow
@posix_only
def test_full_disk_error_names_frame(clip: MakeClip, tmp_path: Path) -> None:
    """A limit on file sizes replaces the full disk."""
    program = """
        import resource, signal, sys
        import numpy as np
        from scrfd_trt.errors import OutputError
        from scrfd_trt.video import VideoReader, VideoWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        noise = np.random.default_rng(0)
        try:
            with VideoReader(sys.argv[1]) as reader, VideoWriter(sys.argv[2], reader) as writer:
                for frame in reader:
                    writer.write(frame, noise.integers(0, 255, frame.image.shape).astype(np.uint8))
        except OutputError as error:
            print(error)
    """
    path = clip(size=(160, 120), frames=80)
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path), str(tmp_path / "out.mp4")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith(f"cannot write {tmp_path / 'out.mp4'}: ")
    assert "File too large" in ran.stdout
    assert "frame " in ran.stdout
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_killed_process_leaves_no_file(share: float, clip: MakeClip, tmp_path: Path) -> None:
    """Each frame takes 10 ms; the last moments are those of the faststart copy."""
    program = """
        import sys, time
        from scrfd_trt.video import VideoReader, VideoWriter
        with VideoReader(sys.argv[1]) as reader, VideoWriter(sys.argv[2], reader) as writer:
            for frame in reader:
                writer.write(frame)
                time.sleep(0.01)
                print(frame.number, flush=True)
            print("closing", flush=True)
    """
    path, out = clip(frames=60), tmp_path / "out.mp4"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path), str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if line.strip() == ("closing" if share == 1.0 else str(int(share * 60))):
                process.send_signal(signal.SIGKILL)
                break
    process.wait(timeout=120)
    time.sleep(0.05)
    if out.exists():  # faster than the signal: the file is complete
        with VideoReader(out) as reader:
            assert len(list(reader)) == 60
    else:
        assert [name for name in names(tmp_path) if not name.startswith(".")] == ["clip.mp4"]
    assert share == 1.0 or not out.exists()


class _Lossy:
    """A container that loses packets."""

    def __init__(self, container: Any, loses: Callable[[Any], bool]) -> None:
        self._container, self._loses = container, loses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def mux(self, packet: Any) -> None:
        if not self._loses(packet):
            self._container.mux(packet)


@pytest.mark.parametrize(
    ("loses", "message"),
    [
        (
            lambda packet: packet.stream_index == 0 and 0.38 < packet.pts * packet.time_base < 0.41,
            "has 29 frames, not 30",
        ),
        (lambda packet: packet.stream_index == 1, "has the streams video h264, not video h264, audio aac"),
        (
            lambda packet: packet.stream_index == 1 and packet.pts * packet.time_base > 0.5,
            r"has audio from -?0\.\d\d to 0\.5\d s in stream 1, not from",
        ),
        (
            lambda packet: packet.stream_index == 1 and packet.pts * packet.time_base < 0.5,
            r"has audio from 0\.5\d to 1\.0\d s in stream 1, not from",
        ),
    ],
)
def test_finished_file_is_compared_with_what_was_written(
    loses: Callable[[Any], bool], message: str, clip: MakeClip, tmp_path: Path
) -> None:
    def write(reader: VideoReader) -> None:
        with VideoWriter(tmp_path / "out.mkv", reader) as writer:
            writer._container = _Lossy(writer._container, loses)
            for item in reader.items():
                if isinstance(item, Frame):
                    writer.write(item)
                else:
                    writer.copy(item)

    with (
        VideoReader(clip("clip.mkv", audio=1.0, options={"bf": "0"}), extra_streams=("audio",)) as reader,
        pytest.raises(OutputError, match=f"cannot write .*out.mkv: the finished file .*{message}"),
    ):
        write(reader)
    assert names(tmp_path) == ["clip.mkv"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", (64, 50), "has frames of 64×48 pixels, not 64×50"),
        ("codec", "hevc", "has the streams video h264, not video hevc"),
        ("colorspace", 9, "has colorspace 1, not 9"),
    ],
)
def test_finished_file_has_the_promised_picture(
    name: str, value: Any, message: str, clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(path: Path, label: str, expected: list[StreamRecord], size: Any, context: Any, **how: Any) -> Any:
        tags = {tag: getattr(context, tag) for tag in COLOR_TAGS} | {name: value}
        if name == "codec":
            expected[0].codec = value
        return verify(path, label, expected, value if name == "size" else size, SimpleNamespace(**tags), **how)

    monkeypatch.setattr(_writer, "verify", changed)
    source = clip()
    with VideoReader(source) as reader:
        writer = VideoWriter(source.with_name("out.mp4"), reader)
        for frame in reader:
            writer.write(frame)
        with pytest.raises(OutputError, match=message):
            writer.close()
    assert names(source.parent) == ["clip.mp4"]
