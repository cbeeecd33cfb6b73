"""The first pass: find the faces of a video and follow them."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from scrfd_trt._detections import Detections
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt._tracking.tracker import FrameObservation, Tracker
from scrfd_trt.video._live import LiveReader
from scrfd_trt.video._reader import Frame, VideoReader
from scrfd_trt.video._scene_cuts import Small, Suspicion, marked, small

Item = TypeVar("Item")

_END = object()


class _Ahead(Generic[Item]):
    def __init__(self, items: Iterable[Item], size: int) -> None:
        self._items = items
        self._queue: queue.Queue[object] = queue.Queue(size)
        self._stop, self._over = threading.Event(), threading.Event()
        self._began = False
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="scrfd-trt-video", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        with self._lock:
            if self._stop.is_set():
                return
            self._began = True
        try:
            self._read()
        finally:
            self._over.set()

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
            self._failure = error
        self._put(_END)

    def _put(self, item: object) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[Item]:
        while (item := self._queue.get()) is not _END:
            yield item  # type: ignore[misc]
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        # Where start() was interrupted, there may be no thread to join yet; one that begins later does nothing.
        with self._lock:
            self._stop.set()
        if self._began:
            self._wait()

    def _wait(self) -> None:
        try:
            self._over.wait()
        except KeyboardInterrupt:  # once more: what it reads must not be closed under it
            self._wait()
            raise


@contextmanager
def ahead(items: Iterable[Item], size: int = 4) -> Iterator[Iterator[Item]]:
    """Read items on a thread of its own while the block works on those before them.

    Parameters
    ----------
    items
        Are used by that thread alone until the block is left.
    size
        Most items that wait.

    Yields
    ------
    iterator
        The items in order; an error of theirs is raised in its turn.
    """
    running = _Ahead(items, size)
    try:
        running.start()
        yield iter(running)
    finally:
        running.close()


Reader = VideoReader | LiveReader

RETURN = 1.0
"""Seconds within which a scene that comes back was never left."""
RETURN_FRAMES = (5, 120)
"""At least and at most."""
RETURN_LIVE = 3
"""Frames of the same for live pictures, which do not wait as long."""
LOOKS = 2
"""Frames of a scene in which faces are looked for in any case."""


class FrameDetector(Protocol):
    """What finds faces: :class:`scrfd_trt.SCRFDDetector`, or something around it."""

    def stream(
        self, images: Iterable[Any], *, batch: int | None = None, threshold: float | None = None
    ) -> Iterator[Detections]:
        """Find the faces of images that come one after the other; one result an image, in order."""
        ...


class FrameResult(NamedTuple):
    """A frame in which faces were looked for, or not.

    Attributes
    ----------
    number, pts_seconds
        Of the frame; in seconds.
    frame
        As it was read; None where it is not kept.
    found
        The faces; None where the frame was left out.
    """

    number: int
    pts_seconds: float
    frame: Frame | None
    found: Detections | None


class _Prepared(NamedTuple):
    """A frame made small, and whether faces are looked for in it."""

    frame: Frame
    tiny: Small
    wanted: bool


def find_faces(
    reader: Reader, detector: FrameDetector, options: TrackingOptions | None = None, *, delay: int | None = None
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
    with closing(track_faces(reader, detector, options or TrackingOptions(), delay=delay, keep=False)) as found:
        for _, faces in found:
            yield faces


def track_faces(
    reader: Reader,
    detector: FrameDetector,
    options: TrackingOptions,
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
    for looked, cut in marked(detect_frames(reader, detector, options, batch, keep=keep), near):
        frames.append(looked.frame)
        for faces in tracker.push(FrameObservation(looked.number, looked.pts_seconds, looked.found, cut)):
            yield frames.popleft(), faces
    for faces in tracker.finish():
        yield frames.popleft(), faces


def _near(rate: float, delay: int | None) -> int:
    least, most = RETURN_FRAMES
    return min(max(round(RETURN * rate), least), most) if delay is None else max(1, min(delay, RETURN_LIVE))


def detect_frames(
    reader: Reader, detector: FrameDetector, options: TrackingOptions, batch: int | None = None, *, keep: bool = True
) -> Iterator[tuple[FrameResult, Small]]:
    """Look for faces in the frames of a video; read ahead and keep several frames under way.

    Faces are looked for in every n-th frame, and in the first frames of what may be a new scene: a short one would
    else be over before its turn comes.

    Parameters
    ----------
    reader, detector, options, batch, keep
        As for :func:`track_faces`.

    Yields
    ------
    tuple
        What was found in each frame, and the frame made small.
    """
    waiting: deque[tuple[FrameResult, Small, bool]] = deque()

    def images(items: Iterable[_Prepared]) -> Iterator[Any]:
        for frame, tiny, wanted in items:
            # A picture is large, and many wait where few are looked at.
            waiting.append((FrameResult(frame.number, frame.pts_seconds, frame if keep else None, None), tiny, wanted))
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
