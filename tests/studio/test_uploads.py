from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import drawing
from scrfd_trt._studio import uploads
from scrfd_trt.errors import ImageError

IMAGE = drawing.scene((160, 120), 1).image


def png(image: np.ndarray = IMAGE) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 120))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write clips")
    for number in range(6):
        writer.write(np.full((120, 160, 3), 40 * number, np.uint8))
    writer.release()
    return path


def test_read_image() -> None:
    read = uploads.read_image("photo.png", png())
    assert (read.frames[0] == IMAGE).all()
    assert (read.name, len(read.frames), read.is_clip) == ("photo.png", 1, False)


@pytest.mark.parametrize("name", ["../../etc/photo.png", "C:\\Users\\me\\photo.png", "/photo.png"])
def test_plain_name_has_no_folders(name: str) -> None:
    assert uploads.plain_name(name) == "photo.png"


@pytest.mark.parametrize(("name", "clip"), [("a.MP4", True), ("a.webm", True), ("a.png", False), ("mp4", False)])
def test_is_clip_by_suffix(name: str, clip: bool) -> None:
    assert uploads.is_clip(name) is clip


def test_read_clip(clip: Path) -> None:
    read = uploads.read_clip("clip.mp4", clip)
    assert (len(read.frames), read.is_clip, read.truncated, read.path) == (6, True, False, clip)
    assert abs(int(read.frames[3].mean()) - 120) < 12
    assert [abs(int(frame.mean()) - 40 * number) < 12 for number, frame in enumerate(read.frames)] == [True] * 6
    assert len(read.frames[2:4]) == 2


def test_clip_frames_take_little_memory(tmp_path: Path) -> None:
    path, scene = tmp_path / "clip.avi", drawing.scene((640, 360)).image
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (640, 360))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write clips")
    for _ in range(5):
        writer.write(scene)
    writer.release()
    tracemalloc.start()
    try:
        read = uploads.read_clip("clip.avi", path)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < scene.nbytes
    assert np.abs(read.frames[4].astype(int) - scene).mean() < 4


def test_long_clip_is_truncated(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FRAMES", 4)
    read = uploads.read_clip("clip.mp4", clip)
    assert (len(read.frames), read.truncated) == (4, True)


def test_large_clip_is_shrunk(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CLIP_SIDE", 80)
    assert uploads.read_clip("clip.mp4", clip).frames[0].shape == (60, 80, 3)


@pytest.mark.parametrize("name", ["notes.txt", "photo.jpg", "clip.mp4", "", "x"])
@pytest.mark.parametrize("content", [b"", b"not an image", bytes(1000)])
def test_other_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    arguments = (name, tmp_path / "clip.mp4") if uploads.is_clip(name) else (name, content)
    read = uploads.read_clip if uploads.is_clip(name) else uploads.read_image
    with pytest.raises(ImageError, match=r"supported|empty|damaged") as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a hundred bytes that asks for gigabytes."""
    parts = [(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99)))]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*parts, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("read", [uploads.read_image, uploads.check_image])
def test_image_with_huge_header_is_not_decoded(read: Callable[[str, bytes], object]) -> None:
    assert len(bomb()) < 200
    with pytest.raises(ImageError, match=r"^small.png: the image has 30000×30000 pixels, more than 50 million: make"):
        read("small.png", bomb())


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_formats(kind: str) -> None:
    content = cv2.imencode(kind, IMAGE)[1].tobytes()
    uploads.check_image("photo", content)
    assert uploads.read_image(f"photo{kind}", content).frames[0].shape == IMAGE.shape


def test_erased_areas_stay_erased() -> None:
    alpha = np.full(IMAGE.shape[:2], 255, np.uint8)
    alpha[:10] = 0
    shown = uploads.read_image("photo.png", png(np.dstack([IMAGE, alpha]))).frames[0]
    assert (shown[:10] == 255).all()
    assert (shown[10:] == IMAGE[10:]).all()


def test_clip_with_too_many_pixels_is_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"clip.mp4 has more than"):
        uploads.read_clip("clip.mp4", clip)
