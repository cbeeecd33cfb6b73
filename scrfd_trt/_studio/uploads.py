"""Uploaded images and clips: read them within limits, and write a clip with its overlays."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import overload

import cv2
import numpy as np
from numpy.typing import NDArray

import overlays
from scrfd_trt import _image_files as image_files
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files import write
from scrfd_trt._image_files.metadata import Metadata, read_metadata
from scrfd_trt.errors import ImageError, MissingDependencyError, VideoError
from scrfd_trt.video import TrackingOptions, VideoReader, _pyav, overlay_video

Image = NDArray[np.uint8]

MAX_PIXELS = 50_000_000
LIMITS = image_files.Limits(pixels=MAX_PIXELS, option="")
MAX_FRAMES = 300
MAX_FRAME_BYTES = 192 * 2**20  # all frames of a clip, as JPEG; of frames of noise, fewer are shown
MAX_STICKER_BYTES = 16 * 2**20
CLIP_SIDE = 1280  # frames of clips are shown with this longer side, in pixels
JPEG_QUALITY = 92

CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

OUTPUT_SUFFIXES = {".mov": ".mov", ".webm": ".mkv", ".mkv": ".mkv", ".avi": ".mkv"}
"""Containers that take H.264 and the clip's own audio; MP4 for all others."""
CLIPS_UNAVAILABLE = 'clips require packages that are not installed: pip install "scrfd-trt[video]"'
LOW_THRESHOLD = float(TrackingOptions.model_fields["low"].default)


class JpegFrames(Sequence[Image]):
    """Frames of a clip, stored as JPEG: 300 frames take as much memory as a dozen decoded ones."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self._files = tuple(files)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def nbytes(self) -> int:
        """What the frames take in memory."""
        return sum(map(len, self._files))

    @overload
    def __getitem__(self, number: int) -> Image: ...
    @overload
    def __getitem__(self, number: slice) -> JpegFrames: ...
    def __getitem__(self, number: int | slice) -> Image | JpegFrames:
        if isinstance(number, slice):
            return JpegFrames(self._files[number])
        return np.asarray(cv2.imdecode(np.frombuffer(self._files[number], np.uint8), cv2.IMREAD_COLOR), np.uint8)


@dataclass(frozen=True, eq=False)
class Media:
    """An image or a clip."""

    name: str  # the file name, without folders
    frames: Sequence[Image]  # BGR, at least one; those of a clip may be fewer and smaller than in its file
    path: Path | None = None  # the file of a clip; None for an image
    truncated: bool = False  # whether the clip has more frames than are shown, or the image file more images
    image: image_files.ImageFrame | None = None  # what the image file holds, with its alpha
    color: image_files.ColorDescription = write.NO_COLOR
    metadata: Metadata = write.NO_METADATA  # what stays in copies

    @property
    def is_clip(self) -> bool:
        """Whether this is a clip and not an image."""
        return self.path is not None

    @property
    def nbytes(self) -> int:
        """What the frames take in memory, and the file of a clip on disk."""
        frames = self.frames.nbytes if isinstance(self.frames, JpegFrames) else sum(each.nbytes for each in self.frames)
        if self.image is not None and self.image.alpha is not None:  # then its pixels are others than those shown
            frames += self.image.pixels.nbytes + self.image.alpha.nbytes
        return frames + (self.path.stat().st_size if self.path else 0)


def plain_name(name: str) -> str:
    """Return the name of an uploaded file without folders."""
    return Path(name.replace("\\", "/")).name or "picture"


def is_clip(name: str) -> bool:
    """Return whether a file is a clip, by its suffix."""
    return Path(name).suffix.lower() in CLIP_SUFFIXES


def read_image(name: str, content: bytes) -> Media:
    """Read an uploaded image, of several frames the first; raise ImageError if it is unreadable or too large."""
    opened = image_files.open_image(content, limits=LIMITS, name=name)
    image = next(opened.frames())
    kept = read_metadata(content, opened.kind).kept(descriptive=False, location=False)
    return Media(name, (image.visible(),), truncated=opened.count > 1, image=image, color=opened.color, metadata=kept)


def write_image(media: Media, pixels: Image) -> bytes:
    """Return a PNG file of an image whose pixels were drawn on; raise ScrfdError if it cannot be written."""
    file = io.BytesIO()
    image = media.image if media.image is not None and media.image.pixels.shape == pixels.shape else None
    frame = image.drawn_on(pixels) if image else image_files.ImageFrame(pixels)
    write.write_image(file, [frame], ".png", color=media.color, metadata=media.metadata)
    return file.getvalue()


def check_image(name: str, content: bytes) -> None:
    """Raise ImageError if the header of an image is unreadable or names too many pixels."""
    image_files.open_image(content, limits=LIMITS, name=name)


def _check_size(name: str, width: float, height: float) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has more than {MAX_PIXELS // 10**6} million pixels: use a smaller one")


def read_clip(name: str, path: Path) -> Media:
    """Read the first frames of a clip, whose file stays; raise ImageError if it is unreadable or too large."""
    if not can_use_clips():
        raise MissingDependencyError(CLIPS_UNAVAILABLE)
    try:
        with _pyav.reading(lambda: "cannot be read", name), _pyav.open_input(path) as container:
            for stream in container.streams.video:
                _check_size(name, stream.width, stream.height)
        # Damaged frames are shown; writing the clip reports them.
        with VideoReader(path, damaged="keep") as reader:
            files: list[bytes] = []
            size, truncated = 0, False
            for frame in reader:
                if truncated := len(files) == MAX_FRAMES or size > MAX_FRAME_BYTES:
                    break
                files.append(_jpeg(frame.image))
                size += len(files[-1])
    except VideoError as error:
        raise ImageError(f"{name} is not a supported clip: use MP4 or WebM") from error
    return Media(name, JpegFrames(files), path, truncated=truncated)


def _jpeg(image: Image) -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", shrink(image, CLIP_SIDE), quality)[1].tobytes()


def shrink(image: Image, side: int) -> Image:
    """Return an image whose longer side is at most ``side`` pixels."""
    factor = side / max(image.shape[:2])
    if factor >= 1.0:
        return image
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def can_use_clips() -> bool:
    """Return whether the packages of the extra ``video`` are installed."""
    return all(util.find_spec(name) is not None for name in ("av", "scipy"))


def output_suffix(name: str) -> str:
    """Return the suffix of the file that a clip becomes."""
    return OUTPUT_SUFFIXES.get(Path(name).suffix.lower(), ".mp4")


def tracking_options(threshold: float) -> dict[str, float]:
    """Return the :class:`scrfd_trt.video.TrackingOptions` that belong to a threshold, without defaults."""
    return {"threshold": threshold} | ({"low": threshold} if threshold < LOW_THRESHOLD else {})


def write_clip(
    media: Media,
    target: Path,
    detector: SCRFDDetector,
    draw: overlays.Compose,
    *,
    threshold: float,
    progress: Callable[[str], None],
) -> None:
    """Write a clip into a folder of its own, as ``scrfd-trt overlay`` does; errors of ``progress`` stop it."""
    stages = {"finding": "Detecting faces", "drawing": "Drawing"}

    def report(stage: str, done: int, total: int | None) -> None:
        progress(f"{stages[stage]}: frame {done}" + (f" of {total}" if total else ""))

    try:
        overlay_video(
            media.path or "",
            target,
            detector,
            draw,
            tracking=TrackingOptions(**tracking_options(threshold)),
            faces_file=target.with_name("clip.faces.jsonl"),
            progress=report,
        )
    except VideoError as error:  # it names the temporary file
        raise VideoError(error.reason, subject=media.name) from error
