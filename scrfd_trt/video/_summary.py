"""Summarise the faces of a video: its tracks, and the moments to review."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._exports import load
from scrfd_trt._option_names import Explained
from scrfd_trt._tracking.faces import ORIGINS, Face, FrameFaces, Origin
from scrfd_trt.video._selection import is_within
from scrfd_trt.video._timestamps import GapFinder

MAX_MOMENTS = 10
MAX_SHOWN, MAX_DROPPED = 20, 100  # moments and dropped tracks that are shown as pictures
LOST_WEIGHT = 10  # a lost face weighs as much as this many filled frames
BORDER = 0.05  # share of its longer side within which a box touches the border of the frame

Doubt = Literal["bridged", "faint", "lost"]  # filled between detections; low score; ended inside of the frame


@dataclass(repr=False)
class TrackSummary(Explained):
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

    def __repr__(self) -> str:
        times = f"{self.first.pts_seconds:.3f} to {self.last.pts_seconds:.3f} s"
        count = f"{self.frames} frame" + "s" * (self.frames != 1)
        return f"<TrackSummary {self.number}: {times}, {count}, best score {self.best.score:.2f}>"


@dataclass(frozen=True, order=True)
class ReviewMoment:
    """A moment of a video that a person should review.

    The order is that of weights.

    Attributes
    ----------
    weight
        Priority: the number of frames, and a fixed number for a lost face.
    start, end
        In seconds.
    doubt
        Why: ``bridged`` (filled between detections), ``faint`` (low scores) or ``lost`` (ends inside of the frame).
    shown
        Time of a frame in the second half of the moment, in seconds, and the face's box x1, y1, x2, y2 there.
    """

    weight: int
    start: float
    end: float
    track: int
    doubt: Doubt
    shown: tuple[float, tuple[float, ...]] = field(default=(0.0, ()), compare=False)


class _Run:
    """Frames in a row in which a track has the same doubt."""

    def __init__(self, doubt: Doubt, first: FrameFaces) -> None:
        self.doubt, self.first, self.last = doubt, first, first
        self.shown: tuple[float, tuple[float, ...]] = (0.0, ())

    @property
    def weight(self) -> int:
        return self.last.number - self.first.number + 1

    def add(self, frame: FrameFaces, box: NDArray[np.float64]) -> None:
        self.last = frame
        if self.weight & (self.weight - 1) == 0:  # at last in the second half
            self.shown = frame.pts_seconds, tuple(box.tolist())


class Summary(Explained):
    """Summary of a video's faces, built frame by frame.

    Parameters
    ----------
    size
        Width and height of the frames in pixels.
    min_score
        Score from which a detection is not faint.
    every
        Faces are detected in every such frame; those between are filled, and are no moments to review.

    Attributes
    ----------
    frames, empty, bridged
        Number of frames: in total, without faces, with a face that was filled between detections.
    faces, cuts
        Number of boxes in all frames, and of scene cuts.
    tracks
        :class:`TrackSummary` by track number, a dict.
    dropped
        :class:`TrackSummary` by number of the tracks that a second look dropped: they are not covered, and nothing else
        counts them.
    no_faces
        Highest score of each track in ``drop_tracks``, by number; set by :func:`render_video`.
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
    searches
        What searches of the copy found; set by the caller.
    detector_options
        The detector's ``min_face`` and ``rotations``; set by the caller.
    device
        Where the frames were decoded; set by :func:`detect_video`.
    """

    def __init__(self, size: tuple[int, int], min_score: float, every: int = 1) -> None:
        self.size, self._every = size, every
        self.frames = self.empty = self.bridged = self.faces = self.cuts = 0
        self.tracks: dict[int, TrackSummary] = {}
        self.dropped: dict[int, TrackSummary] = {}
        self.no_faces: dict[int, float] = {}
        self.left_out: set[int] = set()
        self.selected = self.lost = 0
        self.converted: list[str] = []
        self.omitted: list[str] = []
        self.spans: tuple[tuple[float, float], ...] | None = None
        self.searches: Sequence[Any] = ()
        self.detector_options: dict[str, Any] = {}
        self.device = "cpu"
        self._gaps = GapFinder()
        self._min_score = np.float32(min_score)  # detectors compare in float32
        self._visibility: dict[int, float] = {}  # of the best face of each track
        self._runs: dict[int, _Run] = {}  # by track number
        self._moments: list[ReviewMoment] = []
        self._last: FrameFaces | None = None

    def __repr__(self) -> str:
        counts = {"frame": self.frames, "track": len(self.tracks), "face": self.faces}
        return f"<Summary: {', '.join(f'{n} {noun}' + 's' * (n != 1) for noun, n in counts.items())}>"

    def to_pandas(self) -> Any:
        """Return the tracks as ``pandas.DataFrame``; raise ``MissingDependencyError`` without pandas.

        A row has ``track_id``, ``first_frame``, ``last_frame``, ``start`` and ``end`` in seconds, ``frames``, the
        number of frames with the face, ``best_frame``, and the ``best_score`` there.
        """
        rows = [
            {
                "track_id": one.number,
                "first_frame": one.first.number,
                "last_frame": one.last.number,
                "start": one.first.pts_seconds,
                "end": one.last.pts_seconds,
                "frames": one.frames,
                "best_frame": one.best_frame,
                "best_score": one.best.score,
            }
            for one in self.tracks.values()
        ]
        return load("pandas", "to_pandas()").DataFrame(rows)

    def add(self, frame: FrameFaces) -> None:
        """Add the next frame."""
        self.frames += 1
        self._gaps.add(frame.pts_seconds)
        self.faces += len(frame)
        self.empty += not len(frame)
        self.bridged += bool((frame.origins == "interpolated").any())
        self.cuts += frame.cut
        self._add_lost(frame)
        self._last = frame
        self._add_tracks(frame, self.tracks)

    def add_dropped(self, frame: FrameFaces) -> None:
        """Add the faces of tracks that a second look dropped."""
        self._add_tracks(frame, self.dropped)

    def _add_tracks(self, frame: FrameFaces, tracks: dict[int, TrackSummary]) -> None:
        bare = FrameFaces(frame.number, frame.pts_seconds, frame.cut)
        is_detected = frame.origins == "detected"
        areas = (frame.boxes[:, 2:] - frame.boxes[:, :2]).prod(axis=1)
        visibility = frame.scores * np.sqrt(np.maximum(areas, 0.0)) * np.where(is_detected, 1.0, 0.1)
        is_faint = is_detected & (frame.scores.astype(np.float32) < self._min_score)
        faces = zip(*(each.tolist() for each in (frame.track_ids, frame.origins, visibility, is_faint)), strict=True)
        for index, (number, origin, visible, faint) in enumerate(faces):
            track = tracks.get(number)
            if track is None or visible > self._visibility[number]:
                self._visibility[number] = visible
                first, counts = (bare, dict.fromkeys(ORIGINS, 0)) if track is None else (track.first, track.counts)
                best = frame[index], frame.number, frame.pts_seconds
                track = tracks[number] = TrackSummary(number, first, bare, *best, counts)
            track.last = bare
            track.counts[origin] += 1
            doubt: Doubt | None = "bridged" if origin == "interpolated" else "faint" if faint else None
            if tracks is self.tracks and (doubt is not None or number in self._runs):
                self._add_doubt(number, doubt, bare, frame.boxes[index])

    @property
    def by_hand(self) -> int:
        """Number of tracks that are covers by hand."""
        return sum(track.best.origin == "by hand" for track in self.tracks.values())

    def _add_doubt(self, number: int, doubt: Doubt | None, frame: FrameFaces, box: NDArray[np.float64]) -> None:
        run = self._runs.get(number)
        if run is not None and run.doubt != doubt:
            self._end_run(number)
            run = None
        if doubt is not None:
            run = self._runs[number] = run or _Run(doubt, frame)
            run.add(frame, box)

    def _add_lost(self, frame: FrameFaces) -> None:
        """End the runs of tracks that the frame no longer has, and note those that ended inside of the frame."""
        if self._last is None:
            return
        present = set(frame.track_ids.tolist())
        is_noted = not frame.cut and (self.spans is None or is_within(frame.pts_seconds, self.spans))
        for index, number in enumerate(self._last.track_ids.tolist()):
            if number in present:
                continue
            self._end_run(number)
            by_hand = self._last.origins[index] == "by hand"
            if is_noted and not by_hand and self._is_inside(self._last.boxes[index]):
                shown = self._last.pts_seconds, tuple(self._last.boxes[index].tolist())
                self._push(ReviewMoment(LOST_WEIGHT, frame.pts_seconds, frame.pts_seconds, number, "lost", shown))

    def _is_inside(self, box: NDArray[np.float64]) -> bool:
        margin = BORDER * float((box[2:] - box[:2]).max())
        return bool((box[:2] > margin).all() and (box[2:] < np.array(self.size) - margin).all())

    def _end_run(self, number: int) -> None:
        run = self._runs.pop(number, None)
        if run is not None and not (run.doubt == "bridged" and run.weight < self._every):
            ends = run.first.pts_seconds, run.last.pts_seconds
            self._push(ReviewMoment(run.weight, *ends, number, run.doubt, run.shown))

    def _push(self, moment: ReviewMoment) -> None:
        heapq.heappush(self._moments, moment)
        if len(self._moments) > 4 * MAX_MOMENTS:
            heapq.heappop(self._moments)

    def gaps(self) -> list[tuple[float, float]]:
        """Return where frames are missing, as the times of the frames around; nothing if the frame rate varies."""
        return self._gaps.gaps()

    def moments_to_review(self, count: int = MAX_MOMENTS) -> list[ReviewMoment]:
        """Return the moments to review, longest first."""
        for number in list(self._runs):
            self._end_run(number)
        return heapq.nlargest(count, self._moments)


def doubt_text(moment: ReviewMoment) -> str:
    """Return why to review a moment."""
    if moment.doubt == "lost":
        return "ends inside the picture"
    frames = _frames(moment.weight)
    return f"not detected for {frames}, interpolated" if moment.doubt == "bridged" else f"low scores for {frames}"


def low_score(track: TrackSummary) -> str:
    """Return the score of a dropped track in its best frame."""
    return f"score {track.best.score:.2f} in {_frames(track.frames)}"


def _frames(number: int) -> str:
    return f"{number:,} frame" + "s" * (number != 1)
