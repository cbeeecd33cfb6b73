"""Video files, read frame by frame, and detected, drawn and written again."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from mutations import File, mutated

import overlays
from scrfd_trt import Detections
from scrfd_trt.errors import ScrfdError
from scrfd_trt.video import overlay_video

try:
    import av

    from scrfd_trt.video import open_source

    missing = ""
except ImportError:
    missing = "PyAV is not installed"

SECONDS = 30
MEBIBYTES = 400
SIZE = (64, 48)
FRAMES = 6
MAX_FRAMES = 400
KINDS = {
    "a.mp4": ("libx264", "aac"),
    "a.mov": ("mjpeg", "pcm_s16le"),
    "a.mkv": ("libx264", "flac"),
    "b.mkv": ("ffv1", None),
    "a.ts": ("mpeg2video", "mp2"),
    "a.avi": ("mpeg4", "libmp3lame"),
    "a.webm": ("libvpx", "libopus"),
    "a.flv": ("flv", None),
    "a.wmv": ("wmv2", "wmav2"),
    "a.ogv": ("libtheora", "libvorbis"),
    "a.gif": ("gif", None),
    "a.apng": ("apng", None),
    "hevc.mp4": ("libx265", None),
    "a.mxf": ("mpeg2video", None),
}


def clip(name: str, video: str, audio: str | None) -> File:
    """Return a clip of six frames; empty if this FFmpeg lacks an encoder."""
    with tempfile.TemporaryDirectory() as folder, suppress(av.FFmpegError, ValueError, TypeError):
        path = Path(folder) / name
        with av.open(str(path), "w") as container:
            options = {"x265-params": "log-level=none"} if video == "libx265" else {}
            stream: Any = container.add_stream(video, rate=Fraction(25), options=options)
            stream.width, stream.height = SIZE
            stream.pix_fmt = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p"}.get(video, "yuv420p")
            sound: Any = container.add_stream(audio, rate=48000) if audio else None
            for number in range(FRAMES):
                image = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
                image[10:30, 5 + number : 25 + number] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24").reformat(format=stream.pix_fmt)))
            container.mux(stream.encode(None))
            if sound is not None:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="mono")
                silence.sample_rate, silence.pts = 48000, 0
                container.mux(sound.encode(silence))
                container.mux(sound.encode(None))
        return File(name, path.read_bytes())
    return File(name, b"")


@lru_cache
def samples() -> list[File]:
    """Return a small clip of each kind that this FFmpeg can write."""
    files = [clip(name, *codecs) for name, codecs in KINDS.items()]
    script = File("script.mp4", b"ffconcat version 1.0\nfile a.mp4\n")
    return [*(file for file in files if file.content), script, File("list.m3u8", b"#EXTM3U\n#EXTINF:1,\na.ts\n")]


class WhiteBox:
    """A detector that finds one face in each frame."""

    def stream(self, images: Iterable[Any], **_: Any) -> Iterator[Detections]:
        """Yield the detections of each image."""
        for image in images:
            size = image.shape[1::-1]
            yield Detections(np.array([[1, 1, size[0] / 2, size[1] / 2]], np.float32), [0.9], None, image_size=size)


def cases() -> st.SearchStrategy[tuple[File, str, str]]:
    """Return clips, what to do with damaged ones, and the container to write; empty for most, since that is slow."""
    outputs = st.sampled_from([*[""] * 6, ".mp4", ".mkv", ".ts", ".gif"])
    return st.tuples(mutated(samples()), st.sampled_from(["stop", "keep"]), outputs)


def check(case: tuple[File, str, str]) -> None:
    """Read a clip, and write it with covered faces."""
    (name, content), damaged, suffix = case
    errors: list[ScrfdError] = []
    with tempfile.TemporaryDirectory() as folder:
        path, target = Path(folder) / name, Path(folder) / f"out{suffix}"
        path.write_bytes(content)
        try:
            with open_source(path, damaged=damaged, extra_streams=("audio",)) as reader:
                frames = len(list(itertools.islice(reader, MAX_FRAMES)))
                width, height = reader.info.size
            if suffix and frames < MAX_FRAMES and width * height < 1_000_000:
                draw = overlays.create("solid")
                overlay_video(path, target, WhiteBox(), draw, damaged=damaged)
                assert target.stat().st_size
        except ScrfdError as error:
            errors.append(error)
            assert not target.exists(), "an unfinished file is left"
        left = {each.name for each in Path(folder).iterdir()} - {name, target.name}
        assert not left, f"files are left: {left}"
    if errors:
        raise errors[0]
