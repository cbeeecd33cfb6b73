"""Clips are written whole; the command line and the Python program give the same file."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drawing
from scrfd_trt import SCRFDDetector
from scrfd_trt._studio import uploads
from scrfd_trt._studio.session import Layer, Session
from scrfd_trt._studio.temporary_files import TemporaryFolder
from scrfd_trt.errors import ClosedError, ImageError, MissingDependencyError, ScrfdError

pytestmark = pytest.mark.slow

SCENE = drawing.scene((640, 360), 3, seed=2).image
FRAMES = 6
TAGS = {"title": "A wedding", "artist": "A photographer", "location": "+48.2000+016.4000/"}


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    """Return a clip of three drawn people, a quarter of a second with a tone."""
    av = pytest.importorskip("av")
    path = tmp_path / "made" / "clip.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        container.metadata.update(TAGS)
        picture = container.add_stream("libx264", rate=25, options={"crf": "18"})
        picture.width, picture.height, picture.pix_fmt = 640, 360, "yuv420p"
        sound = container.add_stream("aac", rate=48000)
        for _ in range(FRAMES):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(SCENE, "bgr24")))
        tone = np.sin(np.arange(1024 * 8) / 20).astype(np.float32)
        for start in range(0, len(tone), 1024):
            samples_ = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], "fltp", "mono")
            samples_.sample_rate, samples_.pts, samples_.time_base = 48000, start, Fraction(1, 48000)
            container.mux(sound.encode(samples_))
        container.mux(picture.encode())
        container.mux(sound.encode())
    return path.read_bytes()


@pytest.fixture
def session(network_500m: Path, folder: TemporaryFolder) -> Iterator[Session]:
    with SCRFDDetector.from_onnx(network_500m, threshold=0.05) as detector:
        made = Session(detector, folder)
        yield made
        made.close()


def read_video(path: Path) -> tuple[list[Any], list[str]]:
    """Return the frames of a video and the codecs of its streams."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        codecs = [stream.codec_context.name for stream in container.streams]
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)], codecs


def test_python_reproduces_clip(session: Session, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session.open("clip.mp4", clip)
    session.layers = [Layer("emoji"), Layer("boxes", {"label": "track"})]
    assert session.draw(FRAMES - 1)[1] == 3
    messages: list[str] = []
    name, path = session.download(messages.append)
    assert name == "clip-overlay.mp4"
    frames, codecs = read_video(path)
    assert len(frames) == FRAMES
    assert codecs == ["h264", "aac"]
    assert messages[0] == f"Detecting faces: frame 1 of {FRAMES}"
    assert messages[-1] == f"Drawing: frame {FRAMES} of {FRAMES}"
    Path("clip.mp4").write_bytes(clip)
    exec(compile(session.python(), "python", "exec"), {})
    again, codecs = read_video(Path(name))
    assert codecs == ["h264", "aac"]
    assert all((one == other).all() for one, other in zip(frames, again, strict=True))


def test_track_keeps_its_emoji(session: Session, clip: bytes) -> None:
    session.open("clip.mp4", clip)
    session.layers = [Layer("emoji")]
    frames, _ = read_video(session.download()[1])
    assert np.abs(frames[0].astype(int) - SCENE).mean() > 1
    for frame in frames[1:]:
        assert np.abs(frame.astype(int) - frames[0]).mean() < 2


def test_download_has_no_tags_of_the_clip(session: Session, clip: bytes) -> None:
    told = (b"A wedding", b"A photographer", b"loci")
    assert all(each in clip for each in told)
    session.open("clip.mp4", clip)
    content = session.download()[1].read_bytes()
    assert not [each for each in told if each in content]


def test_clip_files_are_deleted_when_replaced_and_on_close(session: Session, clip: bytes) -> None:
    session.open("clip.mp4", clip)
    first = session.media.path
    result = session.download()[1]
    session.open("other.mp4", clip)
    assert not first.exists()
    assert result.exists(), "the browser may still fetch it"
    assert session.download()[1] != result
    assert not result.exists()
    with pytest.raises(ImageError, match=r"^third.mp4 is not a supported clip"):
        session.open("third.mp4", b"no clip")
    assert session.media.name == "other.mp4"
    kept = session.media.path.parent.parent
    session.close()
    assert [path.name for path in kept.iterdir()] == ["in-use"]


def test_close_stops_writing(session: Session, clip: bytes) -> None:
    session.open("clip.mp4", clip)
    with pytest.raises(ClosedError):
        session.download(lambda text: session.close() if "frame 3" in text else None)


def test_error_names_clip_as_uploaded(session: Session, clip: bytes) -> None:
    session.open("my clip.mp4", clip)
    session.media.path.write_bytes(b"gone bad")
    with pytest.raises(ScrfdError, match=r"^my clip.mp4: cannot be read"):
        session.download()


def test_clips_require_video_extra(session: Session, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "can_use_clips", lambda: False)
    with pytest.raises(MissingDependencyError, match=r'pip install "scrfd-trt\[video\]"'):
        session.open("clip.mp4", clip)


def test_clip_that_names_other_files_is_refused(session: Session, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(clip)
    script = f"ffconcat version 1.0\nfile {tmp_path / 'secret.mp4'}\n".encode()
    with pytest.raises(ImageError, match=r"upload\.mp4 is not a supported clip"):
        session.open("upload.mp4", script)
