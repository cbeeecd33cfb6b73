"""Format, correct and compare the timestamps of frames and packets."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from scrfd_trt.errors import OutputError


def format_time(seconds: float) -> str:
    """Return a time as ``1:02:03.45`` or ``2:03.45``."""
    hundredths = round(abs(seconds) * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes}:{rest / 100:05.2f}" if not hours else f"{hours}:{minutes:02}:{rest / 100:05.2f}"
    return f"-{text}" if seconds < 0 and hundredths else text


class DiscontinuityCorrector:
    """Shifts the timestamps of a concatenated file, so that each piece starts where the one before it ends."""

    MIN_STEP_BACK = Fraction(1, 4)  # seconds; packets that go back by less are only out of order

    def __init__(self) -> None:
        self._shifts = [Fraction(0)]
        self._piece: dict[int, int] = {}
        # By the numbers of streams: in ticks but for the first.
        self._first: dict[int, Fraction] = {}
        self._last: dict[int, int] = {}
        self._last_shifted: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._bases: dict[int, Fraction] = {}

    @property
    def pieces(self) -> int:
        """Number of pieces so far."""
        return len(self._shifts)

    def correct(self, packet: Any) -> bool:
        """Shift the times of the file's next packet; return False if it overlaps the one before it in its stream."""
        if packet.pts is None and packet.dts is None:
            return True
        index = packet.stream.index
        self._bases.setdefault(index, packet.time_base)
        piece = self._piece_of(packet)
        if shift := round(self._shifts[piece] / self._bases[index]) if piece else 0:
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        dts = packet.dts
        if dts is not None:
            # Muxers refuse sound that overlaps, as in joined files; frames of TrueHD may share a tick.
            is_sound = packet.stream.type == "audio" and (packet.duration or 0) > 1
            if (shift or is_sound) and dts <= self._last_shifted.get(index, dts - 1):
                return False
            self._last_shifted[index] = dts
        end = (dts if packet.pts is None else packet.pts) + (packet.duration or 0)
        self._ends[index] = max(self._ends.get(index, end), end)
        return True

    @property
    def _end(self) -> Fraction:
        return max(Fraction(0), *(end * self._bases[index] for index, end in self._ends.items()))

    def _piece_of(self, packet: Any) -> int:
        """Return the number of a packet's piece; a new one where the clock of its stream goes back."""
        index, newest = packet.stream.index, len(self._shifts) - 1
        piece = self._piece.get(index, newest)
        if packet.stream.type not in ("video", "audio"):
            return newest  # too few packets to tell
        if index not in self._first:
            self._first[index] = _presentation_time(packet)
        dts = packet.dts
        if dts is None:
            return piece  # the first packets of Matroska: with B-frames, presentation times are out of order
        back = self._last.get(index, dts) - dts
        if back > 0 and back * packet.time_base > self.MIN_STEP_BACK:
            piece += 1
            if piece > newest:
                # The streams of this piece start with the same offsets as those of the first piece.
                begin = _presentation_time(packet) - (self._first[index] - min(self._first.values()))
                self._shifts.append(self._end - begin)
        self._piece[index], self._last[index] = piece, dts
        return piece


def _presentation_time(packet: Any) -> Fraction:
    return Fraction((packet.dts if packet.pts is None else packet.pts) * packet.time_base)


class LiveClock:
    """Shifts a live source's times to a clock from 0 that increases, over reconnections by the local clock ``now``."""

    MAX_JUMP = 10  # seconds by which the source may be ahead of the local clock between two frames

    def __init__(self, time_base: Fraction, now: Callable[[], float] = time.monotonic) -> None:
        self._time_base, self._now = time_base, now
        self._shift: Fraction | None = None
        self._last: int | None = None
        self._last_seen = 0.0
        self._last_copied: dict[int, int] = {}

    def reset(self) -> None:
        """Expect another clock from the next frame on."""
        self._shift = None

    def shift_frame(self, picture: Any) -> None:
        own, now = picture.pts * picture.time_base, self._now()
        if self._last is None:
            self._shift = -own
        else:
            passed = Fraction(max(0.0, now - self._last_seen))
            last = self._last * self._time_base
            if self._shift is None or own + self._shift - last > passed + self.MAX_JUMP:
                self._shift = last + passed - own
        assert self._shift is not None  # noqa: S101 - for mypy
        ticks = round((own + self._shift) / self._time_base)
        if self._last is not None:
            ticks = max(ticks, self._last + 1)
        if picture.duration:
            picture.duration = round(picture.duration * picture.time_base / self._time_base)
        picture.pts, picture.time_base = ticks, self._time_base
        self._last, self._last_seen = ticks, now

    def shift_packet(self, packet: Any, stream: int) -> bool:
        """Shift a packet of another stream; return False before the first frame, and if its time does not increase."""
        if self._shift is None:
            return False
        ticks = round(self._shift / packet.time_base)
        dts = (packet.pts if packet.dts is None else packet.dts) + ticks
        if dts <= self._last_copied.get(stream, dts - 1):
            return False
        self._last_copied[stream] = dts
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
        return True


class ConstantFrameRate:
    """Assigns frames to the slots of the constant rate, nearest to the source's, that MPEG-4 can store."""

    MAX_OFFSET, MAX_START = 0.3, 1.5
    """Frames by which a time may differ from its slot's, and by which the first frame may be late."""
    MAX_TICKS = 65535  # ticks per second that MPEG-4 can count

    def __init__(self, name: str, rate: Fraction) -> None:
        self._name = name
        self.rate = rate.limit_denominator(max(1, min(1001, int(self.MAX_TICKS / rate))))
        self._last = -1
        self._begin = 0.0

    def slot(self, number: int, pts_seconds: float) -> int:
        """Return the slot of a frame, from 0; raise ``OutputError`` if the rate varies or the video starts late."""
        if number == 0:
            self._begin = pts_seconds
        exact = (pts_seconds - self._begin) * float(self.rate)
        slot = round(exact)
        late = self._begin * float(self.rate) > self.MAX_START
        if abs(exact - slot) > self.MAX_OFFSET or slot <= self._last or late:
            raise OutputError(
                f"cannot write {self._name}: AVI stores no timestamps, and frame {number} at "
                f"{format_time(pts_seconds)} does not fit a constant rate of {float(self.rate):.5g}; name a .mkv or "
                ".mp4 file"
            )
        self._last = slot
        return slot


class GapFinder:
    """Finds where frames are missing, if the frame rate is constant."""

    MIN_FRAMES = 20  # frames needed for a decision
    MIN_SHARE, LONGER = 0.9, 1.6
    """Share of steps that have the usual length at a constant rate, and multiple of it at which one is missing."""
    MAX_GAPS = 10

    def __init__(self) -> None:
        self._last: float | None = None
        self._count = 0
        self._lengths: Counter[int] = Counter()
        self._longest: list[tuple[float, float]] = []

    def add(self, pts_seconds: float) -> None:
        """Add the time of the next frame."""
        last, self._last = self._last, pts_seconds
        if last is None:
            return
        self._count += 1
        self._lengths[round((pts_seconds - last) * 1000)] += 1
        heapq.heappush(self._longest, (pts_seconds - last, last))
        if len(self._longest) > self.MAX_GAPS:
            heapq.heappop(self._longest)

    def gaps(self) -> list[tuple[float, float]]:
        """Return the times of the frames before and after each gap; nothing if the rate varies."""
        if self._count < self.MIN_FRAMES:
            return []
        usual = self._lengths.most_common(1)[0][0]
        alike = sum(self._lengths[length] for length in (usual - 1, usual, usual + 1))
        if alike < self.MIN_SHARE * self._count:
            return []
        return sorted(
            (start, start + step) for step, start in self._longest if step * 1000 > self.LONGER * max(usual, 1)
        )
