"""What a person drops on the page: a picture, or a short clip."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagesize
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import ImageError

Image = NDArray[np.uint8]

MOST_PIXELS = 50_000_000
MOST_FRAMES = 300
LARGEST_STICKER = 16 * 2**20
"""Bytes of a picture that an option names."""
CLIP_SIDE = 1280
"""Frames of clips are shrunk to this longer side, so that a clip fits into memory."""

CLIPS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Media:
    """A picture or a clip.

    Attributes
    ----------
    name
        Its file name, without folders.
    frames
        ``(H, W, 3)`` uint8 BGR, at least one.
    rate
        Frames a second; 0 for a picture.
    cut
        Whether a clip was longer than what is kept of it.
    """

    name: str
    frames: tuple[Image, ...]
    rate: float = 0.0
    cut: bool = False

    @property
    def is_clip(self) -> bool:
        """Whether it has more than a picture."""
        return self.rate > 0.0


def read(name: str, content: bytes) -> Media:
    """Read what was uploaded.

    Raises
    ------
    ImageError
        If it is neither a picture nor a clip that can be read, or too large.
    """
    plain = Path(name.replace("\\", "/")).name or "picture"
    if Path(plain).suffix.lower() in CLIPS:
        return _clip(plain, content)
    check_pixels(plain, content)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # damaged
        image = None
    if image is None:
        raise _unreadable(plain)
    return Media(plain, (np.asarray(image, np.uint8),))


def check_pixels(name: str, content: bytes) -> None:
    """Check a picture's size by its header: a small file can hold so many pixels that decoding takes all memory.

    Raises
    ------
    ImageError
        If it has too many pixels, or is no picture of a kind whose header is known.
    """
    width, height = imagesize.get(io.BytesIO(content))
    if width <= 0 or height <= 0:
        raise _unreadable(name)
    _check_sides(name, width, height)


def _check_sides(name: str, width: float, height: float) -> None:
    if width * height > MOST_PIXELS:
        raise ImageError(f"{name} has more than {MOST_PIXELS // 10**6} million pixels: take a smaller one")


def _unreadable(name: str) -> ImageError:
    return ImageError(f"{name} is no picture or clip that can be read: take a JPEG, PNG, WebP or MP4")


def _clip(name: str, content: bytes) -> Media:
    # OpenCV reads clips from files only; this one is gone as soon as it was read.
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as folder:
        path = Path(folder) / f"clip{Path(name).suffix.lower()}"
        path.write_bytes(content)
        video = cv2.VideoCapture(str(path))
        try:
            _check_sides(name, video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT))
            rate = float(video.get(cv2.CAP_PROP_FPS))
            frames = _frames(video)
        finally:
            video.release()
    if not frames:
        raise ImageError(f"{name} is no clip that can be read: take an MP4 or WebM")
    usable = rate if 1.0 <= rate <= 240.0 else 25.0
    return Media(name, tuple(frames[:MOST_FRAMES]), usable, cut=len(frames) > MOST_FRAMES)


def _frames(video: cv2.VideoCapture) -> list[Image]:
    """Read one frame more than is kept, so that a cut shows."""
    frames: list[Image] = []
    while len(frames) <= MOST_FRAMES and (got := video.read())[0]:
        frames.append(_smaller(np.asarray(got[1], np.uint8)))
    return frames


def _smaller(frame: Image) -> Image:
    shrink = CLIP_SIDE / max(frame.shape[:2])
    if shrink >= 1.0:
        return frame
    return np.asarray(cv2.resize(frame, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8)


def write(name: str, frames: list[Image], rate: float) -> tuple[str, bytes]:
    """Return a file name and a file's content: PNG for a picture, MP4 for a clip.

    Raises
    ------
    ImageError
        If this OpenCV cannot write clips.
    """
    stem = Path(name).stem or "picture"
    if rate <= 0.0:
        return f"{stem}-overlay.png", cv2.imencode(".png", frames[0])[1].tobytes()
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as folder:
        path = Path(folder) / "clip.mp4"
        height, width = frames[0].shape[:2]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        if not writer.isOpened():
            raise ImageError("this OpenCV cannot write MP4 clips: download single frames instead")
        for frame in frames:
            writer.write(frame)
        writer.release()
        return f"{stem}-overlay.mp4", path.read_bytes()
