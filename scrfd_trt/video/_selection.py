"""Select the faces of a video that are covered, and places that are covered by hand."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from math import inf
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from scrfd_trt._detections import Detections
from scrfd_trt._options import OptionsModel
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt.errors import DetectionsError, OptionError
from scrfd_trt.video._reader import Source
from scrfd_trt.video._timestamps import format_time

Region = tuple[float, float, float, float]  # x, y, width and height in pixels of the upright frame
Span = tuple[float, float]  # start and end in seconds

ALWAYS: tuple[Span, ...] = ((-inf, inf),)
logger = logging.getLogger("scrfd_trt")

MIN_SHARE = 0.5  # share of its frames in which a track lies in a region that it belongs to
FIRST_COVER = 1_000_001  # track number of the first cover by hand; trackers count from 1
SLACK = 0.01  # seconds around the times of a cover: reports round times to a hundredth
UPRIGHT = np.array([[0.3, 0.42], [0.7, 0.42], [0.5, 0.6], [0.35, 0.78], [0.65, 0.78]])
"""Landmarks of a face by hand, as shares of the sides of its box."""

Coordinate = Annotated[float, Field(ge=-1e7, le=1e7)]


class Cover(OptionsModel):
    """A place that a person covers, as if a face were there.

    Attributes
    ----------
    boxes
        x1, y1, x2, y2 in pixels of the upright frame; at least one box.
    pts_seconds
        When the cover is at each box, in seconds, in order; it moves from one to the next along a straight line, and
        covers nothing before the first and after the last. Empty, with one box: in the whole video.
    """

    boxes: tuple[tuple[Coordinate, Coordinate, Coordinate, Coordinate], ...] = Field(min_length=1)
    pts_seconds: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Cover:
        if any(x2 - x1 < 1 or y2 - y1 < 1 for x1, y1, x2, y2 in self.boxes):
            raise ValueError("boxes must be x1, y1, x2, y2 in pixels, at least one pixel wide and high")
        if list(self.pts_seconds) != sorted(set(self.pts_seconds)):
            raise ValueError("pts_seconds must increase")
        if len(self.boxes) != max(1, len(self.pts_seconds)) or len(self.pts_seconds) == 1:
            raise ValueError("there must be one box without times, or two or more boxes with one time each")
        return self

    @property
    def span(self) -> Span:
        """Start and end in seconds."""
        return (self.pts_seconds[0], self.pts_seconds[-1]) if self.pts_seconds else ALWAYS[0]

    def box_at(self, pts_seconds: float) -> NDArray[np.float64] | None:
        """Return the box ``(4,)`` at a time; None if nothing is covered then."""
        start, end = self.span
        if not start - SLACK <= pts_seconds <= end + SLACK:
            return None
        sides = zip(*self.boxes, strict=True)
        return np.array([np.interp(pts_seconds, self.pts_seconds or [0.0], side) for side in sides])


@lru_cache(64)
def _warn_of_regions(regions: tuple[Region, ...], size: tuple[int, int]) -> None:
    """Log which regions lie outside of pictures of this size, once."""
    for x, y, width, height in regions:
        if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
            text = "the region %g,%g,%g,%g lies outside of the picture of %d×%d pixels, and selects no face"
            logger.warning(text, x, y, width, height, *size)


def check_covers(covers: Iterable[Cover], size: tuple[int, int]) -> None:
    """Raise ``OptionError`` for a cover that hides nothing of pictures of this size."""
    for cover in covers:
        boxes = np.array(cover.boxes)
        if (boxes[:, :2].min(axis=0) >= size).any() or (boxes[:, 2:].max(axis=0) <= 0).any():
            x1, y1, x2, y2 = cover.boxes[0]
            text = f"the cover {x1:g},{y1:g},{x2 - x1:g},{y2 - y1:g} lies outside of the picture of "
            raise OptionError(f"{text}{size[0]}×{size[1]} pixels", fields=["covers"], value=cover)


def add_covers(frame: FrameFaces, covers: Iterable[Cover], before: int = 0) -> FrameFaces:
    """Return the faces of a frame and the covers of its time, whose track numbers follow those of ``before`` others."""
    found = {track: cover.box_at(frame.pts_seconds) for track, cover in enumerate(covers, FIRST_COVER + before)}
    by_track = {track: box for track, box in found.items() if box is not None}
    if not by_track:
        return frame
    boxes, ids = np.array([*by_track.values()]), np.array([*by_track], np.int64)
    points = None if frame.landmarks is None else upright_landmarks(boxes)
    origins = np.full(len(boxes), "by hand", "U12")
    return frame.joined(FrameFaces(0, 0.0, False, ids, boxes, np.ones(len(boxes)), points, origins))


def upright_landmarks(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the landmarks ``(N, 5, 2)`` of upright faces that fill boxes ``(N, 4)``."""
    return boxes[:, None, :2] + UPRIGHT * (boxes[:, None, 2:] - boxes[:, None, :2])


class TrackSelection(OptionsModel):
    """Which faces of a video are covered.

    A face is covered if it matches every non-empty ``only`` option and no ``except`` option; all others stay visible.
    Covers by hand are covered in any case.

    Attributes
    ----------
    only_tracks, except_tracks
        Track numbers.
    drop_tracks
        Numbers of tracks that are no faces: they are not covered, and summaries do not count them.
    keep_doubtful
        Whether tracks are covered, too, that a second look dropped; see :func:`detect_video`. Those that
        ``only_tracks`` names always are.
    covers
        Places that are covered by hand.
    only_regions, except_regions
        x, y, width, height in pixels. A track belongs to a region if the centre of its box lies there in at least half
        of its frames; a face that only crosses the region does not.
    only_spans, except_spans
        Start and end in seconds; these apply to single frames. Without tracks and regions, which all frames of a track
        decide, faces are detected only where the spans need it.
    """

    only_tracks: frozenset[int] = frozenset()
    except_tracks: frozenset[int] = frozenset()
    drop_tracks: frozenset[int] = frozenset()
    keep_doubtful: bool = False
    covers: tuple[Cover, ...] = ()
    only_regions: tuple[Region, ...] = ()
    except_regions: tuple[Region, ...] = ()
    only_spans: tuple[Span, ...] = ()
    except_spans: tuple[Span, ...] = ()

    @field_validator("only_spans", "except_spans")
    @classmethod
    def _joined(cls, spans: tuple[Span, ...]) -> tuple[Span, ...]:
        return join_spans(spans)

    @property
    def covered_spans(self) -> tuple[Span, ...] | None:
        """Times in which faces are covered, in order, with ``inf`` for no end; None for the whole video."""
        if not self.only_spans and not self.except_spans:
            return None
        return subtract_spans(self.only_spans or ALWAYS, self.except_spans)

    @property
    def detected_spans(self) -> tuple[Span, ...] | None:
        """Times in which faces have to be detected; None for the whole video."""
        spans = self.covered_spans
        if spans is None or self.selected_tracks or self.needs_tracks:
            return None
        return join_spans([*spans, *(cover.span for cover in self.covers)])

    @property
    def selected_tracks(self) -> frozenset[int]:
        """All track numbers that the options name."""
        return self.only_tracks | self.except_tracks | self.drop_tracks

    @property
    def still_covers(self) -> tuple[Cover, ...]:
        """The covers without times, which apply to images, too."""
        return tuple(cover for cover in self.covers if not cover.pts_seconds)

    def select(self, detections: Detections) -> Detections:
        """Return the covered faces of a single image, in which a region contains a face by the centre of its box.

        They include the covers without times. Spans do not apply. Raises ``DetectionsError`` if tracks are selected and
        the faces have no track ids, and ``OptionError`` if a cover lies outside of the image.
        """
        _warn_of_regions(self.only_regions + self.except_regions, detections.image_size)
        covered = ~_is_inside(detections.boxes, self.except_regions)
        if self.only_regions:
            covered &= _is_inside(detections.boxes, self.only_regions)
        if self.selected_tracks:
            if detections.track_ids is None and len(detections):
                raise DetectionsError("the faces have no track ids, so none can be selected")
            ids = np.zeros(0, np.int64) if detections.track_ids is None else detections.track_ids
            covered &= self._covers_tracks(ids)
        return self.with_covers(detections if covered.all() else detections[covered])

    def with_covers(self, faces: Detections) -> Detections:
        """Return the faces of an image, and the covers without times as faces with a score of 1."""
        check_covers(self.covers, faces.image_size)
        if not self.still_covers:
            return faces
        return add_covers(FrameFaces.of(faces), self.still_covers)._detections(faces.image_size)

    @property
    def needs_tracks(self) -> bool:
        """Whether all frames have to be known before the first is rendered."""
        return bool(self.only_regions or self.except_regions)

    def resolve_regions(self, frames: Iterable[FrameFaces], size: tuple[int, int]) -> TrackSelection:
        """Return the same selection with track numbers in place of regions, from all frames of the video."""
        if not self.needs_tracks:
            return self
        _warn_of_regions(self.only_regions + self.except_regions, size)
        inside, left_out = _tracks_in_regions(frames, self.only_regions, self.except_regions)
        only = self.only_tracks
        if self.only_regions:
            only = (only & inside if only else inside) or frozenset({-1})  # no track has this number
        tracks = {"only_tracks": only, "except_tracks": self.except_tracks | left_out}
        return self.model_copy(update={**tracks, "only_regions": (), "except_regions": ()})

    def covers_time(self, pts_seconds: float) -> bool:
        """Return whether the spans cover a time."""
        return is_within(pts_seconds, self.only_spans or ALWAYS) and not is_within(pts_seconds, self.except_spans)

    def apply(self, frame: FrameFaces) -> FrameFaces:
        """Return the frame with the covered faces only; regions have to be resolved."""
        covered = self._covers_tracks(frame.track_ids) & self.covers_time(frame.pts_seconds)
        covered |= (frame.origins == "by hand") & ~np.isin(frame.track_ids, list(self.drop_tracks))
        return frame if covered.all() else frame[covered]

    def wants_new(self, boxes: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return whether faces would be covered that no track shows, by their boxes ``(N, 4)``."""
        wanted = ~_is_inside(boxes, self.except_regions) & (not self.only_tracks)
        return wanted & _is_inside(boxes, self.only_regions) if self.only_regions else wanted

    def _covers_tracks(self, track_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        covered = ~np.isin(track_ids, list(self.except_tracks | self.drop_tracks))
        return covered & np.isin(track_ids, list(self.only_tracks)) if self.only_tracks else covered


def missing_tracks(selection: TrackSelection, known: Iterable[int]) -> str:
    """Return a message on selected tracks that do not exist, or an empty string."""
    existing = sorted(known)
    missing = sorted(selection.selected_tracks.difference(existing))
    if not missing:
        return ""
    hint = f"the tracks are: {_ranges(existing)}" if existing else "there are no tracks"
    return f"there is no track {', '.join(map(str, missing))}; {hint}"


def check_tracks(selection: TrackSelection, known: Iterable[int], name: Source) -> None:
    """Raise OptionError for selected tracks that do not exist in ``name``: faces would be left uncovered."""
    if message := missing_tracks(selection, known):
        raise OptionError(message, subject=str(name))


def _ranges(numbers: Iterable[int]) -> str:
    """Return ``1-3, 7`` for sorted numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _is_inside(boxes: NDArray[np.floating[Any]], regions: tuple[Region, ...]) -> NDArray[np.bool_]:
    """Return whether the centre of each box ``(N, 4)`` lies in a region."""
    inside = np.zeros(len(boxes), bool)
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2.0).T
    for left, top, width, height in regions:
        inside |= (left <= x) & (x < left + width) & (top <= y) & (y < top + height)
    return inside


def _tracks_in_regions(
    frames: Iterable[FrameFaces], only: tuple[Region, ...], excepted: tuple[Region, ...]
) -> tuple[frozenset[int], frozenset[int]]:
    total: Counter[int] = Counter()
    inside: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for frame in frames:
        total.update(frame.track_ids.tolist())
        for counts, regions in zip(inside, (only, excepted), strict=True):
            counts.update(frame.track_ids[_is_inside(frame.boxes, regions)].tolist())
    only_inside, excepted_inside = (
        frozenset(track for track in counts if counts[track] >= MIN_SHARE * total[track]) for counts in inside
    )
    return only_inside, excepted_inside


def join_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans in order, with one for those that overlap; raise OptionError for one that ends before it starts."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if not start <= end:
            raise OptionError(f"the span from {start:g} to {end:g} ends before it starts", fields=["spans"])
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)


def subtract_spans(spans: Iterable[Span], excepted: Iterable[Span]) -> tuple[Span, ...]:
    """Return what is left of spans."""
    left = list(spans)
    for start, end in excepted:
        parts = [part for low, high in left for part in ((low, min(high, start)), (max(low, end), high))]
        left = [(low, high) for low, high in parts if low < high]
    return tuple(left)


def format_spans(spans: Iterable[Span]) -> str:
    """Return ``from 0:05.00 to 0:10.00, from 1:00.00 on``."""
    parts = []
    for start, end in spans:
        begin = "" if start == -inf else f"from {format_time(start)} "
        parts.append(begin + ("on" if end == inf else f"to {format_time(end)}"))
    return ", ".join(parts) or "in no part of the video"


def is_within(seconds: float, spans: Iterable[Span]) -> bool:
    """Return whether a time lies in a span."""
    return any(start <= seconds <= end for start, end in spans)
