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


def _tracks_in_regions(
    frames: Iterable[FrameFaces], only: tuple[Region, ...], excepted: tuple[Region, ...]
) -> tuple[frozenset[int], frozenset[int]]:
    total: Counter[int] = Counter()
    inside: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for frame in frames:
        for face in frame.faces:
            total[face.track] += 1
            for counts, regions in zip(inside, (only, excepted), strict=True):
                counts[face.track] += any(_contains(region, face) for region in regions)
    covered, left_out = (
        frozenset(n for n in total if counts[n] >= MIN_SHARE * total[n] and counts[n]) for counts in inside
    )
    return covered, left_out


def _contains(region: Region, face: Face) -> bool:
    left, top, width, height = region
    x, y = ((face.box[:2] + face.box[2:]) / 2).tolist()
    return bool(left <= x < left + width and top <= y < top + height)


def _is_within(seconds: float, spans: tuple[Span, ...]) -> bool:
    return any(start <= seconds <= end for start, end in spans)
