"""Choose the faces of a video that are drawn over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from scrfd_trt._options import OptionsModel
from scrfd_trt._tracking.faces import Face, FrameFaces

Region = tuple[float, float, float, float]
"""x, y, width and height in pixels of the upright frame."""
Span = tuple[float, float]
"""From and to, in seconds."""

MOSTLY = 0.5
"""Share of its frames in which a track must lie in a region to belong there."""


class TrackSelection(OptionsModel):
    """Which faces are kept among those that are drawn over, and which are left out.

    A face is drawn over if it is in all that is to be kept and in nothing that is to be left out. What is empty says
    nothing.

    Attributes
    ----------
    keep_tracks, leave_tracks
        Numbers of tracks.
    keep_regions, leave_regions
        x, y, width, height in pixels. A track belongs to a region if the middle of its box lies there in at least half
        of its frames: a face that walks through is not uncovered on its way.
    keep_spans, leave_spans
        From and to in seconds; these are told frame by frame.
    """

    keep_tracks: frozenset[int] = frozenset()
    leave_tracks: frozenset[int] = frozenset()
    keep_regions: tuple[Region, ...] = ()
    leave_regions: tuple[Region, ...] = ()
    keep_spans: tuple[Span, ...] = ()
    leave_spans: tuple[Span, ...] = ()

    @property
    def needs_tracks(self) -> bool:
        """Whether all frames must be known before the first is drawn."""
        return bool(self.keep_regions or self.leave_regions)

    def settle(self, frames: Iterable[FrameFaces]) -> TrackSelection:
        """Return the same choice with regions turned into tracks.

        Parameters
        ----------
        frames
            All of the video.
        """
        if not self.needs_tracks:
            return self
        kept, left = _in_regions(frames, self.keep_regions, self.leave_regions)
        keep = self.keep_tracks & kept if self.keep_tracks and self.keep_regions else self.keep_tracks or kept
        nobody = self.keep_regions and not keep
        return TrackSelection(
            keep_tracks=frozenset({-1}) if nobody else frozenset(keep),
            leave_tracks=self.leave_tracks | left,
            keep_spans=self.keep_spans,
            leave_spans=self.leave_spans,
        )

    def of(self, frame: FrameFaces) -> FrameFaces:
        """Return the frame with the faces that are drawn over; regions must have been settled."""
        if self.keep_spans and not _within(frame.pts_seconds, self.keep_spans):
            return replace(frame, faces=[])
        if _within(frame.pts_seconds, self.leave_spans):
            return replace(frame, faces=[])
        faces = [face for face in frame.faces if self._takes(face.track)]
        return frame if len(faces) == len(frame.faces) else replace(frame, faces=faces)

    def _takes(self, track: int) -> bool:
        return (not self.keep_tracks or track in self.keep_tracks) and track not in self.leave_tracks


def _in_regions(
    frames: Iterable[FrameFaces], keep: tuple[Region, ...], leave: tuple[Region, ...]
) -> tuple[frozenset[int], frozenset[int]]:
    total: Counter[int] = Counter()
    inside: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for frame in frames:
        for face in frame.faces:
            total[face.track] += 1
            for counts, regions in zip(inside, (keep, leave), strict=True):
                counts[face.track] += any(_holds(region, face) for region in regions)
    kept, left = (frozenset(n for n in total if counts[n] >= MOSTLY * total[n] and counts[n]) for counts in inside)
    return kept, left


def _holds(region: Region, face: Face) -> bool:
    left, top, width, height = region
    x, y = ((face.box[:2] + face.box[2:]) / 2).tolist()
    return bool(left <= x < left + width and top <= y < top + height)


def _within(time: float, spans: tuple[Span, ...]) -> bool:
    return any(start <= time <= end for start, end in spans)
