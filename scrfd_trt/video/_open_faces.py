"""Search a finished copy harder than its source: for faces that are not covered, and for those that show through."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, repeat, tee
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
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
from scrfd_trt.video._two_pass import ProgressCallback, covered_faces, render_video

logger = logging.getLogger("scrfd_trt")

MAX_ROUNDS = 3
FOUND, DOUBTFUL = 0.3, 0.2  # scores from which a place is covered, and from which it is listed
FINER, SMALLEST = 0.7, 16  # smallest face of this search: share of that of the first one, and at most these pixels
SAME = 0.5  # share of a box that lies on a cover or on a face left visible, from which it is the same face
TOUCHED = 0.2  # the same, for covers on which the overlay draws a face
STRONGER = 1.3  # by which the box of a face that shows through grows, so that blur and mosaic get coarser
MIRROR_TRUST = np.float32(0.6)  # for scores: turned foliage and blurred heads look like faces with up to 0.5
MIRRORED = [1, 0, 2, 4, 3]  # order of landmarks
TURNS = (90, 180, 270)

Known = tuple[FrameFaces, FrameFaces]
"""All faces of a frame that are known, and those of them that are covered, with covers by hand."""


@dataclass(frozen=True)
class FoundFace:
    """A place of a copy that looks like a face, at the moment of its highest score.

    ``track`` is that of the cover through which it shows; None if it is not covered.
    """

    score: float
    box: tuple[float, ...]
    pts_seconds: float
    start: float
    end: float
    track: int | None = None

    @property
    def kind(self) -> Literal["uncovered", "weak", "doubtful"]:
        """Whether it is a face without a cover, one with a weak cover, or not certain."""
        return "weak" if self.track is not None else "uncovered" if self.score >= FOUND else "doubtful"


@dataclass
class CopySearch:
    """What one search of a copy found, and how long it took."""

    faces: list[FoundFace] = field(default_factory=list)
    seconds: float = 0.0

    def of_kind(self, kind: str) -> list[FoundFace]:
        """Return the faces of a kind, highest scores first."""
        return sorted((face for face in self.faces if face.kind == kind), key=lambda face: -face.score)


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

    def search_image(
        self, image: NDArray[np.uint8], faces: Detections, covered: Detections
    ) -> tuple[CopySearch, Detections]:
        """Search the copy of an image; return what was found, and the faces to cover in the next round."""
        known = _as_frame(faces), _as_frame(covered)
        (found,) = self._news(iter([known]), [image], threshold=DOUBTFUL)
        tracks = _Tracks()
        tracks.add(_as_frame(found), known)
        search, to_cover = tracks.finish()
        return search, to_cover.get(0, FrameFaces(0, 0.0)).detections(faces.image_size)

    def search_video(
        self, path: Path, faces_file: Path, tracking: TrackingOptions, progress: ProgressCallback
    ) -> tuple[CopySearch, dict[int, FrameFaces]]:
        """Do the same with the copy of a video, with faces by frame; ``faces_file`` has those of the copy."""
        options = tracking.model_copy(update={"threshold": DOUBTFUL, "low": min(tracking.low, DOUBTFUL), "every": 1})
        tracks, nothing = _Tracks(), FrameFaces(-1, np.inf)  # after the last span with faces
        with open_source(path, checked=True) as reader, FacesReader(faces_file) as file:
            first, second = tee(chain(covered_faces(file, self._selection), repeat((nothing, nothing))))
            detector = SimpleNamespace(stream=partial(self._news, first))
            with closing(find_faces(reader, detector, options)) as frames:
                for frame, known in zip(frames, second, strict=False):
                    tracks.add(frame, known)
                    progress("verifying", frame.number + 1, reader.info.frames)
        return tracks.finish()

    def _news(self, known: Iterator[Known], images: Iterable[Any], **how: Any) -> Iterator[Detections]:
        """Yield the faces of images that are not covered and do not stay visible on purpose, or that show through."""
        for found, (faces, covered) in zip(self._look(images, **how), known, strict=False):
            share, _ = largest_share(found.boxes.astype(np.float64), covered.boxes)
            known_share, _ = largest_share(found.boxes.astype(np.float64), faces.boxes)
            is_news = share < (TOUCHED if self._draws_faces else SAME)
            is_news &= (known_share < SAME) & self._selection.wants_new(found.boxes)
            is_news &= self._selection.covers_time(faces.pts_seconds)
            shows_through = (share >= SAME) & (found.scores >= FOUND)
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


class _Tracks:
    """Collects what a search found."""

    def __init__(self) -> None:
        self._frames: list[FrameFaces] = []
        self._places: dict[tuple[int | None, int], FoundFace] = {}
        self._scores: dict[int, float] = {}
        self._last_track = 0

    def add(self, frame: FrameFaces, known: Known) -> None:
        """Add the next frame."""
        used, covered = known[0].track_ids, known[1]
        self._last_track = max(self._last_track, int(used[used < FIRST_COVER].max(initial=0)))
        largest, which = largest_share(frame.boxes, covered.boxes)
        for index, face in enumerate(frame):
            if face.origin == "detected":
                cover = int(covered.track_ids[which[index]]) if largest[index] >= SAME else None
                self._scores[face.track] = max(face.score, self._scores.get(face.track, 0.0))
                at = frame.pts_seconds
                key, place = (cover, face.track), FoundFace(face.score, tuple(face.box.tolist()), at, at, at, cover)
                before = self._places.get(key, place)
                best = max(before, place, key=lambda each: each.score)
                self._places[key] = replace(best, start=before.start, end=at)
        growth = np.where(largest >= SAME, (STRONGER - 1) / 2, 0)[:, None] * (frame.boxes[:, 2:] - frame.boxes[:, :2])
        boxes = np.concatenate([frame.boxes[:, :2] - growth, frame.boxes[:, 2:] + growth], axis=1)
        if len(frame):
            self._frames.append(replace(frame, boxes=boxes))

    def finish(self) -> tuple[CopySearch, dict[int, FrameFaces]]:
        """Return what was found, and the faces to cover in the next round, by frame, with new track numbers."""
        certain = [track for track, score in self._scores.items() if score >= FOUND]
        places = [
            place
            for (_, track), place in self._places.items()
            if place.score >= (FOUND if track in certain else DOUBTFUL)  # tracks are covered with their faint places
        ]
        chosen = [frame[np.isin(frame.track_ids, certain)] for frame in self._frames]
        to_cover = {one.number: replace(one, track_ids=one.track_ids + self._last_track) for one in chosen if len(one)}
        return CopySearch(places), to_cover


def _as_frame(faces: Detections) -> FrameFaces:
    ids = np.arange(1, len(faces) + 1) if faces.track_ids is None else faces.track_ids
    origins = np.full(len(faces), "detected", "U12")
    points = None if faces.landmarks is None else faces.landmarks.astype(np.float64)
    boxes, scores = faces.boxes.astype(np.float64), faces.scores.astype(np.float64)
    return FrameFaces(0, 0.0, False, ids, boxes, scores, points, origins)


class _NextRound(Exception):  # noqa: N818 - no error
    pass


def verified(
    name: Source,
    write: Callable[[Callable[[Path], None]], Any],
    search: Callable[[Path], tuple[CopySearch, Any]],
    cover: Callable[[Any], None],
) -> list[CopySearch]:
    """Write a copy until a search finds nothing more to cover, at most four times; return the searches.

    If only weak covers are left, and a further round has not made them fewer, no other one follows.
    ``write`` calls a function with the finished file before it gets its name, and deletes the file if the function
    raises an error. ``cover`` takes what the search says is to be covered in the next round.
    """
    searches: list[CopySearch] = []
    to_cover: Any = ()

    def inspect(path: Path) -> None:
        nonlocal to_cover
        start = time.monotonic()
        try:
            result, to_cover = search(path)
        except (ImageError, VideoError) as error:
            raise OutputError(f"{name} cannot be verified: {error.reason}") from error
        result.seconds = time.monotonic() - start
        searches.append(result)
        weak = [len(one.of_kind("weak")) for one in searches]
        is_stuck = not result.of_kind("uncovered") and len(weak) > 1 and weak[-1] >= weak[-2]
        if len(to_cover) and len(searches) <= MAX_ROUNDS and not is_stuck:
            raise _NextRound

    def attempt() -> bool:
        try:
            write(inspect)
        except _NextRound:
            cover(to_cover)
            return False
        return True

    while not attempt():
        pass
    return searches


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
    """Do what :func:`render_video` does, search the copy, and render it again with what is still found.

    Faces that are found are added to ``faces_file``. The output gets its name after the last round.
    """
    searcher, summaries = CopySearcher(detector, overlay, selection), []
    with FacesReader(faces_file) as file:
        tracking = TrackingOptions.model_validate(file.header.tracking)

    def write(inspect: Callable[[Path], None]) -> None:
        chosen: dict[str, Any] = {"selection": selection, "progress": progress, "inspect": inspect}
        summaries.append(render_video(source, output, faces_file, overlay, **chosen, **how))

    def search(path: Path) -> tuple[CopySearch, dict[int, FrameFaces]]:
        return searcher.search_video(path, faces_file, tracking, progress)

    searches: Sequence[CopySearch] = verified(output, write, search, partial(add_faces, faces_file))
    summaries[0].searches = searches
    return summaries[0]
