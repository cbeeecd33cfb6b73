"""Link faces to tracks, and tell where each is in every frame."""

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
from scrfd_trt._tracking.matching import Boxes, grown, pairs
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt._tracking.track import Track

BUFFER, MISSED, MOST = 0.2, 0.03, 0.6
"""Share of its sides that a box is grown by before it is compared: at once, for each frame missed, and at most."""
LIKE, LIKE_LOW = 0.15, 0.5
"""Least overlap of such boxes, for faces of high and of low score."""
BACK_GAP = 3
"""Frames without even a faint sighting after which a track is not followed back any further."""


class FrameObservation(NamedTuple):
    """What was looked for in one frame.

    Attributes
    ----------
    number, pts_seconds
        Of the frame; in seconds.
    found
        What the detector found down to the lowest score; None where it did not look.
    cut
        Whether a new scene begins here.
    """

    number: int
    pts_seconds: float
    found: Detections | None
    cut: bool = False


@dataclass
class _Seen:
    """A frame that is kept until all about it is certain, with the faint faces that no track has taken."""

    sighting: FrameObservation
    faint: list[int] = field(default_factory=list)


class Tracker:
    """Links the faces of a video to tracks.

    Frames go in one by one; what comes out is some frames behind, when all that later frames tell about it is known.

    Parameters
    ----------
    options
        How faces are followed.
    rate
        Frames a second, on average.
    delay
        Frames after which one comes out at the latest, for live pictures; gaps that are longer are then filled from one
        side. None waits until nothing can change any more.

    Notes
    -----
    Faces are linked in two rounds, those of high score first, as ByteTrack does (Zhang et al., ECCV 2022), by the
    overlap of grown boxes (Yang et al., WACV 2023) with where the track is expected, and by the assignment of the
    greatest sum. A track that begins is followed back through the faint sightings before it.
    """

    def __init__(self, options: TrackingOptions, rate: Fraction | float, *, delay: int | None = None) -> None:
        self.options = options
        self.spans = options.spans(rate)
        self._delay = delay
        self._window: deque[_Seen] = deque()
        self._times: dict[int, float] = {}
        self._tracks: list[Track] = []
        self._count = 0
        self._scene = 0

    def push(self, sighting: FrameObservation) -> Iterator[FrameFaces]:
        """Take the next frame.

        Parameters
        ----------
        sighting
            Its number must be one more than that of the last.

        Yields
        ------
        FrameFaces
            Frames about which all is known now.
        """
        seen = _Seen(sighting)
        self._window.append(seen)
        self._times[sighting.number] = sighting.pts_seconds
        if sighting.cut:
            self._scene = sighting.number
            for track in self._tracks:
                track.end = sighting.number if track.end is None else track.end
        if sighting.found is not None:
            self._link(seen, sighting.found)
        while self._is_due():
            yield self._pop()

    def _is_due(self) -> bool:
        """Tell whether nothing that comes can change the oldest frame that is kept, or it may wait no longer."""
        if not self._window or (self._delay is not None and len(self._window) > self._delay):
            return bool(self._window)
        oldest, newest = self._window[0].sighting, self._window[-1].sighting
        # A sighting so far away tells of it, and one more that this is bridged to.
        base = self.spans.window
        while base < len(self._window):
            at = self._window[base].sighting
            if not self.spans.extending.holds(at.number - oldest.number, at.pts_seconds - oldest.pts_seconds):
                return not self.spans.bridging.holds(newest.number - at.number + 1, newest.pts_seconds - at.pts_seconds)
            base += 1
        return False

    def finish(self) -> Iterator[FrameFaces]:
        """Yield the frames that are left."""
        while self._window:
            yield self._pop()

    def _near(self, sighting: FrameObservation, end: int | None) -> list[Track]:
        """Return the tracks with this end whose last sighting is near enough to this one to fill what lies between."""
        return [track for track in self._tracks if track.end == end and self._bridges(track, sighting)]

    def _bridges(self, track: Track, sighting: FrameObservation) -> bool:
        return self.spans.bridging.holds(sighting.number - track.last, sighting.pts_seconds - track.last_time)

    def _link(self, seen: _Seen, found: Detections) -> None:
        boxes = found.boxes.astype(np.float64)
        high = found.scores >= self.options.threshold
        tracks = self._near(seen.sighting, None)
        strong, faint = np.flatnonzero(high).tolist(), np.flatnonzero(~high).tolist()
        tracks, strong = self._match(seen, tracks, boxes, strong, LIKE)
        _, seen.faint = self._match(seen, tracks, boxes, faint, LIKE_LOW)
        for row in strong:
            self._count += 1
            track = Track(self._count, self._scene, self.options.threshold)
            _see(track, seen.sighting, row)
            self._follow_back(track)
            self._lead_on(track, seen.sighting)
            self._tracks.append(track)

    def _match(
        self, seen: _Seen, tracks: list[Track], boxes: Boxes, rows: list[int], least: float
    ) -> tuple[list[Track], list[int]]:
        """Give rows to tracks; return the tracks and the rows that are left."""
        if not tracks or not rows:
            return tracks, rows
        number = seen.sighting.number
        missed = np.array([number - track.last - 1 for track in tracks], np.float64)
        share = np.minimum(BUFFER + MISSED * missed, MOST)
        wanted = grown(boxes[rows], BUFFER)
        likeness = pairwise_iou(grown(np.array([track.predict(number) for track in tracks]), share), wanted)
        if missed.any():
            # Who is not seen for a while may have walked on, or stopped.
            further = np.array([track.predict(number, 1.0) for track in tracks])
            likeness = np.maximum(likeness, pairwise_iou(grown(further, share), wanted))
        chosen = pairs(likeness, least)
        for one, other in chosen:
            _see(tracks[one], seen.sighting, rows[other])
        taken, used = {one for one, _ in chosen}, {other for _, other in chosen}
        return (
            [track for place, track in enumerate(tracks) if place not in taken],
            [row for place, row in enumerate(rows) if place not in used],
        )

    def _follow_back(self, track: Track) -> None:
        """Take the faint faces before a track's first sighting that lie on its way."""
        gap = 0
        for seen in reversed(list(self._window)[:-1]):
            if seen.sighting.number < self._scene or gap > BACK_GAP:
                return
            gap += seen.sighting.found is not None
            if not seen.faint or seen.sighting.found is None:
                continue
            boxes = seen.sighting.found.boxes[seen.faint].astype(np.float64)
            expected = track.predict(seen.sighting.number)[None]
            likeness = pairwise_iou(grown(expected, BUFFER), grown(boxes, BUFFER))[0]
            best = int(likeness.argmax())
            if likeness[best] >= LIKE_LOW:
                _see(track, seen.sighting, seen.faint.pop(best))
                gap = 0

    def _lead_on(self, track: Track, sighting: FrameObservation) -> None:
        """Let tracks around a cut reach up to it where a face is in the same place before and after.

        Two scenes rarely have that by chance, and what was taken for a cut may be none.
        """
        before = [old for old in self._near(sighting, self._scene) if not old.is_led_on]
        if not before or not self._scene:
            return
        own = grown(track.predict(track.first)[None], BUFFER)
        places = np.array([(old.predict(track.first), old.predict(old.last + 1)) for old in before])
        likeness = pairwise_iou(grown(places.reshape(-1, 4), BUFFER), own).reshape(-1, 2).max(axis=1)
        best = int(likeness.argmax())
        if likeness[best] >= LIKE_LOW:
            before[best].lead_on(track)

    def _pop(self) -> FrameFaces:
        sighting = self._window.popleft().sighting
        frame = sighting.number
        found = [track.at(frame, self._times, self.spans) for track in self._tracks]
        self._tracks = [track for track in self._tracks if self._is_wanted(track, sighting)]
        reach = self.spans.window + 1
        for track in self._tracks:
            track.forget(min(frame, track.last) - reach)
        oldest = min([frame, *(track.last for track in self._tracks)]) - reach
        for old in [number for number in self._times if number < oldest]:
            del self._times[old]
        faces = [face for face in found if face is not None]
        return FrameFaces(frame, sighting.pts_seconds, sighting.cut, faces)

    def _is_wanted(self, track: Track, sighting: FrameObservation) -> bool:
        """Tell whether a track may have a face in a frame after this one, or be carried on."""
        away = sighting.number - track.last, sighting.pts_seconds - track.last_time
        return away[0] <= 0 or self.spans.bridging.holds(*away) or self.spans.extending.holds(*away)


def _see(track: Track, sighting: FrameObservation, row: int) -> None:
    found = sighting.found
    if found is not None:
        points = None if found.landmarks is None else found.landmarks[row]
        track.see(sighting.number, sighting.pts_seconds, found.boxes[row], points, float(found.scores[row]))
