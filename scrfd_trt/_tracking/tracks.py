"""All tracks as columns: their observations, and their faces in the frames between and around these."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._tracking.faces import ORIGINS, FrameFaces
from scrfd_trt._tracking.motion import Motion
from scrfd_trt._tracking.options import TrackLimits

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

VELOCITY_OBSERVATIONS, VELOCITY_FRAMES = 5, 12  # most observations in a velocity, and most frames that they may span
DAMPING = 0.85  # share of the velocity that remains from one frame to the next after the last observation
MAX_SHRINK = 0.08  # share of an observed side by which smoothing may move that side inwards
UNCERTAIN_MARGIN, MAX_UNCERTAIN_FRAMES = 0.02, 5
"""Share of its sides that a box grows by for each frame to the nearest trusted observation, and most frames counted."""
FOLLOWED, FOLLOWED_WAY = 0.25, 3.0
"""Shares of its side, and multiples of its way in the frame, that a face moves on the background if it is followed."""
SURE_FACE, LARGE_FACE, MAX_GROWTH = 0.7, 90, 1.5
"""Best score up to which a large track, of so many pixels, is not extended to frames that make it larger by a factor.

In a fast zoom, a thing that is no face would hide the picture; small faces are often found once, and cover little.
"""
BUFFER = 0.2  # share of its sides that a box is expanded by before its overlap is computed
MIN_SIDE = 1e-3
SMALLEST = float(np.finfo(np.float64).tiny)  # divisor in place of 0
MIN_LINE, MIN_PARABOLA_SIDE = 3, 2  # samples needed to fit a line, and samples needed on either side to fit a parabola

CENTRE, SIDES, STATE = slice(2), slice(2, 4), slice(14)  # logarithms of sides: sizes change by factors; then landmarks
SCORE, KIND, SEEN, FRAME, SECONDS, COLUMNS = 14, 15, slice(16, 18), 18, 19, 20
HISTORY = 18  # columns of the history, those before FRAME
FILLED, OBSERVED, TRUSTED = 0.0, 1.0, 2.0  # kinds: between two observations, observed with a low and with a high score
"""Columns of a row: where a face is in one frame. Landmarks are NaN where there are none.

All are in the coordinates of the tracks, which follow the background; only ``SEEN`` is the centre in the frame itself.
"""

FRAME_AND_CENTRES = np.array([FRAME, 0, 1, 16, 17])
FIRST, LAST = 0, 1
FACE_SCORE, FACE_COLUMNS = 14, 15  # columns of a face as it comes out: box, landmarks, score
NAMES = np.array(ORIGINS)
POINTS = np.array([0, 2, 3, 4, 5, 6])  # centre and landmarks among the pairs of columns of a row
MAX_SCALE, MAX_OFFSET = 10.0, 1e6  # from which the coordinates of tracks begin anew, as those of the newest frame

TRACK = np.dtype(
    [
        ("number", np.int64),  # 0: no track
        ("count", np.int64),  # observations so far
        ("best", np.float64),  # highest score
        ("begin", np.float64),  # first frame that it may have a face in: of its scene, or not due when it started
        ("end", np.float64),  # first frame of the next scene
        ("edges", np.float64, (2, COLUMNS)),  # first and last observation
        ("scale", np.float64, 2),  # of the coordinates over the frame's, at the first and last observation
        ("near", np.float64, (2, VELOCITY_OBSERVATIONS, 5)),  # frames and centres of the observations from each edge on
        ("linked", np.float64, (2, COLUMNS)),  # observations of the tracks that it continues across cuts, or NaN
        ("held", np.float64, FACE_COLUMNS),  # face in the frame of the last observation, once that has come out
    ]
)


class Pose(NamedTuple):
    """Where a frame is in the coordinates of the tracks, the background's: complex ``factor * point + offset``."""

    factor: complex = 1.0 + 0.0j
    offset: complex = 0.0j

    def after(self, motion: Motion) -> Pose:
        """Return the pose of the next frame."""
        (real, _, across), (imaginary, _, down) = motion.tolist()
        factor = self.factor / complex(real, imaginary)
        return Pose(factor, self.offset - factor * complex(across, down))

    def inverse(self) -> Pose:
        """Return the similarity that leads back to the frame."""
        return Pose(1.0 / self.factor, -self.offset / self.factor)

    def moved(self, points: Array) -> Array:
        """Return points ``(..., 2 K)`` in other coordinates."""
        found = np.ascontiguousarray(points).view(np.complex128) * self.factor + self.offset
        return found.view(np.float64)

    def move(self, rows: Array) -> None:
        """Move rows ``(..., 18 or 20)`` to other coordinates, in place."""
        pairs = rows.view(np.complex128)
        pairs[..., POINTS] = pairs.take(POINTS, axis=-1) * self.factor + self.offset
        rows[..., SIDES] += math.log(abs(self.factor))


def move_faces(faces: Array, factors: Any, offsets: Any) -> None:
    """Move faces ``(..., 15)`` to other coordinates, in place; boxes keep their sides parallel to the axes."""
    scale, corners = np.abs(factors), faces[..., :4].reshape(*faces.shape[:-1], 2, 2)
    centres = corners.sum(axis=-2) / 2
    pairs = np.concatenate([centres, faces[..., 4:14]], axis=-1).view(np.complex128) * factors + offsets
    points = pairs.view(np.float64)
    faces[..., :4] = faces[..., :4] * scale + np.tile(points[..., :2] - centres * scale, 2)
    faces[..., 4:14] = points[..., 2:]


def observe(
    detections: Detections, is_high: NDArray[np.bool_], frame: int, seconds: float, pose: Pose
) -> tuple[Array, Array]:
    """Return one row ``(N, 20)`` for each detection, and expanded boxes ``(4, N)``."""
    boxes = detections.boxes.astype(np.float64)
    low, high = boxes[:, :2], boxes[:, 2:]
    rows, centre, sides = np.empty((len(boxes), COLUMNS)), (low + high) / 2, high - low
    rows[:, CENTRE], rows[:, SEEN], rows[:, SIDES] = centre, centre, np.log(np.maximum(sides, MIN_SIDE))
    rows[:, 4:14] = np.nan if detections.landmarks is None else detections.landmarks.reshape(-1, 10)
    rows[:, SCORE], rows[:, FRAME], rows[:, SECONDS] = detections.scores, frame, seconds
    np.add(is_high, OBSERVED, out=rows[:, KIND])  # TRUSTED, if high
    if pose != STILL:
        pose.move(rows)
        centre, sides = rows[:, CENTRE], np.exp(rows[:, SIDES])
    return rows, expanded(centre, sides)


def expanded(centres: Array, sides: Array) -> Array:
    """Return expanded boxes ``(4, N)`` around centres ``(N, 2)``."""
    margin = sides * (0.5 + BUFFER)
    return np.concatenate([centres - margin, centres + margin], axis=1).T


STILL = Pose()


class Tracks:
    """The tracks that may still have a face in a later frame, as rows of ``table``.

    The history holds the rows of all tracks in the frames that have not come out, and in those before that are smoothed
    with them. Gaps are filled as soon as they end.
    """

    def __init__(self, limits: TrackLimits) -> None:
        self._limits = limits
        self.reach = max(limits.half_window, MAX_UNCERTAIN_FRAMES - 1)
        """Frames on either side that the faces of a frame are computed from."""
        self._offsets = np.arange(-self.reach, self.reach + 1)
        self.table = np.zeros(16, TRACK)
        self._history = np.zeros((16, 16, HISTORY))  # by frame and track; frames take turns
        self._seconds = np.zeros(16)
        self._poses = np.array([STILL] * 16)  # factors and offsets
        self.pose = STILL  # of the newest frame
        self._has_moved = False
        self._oldest = 1 << 62  # frame of the history, or no frame yet

    def begin_frame(self, frame: int, seconds: float, motion: Motion | None = None) -> Pose | None:
        """Make room for the next frame; return how coordinates changed if they begin anew."""
        size, self._oldest = len(self._seconds), min(self._oldest, frame)
        if frame - self._oldest >= size:
            # The place of each frame in the longer ring is that of one of its two copies.
            self._history, self._seconds = np.tile(self._history, (2, 1, 1)), np.tile(self._seconds, 2)
            self._poses = np.tile(self._poses, (2, 1))
        back = None
        if motion is not None:
            self.pose, self._has_moved = self.pose.after(motion), True
            if abs(math.log(abs(self.pose.factor))) > MAX_SCALE or abs(self.pose.offset) > MAX_OFFSET:
                self._begin_anew(back := self.pose.inverse())
        self._seconds[frame % len(self._seconds)], self._poses[frame % len(self._seconds)] = seconds, self.pose
        return back

    def _begin_anew(self, back: Pose) -> None:
        """Move everything to the coordinates of the newest frame, so that they keep their precision."""
        self.pose = STILL
        for rows in (self._history, self.table["edges"], self.table["linked"]):
            back.move(rows)
        near = self.table["near"]
        near[..., 1:3] = back.moved(near[..., 1:3])
        self.table["scale"] *= abs(back.factor)
        move_faces(self.table["held"], *back)
        self._poses = self._poses * back.factor + (0.0, back.offset)

    def start(self, rows: Array, first_number: int, begin: int) -> Indices:
        """Start a track with each row; return their indices."""
        while (free := self.table["number"] == 0).sum() < len(rows):
            self.table = np.concatenate([self.table, np.zeros_like(self.table)])
            self._history = np.concatenate([self._history, np.zeros_like(self._history)], axis=1)
        new = np.zeros(len(rows), TRACK)
        new["number"] = np.arange(first_number, first_number + len(rows))
        new["begin"], new["end"], new["scale"] = begin, np.inf, abs(self.pose.factor)
        new["edges"], new["near"], new["linked"] = rows[:, None], (np.inf, 0.0, 0.0, 0.0, 0.0), np.nan
        tracks: Indices = free.nonzero()[0][: len(rows)]
        self.table[tracks] = new
        self.add(tracks, rows, LAST)
        return tracks

    def add(self, tracks: Indices, rows: Array, side: int) -> None:
        """Add observations of one frame, all after the last or all before the first ones of their tracks."""
        table, frame = self.table, int(rows[0, FRAME])
        count, edges, near = table["count"][tracks], table["edges"][:, side], table["near"]
        if (np.abs(edges[:, FRAME][tracks] - frame) > 1).any():
            old = edges[tracks]
            self._fill(tracks, *((old, rows) if side == LAST else (rows, old)))
        self._history[frame % len(self._history), tracks] = rows[:, :HISTORY]
        edges[tracks] = rows
        near, new = near[:, side], rows.take(FRAME_AND_CENTRES, axis=1)
        near[tracks] = np.concatenate([new[:, None], near[tracks, :-1]], axis=1)
        is_young = count < VELOCITY_OBSERVATIONS
        if is_young.any():
            table["near"][tracks[is_young], 1 - side, count[is_young]] = new[is_young]
        table["count"][tracks] = count + 1
        table["best"][tracks] = np.maximum(table["best"][tracks], rows[:, SCORE])
        if self._has_moved:
            table["scale"][tracks, side] = abs(self._poses[frame % len(self._poses), 0])

    def _fill(self, tracks: Indices, before: Array, after: Array) -> None:
        """Fill the frames between two observations of each track, linearly in time."""
        start = np.maximum(before[:, FRAME].astype(np.int64) + 1, self._oldest)
        at, frames = ranges(start, after[:, FRAME].astype(np.int64))
        frames %= len(self._history)
        before, after = before[at], after[at]
        share = (self._seconds[frames] - before[:, SECONDS]) / (after[:, SECONDS] - before[:, SECONDS])
        rows = before + (after - before) * share[:, None]
        rows[:, SCORE] = np.minimum(before[:, SCORE], after[:, SCORE])
        rows[:, KIND] = FILLED
        if self._has_moved:
            ways = [np.abs(after[:, part] - before[:, part]).sum(axis=1) for part in (CENTRE, SEEN)]
            self._follow_camera(rows, frames, ways)
        self._history[frames, tracks[at]] = rows[:, :HISTORY]

    def candidates(self, frame: int, seconds: float, end: int | None = None) -> Indices:
        """Return the tracks, by number, with this end or a later one than the frame, within the gap limit."""
        is_near = self._limits.gap.includes(*self._passed(frame, seconds))
        ends = self.table["end"]
        return self._in_order(is_near & (ends > frame if end is None else ends == end))

    def expected(
        self, tracks: Indices, frame: Array | float, side: int, share: Array | float, *, undamped: bool = False
    ) -> Array:
        """Return expanded boxes ``(4, A, N)`` before the first or after the last rows, and ``undamped`` ones."""
        edges = self.table["edges"][:, side][tracks]
        centres = edges[:, CENTRE] + self._motions(tracks, edges, frame, side, undamped=undamped)
        reach = np.exp(edges[:, SIDES]) * (0.5 + share)
        return np.concatenate([centres - reach, centres + reach], axis=2).transpose(2, 0, 1)

    def _motions(
        self, tracks: Indices, edges: Array, frame: Array | float, side: int, *, undamped: bool = False
    ) -> Array:
        """Return motions ``(A, N, 2)`` from the first observations, ``edges``, back to a frame, or from the last on."""
        near, frames = self.table["near"][:, side][tracks], edges[:, FRAME]
        velocities = slopes(near[:, :, 1:], near[:, :, 0] - frames[:, None])
        steps = _steps((frame - frames).tobytes(), side, undamped=undamped)
        if not self._has_moved:
            return np.asarray(velocities[:, :2] * steps)
        sizes = np.abs(velocities)
        ways = VELOCITY_OBSERVATIONS * (sizes[:, 0] + sizes[:, 1]), VELOCITY_OBSERVATIONS * (sizes[:, 2] + sizes[:, 3])
        factors, offsets = self._poses[np.asarray(frame, np.int64) % len(self._poses)].T
        is_followed = self._is_followed(edges, factors, ways)
        motions = velocities * steps
        if is_followed.any():
            seen = edges[:, SEEN] + motions[:, :, 2:]
            places = (seen.view(np.complex128)[:, :, 0] * factors + offsets)[:, :, None].view(np.float64)
            motions[:, is_followed, :2] = (places - edges[:, CENTRE])[:, is_followed]
        return np.asarray(motions[:, :, :2])

    def _is_followed(self, rows: Array, factors: Array, ways: Sequence[Array]) -> NDArray[np.bool_]:
        """Return whether the camera follows a face: its way is shorter in the frame than over the background."""
        margin = FOLLOWED * np.exp(rows[:, SIDES].min(axis=1))
        return np.asarray(FOLLOWED_WAY * ways[1] * np.abs(factors) + margin < ways[0])

    def _follow_camera(self, rows: Array, places: Indices, ways: Sequence[Array]) -> None:
        """Move rows of faces that the camera follows to where they are in the frame."""
        factors, offsets = self._poses[places].T
        pairs = rows[:, :HISTORY].view(np.complex128)
        is_followed = self._is_followed(rows, factors, ways)
        if is_followed.any():
            shifts = np.where(is_followed, pairs[:, 8] * factors + offsets - pairs[:, 0], 0.0)
            pairs[:, POINTS] += shifts[:, None]
        pairs[:, 8] = (pairs[:, 0] - offsets) / factors

    def forget(self, frame: int, seconds: float) -> None:
        """Drop the tracks that neither have a face after a frame nor gain one, and the history before it."""
        self._oldest = frame + 1 - self.reach
        passed = self._passed(frame, seconds)
        is_alive = (passed[0] <= 0) | self._limits.gap.includes(*passed) | self._limits.extension.includes(*passed)
        self.table[~is_alive] = np.zeros((), TRACK)

    def _passed(self, frame: int, seconds: float) -> tuple[Array, Array]:
        """Return frames and seconds since the last observations."""
        last = self.table["edges"][:, LAST]
        return frame - last[:, FRAME], seconds - last[:, SECONDS]

    def _in_order(self, is_chosen: NDArray[np.bool_]) -> Indices:
        tracks: Indices = is_chosen.nonzero()[0]
        return tracks[self.table["number"][tracks].argsort()]

    def faces_at(self, due: Sequence[tuple[int, float, bool]]) -> Iterator[FrameFaces]:
        """Yield the faces in each of the next frames to come out; number, time and whether a scene begins are given."""
        frames, seconds, _ = (np.array(each)[:, None] for each in zip(*due, strict=True))
        known = self._in_order(self.table["number"] > 0)
        table, shape = self.table[known], (len(due), len(known))
        first, last = table["edges"][:, FIRST, FRAME], table["edges"][:, LAST, FRAME]
        faces, origins = np.zeros((*shape, FACE_COLUMNS)), np.full(shape, -1)
        is_inside = (first <= frames) & (last >= frames)
        at, tracks = is_inside.nonzero()
        faces[at, tracks], origins[at, tracks] = self._smoothed(known[tracks], frames[at, 0])
        at, tracks = (last == frames).nonzero()
        self.table["held"][known[tracks]] = faces[at, tracks]
        at, tracks = (~is_inside & (table["begin"] <= frames) & (table["end"] > frames)).nonzero()
        if len(at):
            faces[at, tracks], origins[at, tracks] = self._outside(known[tracks], frames[at, 0], seconds[at, 0])
        if self._has_moved:
            factors, offsets = self._poses[frames % len(self._poses)].transpose(2, 0, 1)[..., None]
            move_faces(faces, 1.0 / factors, -offsets / factors)
        at, tracks = (origins >= 0).nonzero()
        found, numbers, names = faces[at, tracks], table["number"][tracks], NAMES[origins[at, tracks]]
        boxes, scores, points = found[:, :4].copy(), found[:, FACE_SCORE].copy(), found[:, 4:14].reshape(-1, 5, 2)
        ends = at.searchsorted(np.arange(1, len(due) + 1)).tolist()
        may_lack, start = bool(np.isnan(points).any()), 0
        for about, end in zip(due, ends, strict=True):
            own, start = slice(start, end), end
            has_points = not may_lack or not len(points[own]) or not np.isnan(points[own]).all()
            own_points = points[own] if has_points else None
            yield FrameFaces(*about, numbers[own], boxes[own], scores[own], own_points, names[own])

    def _outside(self, tracks: Indices, frames: NDArray[np.int64], seconds: Array) -> tuple[Array, NDArray[np.int64]]:
        """Return faces ``(N, 15)`` and origins before the first and after the last observation; -1 for no face."""
        table, faces, origins = self.table, np.zeros((len(tracks), FACE_COLUMNS)), np.full(len(tracks), -1)
        sides = np.where(table["edges"][tracks, LAST, FRAME] < frames, LAST, FIRST)
        edges, linked = table["edges"][tracks, sides], table["linked"][tracks, sides]
        is_linked = ~np.isnan(linked[:, FRAME])
        faces[is_linked] = across_cut(edges[is_linked], linked[is_linked], frames[is_linked], seconds[is_linked])
        origins[is_linked] = ORIGINS.index("interpolated")
        distances = np.abs(frames - edges[:, FRAME]), np.abs(seconds - edges[:, SECONDS])
        is_reached = self._limits.extension.includes(*distances) & ~is_linked
        if self._has_moved:
            scales = table["scale"][tracks, sides]
            is_large = np.exp(edges[:, SIDES].max(axis=1)) >= LARGE_FACE * scales
            is_grown = scales > MAX_GROWTH * np.abs(self._poses[frames % len(self._poses), 0])
            is_reached &= ~is_grown | ~is_large | (table["best"][tracks] > SURE_FACE)
        for side in (FIRST, LAST):
            at = (is_reached & (sides == side)).nonzero()[0]
            own = tracks[at]
            faces[at] = (
                table["held"][own] if side == LAST else self._smoothed(own, edges[at, FRAME].astype(np.int64))[0]
            )
            faces[at, :FACE_SCORE] += np.tile(self._motions(own, edges[at], frames[at], side)[0], 7)
            origins[at] = ORIGINS.index("extended")
        return faces, origins

    def _smoothed(self, tracks: Indices, frames: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
        """Return faces ``(N, 15)`` between the first and the last observations, and whether they are filled."""
        reach, half_window, (size, capacity, width) = self.reach, self._limits.half_window, self._history.shape
        first, last = self.table["edges"][tracks, :, FRAME].astype(np.int64).T
        near = np.minimum(np.maximum(frames[:, None] + self._offsets, first[:, None]), last[:, None])
        places = near % size * capacity + tracks[:, None]
        rows = self._history.reshape(-1, width).take(places, axis=0)
        weights = _weights(np.minimum(frames - first, half_window), np.minimum(last - frames, half_window), reach)
        states = np.einsum("nk,nkd->nd", weights, rows[:, :, : HISTORY if self._has_moved else STATE.stop])
        if self._has_moved:
            ways = [np.abs(np.diff(rows[:, :, part], axis=1)).sum(axis=(1, 2)) for part in (CENTRE, SEEN)]
            self._follow_camera(states, frames % size, ways)
        distances = np.minimum(np.abs(self._offsets), MAX_UNCERTAIN_FRAMES)
        uncertain = np.where(rows[:, :, KIND] == TRUSTED, distances, MAX_UNCERTAIN_FRAMES).min(axis=1)
        own = rows[:, reach]
        return smoothed_faces(states[:, STATE], own, uncertain), own[:, KIND] == FILLED


def smoothed_faces(states: Array, own: Array, uncertain_frames: Array) -> Array:
    """Return faces ``(N, 15)`` of smoothed states ``(N, 14)`` and of the rows that they replace.

    Boxes are extended to the observed ones, less MAX_SHRINK: a face that starts to run stays covered.
    """
    half, inner = np.exp(states[:, SIDES]) / 2, np.exp(own[:, SIDES]) * (0.5 - MAX_SHRINK)
    inner[own[:, KIND] == FILLED] = -np.inf
    low = np.minimum(states[:, CENTRE] - half, own[:, CENTRE] - inner)
    high = np.maximum(states[:, CENTRE] + half, own[:, CENTRE] + inner)
    margin = (high - low) * (UNCERTAIN_MARGIN * uncertain_frames)[:, None]
    return np.concatenate([low - margin, high + margin, states[:, 4:], own[:, [SCORE]]], axis=1)


def across_cut(own: Array, other: Array, frame: NDArray[np.int64], seconds: Array) -> Array:
    """Return faces ``(N, 15)`` between observations of two tracks that a cut separates."""
    share = (seconds - own[:, SECONDS]) / (other[:, SECONDS] - own[:, SECONDS])
    rows = own.copy()
    rows[:, STATE] += (other[:, STATE] - own[:, STATE]) * share[:, None]
    rows[:, KIND] = FILLED
    distances = np.minimum(np.abs(frame - own[:, FRAME]), np.abs(frame - other[:, FRAME]))
    return smoothed_faces(rows[:, STATE], rows, np.minimum(distances, MAX_UNCERTAIN_FRAMES))


def ranges(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[Indices, NDArray[np.int64]]:
    """Return the numbers of all ranges, one after the other, after the indices of the ranges that they are in."""
    count = np.maximum(stop - start, 0)
    at = np.repeat(np.arange(len(count)), count)
    return at, np.arange(len(at)) + (start - count.cumsum() + count)[at]


def _weights(before: NDArray[np.int64], after: NDArray[np.int64], reach: int) -> Array:
    codes = before * (reach + 1) + after
    known = sorted(set(codes.tolist()))
    weights = [smoothing_weights(*divmod(code, reach + 1), reach) for code in known]
    return np.array(weights).reshape(-1, 2 * reach + 1)[np.searchsorted(known, codes)]


@lru_cache(maxsize=1024)
def smoothing_weights(before: int, after: int, reach: int) -> Array:
    """Return the Savitzky-Golay weights ``(2 * reach + 1,)`` of samples from ``before`` a frame to ``after`` it.

    The polynomial is a parabola, a line near the ends, and the sample itself where there are fewer than three. SciPy's
    ``savgol_coeffs`` gives the same but for rounding; importing ``scipy.signal`` takes a second.
    """
    steps, weights = np.arange(-before, after + 1, dtype=np.float64), np.zeros(2 * reach + 1)
    if len(steps) < MIN_LINE:
        weights[reach] = 1.0  # two samples cannot separate noise from motion
        return weights
    degree = 2 if min(before, after) >= MIN_PARABOLA_SIDE else 1
    weights[reach - before : reach + after + 1] = np.linalg.pinv(np.vander(steps, degree + 1, increasing=True))[0]
    return weights


def slopes(values: Array, steps: Array) -> Array:
    """Return the slopes ``(N, D)`` of lines through values ``(N, K, D)`` at steps ``(N, K)``; 0 for a single value."""
    offsets, spread = _offsets(steps.tobytes(), steps.shape)
    return np.asarray(np.einsum("nk,nkd->nd", offsets, values) / spread)


@lru_cache(maxsize=16)  # mostly, all tracks have been observed in all frames
def _offsets(data: bytes, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the used steps less their mean, and the sum of their squares."""
    steps = np.frombuffer(data).reshape(shape)
    is_used = np.abs(steps) <= VELOCITY_FRAMES
    offsets = np.where(is_used, steps, 0.0)
    offsets -= (np.add.reduce(offsets, axis=1) / np.add.reduce(is_used, axis=1))[:, None]
    offsets *= is_used
    return offsets, np.maximum(np.einsum("nk,nk->n", offsets, offsets), SMALLEST)[:, None]


@lru_cache(maxsize=16)
def _steps(data: bytes, side: int, *, undamped: bool) -> Array:
    """Return multiples ``(A, N, 1)`` of the velocity after so many frames, damped and not."""
    counts = np.frombuffer(data)[:, None]
    damped = (1.0 - DAMPING ** np.abs(counts)) * (DAMPING / (1.0 - DAMPING))
    damped = damped if side == LAST else -damped
    return np.array([damped, counts] if undamped else [damped])
