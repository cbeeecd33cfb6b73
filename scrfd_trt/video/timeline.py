"""One clock for a source that is connected to again and again, each time with another clock of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

JUMP = 10
"""Seconds that a source's clock may run ahead of ours between two frames, before it is taken for another clock."""


class Timeline:
    """Moves times to a clock that starts at 0 with the first frame, and rises strictly.

    Parameters
    ----------
    base
        Seconds a tick.
    now
        Our own clock, in seconds: breaks last as long here as they did.
    """

    def __init__(self, base: Fraction, now: Callable[[], float] = time.monotonic) -> None:
        self._base, self._now = base, now
        self._shift: Fraction | None = None
        self._last: int | None = None
        self._seen = 0.0
        self._copied: dict[int, int] = {}

    def broken(self) -> None:
        """Take the next frame's time as one of a new clock."""
        self._shift = None

    def place(self, picture: Any) -> None:
        """Move a frame's time."""
        own, now = picture.pts * picture.time_base, self._now()
        if self._last is None:
            self._shift = -own
        else:
            passed = Fraction(max(0.0, now - self._seen))
            last = self._last * self._base
            if self._shift is None or own + self._shift - last > passed + JUMP:
                self._shift = last + passed - own
        assert self._shift is not None  # noqa: S101 - for mypy
        ticks = round((own + self._shift) / self._base)
        if self._last is not None:
            ticks = max(ticks, self._last + 1)
        if picture.duration:
            picture.duration = round(picture.duration * picture.time_base / self._base)
        picture.pts, picture.time_base = ticks, self._base
        self._last, self._seen = ticks, now

    def follow(self, packet: Any, stream: int) -> bool:
        """Move a packet's times with the frames'.

        Parameters
        ----------
        packet
            Of another stream.
        stream
            Its number.

        Returns
        -------
        bool
            Whether it can be used: not before a clock's first frame, nor where it does not come after the one before.
        """
        if self._shift is None:
            return False
        ticks = round(self._shift / packet.time_base)
        dts = (packet.pts if packet.dts is None else packet.dts) + ticks
        if dts <= self._copied.get(stream, dts - 1):
            return False
        self._copied[stream] = dts
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
        return True
