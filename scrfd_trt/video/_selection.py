"""Select the faces of a video that are covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._options import OptionsModel
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt.errors import DetectionsError

Region = tuple[float, float, float, float]  # x, y, width and height in pixels of the upright frame
Span = tuple[float, float]  # start and end in seconds

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
        Start and end in seconds; these apply to single frames.
    """

    only_tracks: frozenset[int] = frozenset()
    except_tracks: frozenset[int] = frozenset()
    only_regions: tuple[Region, ...] = ()
    except_regions: tuple[Region, ...] = ()
    only_spans: tuple[Span, ...] = ()
    except_spans: tuple[Span, ...] = ()

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
            covered &= ~np.isin(ids, list(self.except_tracks))
            covered &= np.isin(ids, list(self.only_tracks)) if self.only_tracks else True
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
        only = self.only_tracks & inside if self.only_tracks and self.only_regions else self.only_tracks or inside
        covers_none = self.only_regions and not only
        tracks = {
            "only_tracks": frozenset({-1}) if covers_none else only,
            "except_tracks": self.except_tracks | left_out,
        }
        return self.model_copy(update={**tracks, "only_regions": (), "except_regions": ()})

    def apply(self, frame: FrameFaces) -> FrameFaces:
        """Return the frame with the covered faces only; regions have to be resolved."""
        outside = bool(self.only_spans) and not _is_within(frame.pts_seconds, self.only_spans)
        if outside or _is_within(frame.pts_seconds, self.except_spans):
            return replace(frame, faces=[])
        faces = [
            face
            for face in frame.faces
            if (not self.only_tracks or face.track in self.only_tracks) and face.track not in self.except_tracks
        ]
        return frame if len(faces) == len(frame.faces) else replace(frame, faces=faces)


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
        tracks = [face.track for face in frame.faces]
        boxes = np.array([face.box for face in frame.faces], np.float64).reshape(-1, 4)
        total.update(tracks)
        for counts, regions in zip(inside, (only, excepted), strict=True):
            counts.update(
                track for track, is_inside in zip(tracks, _is_inside(boxes, regions), strict=True) if is_inside
            )
    covered, left_out = (
        frozenset(n for n in total if counts[n] >= MIN_SHARE * total[n] and counts[n]) for counts in inside
    )
    return covered, left_out


def _is_within(seconds: float, spans: tuple[Span, ...]) -> bool:
    return any(start <= seconds <= end for start, end in spans)
