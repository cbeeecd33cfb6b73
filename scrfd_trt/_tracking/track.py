"""One track: the detections of a face, and its place in the frames between and around them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._tracking.faces import Face, Origin
from scrfd_trt._tracking.options import TrackLimits

Array = NDArray[np.float64]

VELOCITY_OBSERVATIONS, VELOCITY_FRAMES = 5, 12  # most observations in a velocity, and most frames that they may span
DAMPING = 0.85  # share of the velocity that remains from one frame to the next after the last observation
MAX_SHRINK = 0.08  # share of an observed side by which smoothing may move that side inwards
UNCERTAIN_MARGIN, MAX_UNCERTAIN_FRAMES = 0.02, 5
"""Share of its sides that a box grows by for each frame to the nearest trusted observation, and most frames counted."""
MIN_SIDE = 1e-3
MIN_LINE, MIN_PARABOLA_SIDE = 3, 2  # samples needed to fit a line, and samples needed on either side to fit a parabola


class Observation(NamedTuple):
    """A face detected in one frame."""

    frame: int
    pts_seconds: float
    score: float
    state: Array  # centre, logarithms of the sides (sizes change by factors), and landmarks if there are any

    @classmethod
    def from_detections(cls, frame: int, pts_seconds: float, detections: Detections, row: int) -> Observation:
        box = detections.boxes[row].astype(np.float64)
        points = np.empty(0) if detections.landmarks is None else detections.landmarks[row].astype(np.float64).ravel()
        sides = np.log(np.maximum(box[2:] - box[:2], MIN_SIDE))
        state = np.concatenate([(box[:2] + box[2:]) / 2, sides, points])
        return cls(frame, pts_seconds, float(detections.scores[row]), state)


_FRAME = itemgetter(0)


class Track:
    """One face over time.

    ``begin`` and ``end`` are the first frames of its scene and of the next one (None until that is known); the track
    has no face outside. Observations with at least ``trusted_score`` count as certain.
    """

    def __init__(self, number: int, begin: int, trusted_score: float, observation: Observation) -> None:
        self.number = number
        self.begin = begin
        self.end: int | None = None
        self.first = self.last = observation
        self._trusted_score = trusted_score
        self._observations = [observation]
        self._velocities: dict[bool, Array] = {}
        self._previous: Observation | None = None
        self._next: Observation | None = None

    def add(self, observation: Observation) -> None:
        """Add an observation before the first or after the last."""
        self._velocities.clear()
        if observation.frame < self.first.frame:
            self._observations.insert(0, observation)
            self.first = observation
        else:
            self._observations.append(observation)
            self.last = observation

    @property
    def has_next(self) -> bool:
        """Whether another track continues this one after a cut."""
        return self._next is not None

    def continue_as(self, other: Track) -> None:
        """Fill this track up to its end, and ``other`` back to its beginning: a cut separates the two."""
        self._next, other._previous = other.first, self.last

    def forget(self, frame: int) -> None:
        """Drop observations that no frame from ``frame`` on needs; keep those that the velocity is computed from."""
        needed = bisect_right(self._observations, frame, key=_FRAME) - 1
        del self._observations[: max(0, min(needed, len(self._observations) - VELOCITY_OBSERVATIONS))]

    def predict(self, frame: int, damping: float = DAMPING) -> Array:
        """Return the expected box ``(4,)`` in a frame before the first or after the last observation."""
        state = (self.last if frame > self.last.frame else self.first).state.copy()
        state[:2] += self._displacement(frame, damping)
        return _box(state)

    def face_at(self, frame: int, times: dict[int, float], limits: TrackLimits) -> Face | None:
        """Return the face in a frame; None if the track does not reach it. ``times`` maps frames to seconds."""
        if frame < self.begin or (self.end is not None and frame >= self.end):
            return None
        if self.first.frame <= frame <= self.last.frame:
            return self._smoothed(frame, times, limits.half_window)
        own, other = (self.last, self._next) if frame > self.last.frame else (self.first, self._previous)
        if other is not None:
            return self._across_cut(own, other, frame, times[frame])
        if not limits.extension.includes(abs(frame - own.frame), abs(times[frame] - own.pts_seconds)):
            return None
        face = self._smoothed(own.frame, times, limits.half_window)
        shift = self._displacement(frame)
        landmarks = None if face.landmarks is None else face.landmarks + shift
        return Face(self.number, face.box + np.tile(shift, 2), face.score, landmarks, "extended")

    def _displacement(self, frame: int, damping: float = DAMPING) -> Array:
        """Return the motion ``(2,)`` from the last observation, or from the first if ``frame`` precedes it."""
        forward = frame > self.last.frame
        count = abs(frame - (self.last if forward else self.first).frame)
        steps = count if damping == 1.0 else damping * (1.0 - damping**count) / (1.0 - damping)
        return self._velocity(forward) * (steps if forward else -steps)

    def _velocity(self, forward: bool) -> Array:
        """Return the velocity ``(2,)`` at the last observation, or at the first, in pixels per frame."""
        if forward not in self._velocities:
            edge = self.last if forward else self.first
            span = slice(-VELOCITY_OBSERVATIONS, None) if forward else slice(VELOCITY_OBSERVATIONS)
            near = [each for each in self._observations[span] if abs(each.frame - edge.frame) <= VELOCITY_FRAMES]
            frames = np.array([each.frame for each in near], np.float64)
            self._velocities[forward] = slope(np.array([each.state[:2] for each in near]), frames)
        return self._velocities[forward]

    def _across_cut(self, own: Observation, other: Observation, frame: int, seconds: float) -> Face:
        passed, whole = seconds - own.pts_seconds, other.pts_seconds - own.pts_seconds
        state = own.state + (other.state - own.state) * passed / whole
        distance = min(abs(frame - own.frame), abs(frame - other.frame), MAX_UNCERTAIN_FRAMES)
        box = expand(_box(state), UNCERTAIN_MARGIN * distance)
        return Face(self.number, box, own.score, _landmarks(state), "interpolated")

    def _smoothed(self, frame: int, times: dict[int, float], half_window: int) -> Face:
        low = max(self.first.frame, frame - half_window, self._observations[0].frame)
        high = min(self.last.frame, frame + half_window)
        state = smoothing_weights(frame - low, high - frame) @ self._samples(low, high, times)
        at = bisect_left(self._observations, frame, key=_FRAME)
        observation = self._observations[at]
        box, score = _box(state), observation.score
        origin: Origin = "detected" if observation.frame == frame else "interpolated"
        if origin == "detected":
            box = _cover(box, _box(observation.state))
        else:
            score = min(score, self._observations[at - 1].score)
        box = expand(box, UNCERTAIN_MARGIN * self._uncertain_frames(frame, at))
        return Face(self.number, box, score, _landmarks(state), origin)

    def _uncertain_frames(self, frame: int, at: int) -> int:
        """Return the distance in frames to the nearest trusted observation, at most MAX_UNCERTAIN_FRAMES."""
        near = self._observations[max(0, at - MAX_UNCERTAIN_FRAMES) : at + MAX_UNCERTAIN_FRAMES]
        distances = (abs(each.frame - frame) for each in near if each.score >= self._trusted_score)
        return min(MAX_UNCERTAIN_FRAMES, min(distances, default=MAX_UNCERTAIN_FRAMES))

    def _samples(self, low: int, high: int, times: dict[int, float]) -> Array:
        """Return the states of the frames from ``low`` to ``high``, one a row; linear where there is no observation."""
        start = bisect_right(self._observations, low, key=_FRAME) - 1
        near = self._observations[start : bisect_left(self._observations, high, key=_FRAME) + 1]
        states = np.array([each.state for each in near])
        if (near[0].frame, near[-1].frame, len(near)) == (low, high, high - low + 1):
            return states
        known = np.array([each.pts_seconds for each in near])
        wanted = np.array([times[frame] for frame in range(low, high + 1)])
        right = np.clip(np.searchsorted(known, wanted, side="left"), 1, len(known) - 1)
        share = (wanted - known[right - 1]) / (known[right] - known[right - 1])
        return np.asarray(states[right - 1] + (states[right] - states[right - 1]) * share[:, None])


def expand(boxes: Array, share: Array | float) -> Array:
    """Expand boxes ``(..., 4)`` by a share of their sides on each side."""
    margin = (boxes[..., 2:] - boxes[..., :2]) * share
    return np.concatenate([boxes[..., :2] - margin, boxes[..., 2:] + margin], axis=-1)


def _box(state: Array) -> Array:
    half = np.exp(state[2:4]) / 2
    return np.concatenate([state[:2] - half, state[:2] + half])


def _landmarks(state: Array) -> Array | None:
    return state[4:].reshape(5, 2) if len(state) > 4 else None


def _cover(box: Array, observed: Array) -> Array:
    """Extend a smoothed box to the observed one, less MAX_SHRINK: a face that starts to run stays covered."""
    slack = (observed[2:] - observed[:2]) * MAX_SHRINK
    return np.concatenate([np.minimum(box[:2], observed[:2] + slack), np.maximum(box[2:], observed[2:] - slack)])


@lru_cache(maxsize=1024)
def smoothing_weights(before: int, after: int) -> Array:
    """Return the Savitzky-Golay weights ``(before + 1 + after,)`` of a sample's neighbours.

    The polynomial is a parabola, a line near the ends, and the sample itself where there are fewer than three. SciPy's
    ``savgol_coeffs`` gives the same but for rounding; importing ``scipy.signal`` takes a second.
    """
    count = before + 1 + after
    steps = np.arange(-before, after + 1, dtype=np.float64)
    if count < MIN_LINE:
        weights = (steps == 0).astype(np.float64)  # two samples cannot separate noise from motion
    else:
        degree = 2 if min(before, after) >= MIN_PARABOLA_SIDE else 1
        weights = np.linalg.pinv(np.vander(steps, degree + 1, increasing=True))[0]
    weights.flags.writeable = False
    return np.asarray(weights)


def slope(values: Array, steps: Array) -> Array:
    """Return the slope ``(D,)`` of the line through ``values`` ``(N, D)`` at ``steps`` ``(N,)``; 0 for one sample."""
    offsets = steps - steps.mean()
    spread = float(offsets @ offsets)
    return np.zeros(values.shape[1]) if spread == 0.0 else np.asarray(offsets @ values / spread)
