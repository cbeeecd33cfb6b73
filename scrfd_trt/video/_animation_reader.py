"""Read animated images (GIF, APNG, WebP, AVIF) as videos, with alpha and durations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from pathlib import Path
from typing import Any

from scrfd_trt._image_files import ImageFile, ImageFrame, Limits, open_image
from scrfd_trt._image_files.read import START_BYTES, frame_seconds, image_kind
from scrfd_trt.errors import ClosedError, ImageError, MissingDependencyError, VideoError
from scrfd_trt.video import _pyav
from scrfd_trt.video._reader import DEFAULT_RATE, Damaged, Frame, FrameReader, Source, VideoInfo, check_unread

KINDS = ("gif", "png", "webp", "avif", "heic")
LIMITS: ContextVar[Limits] = ContextVar("LIMITS", default=Limits(option=""))  # noqa: B039 - it is frozen
TICK = Fraction(1, 1000)
SHORTEST, USUAL = 0.011, 0.1  # frames for less time than the first are shown for the second by browsers


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Read animations within other limits in the block, in this thread."""
    token = LIMITS.set(limits)
    try:
        yield
    finally:
        LIMITS.reset(token)


def is_animation(path: Source) -> bool:
    """Return whether a file is an image with several frames that are shown one after the other."""
    try:
        return _may_be_animation(path) and open_image(Path(path), limits=LIMITS.get(), damaged="keep").is_animation
    except (ImageError, MissingDependencyError):  # reported when the file is read
        return False


def open_animation(path: Source, *, damaged: Damaged = "stop") -> AnimationReader | None:
    """Open a file if :func:`is_animation` holds, otherwise return None; raise VideoError if it cannot be read."""
    if not _may_be_animation(path):
        return None
    with _translated(str(Path(path))):
        image = open_image(Path(path), limits=LIMITS.get(), damaged=damaged)
    return AnimationReader(path, image, damaged=damaged) if image.is_animation else None


def _may_be_animation(path: Source) -> bool:
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            return False
        with Path(path).open("rb") as file:
            return image_kind(file.read(START_BYTES)) in KINDS
    except (OSError, ValueError):  # reported when FFmpeg opens it
        return False


class AnimationFrame(Frame):
    """One frame of an animation; its image lies on white."""

    __slots__ = ("source",)

    def __init__(self, number: int, pts: int, frame: ImageFrame) -> None:
        image = frame.visible()
        picture = _pyav.load().VideoFrame.from_ndarray(image, "bgr24")
        picture.pts, picture.time_base = pts, TICK
        super().__init__(number, picture)
        self.source = frame
        self._image = image.view()
        self._image.flags.writeable = False


class AnimationReader(FrameReader):
    """Read an animated image as :class:`VideoReader` reads videos; ``file`` is the opened image."""

    extra_streams: tuple[Any, ...] = ()
    unread_streams = 0

    def __init__(self, source: Source, file: ImageFile, *, damaged: Damaged = "stop") -> None:
        self.name = str(Path(source))
        self.file = file
        self.lost = 0
        self._closed = False
        self._keep_damaged = damaged == "keep"
        times = [_shown_seconds(seconds) for seconds in frame_seconds(self.file)]
        duration = sum(times)
        self.info = VideoInfo(
            name=self.name,
            size=self.file.size,
            rate=Fraction(len(times) / duration).limit_denominator(1001) if duration else DEFAULT_RATE,
            time_base=TICK,
            frames=self.file.count,
            duration=duration,
            pixel_format="bgr24",
            bit_depth=8,
            color_tags=(2, 0, 2, 2),
            pixel_aspect=None,
            codec=self.file.kind,
        )
        self._items = self._decode()

    def items(self) -> Iterator[Any]:
        """Yield the frames; raise VideoError if one is damaged, and ClosedError after ``close()`` or the end."""
        check_unread(self._items)
        for item in self._items:  # noqa: UP028 - yield from would end them for good where a caller stops early
            yield item

    def _decode(self) -> Iterator[AnimationFrame]:
        time, last, number = 0.0, -1, 0
        frames = self.file.frames()
        while True:
            if self._closed:
                raise ClosedError("the video was closed; open it again")
            try:
                with _translated(self.name, f"frame {number}: "):
                    frame = next(frames, None)
            except VideoError:
                if not self._keep_damaged or not number:
                    raise
                frame = None
            if frame is None:
                self.lost = max(len(self.file.damage), self.file.count - number)
                return
            last = max(last + 1, round(time * 1000))
            yield AnimationFrame(number, last, frame)
            time += _shown_seconds(frame.seconds)
            number += 1

    def close(self) -> None:
        """Close the animation; a second call does nothing."""
        self._closed = True


def _shown_seconds(seconds: float) -> float:
    return seconds if seconds >= SHORTEST else USUAL


@contextmanager
def _translated(name: str, position: str = "") -> Iterator[None]:
    """Translate errors of images to VideoError."""
    try:
        yield
    except ImageError as error:
        raise VideoError(f"{position}{error}", subject=name, fields=error.fields) from error
