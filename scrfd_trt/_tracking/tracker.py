"""Link detections to tracks, and return the faces of every frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from scrfd_trt._detections import Detections
from scrfd_trt._nms import pairwise_iou
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt._tracking.track import Array, Observation, Track, expand

BUFFER, BUFFER_PER_MISS, MAX_BUFFER = 0.2, 0.03, 0.6
"""Share of its sides that a box is expanded by before its overlap is computed: at first, per missed frame, at most."""
MIN_IOU, MIN_IOU_LOW = 0.15, 0.5  # minimum overlap of the expanded boxes, for faces of high and of low score
MAX_BACK_GAP = 3  # detected frames without a low-score face after which a new track is not traced back any further


class FrameObservation(NamedTuple):
    """All faces of one frame down to :attr:`TrackingOptions.detection_threshold`.

    ``detections`` is None if the detector skipped the frame; ``cut`` marks the start of a scene.
    """

    number: int
    pts_seconds: float
    detections: Detections | None
    cut: bool = False


@dataclass
class _PendingFrame:
    """A frame whose faces may still change, and the rows of its low-score faces that no track has taken."""

    observation: FrameObservation
    low_rows: list[int] = field(default_factory=list)


class Tracker:
    """Link the faces of a video to tracks.

    Frames go in one by one; each comes out, some frames later, as soon as no later frame can change its faces.

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
        self._times: dict[int, float] = {}
        self._tracks: list[Track] = []
        self._count = 0
        self._scene = 0

    def push(self, observation: FrameObservation) -> Iterator[FrameFaces]:
        """Add the next frame, whose number is one more than the previous one's; yield frames that are final now."""
        self._pending.append(pending := _PendingFrame(observation))
        self._times[observation.number] = observation.pts_seconds
        if observation.cut:
            self._scene = observation.number
            for track in self._tracks:
                track.end = observation.number if track.end is None else track.end
        if observation.detections is not None:
            self._link(pending, observation.detections)
        while self._is_due():
            yield self._pop()

    def finish(self) -> Iterator[FrameFaces]:
        """Yield the remaining frames."""
        while self._pending:
            yield self._pop()

    def _is_due(self) -> bool:
        """Return whether the oldest pending frame is final, or has waited for the whole delay."""
        if not self._pending or (self._delay is not None and len(self._pending) > self._delay):
            return bool(self._pending)
        oldest, newest = self._pending[0].observation, self._pending[-1].observation
        # The first frame out of reach may still be linked to a later detection, up to the gap limit away.
        for at in range(self.limits.half_window, len(self._pending)):
            frame = self._pending[at].observation
            if not self.limits.extension.includes(frame.number - oldest.number, frame.pts_seconds - oldest.pts_seconds):
                distance = newest.number - frame.number + 1, newest.pts_seconds - frame.pts_seconds
                return not self.limits.gap.includes(*distance)
        return False

    def _pop(self) -> FrameFaces:
        observation = self._pending.popleft().observation
        frame = observation.number
        found = [track.face_at(frame, self._times, self.limits) for track in self._tracks]
        self._tracks = [track for track in self._tracks if self._is_alive(track, observation)]
        margin = self.limits.half_window + 1
        for track in self._tracks:
            track.forget(min(frame, track.last.frame) - margin)
        oldest = min([frame, *(track.last.frame for track in self._tracks)]) - margin
        for number in [number for number in self._times if number < oldest]:
            del self._times[number]
        faces = [face for face in found if face is not None]
        points = [np.full((5, 2), np.nan) if face.landmarks is None else face.landmarks for face in faces]
        return FrameFaces(
            frame,
            observation.pts_seconds,
            observation.cut,
            np.array([face.track for face in faces], np.int64),
            np.array([face.box for face in faces]).reshape(-1, 4),
            np.array([face.score for face in faces], np.float64),
            None if faces and np.isnan(points).all() else np.array(points).reshape(-1, 5, 2),
            np.array([face.origin for face in faces], "U12"),
        )

    def _is_alive(self, track: Track, observation: FrameObservation) -> bool:
        """Return whether a track may have a face in a later frame, or gain one."""
        distance, limits = _distance(track, observation), self.limits
        return distance[0] <= 0 or limits.gap.includes(*distance) or limits.extension.includes(*distance)

    def _candidates(self, observation: FrameObservation, end: int | None) -> list[Track]:
        """Return the tracks with this end whose last detection is within the gap limit."""
        gap = self.limits.gap
        return [t for t in self._tracks if t.end == end and gap.includes(*_distance(t, observation))]

    def _link(self, pending: _PendingFrame, detections: Detections) -> None:
        boxes = detections.boxes.astype(np.float64)
        is_high = detections.scores >= self.options.threshold
        tracks = self._candidates(pending.observation, None)
        tracks, high = self._match(pending, tracks, boxes, np.flatnonzero(is_high).tolist(), MIN_IOU)
        _, pending.low_rows = self._match(pending, tracks, boxes, np.flatnonzero(~is_high).tolist(), MIN_IOU_LOW)
        for row in high:
            self._count += 1
            trusted = float(np.float32(self.options.threshold))  # as is_high compares
            track = Track(self._count, self._scene, trusted, _observe(pending, row))
            self._trace_back(track)
            self._connect_over_cut(track, pending.observation)
            self._tracks.append(track)

    def _match(
        self, pending: _PendingFrame, tracks: list[Track], boxes: Array, rows: list[int], minimum: float
    ) -> tuple[list[Track], list[int]]:
        """Add rows to tracks; return the tracks and the rows that are left."""
        if not tracks or not rows:
            return tracks, rows
        frame = pending.observation.number
        missed = np.array([frame - track.last.frame - 1 for track in tracks], np.float64)
        buffer = np.minimum(BUFFER + BUFFER_PER_MISS * missed, MAX_BUFFER)[:, None]
        wanted = expand(boxes[rows], BUFFER)
        overlap = pairwise_iou(expand(np.array([track.predict(frame) for track in tracks]), buffer), wanted)
        if missed.any():
            # A face that was missed for some frames may have moved on at full speed, or stopped.
            undamped = np.array([track.predict(frame, 1.0) for track in tracks])
            overlap = np.maximum(overlap, pairwise_iou(expand(undamped, buffer), wanted))
        pairs = assign(overlap, minimum)
        for track, row in pairs:
            tracks[track].add(_observe(pending, rows[row]))
        matched_tracks, matched_rows = {track for track, _ in pairs}, {row for _, row in pairs}
        return (
            [track for at, track in enumerate(tracks) if at not in matched_tracks],
            [row for at, row in enumerate(rows) if at not in matched_rows],
        )

    def _trace_back(self, track: Track) -> None:
        """Add the low-score faces before a track's first detection that lie on its path."""
        gap = 0
        for pending in reversed(list(self._pending)[:-1]):
            frame, detections = pending.observation.number, pending.observation.detections
            if frame < self._scene or gap > MAX_BACK_GAP:
                return
            gap += detections is not None
            if not pending.low_rows or detections is None:
                continue
            boxes = detections.boxes[pending.low_rows].astype(np.float64)
            overlap = pairwise_iou(expand(track.predict(frame)[None], BUFFER), expand(boxes, BUFFER))[0]
            best = int(overlap.argmax())
            if overlap[best] >= MIN_IOU_LOW:
                track.add(_observe(pending, pending.low_rows.pop(best)))
                gap = 0

    def _connect_over_cut(self, track: Track, observation: FrameObservation) -> None:
        """Connect a new track to one that ends at the last cut, if both have a face in the same place.

        Two scenes rarely share a place by chance; the cut may be a false one.
        """
        before = [old for old in self._candidates(observation, self._scene) if not old.has_next]
        if not before or not self._scene:
            return
        own = expand(track.predict(track.first.frame)[None], BUFFER)
        places = np.array([(old.predict(track.first.frame), old.predict(old.last.frame + 1)) for old in before])
        overlap = pairwise_iou(expand(places.reshape(-1, 4), BUFFER), own).reshape(-1, 2).max(axis=1)
        best = int(overlap.argmax())
        if overlap[best] >= MIN_IOU_LOW:
            before[best].continue_as(track)


def assign(similarity: Array, minimum: float) -> list[tuple[int, int]]:
    """Return the pairs of row and column with the largest total similarity; pairs below ``minimum`` are dropped."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - comes with the extra, and is slow to import

    rows, columns = linear_sum_assignment(np.where(similarity >= minimum, similarity, 0.0), maximize=True)
    return [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if similarity[r, c] >= minimum]


def _distance(track: Track, observation: FrameObservation) -> tuple[int, float]:
    """Return frames and seconds from a track's last detection."""
    return observation.number - track.last.frame, observation.pts_seconds - track.last.pts_seconds


def _observe(pending: _PendingFrame, row: int) -> Observation:
    number, seconds, detections, _ = pending.observation
    assert detections is not None  # noqa: S101 - rows are of the frame's detections
    return Observation.from_detections(number, seconds, detections, row)
