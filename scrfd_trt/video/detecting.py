"""The first pass: find the faces of a video and follow them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from scrfd_trt.detections import Detections
from scrfd_trt.video.ahead import ahead
from scrfd_trt.video.cuts import Small, marked, small
from scrfd_trt.video.faces import FrameFaces
from scrfd_trt.video.follow_options import FollowOptions
from scrfd_trt.video.live import LiveReader
from scrfd_trt.video.reading import Frame, VideoReader
from scrfd_trt.video.tracker import Sighting, Tracker

Reader = VideoReader | LiveReader


class Finder(Protocol):
    """What finds faces: :class:`scrfd_trt.SCRFDDetector`, or something around it."""

    def stream(
        self, images: Iterable[Any], *, batch: int | None = None, threshold: float | None = None
    ) -> Iterator[Detections]:
        """Find the faces of images that come one after the other; one result an image, in order."""
        ...


class Looked(NamedTuple):
    """A frame in which faces were looked for, or not.

    Attributes
    ----------
    frame
        As it was read.
    found
        The faces; None where the frame was left out.
    """

    frame: Frame
    found: Detections | None


def find_faces(
    reader: Reader, detector: Finder, options: FollowOptions | None = None, *, delay: int | None = None
) -> Iterator[FrameFaces]:
    """Find the faces of a video and follow them from frame to frame.

    Parameters
    ----------
    reader
        Read to its end.
    detector
        Its :meth:`stream` is used, so that several frames are under way at once.
    options
        How faces are followed.
    delay
        Frames that a result may lie behind the newest frame; None for what makes the result best.

    Yields
    ------
    FrameFaces
        One a frame, in order.

    Raises
    ------
    VideoError
        If the video cannot be read to its end; the frames before that have been yielded.
    """
    for _, faces in follow(reader, detector, options or FollowOptions(), delay=delay, keep=False):
        yield faces


def follow(
    reader: Reader,
    detector: Finder,
    options: FollowOptions,
    *,
    delay: int | None = None,
    keep: bool = True,
    batch: int | None = None,
) -> Generator[tuple[Frame | None, FrameFaces], None, None]:
    """Do what :func:`find_faces` does, and hand the frames out as well.

    Parameters
    ----------
    reader, detector, options, delay
        As for :func:`find_faces`.
    keep
        Whether frames are kept until their faces are known; None stands for them else.
    batch
        As :meth:`scrfd_trt.SCRFDDetector.stream` takes it.
    """
    tracker = Tracker(options, reader.info.rate, delay=delay)
    frames: deque[Frame | None] = deque()
    for looked, cut in marked(look(reader, detector, options, batch)):
        frame = looked.frame
        frames.append(frame if keep else None)
        for faces in tracker.push(Sighting(frame.number, frame.time, looked.found, cut)):
            yield frames.popleft(), faces
    for faces in tracker.finish():
        yield frames.popleft(), faces


def look(
    reader: Reader, detector: Finder, options: FollowOptions, batch: int | None = None
) -> Iterator[tuple[Looked, Small]]:
    """Look for faces in the frames of a video; read ahead and keep several frames under way.

    Yields
    ------
    tuple
        What was found in each frame, and the frame made small.
    """
    waiting: deque[tuple[Frame, Small]] = deque()

    def images(frames: Iterable[tuple[Frame, Small]]) -> Iterator[Any]:
        for frame, tiny in frames:
            waiting.append((frame, tiny))
            if frame.number % options.every == 0:
                yield frame.image

    with ahead(_prepared(reader, options.every)) as frames:
        for found in detector.stream(images(frames), batch=batch, threshold=options.lowest):
            frame, tiny = waiting.popleft()
            while frame.number % options.every:
                yield Looked(frame, None), tiny
                frame, tiny = waiting.popleft()
            yield Looked(frame, found), tiny
        for frame, tiny in waiting:
            yield Looked(frame, None), tiny


def _prepared(frames: Iterable[Frame], every: int) -> Iterator[tuple[Frame, Small]]:
    for frame in frames:
        if frame.number % every == 0:
            _ = frame.image  # converted on the thread that decodes
        yield frame, small(frame.picture)
