"""The first pass: find the faces of a video and follow them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple, Protocol

from scrfd_trt.detections import Detections
from scrfd_trt.video.ahead import ahead
from scrfd_trt.video.cuts import Small, Suspicion, marked, small
from scrfd_trt.video.faces import FrameFaces
from scrfd_trt.video.follow_options import FollowOptions
from scrfd_trt.video.live import LiveReader
from scrfd_trt.video.reading import Frame, VideoReader
from scrfd_trt.video.tracker import Sighting, Tracker

Reader = VideoReader | LiveReader

RETURN = 1.0
"""Seconds within which a scene that comes back was never left."""
RETURN_FRAMES = (5, 120)
"""At least and at most."""
RETURN_LIVE = 3
"""Frames of the same for live pictures, which do not wait as long."""
LOOKS = 2
"""Frames of a scene in which faces are looked for in any case."""


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
    number, time
        Of the frame; in seconds.
    frame
        As it was read; None where it is not kept.
    found
        The faces; None where the frame was left out.
    """

    number: int
    time: float
    frame: Frame | None
    found: Detections | None


class _Prepared(NamedTuple):
    """A frame made small, and whether faces are looked for in it."""

    frame: Frame
    tiny: Small
    wanted: bool


def find_faces(
    reader: Reader, detector: Finder, options: FollowOptions | None = None, *, delay: int | None = None
) -> Generator[FrameFaces, None, None]:
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
        Frames that a result may lie behind the newest frame, and up to three more, in which a flash is told from a new
        scene; None for what makes the result best.

    Yields
    ------
    FrameFaces
        One a frame, in order.

    Raises
    ------
    VideoError
        If the video cannot be read to its end; the frames before that have been yielded.
    """
    with closing(follow(reader, detector, options or FollowOptions(), delay=delay, keep=False)) as found:
        for _, faces in found:
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
    near = _near(float(reader.info.rate), delay)
    for looked, cut in marked(look(reader, detector, options, batch, keep=keep), near):
        frames.append(looked.frame)
        for faces in tracker.push(Sighting(looked.number, looked.time, looked.found, cut)):
            yield frames.popleft(), faces
    for faces in tracker.finish():
        yield frames.popleft(), faces


def _near(rate: float, delay: int | None) -> int:
    least, most = RETURN_FRAMES
    return min(max(round(RETURN * rate), least), most) if delay is None else max(1, min(delay, RETURN_LIVE))


def look(
    reader: Reader, detector: Finder, options: FollowOptions, batch: int | None = None, *, keep: bool = True
) -> Iterator[tuple[Looked, Small]]:
    """Look for faces in the frames of a video; read ahead and keep several frames under way.

    Faces are looked for in every n-th frame, and in the first frames of what may be a new scene: a short one would
    else be over before its turn comes.

    Parameters
    ----------
    reader, detector, options, batch, keep
        As for :func:`follow`.

    Yields
    ------
    tuple
        What was found in each frame, and the frame made small.
    """
    waiting: deque[tuple[Looked, Small, bool]] = deque()

    def images(items: Iterable[_Prepared]) -> Iterator[Any]:
        for frame, tiny, wanted in items:
            # A picture is large, and many wait where few are looked at.
            waiting.append((Looked(frame.number, frame.time, frame if keep else None, None), tiny, wanted))
            if wanted:
                yield frame.image

    with ahead(_prepared(reader, options.every)) as items:
        for found in detector.stream(images(items), batch=batch, threshold=options.lowest):
            looked, tiny, wanted = waiting.popleft()
            while not wanted:
                yield looked, tiny
                looked, tiny, wanted = waiting.popleft()
            yield looked._replace(found=found), tiny
        for looked, tiny, _ in waiting:
            yield looked, tiny


def _prepared(frames: Iterable[Frame], every: int) -> Iterator[_Prepared]:
    suspicion, more = Suspicion(), 0
    for frame in frames:
        tiny = small(frame.picture)
        more = LOOKS if every > 1 and suspicion.of(tiny) else more - 1
        wanted = frame.number % every == 0 or more > 0
        if wanted:
            _ = frame.image  # converted on the thread that decodes
        yield _Prepared(frame, tiny, wanted)
