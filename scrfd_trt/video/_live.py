"""Read sources without an end: the newest frames, and on after a break."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from threading import Condition, Event, Thread, current_thread
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scrfd_trt.errors import ClosedError, OptionError, VideoError
from scrfd_trt.video import _pyav
from scrfd_trt.video._reader import Frame, VideoInfo, VideoReader
from scrfd_trt.video._timestamps import Timeline, format_time

if TYPE_CHECKING:
    from typing_extensions import Self

PACKETS = 4096
"""Packets of other streams that wait at most: about a minute of sound, for a consumer that has stopped."""
LOOK = 0.5
"""Seconds between looks for Ctrl+C, which does not wake a thread that waits on Windows."""


class Latest:
    """Keeps the newest frames, and the packets between them.

    Parameters
    ----------
    frames
        That wait at most; one more drops the oldest.

    Attributes
    ----------
    dropped : int
        Frames that were dropped.
    """

    def __init__(self, frames: int) -> None:
        self.dropped = 0
        self._most = frames
        self._frames: deque[int] = deque()
        self._items: dict[int, Any] = {}
        self._number = 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def put(self, item: Any) -> None:
        """Add a frame or a packet; nothing after the end."""
        with self._changed:
            if self._ended:
                return
            self._items[self._number] = item
            if isinstance(item, Frame):
                self._frames.append(self._number)
            self._number += 1
            if len(self._frames) > self._most:
                del self._items[self._frames.popleft()]
                self.dropped += 1
            if len(self._items) - len(self._frames) > PACKETS:
                del self._items[next(number for number in self._items if number not in self._frames)]
            self._changed.notify_all()

    def end(self, error: BaseException | None = None, *, now: bool = False) -> None:
        """Let :meth:`take` end when all that waits was taken, or ``now``; the first end counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            if now:
                self._items.clear()
                self._frames.clear()
            self._changed.notify_all()

    def take(self) -> Any:
        """Wait for the oldest item; None is the end.

        Raises
        ------
        BaseException
            What :meth:`end` was told.
        """
        with self._changed:
            while not self._items and not self._ended:
                self._changed.wait(LOOK)
            if self._items:
                number = next(iter(self._items))
                if self._frames and self._frames[0] == number:
                    self._frames.popleft()
                return self._items.pop(number)
            if self._error is not None:
                raise self._error
            return None


log = logging.getLogger("scrfd_trt")

PAUSES = (0.1, 10.0)
"""Seconds before the first try to reach a source again, and before the tries after many."""
STEADY = 10.0
"""Seconds that a connection holds before the pauses are short again; what breaks at once is not asked at once."""


class LiveReader:
    """Reads a camera or a stream.

    A thread reads from the start on. Who is late gets the newest frames, and the oldest are dropped. When the stream
    breaks, it is connected to again, and a warning is logged (``scrfd_trt``).

    Parameters
    ----------
    source
        An address, or a device as ``container_format`` calls it.
    reconnect
        Seconds to try to reach it again; None tries for ever. With 0, a stream may end; one over HTTP that
        tells neither its length nor chunks breaks there, as FFmpeg sees it.
    queue
        Frames that wait at most.
    timeout
        Seconds to wait for a connection, and for each packet. FFmpeg cannot be called off: ``close()`` may have to wait
        as long for a stream that has fallen silent, though whoever iterates does not.
    container_format, options, extra_streams
        As :class:`VideoReader` takes them.
    first
        A reader of the same source that is open already, with ``live`` and ``damaged="keep"``; it is closed here.

    Raises
    ------
    VideoError
        If it cannot be opened, or has no frame.
    OptionError
        If a number is out of its range.
    MissingDependencyError
        If PyAV is not installed.

    Attributes
    ----------
    info : VideoInfo
        What the first connection told.
    extra_streams : tuple
        Streams whose packets come along, to be written beside the frames; they stay the same over breaks.
    reconnects : int
        How often the source was reached again.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        reconnect: float | None = 10.0,
        queue: int = 2,
        timeout: float = 10.0,
        container_format: str | None = None,
        options: Mapping[str, str] | None = None,
        extra_streams: Collection[str] = (),
        first: VideoReader | None = None,
    ) -> None:
        with ExitStack() as stack:
            if first is not None:
                stack.callback(first.close)
            _check(reconnect, queue, timeout)
            self._how: dict[str, Any] = {
                "container_format": container_format,
                "options": options,
                "extra_streams": extra_streams,
            }
            self._source, self._reconnect, self._timeout = source, reconnect, timeout
            connection = first or stack.enter_context(self._open(timeout))
            self.name = connection.name
            self.info: VideoInfo = connection.info
            self.extra_streams = _detached(connection.extra_streams)
            self.reconnects = 0
            self._pause, self._lost, self._given = PAUSES[0], 0, 0
            self._time: float | None = None
            self._timeline = Timeline(self.info.time_base)
            self._latest = Latest(queue)
            self._stop = Event()
            self._connection = connection
            self._thread = Thread(target=self._run, name=f"scrfd_trt reads {self.name}", daemon=True)
            self._thread.start()
            stack.pop_all()

    @property
    def dropped(self) -> int:
        """Frames that nobody took in time."""
        return self._latest.dropped

    @property
    def lost(self) -> int:
        """Frames that were damaged, or could not be decoded."""
        return self._lost + self._connection.lost

    def _open(self, timeout: float) -> VideoReader:
        return VideoReader(self._source, damaged="keep", live=True, timeout=timeout, **self._how)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                begun = time.monotonic()
                broken = self._read()
                if time.monotonic() - begun > STEADY:
                    self._pause = PAUSES[0]
                if self._stop.is_set() or not self._again(broken):
                    break
            self._latest.end()
        except BaseException as error:  # noqa: BLE001 - whoever waits for a frame has to hear of it
            self._latest.end(error)
        finally:
            self._connection.close()

    def _read(self) -> VideoError | None:
        """Read until the stream ends or breaks."""
        taken = _matching(self._connection.extra_streams, self.extra_streams)
        try:
            with self._connection:
                for item in self._connection.items():
                    if self._stop.is_set():
                        break
                    self._hand_on(item, taken)
        except VideoError as error:
            return error
        return None

    def _hand_on(self, item: Any, taken: Mapping[int, Any]) -> None:
        if isinstance(item, Frame):
            self._timeline.place(item.picture)
            self._latest.put(item)
        elif (stream := taken.get(item.stream.index)) and self._timeline.follow(item, stream.index):
            item.stream = stream  # the connection's own ends with it
            self._latest.put(item)

    def _again(self, broken: VideoError | None) -> bool:
        """Connect anew; False where a stream has ended or was closed."""
        if broken is None and self._reconnect == 0:
            return False
        why = f"{self.name}: the stream {'ended' if broken is None else f'broke: {_reason(broken)}'}"
        if self._reconnect == 0:
            raise VideoError(why) from broken
        log.warning("%s; trying to reach it again", why)
        begun, last = time.monotonic(), broken
        while True:
            left = float("inf") if self._reconnect is None else begun + self._reconnect - time.monotonic()
            if left <= 0:
                tried = "" if last is broken else f": {_reason(last)}"
                raise VideoError(f"{why}; it did not come back within {self._reconnect:g} s{tried}") from last
            if self._stop.wait(min(self._pause, left)):
                return False
            self._pause = min(self._pause * 2, PAUSES[1])
            try:
                connection = self._open(min(self._timeout, max(1.0, left)))
            except VideoError as error:
                last = error
                continue
            self._take_up(connection)
            return True

    def _take_up(self, connection: VideoReader) -> None:
        self._lost += self._connection.lost
        self._connection = connection
        if connection.info.size != self.info.size:
            (width, height), (new_width, new_height) = self.info.size, connection.info.size
            raise VideoError(
                f"{self.name}: the pictures change from {width}×{height} to {new_width}×{new_height} after a break; "
                "open it anew"
            )
        self._timeline.broken()
        self.reconnects += 1

    def __iter__(self) -> Iterator[Frame]:
        return (item for item in self.items() if isinstance(item, Frame))

    def items(self) -> Iterator[Any]:
        """Read on, until ``close()`` or a break for good.

        Yields
        ------
        Frame or av.Packet
            Frames with numbers that count on and times that rise, in seconds after the first frame that was read; and
            packets of the other streams, as they come.

        Raises
        ------
        VideoError
            If the stream broke and could not be reached again, or its pictures change their size; the message says
            after which frame.
        ClosedError
            If it was closed before.
        """
        if self._stop.is_set():
            raise ClosedError("the video was closed; open it anew")
        while True:
            try:
                item = self._latest.take()
            except VideoError as error:
                raise VideoError(
                    f"{error.reason}{self._after()}", subject=error.subject, fields=error.fields
                ) from error
            if item is None:
                return
            if isinstance(item, Frame):
                item.number, item.pts_seconds = self._given, float(item.picture.pts * item.picture.time_base)
                self._given, self._time = self._given + 1, item.pts_seconds
            yield item

    def _after(self) -> str:
        return "" if self._time is None else f" (after frame {self._given - 1}, at {format_time(self._time)})"

    def close(self) -> None:
        """Let go of the source; iterations end, in other threads too. A second call does nothing."""
        self._stop.set()
        self._latest.end(now=True)
        if current_thread() is not self._thread:
            # The thread ends itself: FFmpeg looks at the time while it opens, while it probes and for each packet.
            self._thread.join(3 * self._timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check(reconnect: float | None, queue: int, timeout: float) -> None:
    if reconnect is not None and not reconnect >= 0:
        raise OptionError(f"reconnect={reconnect}: take a number of seconds from 0 on, or None")
    if queue < 1:
        raise OptionError(f"queue={queue}: at least one frame has to wait")
    if not 0 < timeout < float("inf"):
        raise OptionError(f"timeout={timeout}: take a number of seconds above 0")


def _reason(error: VideoError | None) -> str:
    """Say what FFmpeg said, without the name and the place that stand before it."""
    cause = error.__cause__ if error is not None else None
    return _pyav.reason(cause) if isinstance(cause, Exception) else str(error)


def _detached(streams: Collection[Any]) -> tuple[Any, ...]:
    """Copy what streams are coded as: FFmpeg frees the streams themselves with their connection."""
    if not streams:
        return ()
    container = _pyav.load().open(os.devnull, "w", format="null")
    copies = []
    for stream in streams:
        copy = container.add_stream_from_template(stream)
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        copies.append(copy)
    return tuple(copies)


def _matching(streams: Collection[Any], copies: Collection[Any]) -> dict[int, Any]:
    """Find for each stream of a connection the copy of the same kind in the same place."""
    pairs = zip(streams, copies, strict=False)
    return {stream.index: copy for stream, copy in pairs if _kind(stream) == _kind(copy)}


def _kind(stream: Any) -> tuple[str, str]:
    return stream.type, stream.codec_context.name if stream.codec_context is not None else ""
