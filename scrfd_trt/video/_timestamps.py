"""Find where frames are missing in a video whose rate does not vary."""

from __future__ import annotations

import heapq
import re
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from scrfd_trt.errors import OutputError, VideoError

SLACK = 0.5
"""Seconds that a claimed end may lie beyond the last packet, where neither frames are counted nor pictures timed."""
FRAMES = 1.5
"""Frames of the same, where they are."""


class TruncationCheck:
    """Compares what a file claims with what came.

    Files that claim nothing cannot be checked: transport streams, and what was recorded as a stream.

    Parameters
    ----------
    container, stream
        PyAV's, of the video.

    Attributes
    ----------
    seconds : float or None
        How long the pictures claim to last.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._stream = stream
        self._start: float = (container.start_time or 0) / 1e6
        self._whole: float | None = None if container.duration is None else container.duration / 1e6
        self._last_picture = _tagged(stream)
        own = None if stream.duration is None else float(stream.duration * stream.time_base)
        if own is None and self._last_picture is not None:
            own = self._last_picture - float((stream.start_time or 0) * stream.time_base)
        self.seconds: float | None = own if own is not None else self._whole
        self._packets = 0
        self._end = self._picture_end = 0.0

    def saw(self, packet: Any) -> None:
        """Note a packet that came, of any stream."""
        end = 0.0
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        self._end = max(self._end, end)
        if packet.stream is self._stream and packet.size:
            self._packets += 1
            self._picture_end = max(self._picture_end, end)

    def check(self, name: str, frames: int) -> None:
        """Complain where the video ended early.

        Raises
        ------
        VideoError
            With the last frame that came.
        """
        claimed = self._stream.frames
        due = self._due(claimed)
        if due is None:
            return
        rest = f" of {claimed}" if claimed else ""
        raise VideoError(
            f"the video ends early, after frame {frames - 1}{rest}, at {format_time(self._picture_end)} of "
            f"{format_time(due)}; copy it again, or read it with damaged='keep'",
            subject=name,
            fields=["damaged"],
        )

    def _due(self, claimed: int) -> float | None:
        """Return when the video should have ended; None where it did."""
        step = FRAMES / float(self._stream.average_rate or 25)
        if self._end <= 0:
            return None
        if self._last_picture is not None and self._last_picture - self._picture_end > step:
            return self._last_picture
        if self._whole is None:
            return None
        if self._start + self._whole - self._end > SLACK:
            return self._start + self._whole
        own = min(self._whole, self.seconds if self.seconds is not None else self._whole)
        short = own - (self._picture_end - self._start)
        return self._start + own if self._packets < claimed and short > step else None


def _tagged(stream: Any) -> float | None:
    """Return when the last picture ends, in seconds, as FFmpeg notes it in Matroska; None where it did not."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)\0*", stream.metadata.get("DURATION", ""))
    return None if found is None else int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


BACK = Fraction(1, 4)
"""Seconds that a stream's clock must go back; by less, packets are only out of order."""


class Splices:
    """Moves the times of packets, so that each piece of a file follows on the one before it."""

    def __init__(self) -> None:
        self._shifts = [Fraction(0)]
        self._piece: dict[int, int] = {}
        self._last: dict[int, Fraction] = {}
        self._moved: dict[int, int] = {}
        self._first: dict[int, Fraction] = {}
        self._end = Fraction(0)

    def place(self, packet: Any) -> bool:
        """Move a packet's times.

        Parameters
        ----------
        packet
            Of any stream, in the order of the file.

        Returns
        -------
        bool
            Whether it comes after the packet before it in its stream; those that overlap at a splice do not.
        """
        if packet.pts is None and packet.dts is None:
            return True
        index = packet.stream.index
        moved = round(self._shifts[self._piece_of(packet)] / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + moved
        packet.dts = None if packet.dts is None else packet.dts + moved
        if packet.dts is not None:
            if moved and packet.dts <= self._moved.get(index, packet.dts - 1):
                return False
            self._moved[index] = packet.dts
        self._end = max(self._end, _shown(packet) + (packet.duration or 0) * packet.time_base)
        return True

    def _piece_of(self, packet: Any) -> int:
        """Return the number of the piece that a packet is of; a new one where its stream's clock went back."""
        index, newest = packet.stream.index, len(self._shifts) - 1
        piece = self._piece.get(index, newest)
        if packet.stream.type not in ("video", "audio"):
            return newest  # too few packets to tell
        self._first.setdefault(index, _shown(packet))
        if packet.dts is None:
            return piece  # as Matroska's first ones; times of display are out of order where there are B-frames
        time = Fraction(packet.dts * packet.time_base)
        if time < self._last.get(index, time) - BACK:
            piece += 1
            if piece > newest:
                # Its streams begin one after the other, as those of the first piece did.
                begins = _shown(packet) - (self._first[index] - min(self._first.values()))
                self._shifts.append(self._end - begins)
        self._piece[index], self._last[index] = piece, time
        return piece


def _shown(packet: Any) -> Fraction:
    return Fraction((packet.dts if packet.pts is None else packet.pts) * packet.time_base)


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


AWAY, LATE = 0.3, 1.5
"""Frames by which a frame's time may lie beside its place, and by which the first may be late."""
MOST = 65535
"""Ticks a second that MPEG-4 can count."""


class ConstantFrameRate:
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
                f"cannot write {self._name}: AVI holds no times, and frame {number} at {format_time(time)} is not "
                f"where a constant rate of {float(self.rate):.5g} puts it; name a .mkv or .mp4 file"
            )
        self._last = place
        return place


MOSTLY = 0.9
"""Share of the steps from frame to frame that are of one length where the rate does not vary."""
LONGER = 1.6
"""Times that length from which a frame is missing."""
LEAST = 20
"""Frames from which this can be told."""
KEPT = 10


class Gaps:
    """Gathers the longest steps from one frame to the next."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._count = 0
        self._lengths: Counter[int] = Counter()
        self._longest: list[tuple[float, float]] = []

    def add(self, time: float) -> None:
        """Take the time of the next frame in seconds."""
        last, self._last = self._last, time
        if last is None:
            return
        self._count += 1
        self._lengths[round((time - last) * 1000)] += 1
        heapq.heappush(self._longest, (time - last, last))
        if len(self._longest) > KEPT:
            heapq.heappop(self._longest)

    def found(self) -> list[tuple[float, float]]:
        """Return the times of the frames before and after each gap, at most ten; none where the rate varies."""
        if self._count < LEAST:
            return []
        usual = self._lengths.most_common(1)[0][0]
        alike = sum(self._lengths[length] for length in (usual - 1, usual, usual + 1))
        if alike < MOSTLY * self._count:
            return []
        longer = [(start, start + step) for step, start in self._longest if step * 1000 > LONGER * max(usual, 1)]
        return sorted(longer)


def format_time(seconds: float) -> str:
    """Write a time as ``1:02:03.45``, or ``2:03.45``."""
    hundredths = round(abs(seconds) * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes}:{rest / 100:05.2f}" if not hours else f"{hours}:{minutes:02}:{rest / 100:05.2f}"
    return f"-{text}" if seconds < 0 and hundredths else text
