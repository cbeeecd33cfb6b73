"""What a person wants to know of a video's faces: its tracks, and the moments at which to look again."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from scrfd_trt._tracking.faces import ORIGINS, Face, FrameFaces, Origin
from scrfd_trt.video._timestamps import Gaps

WEAKEST = 10
"""Moments that are told."""
LOST = 10
"""A face that was lost counts as much as so many frames that were filled."""
BORDER = 0.05
"""Share of a face's size within which it counts as at the border of the picture."""

Doubt = Literal["bridged", "faint", "lost"]
"""Filled between sightings; seen with a low score; ended though the face was well inside of the picture."""


@dataclass
class TrackSummary:
    """One track.

    Attributes
    ----------
    number
        Of the track.
    first, last : FrameFaces
        Frames, without their faces, in which it begins and ends.
    counts
        Frames by where the box comes from.
    best : Face
        The clearest sighting: high score, large.
    best_frame, best_pts_seconds
        Frame and time of it.
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
        """In how many frames it is."""
        return sum(self.counts.values())


@dataclass(frozen=True, order=True)
class ReviewMoment:
    """Something to look at again.

    Attributes
    ----------
    weight
        How much it is worth a look: the frames that it lasts, and a fixed number for a face that was lost.
    start, end
        In seconds.
    track
        Number.
    doubt
        What is weak.
    """

    weight: int
    start: float
    end: float
    track: int
    doubt: Doubt


class Summary:
    """Gathers what there is to say of a video's faces, frame by frame.

    Parameters
    ----------
    size
        Width and height of the frames in pixels.
    sure
        Score from which a sighting is not faint.

    Attributes
    ----------
    frames, empty, bridged
        How many frames there are, without a face, and with a face that was filled between sightings.
    faces
        Boxes in all frames.
    cuts
        How many new scenes begin.
    tracks : dict
        :class:`TrackSummary` by number.
    left_out : set of int
        Numbers of the tracks that were left out, somewhere at least.
    lost : int
        Frames that were damaged, or could not be decoded, where such are to be kept; set by who reads.
    """

    def __init__(self, size: tuple[int, int], sure: float) -> None:
        self.size = size
        self.frames = self.empty = self.bridged = self.faces = self.cuts = 0
        self.tracks: dict[int, TrackSummary] = {}
        self.left_out: set[int] = set()
        self.lost = 0
        self._gaps = Gaps()
        self._sure = sure
        self._runs: dict[int, tuple[Doubt, FrameFaces, FrameFaces]] = {}
        self._weak: list[ReviewMoment] = []
        self._last: FrameFaces | None = None

    def add(self, frame: FrameFaces) -> None:
        """Take the next frame."""
        self.frames += 1
        self._gaps.add(frame.pts_seconds)
        self.faces += len(frame.faces)
        self.empty += not frame.faces
        self.bridged += any(face.origin == "interpolated" for face in frame.faces)
        self.cuts += frame.cut
        bare = FrameFaces(frame.number, frame.pts_seconds, frame.cut)
        there = {face.track: face for face in frame.faces}
        self._note_lost(frame, set(there))
        for face in frame.faces:
            self._note(bare, face)
        self._last = frame

    def _note(self, frame: FrameFaces, face: Face) -> None:
        track = self.tracks.get(face.track)
        if track is None:
            track = TrackSummary(face.track, frame, frame, face, frame.number, frame.pts_seconds)
            self.tracks[face.track] = track
        track.last = frame
        track.counts[face.origin] += 1
        if _worth(face) > _worth(track.best):
            track.best, track.best_frame, track.best_pts_seconds = face, frame.number, frame.pts_seconds
        doubt = self._doubt(face)
        run = self._runs.get(face.track)
        if run is not None and run[0] != doubt:
            self._close(face.track)
            run = None
        if doubt is not None:
            self._runs[face.track] = (doubt, run[1] if run else frame, frame)

    def _doubt(self, face: Face) -> Doubt | None:
        if face.origin == "interpolated":
            return "bridged"
        return "faint" if face.origin == "detected" and face.score < self._sure else None

    def _note_lost(self, frame: FrameFaces, there: set[int]) -> None:
        """Close the runs of tracks that are no longer there, and note those that ended inside of the picture."""
        for face in self._last.faces if self._last else ():
            if face.track in there:
                continue
            self._close(face.track)
            if not frame.cut and self._is_inside(face):
                self._keep(ReviewMoment(LOST, frame.pts_seconds, frame.pts_seconds, face.track, "lost"))

    def _is_inside(self, face: Face) -> bool:
        reach = BORDER * float((face.box[2:] - face.box[:2]).max())
        return bool((face.box[:2] > reach).all() and (face.box[2:] < np.array(self.size) - reach).all())

    def _close(self, track: int) -> None:
        run = self._runs.pop(track, None)
        if run is not None:
            doubt, first, last = run
            self._keep(ReviewMoment(last.number - first.number + 1, first.pts_seconds, last.pts_seconds, track, doubt))

    def _keep(self, moment: ReviewMoment) -> None:
        heapq.heappush(self._weak, moment)
        if len(self._weak) > 4 * WEAKEST:
            heapq.heappop(self._weak)

    def gaps(self) -> list[tuple[float, float]]:
        """Return where frames are missing, as the times of those before and after; none where the rate varies."""
        return self._gaps.found()

    def moments_to_review(self, count: int = WEAKEST) -> list[ReviewMoment]:
        """Return the moments to look at again, those that last longest first."""
        for track in list(self._runs):
            self._close(track)
        return heapq.nlargest(count, self._weak)


def _worth(face: Face) -> float:
    """Return how well a face may be seen in this frame."""
    sides = face.box[2:] - face.box[:2]
    return face.score * float(np.sqrt(max(sides.prod(), 0.0))) * (1.0 if face.origin == "detected" else 0.1)
