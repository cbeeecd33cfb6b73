"""Search a finished copy harder than its source: for faces that are not covered, and for those that show through."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, repeat, tee
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._doubtful import DOUBTFUL as DROPPED_UP_TO
from scrfd_trt._letterbox import Letterbox
from scrfd_trt._nms import largest_share, nms
from scrfd_trt._passes import FOUND_FROM, Look
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt.errors import ImageError, OutputError, VideoError
from scrfd_trt.video._canvas import OverlayFunction
from scrfd_trt.video._detections_file import FacesReader, add_faces
from scrfd_trt.video._first_pass import FrameDetector, find_faces
from scrfd_trt.video._reader import Source
from scrfd_trt.video._selection import FIRST_COVER, TrackSelection, upright_landmarks
from scrfd_trt.video._sources import open_source
from scrfd_trt.video._summary import Summary
from scrfd_trt.video._two_pass import ProgressCallback, render_video

logger = logging.getLogger("scrfd_trt")

MAX_ROUNDS = 3
FOUND, DOUBTFUL = 0.3, 0.2  # scores from which a place is covered, and from which it is listed
FINER, SMALLEST = 0.7, 16  # smallest face of this search: share of that of the first one, and at most these pixels
SAME = 0.5  # share of a box that lies on a cover or on a face left visible, from which it is the same face
TOUCHED = 0.2  # the same, for covers on which the overlay draws a face
VAST, SURE = 0.1, 0.5
"""Share of a picture above which a box is no face, but a blurred bush, unless its or its cover's score is sure."""
STRONGER = 1.3  # by which the box of a face that shows through grows, so that blur and mosaic get coarser
MIRROR_TRUST = np.float32(0.6)  # for scores: turned foliage and blurred heads look like faces with up to 0.5
MIRRORED = [1, 0, 2, 4, 3]  # order of landmarks
TURNS = (90, 180, 270)

Written = TypeVar("Written")
NO_FACES = FrameFaces(-1, np.inf)


class Known(NamedTuple):
    """The faces of a frame without those that a second look dropped, those, and all that is covered."""

    faces: FrameFaces
    dropped: FrameFaces
    covered: FrameFaces


@dataclass(frozen=True)
class FoundFace:
    """A place of a copy that looks like a face, with the cover ``track`` through which it shows, if any."""

    score: float
    box: tuple[float, ...]
    pts_seconds: float
    start: float
    end: float
    track: int | None = None
    is_vast: bool = False  # too large for a face of this score

    def joined(self, other: FoundFace) -> FoundFace:
        """Return this place with a later one of the same face; the box holds both."""
        low, high = np.minimum(self.box, other.box)[:2], np.maximum(self.box, other.box)[2:]
        best = max(self, other, key=lambda each: each.score)
        is_vast = self.is_vast and other.is_vast
        return replace(best, box=(*low.tolist(), *high.tolist()), start=self.start, end=other.end, is_vast=is_vast)

    @property
    def kind(self) -> Literal["uncovered", "weak", "doubtful"]:
        """Whether it is a face without a cover, one with a weak cover, or not certain."""
        is_certain = self.score >= FOUND and not self.is_vast
        return "weak" if self.track is not None else "uncovered" if is_certain else "doubtful"


@dataclass
class CopySearch:
    """What one search of a copy found, and how long it took."""

    faces: list[FoundFace] = field(default_factory=list)
    seconds: float = 0.0

    def of_kind(self, kind: str) -> list[FoundFace]:
        """Return the faces of a kind."""
        return [face for face in self.faces if face.kind == kind]


class CopySearcher:
    """Searches copies with a detector for faces that ``overlay`` does not hide, except those that stay visible."""

    def __init__(self, detector: FrameDetector, overlay: OverlayFunction, selection: TrackSelection) -> None:
        self._detector, self._selection = detector, selection
        boxes = np.array([[x, 60, x + 0.8 * side, 60 + side] for x, side in ((40, 48), (160, 96), (360, 192))])
        faces = Detections(boxes, np.ones(3), upright_landmarks(boxes), image_size=(640, 320))
        image = overlay(np.full((320, 640, 3), 128, np.uint8), faces)
        self._draws_faces = any(map(len, self._look([image], threshold=FOUND)))
        if self._draws_faces:
            logger.warning("the overlay draws faces, so whether covered ones show through is not measured")

    def search_image(self, image: NDArray[np.uint8], known: Known) -> tuple[CopySearch, FrameFaces]:
        """Search the copy of an image; return what was found, and the faces to cover in the next round."""
        (found,) = self._news(iter([known]), [image], threshold=DOUBTFUL)
        search, to_cover = _collect([(FrameFaces.of(found), known)], found.image_size)
        return search, to_cover.get(0, NO_FACES)

    def search_video(
        self, path: Path, faces_file: Path, progress: ProgressCallback
    ) -> tuple[CopySearch, dict[int, FrameFaces]]:
        """Do the same with the copy of a video, with faces by frame; ``faces_file`` has those of the copy."""
        with open_source(path, checked=True) as reader, FacesReader(faces_file) as file:
            first = TrackingOptions.model_validate(file.header.tracking)
            changed = {"threshold": DOUBTFUL, "low": min(first.low, DOUBTFUL), "every": 1}
            # The file may end after the last span with faces.
            known, same = tee(chain(self._known(file, progress, reader.info.frames), repeat(Known(*[NO_FACES] * 3))))
            detector = SimpleNamespace(stream=partial(self._news, known))
            with closing(find_faces(reader, detector, first.model_copy(update=changed))) as frames:
                return _collect(zip(frames, same, strict=False), reader.info.size)

    def _known(self, file: FacesReader, progress: ProgressCallback, frames: int | None) -> Iterator[Known]:
        dropped = list(file.dropped(self._selection))
        for frame, covered in file.covered(self._selection):
            is_dropped = np.isin(frame.track_ids, dropped)
            progress("verifying", frame.number + 1, frames)
            yield Known(frame[~is_dropped], frame[is_dropped], covered)

    def _news(self, known: Iterator[Known], images: Iterable[Any], **how: Any) -> Iterator[Detections]:
        """Yield the faces of images that are not covered and do not stay visible on purpose, or that show through."""
        for found, each in zip(self._look(images, **how), known, strict=False):
            boxes = found.boxes.astype(np.float64)
            known_share, dropped_share, share = (largest_share(boxes, one.boxes)[0] for one in each)
            is_news = share < (TOUCHED if self._draws_faces else SAME)
            is_news &= (known_share < SAME) & self._selection.wants_new(found.boxes)
            is_news &= (dropped_share < SAME) | (found.scores > DROPPED_UP_TO)
            is_news &= self._selection.covers_time(each.faces.pts_seconds)
            shows_through = (share >= SAME) & (share >= known_share) & (found.scores >= FOUND)
            yield found[is_news if self._draws_faces else is_news | shows_through]

    def _look(
        self, images: Iterable[Any], *, batch: int | None = None, threshold: float | None = None
    ) -> Iterator[Detections]:
        """Yield the faces of images in more views: finer ones, and mirrored ones, which are turned as well."""
        found = iter(self._detector.stream(self._views(images), batch=batch, threshold=threshold))
        for plain, mirrored in zip(found, found, strict=True):
            boxes, points = mirrored.boxes.copy(), None
            boxes[:, [0, 2]] = plain.image_size[0] - boxes[:, [2, 0]]
            boxes = np.concatenate([plain.boxes, boxes])
            scores = np.concatenate([plain.scores, mirrored.scores * MIRROR_TRUST])
            kept = nms(boxes, scores, 0.4)
            kept = kept[scores[kept] >= (threshold or 0.0)]
            if plain.landmarks is not None and mirrored.landmarks is not None:
                turned = mirrored.landmarks[:, MIRRORED] * [-1, 1] + [plain.image_size[0], 0]
                points = np.concatenate([plain.landmarks, turned])[kept]
            yield Detections(boxes[kept], scores[kept], points, image_size=plain.image_size)

    def _views(self, images: Iterable[Any]) -> Iterator[Any]:
        detector: Any = self._detector
        for image in images:
            mirrored = np.ascontiguousarray(image[:, ::-1])
            if not getattr(detector, "_takes_looks", False):
                yield from (image, mirrored)
                continue
            own = detector.options.min_face
            smallest = FOUND_FROM / max(min(Letterbox.fit(image.shape[1::-1], each).scale) for each in detector.scales)
            yield Look(image, min(SMALLEST, FINER * (own or smallest)))
            yield Look(mirrored, own, TURNS)


def _collect(
    frames: Iterable[tuple[FrameFaces, Known]], size: tuple[int, int]
) -> tuple[CopySearch, dict[int, FrameFaces]]:
    """Return what was found in frames, and the faces to cover in the next round, by frame, with new track numbers."""
    places: dict[tuple[int | None, int], FoundFace] = {}
    scores: dict[int, float] = {}
    found: list[FrameFaces] = []
    last = 0
    for frame, known in frames:
        covered = known.covered
        used = np.concatenate([each.track_ids for each in known])
        last = max(last, int(used[used < FIRST_COVER].max(initial=0)))
        if not len(frame):
            continue
        share, which = largest_share(frame.boxes, covered.boxes)
        sides = frame.boxes[:, 2:] - frame.boxes[:, :2]
        of_covers = np.append(covered.scores, 0.0)[np.where(share >= SAME, which, -1)]
        is_vast = (sides.prod(axis=1) > VAST * math.prod(size)) & (np.maximum(frame.scores, of_covers) < SURE)
        for index, face in enumerate(frame):
            if face.origin == "detected":
                cover = int(covered.track_ids[which[index]]) if share[index] >= SAME else None
                scores[face.track] = max(0.0 if is_vast[index] else face.score, scores.get(face.track, 0.0))
                at = frame.pts_seconds
                place = FoundFace(face.score, tuple(face.box.tolist()), at, at, at, cover, bool(is_vast[index]))
                before = places.get((cover, face.track))
                places[cover, face.track] = place if before is None else before.joined(place)
        growth = np.where(share >= SAME, (STRONGER - 1) / 2, 0)[:, None] * np.hstack([-sides, sides])
        found.append(replace(frame, boxes=frame.boxes + growth)[~is_vast])
    certain = [track for track, score in scores.items() if score >= FOUND]
    # Tracks are covered with their faint places.
    listed = [one for (_, track), one in places.items() if one.score >= (FOUND if track in certain else DOUBTFUL)]
    chosen = [frame[np.isin(frame.track_ids, certain)] for frame in found]
    return CopySearch(listed), {one.number: replace(one, track_ids=one.track_ids + last) for one in chosen if len(one)}


class _NextRound(Exception):  # noqa: N818 - no error
    """Ends the writing of a copy, with what is to be covered in the next one."""


def verified(
    name: Source,
    write: Callable[..., Written],
    search: Callable[[Path], tuple[CopySearch, Any]],
    cover: Callable[[Any], None],
) -> tuple[Written, list[CopySearch]]:
    """Write a copy, at most four times, until a search finds nothing to cover, or weak covers get no fewer."""
    # write(inspect=) calls a function with the finished file, and deletes it if that raises an error.
    searches: list[CopySearch] = []

    def inspect(path: Path) -> None:
        start = time.monotonic()
        try:
            result, to_cover = search(path)
        except (ImageError, VideoError) as error:
            raise OutputError(f"{name} cannot be verified: {error.reason}") from error
        result.seconds = time.monotonic() - start
        searches.append(result)
        weak = [len(one.of_kind("weak")) for one in searches[-2:] if not one.of_kind("uncovered")]
        is_stuck = len(weak) == 2 and weak[1] >= weak[0]  # stronger covers have not helped
        if len(to_cover) and len(searches) <= MAX_ROUNDS and not is_stuck:
            raise _NextRound(to_cover)

    while True:
        try:
            return write(inspect=inspect), searches
        except _NextRound as more:
            to_cover = more.args[0]
        cover(to_cover)


def render_verified(
    source: Source,
    output: Source,
    faces_file: Path,
    overlay: OverlayFunction,
    detector: FrameDetector,
    *,
    selection: TrackSelection,
    progress: ProgressCallback,
    **how: Any,
) -> Summary:
    """Do what :func:`render_video` does, search the copy, add what is found to the faces, and render it again."""
    searcher = CopySearcher(detector, overlay, selection)
    write = partial(render_video, source, output, faces_file, overlay, selection=selection, progress=progress, **how)
    told: list[CopySearch] = []

    def search(path: Path) -> tuple[CopySearch, dict[int, FrameFaces]]:
        found, to_cover = searcher.search_video(path, faces_file, progress)
        if not told and (weak := found.of_kind("weak")):
            text = (
                "%s: faces are still found under %d covers; up to %d more rounds make them stronger (solid needs none)"
            )
            logger.warning(text, source, len(weak), MAX_ROUNDS)
        told.append(found)
        return found, to_cover

    summary, searches = verified(output, write, search, partial(add_faces, faces_file))
    summary.searches = searches
    return summary
