"""Summarise the faces of a video: its tracks, and the moments to review."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._tracking.faces import ORIGINS, Face, FrameFaces, Origin
from scrfd_trt.video._timestamps import GapFinder

MAX_MOMENTS = 10
MAX_KEPT = 4 * MAX_MOMENTS
LOST_WEIGHT = 10  # a lost face weighs as much as this many filled frames
BORDER = 0.05  # share of its longer side within which a box touches the border of the frame

Doubt = Literal["bridged", "faint", "lost"]  # filled between detections; low score; ended inside of the frame
DOUBTS: tuple[Doubt, ...] = ("bridged", "faint")
NO_DOUBT = -1

FRAME = 0
TRACK = np.dtype(
    [
        ("number", np.int64),
        ("counts", np.int64, len(ORIGINS)),
        ("doubt", np.int64),  # why its faces are in doubt now, an index of DOUBTS
        *((name, np.float64, 3) for name in ("first", "last", "doubt_first", "doubt_last", "best_frame")),
        ("visibility", np.float64),  # of its best face
        ("box", np.float64, 4),
        ("score", np.float64),
        ("landmarks", np.float64, (5, 2)),
        ("origin", np.int64),
    ]
)
"""What is known of each track; frames are number, time and whether they begin a scene."""


@dataclass
class TrackSummary:
    """One track.

    Attributes
    ----------
    first, last
        First and last frame of the track, without their faces.
    best, best_frame, best_pts_seconds
        The face in the frame that shows it best (high score, large), and number and time of that frame.
    counts
        Number of frames by origin of the box.
    """

    number: int
    first: FrameFaces
    last: FrameFaces
    best: Face
    best_frame: int
    best_pts_seconds: float
    counts: dict[Origin, int] = field(default_factory=lambda: dict.fromkeys(ORIGINS, 0))

    @property
    def frames(self) -> int:
        """Number of frames with this track."""
        return sum(self.counts.values())


@dataclass(frozen=True, order=True)
class ReviewMoment:
    """A moment of a video that a person should review.

    Attributes
    ----------
    weight
        Priority: the number of frames, and a fixed number for a lost face.
    start, end
        In seconds.
    doubt
        Why: ``bridged`` (filled between detections), ``faint`` (low scores) or ``lost`` (ends inside of the frame).
    """

    weight: int
    start: float
    end: float
    track: int
    doubt: Doubt


class Summary:
    """Summary of a video's faces, built frame by frame.

    Parameters
    ----------
    size
        Width and height of the frames in pixels.
    min_score
        Score from which a detection is not faint.

    Attributes
    ----------
    frames, empty, bridged
        Number of frames: in total, without faces, with a face that was filled between detections.
    faces, cuts
        Number of boxes in all frames, and of scene cuts.
    tracks
        :class:`TrackSummary` by track number, made when it is read.
    left_out
        Numbers of the tracks that the selection left out in at least one frame.
    selected
        Number of frames in which the spans let faces be covered; set by :func:`render_video`.
    lost
        Number of frames that were damaged or could not be decoded; set by the caller.
    converted, omitted
        What :class:`VideoWriter` reports of a video that was written; set by the caller.
    spans
        Start and end, in seconds, of the parts of the video whose faces are counted, ``inf`` for no end; None for the
        whole video; set by the caller.
    """

    def __init__(self, size: tuple[int, int], min_score: float) -> None:
        self.size = size
        self.frames = self.empty = self.bridged = self.faces = self.cuts = 0
        self._rows: dict[int, int] = {}  # by track number
        self._tracks = np.zeros(16, TRACK)
        self.left_out: set[int] = set()
        self.selected = self.lost = 0
        self.converted: list[str] = []
        self.omitted: list[str] = []
        self.spans: tuple[tuple[float, float], ...] | None = None
        self._gaps = GapFinder()
        self._min_score = np.float32(min_score)  # detectors compare in float32
        self._moments: list[ReviewMoment] = []
        self._last: FrameFaces | None = None

    def __repr__(self) -> str:
        return f"<Summary: {self.frames} frames, {len(self._rows)} tracks, {self.faces} faces>"

    @property
    def tracks(self) -> dict[int, TrackSummary]:
        return {number: _track_summary(self._tracks[row]) for number, row in self._rows.items()}

    def add(self, frame: FrameFaces) -> None:
        """Add the next frame."""
        self.frames += 1
        self._gaps.add(frame.pts_seconds)
        self.faces += len(frame)
        self.empty += not len(frame)
        self.bridged += bool((frame.origins == "interpolated").any())
        self.cuts += frame.cut
        self._add_lost(frame)
        self._last = faces = frame
        while len(faces):
            numbers = faces.track_ids.tolist()
            if len(set(numbers)) == len(numbers):
                self._add_faces(faces)
                break
            firsts = np.unique(faces.track_ids, return_index=True)[1]  # files of others may have a track twice
            self._add_faces(faces[np.sort(firsts)])
            faces = faces[np.delete(np.arange(len(faces)), firsts)]

    def _add_faces(self, frame: FrameFaces) -> None:
        """Add faces of different tracks."""
        rows, now = self._rows_of(frame), (frame.number, frame.pts_seconds, frame.cut)
        origins = np.select([frame.origins == name for name in ORIGINS], range(len(ORIGINS)))
        tracks = self._tracks
        tracks["last"][rows] = now
        tracks["counts"][rows, origins] += 1
        sides = frame.boxes[:, 2:] - frame.boxes[:, :2]
        visibility = frame.scores * np.sqrt(np.maximum(sides.prod(axis=1), 0.0)) * np.where(origins == 0, 1.0, 0.1)
        is_best = visibility > tracks["visibility"][rows]
        best = rows[is_best]
        tracks["best_frame"][best] = now
        points = np.nan if frame.landmarks is None else frame.landmarks[is_best]
        values = (visibility[is_best], frame.boxes[is_best], frame.scores[is_best], points, origins[is_best])
        for name, column in zip(("visibility", "box", "score", "landmarks", "origin"), values, strict=True):
            tracks[name][best] = column
        doubts = np.full(len(rows), NO_DOUBT)
        doubts[(origins == 0) & (frame.scores.astype(np.float32) < self._min_score)] = DOUBTS.index("faint")
        doubts[origins == ORIGINS.index("interpolated")] = DOUBTS.index("bridged")
        is_new = tracks["doubt"][rows] != doubts
        self._end_doubts(rows[is_new])
        tracks["doubt"][rows] = doubts
        tracks["doubt_first"][rows[is_new]] = now
        tracks["doubt_last"][rows] = now

    def _rows_of(self, frame: FrameFaces) -> NDArray[np.intp]:
        known, rows = len(self._rows), self._rows
        found = np.array([rows.setdefault(number, len(rows)) for number in frame.track_ids.tolist()], np.intp)
        while len(rows) > len(self._tracks):
            self._tracks = np.concatenate([self._tracks, np.zeros_like(self._tracks)])
        new = found >= known
        added = self._tracks[known : len(rows)]
        added["number"] = frame.track_ids[new]
        added["first"] = frame.number, frame.pts_seconds, frame.cut
        added["visibility"], added["doubt"] = -np.inf, NO_DOUBT
        return found

    def _add_lost(self, frame: FrameFaces) -> None:
        """End the doubts of tracks that the frame no longer has, and note those that ended inside of the frame."""
        if self._last is None or np.array_equal(self._last.track_ids, frame.track_ids):
            return
        is_lost = ~np.isin(self._last.track_ids, frame.track_ids)
        numbers, boxes = self._last.track_ids[is_lost], self._last.boxes[is_lost]
        self._end_doubts(np.array([self._rows[number] for number in numbers.tolist()], np.intp))
        if frame.cut or not self._is_counted(frame.pts_seconds):
            return
        margins = BORDER * (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True, initial=0.0)
        is_inside = ((boxes[:, :2] > margins) & (boxes[:, 2:] < np.array(self.size) - margins)).all(axis=1)
        for number in numbers[is_inside].tolist():
            self._push(ReviewMoment(LOST_WEIGHT, frame.pts_seconds, frame.pts_seconds, number, "lost"))

    def _is_counted(self, pts_seconds: float) -> bool:
        return self.spans is None or any(start <= pts_seconds <= end for start, end in self.spans)

    def _end_doubts(self, rows: NDArray[np.intp]) -> None:
        ended = self._tracks[rows[self._tracks["doubt"][rows] != NO_DOUBT]]
        weights = ended["doubt_last"][:, FRAME] - ended["doubt_first"][:, FRAME] + 1
        if len(self._moments) == MAX_KEPT:
            ended = ended[weights >= self._moments[0].weight]
        for track in ended:
            (first, start, _), (last, end, _) = track["doubt_first"].tolist(), track["doubt_last"].tolist()
            doubt = DOUBTS[track["doubt"]]
            self._push(ReviewMoment(int(last - first) + 1, start, end, int(track["number"]), doubt))
        self._tracks["doubt"][rows] = NO_DOUBT

    def _push(self, moment: ReviewMoment) -> None:
        heapq.heappush(self._moments, moment)
        if len(self._moments) > MAX_KEPT:
            heapq.heappop(self._moments)

    def gaps(self) -> list[tuple[float, float]]:
        """Return where frames are missing, as the times of the frames around; nothing if the frame rate varies."""
        return self._gaps.gaps()

    def moments_to_review(self, count: int = MAX_MOMENTS) -> list[ReviewMoment]:
        """Return the moments to review, longest first."""
        self._end_doubts(np.arange(len(self._rows)))
        return heapq.nlargest(count, self._moments)


def _track_summary(track: Any) -> TrackSummary:
    number, points = int(track["number"]), track["landmarks"].copy()
    best = Face(
        number,
        track["box"].copy(),
        float(track["score"]),
        None if np.isnan(points).any() else points,
        ORIGINS[track["origin"]],
    )
    first, last, (frame, seconds, _) = (track[name].tolist() for name in ("first", "last", "best_frame"))
    counts = dict(zip(ORIGINS, track["counts"].tolist(), strict=True))
    return TrackSummary(number, _bare(*first), _bare(*last), best, int(frame), seconds, counts)


def _bare(number: float, pts_seconds: float, cut: float) -> FrameFaces:
    return FrameFaces(int(number), pts_seconds, bool(cut))
