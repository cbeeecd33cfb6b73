"""A whole clip drawn over and written, with its faces followed, as ``scrfd-trt overlay`` does it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import overload

import cv2
import imagesize
import numpy as np
from numpy.typing import NDArray

import overlays
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt.errors import ImageError, MissingDependencyError, VideoError
from scrfd_trt.video import TrackingOptions, overlay_video

Image = NDArray[np.uint8]

MOST_PIXELS = 50_000_000
MOST_FRAMES = 300
LARGEST_STICKER = 16 * 2**20
"""Bytes of a picture that an option names."""
CLIP_SIDE = 1280
"""Frames of clips are shown at this longer side."""
_QUALITY = 92

CLIPS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class Stills(Sequence[Image]):
    """Frames of a clip, kept as JPEG: 300 of them take as much memory as a dozen images do."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self._files = tuple(files)

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, number: int) -> Image: ...
    @overload
    def __getitem__(self, number: slice) -> Stills: ...
    def __getitem__(self, number: int | slice) -> Image | Stills:
        if isinstance(number, slice):
            return Stills(self._files[number])
        return np.asarray(cv2.imdecode(np.frombuffer(self._files[number], np.uint8), cv2.IMREAD_COLOR), np.uint8)


@dataclass(frozen=True, eq=False)
class Media:
    """A picture or a clip.

    Attributes
    ----------
    name
        Its file name, without folders.
    frames
        ``(H, W, 3)`` uint8 BGR, at least one; those of a clip may be fewer and smaller than in its file.
    path
        The file of a clip; None for a picture.
    cut
        Whether a clip has more frames than are shown.
    """

    name: str
    frames: Sequence[Image]
    path: Path | None = None
    cut: bool = False

    @property
    def is_clip(self) -> bool:
        """Whether it is no picture."""
        return self.path is not None


def plain_name(name: str) -> str:
    """Return an uploaded file's name without folders."""
    return Path(name.replace("\\", "/")).name or "picture"


def is_clip(name: str) -> bool:
    """Tell by its name whether a file is a clip."""
    return Path(name).suffix.lower() in CLIPS


def read_picture(name: str, content: bytes) -> Media:
    """Read a picture that was uploaded.

    Raises
    ------
    ImageError
        If it is none that can be read, or too large.
    """
    check_pixels(name, content)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # damaged
        image = None
    if image is None:
        raise _unreadable(name)
    return Media(name, (np.asarray(image, np.uint8),))


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


def read_clip(name: str, path: Path) -> Media:
    """Read the first frames of a clip.

    Parameters
    ----------
    name
        As it was uploaded.
    path
        Where it lies now, and stays as long as it is shown.

    Raises
    ------
    ImageError
        If it is none that can be read, or too large.
    """
    video = cv2.VideoCapture(str(path))
    try:
        _check_sides(name, video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT))
        # One more than is shown, so that a cut shows.
        files = [file for _, file in zip(range(MOST_FRAMES + 1), _stills(video), strict=False)]
    finally:
        video.release()
    if not files:
        raise ImageError(f"{name} is no clip that can be read: take an MP4 or WebM")
    return Media(name, Stills(files[:MOST_FRAMES]), path, cut=len(files) > MOST_FRAMES)


def _stills(video: cv2.VideoCapture) -> Iterator[bytes]:
    while (got := video.read())[0]:
        frame = _smaller(np.asarray(got[1], np.uint8))
        yield cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _smaller(frame: Image) -> Image:
    shrink = CLIP_SIDE / max(frame.shape[:2])
    if shrink >= 1.0:
        return frame
    return np.asarray(cv2.resize(frame, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8)


Told = Callable[[str], None]

MISSING = 'clips are written by packages that are not installed: pip install "scrfd-trt[video]"'
FAINT = float(TrackingOptions.model_fields["low"].default)

_WRITTEN = {".mov": ".mov", ".webm": ".mkv", ".mkv": ".mkv", ".avi": ".mkv"}


def is_missing() -> bool:
    """Tell whether what writes clips is not installed."""
    return any(util.find_spec(name) is None for name in ("av", "scipy"))


def suffix(name: str) -> str:
    """Return the suffix of the file that a clip becomes: of a container that takes H.264 and the clip's own sound."""
    return _WRITTEN.get(Path(name).suffix.lower(), ".mp4")


def follow_options(threshold: float) -> dict[str, float]:
    """Return the options of :class:`scrfd_trt.video.TrackingOptions` that belong to a threshold."""
    return {"threshold": threshold} | ({"low": threshold} if threshold < FAINT else {})


def write(
    media: Media, target: Path, detector: SCRFDDetector, draw: overlays.Compose, *, threshold: float, told: Told
) -> None:
    """Write a clip with all its frames and its sound; frames are never all in memory.

    Parameters
    ----------
    media
        The clip.
    target
        The file to write, in a folder of its own.
    detector, draw, threshold
        As for a picture.
    told
        Told how far it is. What it raises stops the work.

    Raises
    ------
    MissingDependencyError
        If the extra ``video`` is not installed.
    ScrfdError
        If the clip cannot be read or written.
    """
    if is_missing():
        raise MissingDependencyError(MISSING)
    stages = {"finding": "Looking for faces", "drawing": "Drawing"}

    def progress(stage: str, done: int, total: int | None) -> None:
        told(f"{stages[stage]}: frame {done}" + (f" of {total}" if total else ""))

    try:
        overlay_video(
            media.path or "",
            target,
            detector,
            draw,
            tracking=TrackingOptions(**follow_options(threshold)),
            faces_file=target.with_name("clip.faces.jsonl"),
            progress=progress,
        )
    except VideoError as error:  # its subject is the file in which the page keeps the clip
        raise VideoError(error.reason, subject=media.name) from error
