"""Read live sources: the newest frames, with reconnection."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from threading import Condition, Event, Thread, current_thread
from typing import Any

from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import ClosedError, OptionError, VideoError
from scrfd_trt.video import _pyav
from scrfd_trt.video._animation_reader import AnimationReader
from scrfd_trt.video._reader import Frame, FrameReader, Source, VideoInfo, VideoReader
from scrfd_trt.video._timestamps import LiveClock, format_time

logger = logging.getLogger("scrfd_trt")

RETRY_SECONDS = (0.1, 10.0)  # pause before the first attempt to reconnect, and longest pause
STABLE_SECONDS = 10.0  # duration of a connection after which the pauses are short again


@explained_options
class LiveReader(FrameReader):
    """Read a camera or a stream.

    A thread reads from the start on. A slow consumer gets the newest frames; the oldest are dropped. If the stream
    breaks, the reader connects again, and logs a warning (``scrfd_trt``).

    Parameters
    ----------
    source
        An address, or a device in the form of ``container_format``.
    reconnect
        Seconds to keep trying to reconnect; None tries for ever. With 0, the stream may end; an HTTP stream with
        neither a length nor chunked encoding counts as broken at its end.
    queue
        Most frames that wait.
    timeout
        Seconds to wait for a connection, and for each packet. FFmpeg cannot be interrupted: ``close()`` may wait as
        long for a silent stream; iterations in other threads end at once.
    container_format, options, extra_streams
        As for :class:`VideoReader`.
    first
        An open reader of the same source, with ``live`` and ``damaged="keep"``; it is closed here.

    Raises
    ------
    VideoError, MissingDependencyError
        As for :class:`VideoReader`.
    OptionError
        If a number is out of range.

    Attributes
    ----------
    info, extra_streams
        Properties of the first connection, and streams whose packets are read; the same for all connections.
    reconnects
        Number of reconnections.
    """

    def __init__(
        self,
        source: Source,
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
            self._open = partial(
                VideoReader,
                source,
                damaged="keep",
                live=True,
                container_format=container_format,
                options=options,
                extra_streams=extra_streams,
            )
            self._reconnect, self._timeout = reconnect, timeout
            connection = first or stack.enter_context(self._open(timeout=timeout))
            self.name = connection.name
            self.info: VideoInfo = connection.info
            self.extra_streams = _detached_copies(connection.extra_streams)
            self.reconnects = 0
            self._pause, self._lost, self._count = RETRY_SECONDS[0], 0, 0
            self._last_seconds: float | None = None
            self._clock = LiveClock(self.info.time_base)
            self._queue = DroppingQueue(queue)
            self._stop = Event()
            self._connection = connection
            self._thread = Thread(target=self._run, name=f"scrfd_trt reads {self.name}", daemon=True)
            self._thread.start()
            stack.pop_all()

    @property
    def dropped(self) -> int:
        """Number of frames that were dropped because the consumer was slow."""
        return self._queue.dropped

    @property
    def lost(self) -> int:
        """Number of frames that were damaged or could not be decoded."""
        return self._lost + self._connection.lost

    def items(self) -> Iterator[Any]:
        """Read until ``close()``, or until the connection is lost for good.

        Yield frames with consecutive numbers and increasing times, in seconds since the first frame that was read, and
        packets (``av.Packet``) of the extra streams as they are read.

        Raises
        ------
        VideoError
            If the stream cannot be reached again, or its frame size changes; the message names the last frame.
        ClosedError
            If the reader was closed before.
        """
        if self._stop.is_set():
            raise ClosedError("the video was closed; open it again")
        while True:
            try:
                item = self._queue.get()
            except VideoError as error:
                reason, last = error.reason, self._last_seconds
                if last is not None:
                    reason += f" (after frame {self._count - 1}, at {format_time(last)})"
                raise VideoError(reason, subject=error.subject, fields=error.fields) from error
            if item is None:
                return
            if isinstance(item, Frame):
                item.number, item.pts_seconds = self._count, float(item.picture.pts * item.picture.time_base)
                self._count, self._last_seconds = self._count + 1, item.pts_seconds
            yield item

    def close(self) -> None:
        """Close the source and end all iterations; a second call does nothing."""
        self._stop.set()
        self._queue.end(discard=True)
        if current_thread() is not self._thread:
            # FFmpeg checks its timeout while it opens, while it probes, and for each packet.
            self._thread.join(3 * self._timeout)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                begun = time.monotonic()
                error = self._read()
                if time.monotonic() - begun > STABLE_SECONDS:
                    self._pause = RETRY_SECONDS[0]
                if self._stop.is_set() or not self._connect_again(error):
                    break
            self._queue.end()
        except BaseException as error:  # noqa: BLE001 - raised where the items are consumed
            self._queue.end(error)
        finally:
            self._connection.close()

    def _read(self) -> VideoError | None:
        """Read until the stream ends or breaks; return the error of a break."""
        streams = _by_index(self._connection.extra_streams, self.extra_streams)
        try:
            with self._connection:
                for item in self._connection.items():
                    if self._stop.is_set():
                        break
                    self._enqueue(item, streams)
        except VideoError as error:
            return error
        return None

    def _enqueue(self, item: Any, streams: Mapping[int, Any]) -> None:
        if isinstance(item, Frame):
            self._clock.shift_frame(item.picture)
            self._queue.put(item)
        elif (stream := streams.get(item.stream.index)) and self._clock.shift_packet(item, stream.index):
            item.stream = stream  # the connection's own stream ends with it
            self._queue.put(item)

    def _connect_again(self, error: VideoError | None) -> bool:
        """Reconnect; return False if the stream ended as expected, or the reader was closed."""
        if error is None and self._reconnect == 0:
            return False
        event = f"{self.name}: the stream {'ended' if error is None else f'broke: {_reason(error)}'}"
        if self._reconnect == 0:
            raise VideoError(event) from error
        logger.warning("%s; reconnecting", event)
        begun, last = time.monotonic(), error
        while True:
            left = float("inf") if self._reconnect is None else begun + self._reconnect - time.monotonic()
            if left <= 0:
                detail = "" if last is error else f": {_reason(last)}"
                raise VideoError(f"{event}; it did not come back within {self._reconnect:g} s{detail}") from last
            if self._stop.wait(min(self._pause, left)):
                return False
            self._pause = min(self._pause * 2, RETRY_SECONDS[1])
            try:
                connection = self._open(timeout=min(self._timeout, max(1.0, left)))
            except VideoError as failure:
                last = failure
                continue
            self._use(connection)
            return True

    def _use(self, connection: VideoReader) -> None:
        self._lost += self._connection.lost
        self._connection = connection
        if connection.info.size != self.info.size:
            (width, height), (new_width, new_height) = self.info.size, connection.info.size
            raise VideoError(
                f"{self.name}: the frame size changes from {width}×{height} to {new_width}×{new_height} after a "
                "reconnection; open the source again"
            )
        self._clock.reset()
        self.reconnects += 1


Reader = VideoReader | LiveReader | AnimationReader


class DroppingQueue:
    """A queue of frames and packets; ``dropped`` counts the oldest frames, which are dropped while it is full."""

    MAX_PACKETS = 4096  # about a minute of sound, for a consumer that has stopped
    POLL_SECONDS = 0.5  # on Windows, Ctrl+C does not wake a waiting thread

    def __init__(self, max_frames: int) -> None:
        self.dropped = 0
        self._max_frames, self._frames = max_frames, 0
        self._items: deque[Any] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def put(self, item: Any) -> None:
        """Add a frame or a packet; do nothing after the end."""
        with self._changed:
            if self._ended:
                return
            self._items.append(item)
            self._frames += isinstance(item, Frame)
            if self._frames > self._max_frames:
                self._drop_oldest(frame=True)
                self._frames -= 1
                self.dropped += 1
            elif len(self._items) - self._frames > self.MAX_PACKETS:
                self._drop_oldest(frame=False)
            self._changed.notify_all()

    def _drop_oldest(self, *, frame: bool) -> None:
        del self._items[next(at for at, item in enumerate(self._items) if isinstance(item, Frame) == frame)]

    def end(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        """Mark the end after the waiting items, or at once with ``discard``; only the first call's error counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            if discard:
                self._items.clear()
                self._frames = 0
            self._changed.notify_all()

    def get(self) -> Any:
        """Wait for the oldest item; at the end return None, or raise the error of :meth:`end`."""
        with self._changed:
            while not self._items and not self._ended:
                self._changed.wait(self.POLL_SECONDS)
            if self._items:
                item = self._items.popleft()
                self._frames -= isinstance(item, Frame)
                return item
            if self._error is not None:
                raise self._error
            return None


def _check(reconnect: float | None, queue: int, timeout: float) -> None:
    if reconnect is not None and not reconnect >= 0:
        raise OptionError(f"reconnect={reconnect}: must be None or at least 0 seconds")
    if queue < 1:
        raise OptionError(f"queue={queue}: must be at least 1")
    if not 0 < timeout < float("inf"):
        raise OptionError(f"timeout={timeout}: must be a finite number of seconds above 0")


def _reason(error: VideoError | None) -> str:
    """Return FFmpeg's message, without the name and the position in front of it."""
    cause = error.__cause__ if error is not None else None
    return _pyav.reason(cause) if isinstance(cause, Exception) else str(error)


def _detached_copies(streams: Collection[Any]) -> tuple[Any, ...]:
    """Copy the parameters of streams: FFmpeg frees the streams themselves with their connection."""
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


def _by_index(streams: Collection[Any], copies: Collection[Any]) -> dict[int, Any]:
    """Map the streams of a connection to the copies of the same type and codec in the same place."""
    pairs = zip(streams, copies, strict=False)
    return {stream.index: copy for stream, copy in pairs if _type_and_codec(stream) == _type_and_codec(copy)}


def _type_and_codec(stream: Any) -> tuple[str, str]:
    return stream.type, stream.codec_context.name if stream.codec_context is not None else ""
