"""Find where frames are missing in a video whose rate does not vary."""

from __future__ import annotations

import heapq
from collections import Counter

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
