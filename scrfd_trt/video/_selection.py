"""Select the faces of a video that are covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from scrfd_trt._options import OptionsModel
from scrfd_trt._tracking.faces import Face, FrameFaces

Region = tuple[float, float, float, float]  # x, y, width and height in pixels of the upright frame
Span = tuple[float, float]  # start and end in seconds

MIN_SHARE = 0.5  # share of its frames in which a track lies in a region that it belongs to


class TrackSelection(OptionsModel):
    """Which faces of a video are covered.

    A face is covered if it matches every non-empty ``keep`` option and no ``leave`` option.

    Attributes
    ----------
    keep_tracks, leave_tracks
        Track numbers.
    keep_regions, leave_regions
        x, y, width, height in pixels. A track belongs to a region if the centre of its box lies there in at least half
        of its frames; a face that only crosses the region does not.
    keep_spans, leave_spans
        Start and end in seconds; these apply to single frames.
    """

    keep_tracks: frozenset[int] = frozenset()
    leave_tracks: frozenset[int] = frozenset()
    keep_regions: tuple[Region, ...] = ()
    leave_regions: tuple[Region, ...] = ()
    keep_spans: tuple[Span, ...] = ()
    leave_spans: tuple[Span, ...] = ()

    @property
    def needs_tracks(self) -> bool:
        """Whether all frames have to be known before the first is rendered."""
        return bool(self.keep_regions or self.leave_regions)

    def resolve_regions(self, frames: Iterable[FrameFaces]) -> TrackSelection:
        """Return the same selection with track numbers in place of regions, from all frames of the video."""
        if not self.needs_tracks:
            return self
        kept, left = _tracks_in_regions(frames, self.keep_regions, self.leave_regions)
        keep = self.keep_tracks & kept if self.keep_tracks and self.keep_regions else self.keep_tracks or kept
        keeps_none = self.keep_regions and not keep
        tracks = {"keep_tracks": frozenset({-1}) if keeps_none else keep, "leave_tracks": self.leave_tracks | left}
        return self.model_copy(update={**tracks, "keep_regions": (), "leave_regions": ()})

    def apply(self, frame: FrameFaces) -> FrameFaces:
        """Return the frame with the covered faces only; regions have to be resolved."""
        outside = bool(self.keep_spans) and not _is_within(frame.pts_seconds, self.keep_spans)
        if outside or _is_within(frame.pts_seconds, self.leave_spans):
            return replace(frame, faces=[])
        faces = [
            face
            for face in frame.faces
            if (not self.keep_tracks or face.track in self.keep_tracks) and face.track not in self.leave_tracks
        ]
        return frame if len(faces) == len(frame.faces) else replace(frame, faces=faces)


def _tracks_in_regions(
    frames: Iterable[FrameFaces], keep: tuple[Region, ...], leave: tuple[Region, ...]
) -> tuple[frozenset[int], frozenset[int]]:
    total: Counter[int] = Counter()
    inside: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for frame in frames:
        for face in frame.faces:
            total[face.track] += 1
            for counts, regions in zip(inside, (keep, leave), strict=True):
                counts[face.track] += any(_contains(region, face) for region in regions)
    kept, left = (frozenset(n for n in total if counts[n] >= MIN_SHARE * total[n] and counts[n]) for counts in inside)
    return kept, left


def _contains(region: Region, face: Face) -> bool:
    left, top, width, height = region
    x, y = ((face.box[:2] + face.box[2:]) / 2).tolist()
    return bool(left <= x < left + width and top <= y < top + height)


def _is_within(seconds: float, spans: tuple[Span, ...]) -> bool:
    return any(start <= seconds <= end for start, end in spans)
