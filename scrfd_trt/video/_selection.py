"""Select the faces of a video that are covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from scrfd_trt._detections import Detections
from scrfd_trt._options import OptionsModel
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt.errors import DetectionsError, OptionError
from scrfd_trt.video._timestamps import format_time

Region = tuple[float, float, float, float]  # x, y, width and height in pixels of the upright frame
Span = tuple[float, float]  # start and end in seconds

ALWAYS: tuple[Span, ...] = ((-inf, inf),)
MIN_SHARE = 0.5  # share of its frames in which a track lies in a region that it belongs to


class TrackSelection(OptionsModel):
    """Which faces of a video are covered.

    A face is covered if it matches every non-empty ``only`` option and no ``except`` option; all others stay visible.

    Attributes
    ----------
    only_tracks, except_tracks
        Track numbers.
    only_regions, except_regions
        x, y, width, height in pixels. A track belongs to a region if the centre of its box lies there in at least half
        of its frames; a face that only crosses the region does not.
    only_spans, except_spans
        Start and end in seconds; these apply to single frames. Without tracks and regions, which all frames of a track
        decide, faces are detected only where the spans need it.
    """

    only_tracks: frozenset[int] = frozenset()
    except_tracks: frozenset[int] = frozenset()
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
        selects_tracks = self.only_tracks or self.except_tracks or self.needs_tracks
        return None if selects_tracks else self.covered_spans

    def select(self, detections: Detections) -> Detections:
        """Return the covered faces of a single image, in which a region contains a face by the centre of its box.

        Spans do not apply. Raises ``DetectionsError`` if tracks are selected and the faces have no track ids.
        """
        covered = ~_is_inside(detections.boxes, self.except_regions)
        if self.only_regions:
            covered &= _is_inside(detections.boxes, self.only_regions)
        if self.only_tracks or self.except_tracks:
            if detections.track_ids is None and len(detections):
                raise DetectionsError("the faces have no track ids, so none can be selected")
            ids = np.zeros(0, np.int64) if detections.track_ids is None else detections.track_ids
            covered &= self._covers_tracks(ids)
        return detections if covered.all() else detections[covered]

    @property
    def needs_tracks(self) -> bool:
        """Whether all frames have to be known before the first is rendered."""
        return bool(self.only_regions or self.except_regions)

    def resolve_regions(self, frames: Iterable[FrameFaces]) -> TrackSelection:
        """Return the same selection with track numbers in place of regions, from all frames of the video."""
        if not self.needs_tracks:
            return self
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
        if not self.covers_time(frame.pts_seconds):
            return frame[:0]
        covered = self._covers_tracks(frame.track_ids)
        return frame if covered.all() else frame[covered]

    def _covers_tracks(self, track_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        covered = ~np.isin(track_ids, list(self.except_tracks))
        return covered & np.isin(track_ids, list(self.only_tracks)) if self.only_tracks else covered


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
