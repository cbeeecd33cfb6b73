from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt import samples
from scrfd_trt.cli.studio import media
from scrfd_trt.errors import ImageError

IMAGE = samples.scene((160, 120), 1).image


def png(image: np.ndarray = IMAGE) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 120))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write clips")
    for number in range(6):
        writer.write(np.full((120, 160, 3), 40 * number, np.uint8))
    writer.release()
    return path.read_bytes()


def test_pictures_are_read() -> None:
    read = media.read("photo.png", png())
    assert (read.frames[0] == IMAGE).all()
    assert (read.name, len(read.frames), read.is_clip) == ("photo.png", 1, False)


@pytest.mark.parametrize("name", ["../../etc/photo.png", "C:\\Users\\me\\photo.png", "/photo.png"])
def test_names_lose_their_folders(name: str) -> None:
    assert media.read(name, png()).name == "photo.png"


def test_clips_are_read_and_written(clip: bytes) -> None:
    read = media.read("clip.mp4", clip)
    assert (len(read.frames), read.is_clip, read.cut) == (6, True, False)
    assert read.rate == pytest.approx(10.0)
    name, content = media.write(read.name, list(read.frames), read.rate)
    assert name == "clip-overlay.mp4"
    again = media.read(name, content)
    assert len(again.frames) == 6
    assert abs(int(again.frames[3].mean()) - 120) < 12


def test_long_clips_are_cut(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MOST_FRAMES", 4)
    read = media.read("clip.mp4", clip)
    assert (len(read.frames), read.cut) == (4, True)


def test_large_clips_are_shrunk(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "CLIP_SIDE", 80)
    assert media.read("clip.mp4", clip).frames[0].shape == (60, 80, 3)


def test_pictures_are_written_whole() -> None:
    name, content = media.write("a.b.jpg", [IMAGE], 0.0)
    assert name == "a.b-overlay.png"
    assert (cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) == IMAGE).all()


@pytest.mark.parametrize("name", ["notes.txt", "photo.jpg", "clip.mp4", "", "x"])
@pytest.mark.parametrize("content", [b"", b"no picture at all", bytes(1000)])
def test_other_files_are_refused(name: str, content: bytes) -> None:
    with pytest.raises(ImageError, match="that can be read: take a") as caught:
        media.read(name, content)
    assert "\n" not in str(caught.value)


def test_too_large_pictures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MOST_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"photo.png has more than"):
        media.read("photo.png", png())


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a hundred bytes that asks for gigabytes."""
    parts = [(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99)))]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*parts, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_pictures_that_claim_too_many_pixels_are_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        pytest.fail("it was decoded")

    monkeypatch.setattr(media.cv2, "imdecode", decoded)
    assert len(bomb()) < 200
    with pytest.raises(ImageError, match=r"^small.png has more than 50 million pixels: take a smaller one$"):
        media.read("small.png", bomb())


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_all_kinds_of_pictures_tell_their_size_before_they_are_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cv2.imencode(kind, IMAGE)[1].tobytes()
    assert media.read(f"photo{kind}", content).frames[0].shape == IMAGE.shape
    monkeypatch.setattr(media, "MOST_PIXELS", IMAGE.shape[0] * IMAGE.shape[1] - 1)
    with pytest.raises(ImageError, match="has more than"):
        media.check_pixels("photo", content)


def test_pictures_whose_header_tells_no_size_are_refused() -> None:
    content = cv2.imencode(".ras", IMAGE)[1].tobytes()
    with pytest.raises(ImageError, match="that can be read: take a"):
        media.read("photo.ras", content)


def test_clips_of_too_many_pixels_are_refused(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MOST_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"clip.mp4 has more than"):
        media.read("clip.mp4", clip)
