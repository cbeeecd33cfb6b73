"""The newest frames between one thread that reads and one that is sometimes late."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Any

from scrfd_trt.video.reading import Frame

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
