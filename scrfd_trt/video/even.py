"""Frames at a constant rate, for containers that hold no times."""

from __future__ import annotations

from fractions import Fraction

from scrfd_trt.errors import OutputError
from scrfd_trt.video.info import clock

AWAY, LATE = 0.3, 1.5
"""Frames by which a frame's time may lie beside its place, and by which the first may be late."""
MOST = 65535
"""Ticks a second that MPEG-4 can count."""


class Even:
    """Places frames by their times; a place may stay empty.

    Parameters
    ----------
    name
        What is written, for messages.
    rate
        Frames a second.

    Attributes
    ----------
    rate : fractions.Fraction
        The same, or the nearest that can be written.
    """

    def __init__(self, name: str, rate: Fraction) -> None:
        self._name = name
        self.rate = rate.limit_denominator(max(1, min(1001, int(MOST / rate))))
        self._last = -1
        self._begin = 0.0

    def place(self, number: int, time: float) -> int:
        """Return the place of a frame, counted from 0 on.

        Parameters
        ----------
        number, time
            Of the frame; in seconds.

        Raises
        ------
        OutputError
            If it fits none: the rate varies, or the pictures begin late.
        """
        if number == 0:
            self._begin = time
        exact = (time - self._begin) * float(self.rate)
        place = round(exact)
        if abs(exact - place) > AWAY or place <= self._last or self._begin * float(self.rate) > LATE:
            raise OutputError(
                f"cannot write {self._name}: AVI holds no times, and frame {number} at {clock(time)} is not where a "
                f"constant rate of {float(self.rate):.5g} puts it; name a .mkv or .mp4 file"
            )
        self._last = place
        return place
