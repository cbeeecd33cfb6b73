"""Link detections to tracks, and return the faces of every frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._option_names import Explained, explained_options
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.motion import Motion
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt._tracking.tracks import (
    BUFFER,
    CENTRE,
    FIRST,
    FRAME,
    LAST,
    SIDES,
    SMALLEST,
    VELOCITY_FRAMES,
    Array,
    Indices,
    Tracks,
    expanded,
    observe,
    ranges,
)

MAX_DENSE_PAIRS = 1024  # pairs that are compared without looking for near ones first


def overlaps(one: Array, other: Array) -> Array:
    """Return the intersection over union of boxes whose shapes broadcast; 0 for boxes without area."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    np.maximum(sides, 0.0, out=sides)
    both = sides[0] * sides[1]
    own, others = one[2:] - one[:2], other[2:] - other[:2]
    union = own[0] * own[1] + others[0] * others[1]
    union -= both
    both /= np.maximum(union, SMALLEST, out=union)
    return np.asarray(both)


def match(expected: Array, found: Array, minimum: float) -> tuple[Indices, Indices]:
    """Return pairs of expected, the best of alternatives ``(4, A, N)``, and found boxes with the largest overlap."""
    if expected.shape[2] * found.shape[1] <= MAX_DENSE_PAIRS:
        return match_table(overlaps(expected[..., None], found[:, None, None]), minimum)
    rows, columns = _near_pairs(expected, found)
    similarity = overlaps(expected[:, :, rows], found[:, None, columns]).max(axis=0)
    is_similar = similarity >= minimum
    return assign(rows[is_similar], columns[is_similar], similarity[is_similar])


def match_table(overlaps: Array, minimum: float) -> tuple[Indices, Indices]:
    """Do what :func:`match` does with known overlaps ``(A, N, M)``."""
    table = overlaps.max(axis=0) if len(overlaps) > 1 else overlaps[0]
    rows, columns = (table >= minimum).nonzero()
    return assign(rows, columns, table[rows, columns])


def _near_pairs(expected: Array, found: Array) -> tuple[Indices, Indices]:
    """Return all pairs that overlap, and some that do not."""
    low, high = expected[:2].min(axis=1), expected[2:].max(axis=1)
    order = found[0].argsort()
    starts, ends = found[0][order], np.maximum.accumulate(found[2][order])
    rows, places = ranges(ends.searchsorted(low[0], "right"), starts.searchsorted(high[0]))
    columns = order[places]
    is_near = (found[1][columns] < high[1][rows]) & (found[3][columns] > low[1][rows])
    return rows[is_near], columns[is_near]


def assign(rows: Indices, columns: Indices, similarity: Array) -> tuple[Indices, Indices]:
    """Return those of the pairs with the largest total similarity that have no row or column in common."""
    if len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows):
        return rows, columns
    # Whatever replaces such a pair is worth less.
    is_sure = similarity > _second_best(rows, similarity) + _second_best(columns, similarity)
    is_open = np.bincount(rows, is_sure)[rows] + np.bincount(columns, is_sure)[columns] == 0
    if not is_open.any():
        return rows[is_sure], columns[is_sure]
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - comes with the extra, and is slow to import

    known_rows, row_places = np.unique(rows[is_open], return_inverse=True)
    known_columns, column_places = np.unique(columns[is_open], return_inverse=True)
    table = np.zeros((len(known_rows), len(known_columns)))
    table[row_places, column_places] = similarity[is_open]
    chosen = linear_sum_assignment(table, maximize=True)
    is_pair = table[chosen] > 0.0
    return (
        np.concatenate([rows[is_sure], known_rows[chosen[0][is_pair]]]),
        np.concatenate([columns[is_sure], known_columns[chosen[1][is_pair]]]),
    )


def _second_best(groups: Indices, values: Array) -> Array:
    """Return the second largest value of its group, or 0, for each largest value; infinity for all others."""
    order = np.lexsort((values, groups))
    in_order, found, second = groups[order], np.zeros(len(values)), np.empty(len(values))
    is_smaller = in_order[:-1] == in_order[1:]
    np.copyto(found[1:], values[order][:-1], where=is_smaller)
    found[:-1][is_smaller] = np.inf
    second[order] = found
    return second


def take_best(similarity: Array, minimum: float) -> tuple[list[int], list[int]]:
    """Give each row, in order, the most similar column that no earlier row took; return the pairs."""
    rows, columns = [], []
    for row in (similarity.max(axis=1, initial=0.0) >= minimum).nonzero()[0].tolist():
        column = int(similarity[row].argmax())
        if similarity[row, column] >= minimum:
            similarity[:, column] = -1.0
            rows.append(row)
            columns.append(column)
    return rows, columns


BUFFER_PER_MISS, MAX_BUFFER = 0.03, 0.6  # share of its sides by which BUFFER grows per missed frame, and at most
MIN_IOU, MIN_IOU_LOW = 0.15, 0.5  # minimum overlap of the expanded boxes, for faces of high and of low score
MAX_DUE, MAX_SAMPLES = 16, 1 << 16  # frames, and samples to smooth, whose faces are computed together, unless live
MAX_BACK_GAP = 3  # detected frames without a low-score face after which a new track is not traced back any further


class FrameObservation(NamedTuple):
    """All faces of one frame down to :attr:`TrackingOptions.detection_threshold`.

    Attributes
    ----------
    detections
        None if the detector skipped the frame.
    transition
        Frames in which a new scene replaces the old one, from this frame on: 0 if no scene begins, 1 at a cut, more in
        a dissolve or a fade. Both scenes may have faces in all but the last.
    motion
        ``(2, 3)`` float64, how the background moved from the frame before, in pixels: a similarity as
        ``cv2.estimateAffinePartial2D`` returns it. None if it is still.
    """

    number: int
    pts_seconds: float
    detections: Detections | None
    transition: int = 0
    motion: Motion | None = None


@dataclass
class _PendingFrame:
    """A frame whose faces may still change; its low-score faces that no track has taken, and their expanded boxes."""

    number: int
    seconds: float
    cut: bool
    is_detected: bool
    low: tuple[Array, Array] | None = None


@explained_options
class Tracker(Explained):
    """Link the faces of a video to tracks.

    Frames go in one by one; each comes out some frames later, when no later frame can change its faces.

    Parameters
    ----------
    rate
        Average frames per second.
    delay
        For live video: a frame comes out after at most this many later ones, and longer gaps are extended from one
        side only. None waits until a frame's faces are final.

    Notes
    -----
    Faces are linked in two rounds, high scores first, as in ByteTrack (Zhang et al., ECCV 2022), by the overlap of
    expanded boxes (Yang et al., WACV 2023) with the predicted boxes of the tracks, and the assignment with the largest
    sum. A new track is traced back through the low-score faces before its first detection.
    """

    def __init__(self, options: TrackingOptions, rate: Fraction | float, *, delay: int | None = None) -> None:
        self.options = options
        self.limits = options.limits(rate)
        self._delay = delay
        self._pending: deque[_PendingFrame] = deque()
        self._due: list[_PendingFrame] = []
        self._tracks = Tracks(self.limits)
        self._count = 0
        self._scene = self._old_end = 0  # first frame of the scene, and first one without that before
        if delay is not None:
            import_module("scipy.optimize")  # takes a second; live video cannot wait for it once it runs

    def push(self, observation: FrameObservation) -> list[FrameFaces]:
        """Add the next frame, whose number is one more than the previous one's; return frames that are final now."""
        number, seconds, detections, transition, motion = observation
        self._pending.append(pending := _PendingFrame(number, seconds, transition > 0, detections is not None))
        if (back := self._tracks.begin_frame(number, seconds, motion)) is not None:
            for rows, boxes in (one.low for one in self._pending if one.low is not None):
                back.move(rows)
                boxes[:] = expanded(rows[:, CENTRE], np.exp(rows[:, SIDES]))
        if transition:
            self._scene, self._old_end = number, number + transition - 1
            ends = self._tracks.table["end"]
            ends[ends > self._old_end] = self._old_end
        if detections is not None and len(detections):
            self._link(pending, detections._by_score())
        while self._is_due():
            self._due.append(self._pending.popleft())
        return list(self._pop(MAX_DUE if self._delay is None else 1))

    def finish(self) -> Iterator[FrameFaces]:
        """Yield the remaining frames."""
        self._due += self._pending
        self._pending.clear()
        yield from self._pop(1)

    def _pop(self, least: int) -> Iterator[FrameFaces]:
        """Yield frames that are due while there are at least so many; their faces are computed together."""
        while len(self._due) >= least:
            samples = len(self._tracks.table) * (2 * self._tracks.reach + 1)
            count = min(MAX_DUE, max(1, MAX_SAMPLES // samples))
            due, self._due = self._due[:count], self._due[count:]
            yield from self._tracks.faces_at([(frame.number, frame.seconds, frame.cut) for frame in due])
            self._tracks.forget(due[-1].number, due[-1].seconds)

    def _is_due(self) -> bool:
        """Return whether the oldest pending frame is final, or has waited for the whole delay."""
        if not self._pending or (self._delay is not None and len(self._pending) > self._delay):
            return bool(self._pending)
        oldest, newest, extension = self._pending[0], self._pending[-1], self.limits.extension
        # The first frame out of reach may still be linked to a later detection, up to the gap limit away; a track that
        # begins before it is smoothed and moves back by the frames around its first detection.
        lookahead = max(self._tracks.reach, VELOCITY_FRAMES) - 1
        for at in range(max(self._tracks.reach, extension.frames), len(self._pending)):
            frame = self._pending[at]
            if not extension.includes(frame.number - oldest.number, frame.seconds - oldest.seconds):
                distance = newest.number - frame.number, newest.seconds - frame.seconds
                return distance[0] >= lookahead and not self.limits.gap.includes(distance[0] + 1, distance[1])
        return False

    def _link(self, frame: _PendingFrame, detections: Detections) -> None:
        is_high = detections.scores >= self.options.threshold
        rows, boxes = observe(detections, is_high, frame.number, frame.seconds, self._tracks.pose)
        high, low = self._continue_tracks(frame, rows, boxes, is_high)
        if len(low):
            frame.low = rows[low], boxes[:, low]
        if len(high):
            # What is due stays as it is.
            new = self._tracks.start(rows[high], self._count + 1, max(self._scene, self._pending[0].number))
            self._count += len(high)
            self._trace_back(new)
            if self._scene and frame.number >= self._old_end:
                self._connect_over_cut(new, frame)

    def _continue_tracks(
        self, frame: _PendingFrame, rows: Array, boxes: Array, is_high: NDArray[np.bool_]
    ) -> tuple[Indices, Indices]:
        """Add rows to tracks; return those of high and of low score that are left."""
        left = [is_high.nonzero()[0], (~is_high).nonzero()[0]]
        tracks = self._tracks.candidates(frame.number, frame.seconds)
        if not len(tracks):
            return left[0], left[1]
        missed = frame.number - self._tracks.table["edges"][:, LAST, FRAME][tracks] - 1
        share = np.minimum(BUFFER + BUFFER_PER_MISS * missed, MAX_BUFFER)[:, None]
        # A face that was missed for some frames may have moved on at full speed, or stopped.
        has_missed = bool(missed.any())
        expected = self._tracks.expected(tracks, frame.number, LAST, share, undamped=has_missed)
        table = None  # of few faces, for both rounds
        if expected.shape[2] * boxes.shape[1] <= MAX_DENSE_PAIRS:
            table = overlaps(expected[..., None], boxes[:, None, None])
        free, pairs = np.arange(len(tracks)), []
        for part, minimum in enumerate((MIN_IOU, MIN_IOU_LOW)):
            chosen = left[part]
            if len(chosen) and len(free):
                alternatives = slice(2 if has_missed and missed[free].any() else 1)
                if table is None:
                    at, found = match(expected[:, alternatives, free], boxes[:, chosen], minimum)
                elif len(free) == len(tracks) and len(chosen) == len(rows):
                    at, found = match_table(table[alternatives], minimum)
                else:
                    at, found = match_table(table[alternatives, free[:, None], chosen], minimum)
                pairs.append((free[at], chosen[found]))
                free, left[part] = _without(free, at), _without(chosen, found)
        own, taken = (np.concatenate(each) for each in zip(*pairs, strict=True))
        if len(own):
            self._tracks.add(tracks[own], rows[taken], LAST)
        return left[0], left[1]

    def _trace_back(self, tracks: Indices) -> None:
        """Add the low-score faces before the first detections of tracks that lie on their paths."""
        gaps = np.zeros(len(tracks))
        for frame in islice(reversed(self._pending), 1, None):
            if frame.number < self._scene or gaps.min() > MAX_BACK_GAP:
                return
            if not frame.is_detected:
                continue
            is_open = gaps <= MAX_BACK_GAP
            gaps += 1
            if frame.low is None:
                continue
            rows, boxes = frame.low
            expected = self._tracks.expected(tracks, frame.number, FIRST, BUFFER)
            similarity = overlaps(expected[:, 0, :, None], boxes[:, None])
            own, low = take_best(similarity * is_open[:, None], MIN_IOU_LOW)
            if own:
                self._tracks.add(tracks[own], rows[low], FIRST)
                gaps[own] = 0
                left = _without(np.arange(len(rows)), low)
                frame.low = (rows[left], boxes[:, left]) if len(left) else None

    def _connect_over_cut(self, tracks: Indices, frame: _PendingFrame) -> None:
        """Connect new tracks to those that end at the last cut, if both have a face in the same place.

        Two scenes rarely share a place by chance; the cut may be a false one.
        """
        linked, edges = self._tracks.table["linked"], self._tracks.table["edges"]
        before = self._tracks.candidates(frame.number, frame.seconds, self._old_end)
        before = before[np.isnan(linked[before, LAST, FRAME])]
        firsts = edges[tracks, FIRST, FRAME]
        own = self._tracks.expected(tracks, firsts, FIRST, BUFFER)[:, 0, :, None]
        ends = self._tracks.expected(before, edges[before, LAST, FRAME] + 1, LAST, BUFFER)[:, :1]
        similarity = overlaps(own, ends)
        for first in np.unique(firsts).tolist():
            at = firsts == first
            moved = self._tracks.expected(before, first, LAST, BUFFER)[:, :1]
            similarity[at] = np.maximum(similarity[at], overlaps(own[:, at], moved))
        after, old = take_best(similarity, MIN_IOU_LOW)
        linked[before[old], LAST] = edges[tracks[after], FIRST]
        linked[tracks[after], FIRST] = edges[before[old], LAST]


def _without(indices: Indices, places: Indices | list[int]) -> Indices:
    if len(places) == len(indices):
        return indices[:0]
    is_left = np.ones(len(indices), bool)
    is_left[places] = False
    return indices[is_left]
