"""One face over time: where it was seen, and where it must have been between and around."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._tracking.faces import Face, Origin
from scrfd_trt._tracking.options import Spans
from scrfd_trt._tracking.smoothing import slope, weights

Values = NDArray[np.float64]

RECENT = 5
"""Sightings that tell how a face moves."""
RECENT_FRAMES = 12
SLOWING = 0.85
"""What is left of a motion from one frame to the next where nothing is seen: it does not go on for ever."""
SLACK = 0.08
"""Share of a sighting's box by which a smoothed box may fall short of it on each side."""
UNSURE, NEAR = 0.02, 5
"""Share of its sides that a box is grown by on each side for each frame to the nearest sighting that is trusted, and
how many of them count."""
TINY = 1e-3


class Edge(NamedTuple):
    """A sighting at an end of a track: frame, seconds, and its values as a row."""

    frame: int
    time: float
    values: Values


class Track:
    """One face over time.

    Parameters
    ----------
    number
        From 1.
    begin
        First frame of the scene: nothing is told of frames before it.
    sure
        Score from which a sighting is trusted.

    Attributes
    ----------
    end : int or None
        First frame of the next scene, once it is there.
    first, last : int
        Frames of the first and the last sighting.
    first_time, last_time : float
        Their seconds.
    """

    def __init__(self, number: int, begin: int, sure: float) -> None:
        self.number = number
        self._sure = sure
        self.begin = begin
        self.end: int | None = None
        self.first = self.last = -1
        self.first_time = self.last_time = 0.0
        self._beyond: dict[bool, Edge] = {}
        self._frames: list[int] = []
        self._times: list[float] = []
        self._values: list[Values] = []
        self._scores: list[float] = []
        self._speeds: dict[bool, Values] = {}

    def see(self, frame: int, time: float, box: Values, points: Values | None, score: float) -> None:
        """Add a sighting, before the first or after the last.

        Parameters
        ----------
        frame, time
            Number, and seconds.
        box, points
            ``(4,)`` and ``(5, 2)`` or None, in pixels.
        score
            0 to 1.
        """
        earlier = bool(self._frames) and frame < self.first
        self._speeds.clear()
        at = 0 if earlier else len(self._frames)
        self._frames.insert(at, frame)
        self._times.insert(at, time)
        self._values.insert(at, _to_values(box, points))
        self._scores.insert(at, score)
        if self.first < 0 or earlier:
            self.first, self.first_time = frame, time
        if frame >= self.last:
            self.last, self.last_time = frame, time

    @property
    def is_led_on(self) -> bool:
        """Whether it reaches on to its end."""
        return True in self._beyond

    def lead_on(self, other: Track) -> None:
        """Let this track reach on to its end, and another back to its beginning: on the way from the one to the other.

        Parameters
        ----------
        other
            Begins a scene where this one's ends, with a face in the same place.
        """
        self._beyond[True] = Edge(other.first, other.first_time, other._values[0])
        other._beyond[False] = Edge(self.last, self.last_time, self._values[-1])

    def forget(self, frame: int) -> None:
        """Drop what no frame from this one on has a use for; what tells how it moves is kept."""
        keep = min(bisect_right(self._frames, frame) - 1, len(self._frames) - RECENT)
        if keep > 0:
            del self._frames[:keep], self._times[:keep], self._values[:keep], self._scores[:keep]

    def predict(self, frame: int, slowing: float = SLOWING) -> Values:
        """Return where the box is expected, ``(4,)``, in a frame after the last or before the first sighting.

        Parameters
        ----------
        frame
            Number.
        slowing
            What is left of its motion from one frame to the next; 1 lets it go on.
        """
        values = self._values[-1 if frame > self.last else 0].copy()
        values[:2] += self._way(frame, slowing)
        return _box(values)

    def _way(self, frame: int, slowing: float = SLOWING) -> Values:
        """Return how far, x and y, it moves from its last sighting, or from its first where the frame is before it."""
        forward = frame > self.last
        count = abs(frame - (self.last if forward else self.first))
        way = count if slowing == 1.0 else slowing * (1.0 - slowing**count) / (1.0 - slowing)
        return self._speed(forward) * (way if forward else -way)

    def _speed(self, forward: bool) -> Values:
        """Return the motion at the last sighting, or at the first, in pixels a frame."""
        if forward not in self._speeds:
            steps = np.array(self._frames[-RECENT:] if forward else self._frames[:RECENT], np.float64)
            values = np.array(self._values[-RECENT:] if forward else self._values[:RECENT])[:, :2]
            near = np.abs(steps - (self.last if forward else self.first)) <= RECENT_FRAMES
            self._speeds[forward] = slope(values[near], steps[near])
        return self._speeds[forward]

    def at(self, frame: int, times: dict[int, float], spans: Spans) -> Face | None:
        """Tell where the face is in a frame.

        Parameters
        ----------
        frame
            Number.
        times
            Seconds of this frame and those around it.
        spans
            How far it reaches, and is smoothed.

        Returns
        -------
        Face or None
            None where the track does not reach.
        """
        if frame < self.begin or (self.end is not None and frame >= self.end):
            return None
        if self.first <= frame <= self.last:
            return self._between(frame, times, spans)
        later = frame > self.last
        if later in self._beyond:
            return self._towards(later, frame, times[frame])
        edge, at = (self.last, self.last_time) if later else (self.first, self.first_time)
        if not spans.extending.holds(abs(frame - edge), abs(times[frame] - at)):
            return None
        face = self._between(edge, times, spans)
        way = self._way(frame)
        points = None if face.landmarks is None else face.landmarks + way
        return Face(self.number, face.box + np.tile(way, 2), face.score, points, "extended")

    def _towards(self, later: bool, frame: int, time: float) -> Face:
        """Tell where the face is on the straight way to a sighting of another track."""
        place = -1 if later else 0
        own = Edge(self._frames[place], self._times[place], self._values[place])
        other = self._beyond[later]
        values = own.values + (other.values - own.values) * (time - own.time) / (other.time - own.time)
        away = min(abs(frame - own.frame), abs(frame - other.frame), NEAR)
        return Face(
            self.number, _grown(_box(values), UNSURE * away), self._scores[place], _points(values), "interpolated"
        )

    def _between(self, frame: int, times: dict[int, float], spans: Spans) -> Face:
        low = max(self.first, frame - spans.window, self._frames[0])
        high = min(self.last, frame + spans.window)
        # As many to both sides, but at the ends: a face that begins to move must not pull at where it stood.
        samples = self._samples(low, high, times)
        values = weights(frame - low, high - frame) @ samples
        place = bisect_left(self._frames, frame)
        seen = self._frames[place] == frame
        box, score = _box(values), self._scores[place]
        if seen:
            box = _around(box, _box(self._values[place]))
        else:
            score = min(score, self._scores[place - 1])
        box = _grown(box, UNSURE * min(self._away(frame, place), NEAR))
        origin: Origin = "detected" if seen else "interpolated"
        return Face(self.number, box, score, _points(values), origin)

    def _away(self, frame: int, place: int) -> int:
        """Return how many frames away the nearest sighting is that is trusted; 0 for one in this frame."""
        near = slice(max(0, place - NEAR), place + NEAR)
        trusted = (
            abs(at - frame)
            for at, score in zip(self._frames[near], self._scores[near], strict=True)
            if score >= self._sure
        )
        return min(trusted, default=NEAR)

    def _samples(self, low: int, high: int, times: dict[int, float]) -> Values:
        """Return a row for each frame from ``low`` to ``high``: on straight lines where the face was not seen."""
        start, stop = bisect_right(self._frames, low) - 1, bisect_left(self._frames, high) + 1
        values = np.array(self._values[start:stop])
        if (self._frames[start], self._frames[stop - 1]) == (low, high) and stop - start == high - low + 1:
            return values
        seen = np.array(self._times[start:stop])
        wanted = np.array([times[frame] for frame in range(low, high + 1)])
        right = np.clip(np.searchsorted(seen, wanted, side="left"), 1, len(seen) - 1)
        share = (wanted - seen[right - 1]) / (seen[right] - seen[right - 1])
        return np.asarray(values[right - 1] + (values[right] - values[right - 1]) * share[:, None])


def _to_values(box: Values, points: Values | None) -> Values:
    """Put middle, logarithms of the sides, and landmarks into one row: so sizes change by factors."""
    box = np.asarray(box, np.float64)
    sides = np.log(np.maximum(box[2:] - box[:2], TINY))
    rest = np.empty(0) if points is None else np.asarray(points, np.float64).ravel()
    return np.concatenate([(box[:2] + box[2:]) / 2, sides, rest])


def _box(values: Values) -> Values:
    half = np.exp(values[2:4]) / 2
    return np.concatenate([values[:2] - half, values[:2] + half])


def _points(values: Values) -> Values | None:
    return values[4:].reshape(5, 2) if len(values) > 4 else None


def _grown(box: Values, share: float) -> Values:
    sides = (box[2:] - box[:2]) * share
    return np.concatenate([box[:2] - sides, box[2:] + sides])


def _around(box: Values, seen: Values) -> Values:
    """Let a box reach out to a sighting, less the slack: smoothing must not uncover a face that starts to run."""
    slack = (seen[2:] - seen[:2]) * SLACK
    return np.concatenate([np.minimum(box[:2], seen[:2] + slack), np.maximum(box[2:], seen[2:] - slack)])
