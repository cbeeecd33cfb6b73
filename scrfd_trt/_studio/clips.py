"""Clips: the first pass with small pictures of the frames, the timeline, edits of tracks, and the result."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._image_files.frames import MILLION
from scrfd_trt._looks import Looks, gflops
from scrfd_trt._nms import pairwise_iou
from scrfd_trt._studio.items import History, Item, Operation, Progress
from scrfd_trt._studio.photos import draw_sample, drawn_sample, face_crop
from scrfd_trt._studio.settings import Settings
from scrfd_trt._studio.snippets import command, draw_lines, open_detector, wrap_command
from scrfd_trt._studio.uploads import MAX_PIXELS, can_use_clips, jpeg
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt.errors import ClosedError, ImageError, MissingDependencyError, OptionError, VideoError
from scrfd_trt.video import Cover, FacesReader, Frame, VideoReader, detect_video, render_video
from scrfd_trt.video._detections_file import FACES_SUFFIX, Header, write_faces
from scrfd_trt.video._selection import SLACK, add_covers, check_covers
from scrfd_trt.video._summary import MAX_DROPPED, MAX_SHOWN, doubt_text, low_score
from scrfd_trt.video._timestamps import format_time
from scrfd_trt.video._two_pass import summarize_frames

if TYPE_CHECKING:
    from scrfd_trt._studio.session import Session

Image = NDArray[np.uint8]
SIDE, QUALITY = 960, 80  # longest side in pixels of the small pictures of frames
STORED_BYTES, FIRST_BYTES = 192 << 20, 24 << 20
"""Of the small pictures of a clip, and of those that are stored at any rate; in long clips, some frames have none."""
COUNTED_BYTES = 4 << 20  # between two counts of what a page holds
CLIPS_UNAVAILABLE = 'clips require packages that are not installed: pip install "scrfd-trt[video]"'
OUTPUT_SUFFIXES = {".mov": ".mov", ".webm": ".mkv", ".mkv": ".mkv", ".avi": ".mkv"}
"""Containers that take H.264 and the clip's own audio; MP4 for all others."""
TOLERANCE = 2e-3  # seconds by which a time that the page names may be earlier than its frame
FACE_BYTES = 300
SAME_FACE = 0.3  # overlap from which two boxes in a frame may be of one person
REPORT_SECONDS = 0.2  # between two reports of progress
MAX_COVERS = 500
MAX_LONGER = 10  # frames by which a track of another search may be longer than the one that stays visible
AROUND = 0.45  # shown around a face, as a share of its longer side


class Proxies:
    """Small pictures of a clip's frames, in one file. Thread-safe."""

    def __init__(self, path: Path, frames: int | None) -> None:
        self._total = frames
        self._file = path.open("w+b")
        self._lock = threading.Lock()
        self._places: list[tuple[int, int]] = []  # offset and size
        self._times: list[float] = []
        self.numbers: list[int] = []  # frames that are stored
        self.is_full = False
        self.size = 0

    def add(self, frame: Frame) -> None:
        """Store a frame, unless it is stored already, or the pictures take more than their share."""
        allowed = STORED_BYTES * (frame.number / self._total if self._total else 1.0)
        if self.numbers and (self.is_full or frame.number <= self.numbers[-1] or self.size > FIRST_BYTES + allowed):
            return
        content = jpeg(frame.image, SIDE, QUALITY)
        with self._lock:
            if self._file.closed:
                raise ClosedError("the clip was closed")
            self._file.seek(self.size)
            try:
                self._file.write(content)
            except OSError as error:
                raise ImageError(f"temporary files cannot be written: {error.strerror}") from error
            self._places.append((self.size, len(content)))
            self._times.append(frame.pts_seconds)
            self.numbers.append(frame.number)
            self.size += len(content)

    def at(self, seconds: float) -> tuple[int, bytes]:
        """Return the number of the last stored frame up to a time, else of the first one, and its JPEG."""
        with self._lock:
            if not self._places or self._file.closed:
                raise ImageError("the first picture of the clip is not ready yet")
            index = max(0, bisect_right(self._times, seconds + TOLERANCE) - 1)
            offset, size = self._places[index]
            self._file.seek(offset)
            return self.numbers[index], self._file.read(size)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._file.close()


@dataclass(frozen=True, eq=False)
class Edits:
    """What a person has changed: the track of each face, which tracks are not covered, and covers by hand."""

    tracks: NDArray[np.int64]  # of all faces of all frames
    dropped: frozenset[int] = frozenset()  # by the second look
    visible: frozenset[int] = frozenset()
    covers: Mapping[int, Cover] = field(default_factory=dict)


class Faces:
    """All faces of a clip, and the edits of them."""

    def __init__(self, header: Header, frames: Iterable[FrameFaces]) -> None:
        self._frames = list(frames)
        self.header = header
        self.times = [frame.pts_seconds for frame in self._frames]
        self.starts = np.cumsum([0, *(len(frame) for frame in self._frames)])
        none = FrameFaces(0, 0.0)
        tracks, self._boxes, self._scores, self._origins = (
            np.concatenate([getattr(frame, name) for frame in (none, *self._frames)])
            for name in ("track_ids", "boxes", "scores", "origins")
        )
        self._numbers = np.repeat(np.arange(len(self._frames)), np.diff(self.starts))  # of the frames
        self.history = History(Edits(tracks, frozenset(header.dropped)))
        self._next_cover = 1

    @property
    def edits(self) -> Edits:
        return self.history.now

    @property
    def nbytes(self) -> int:
        """About the bytes in memory."""
        return len(self._numbers) * FACE_BYTES

    def header_of(self, now: Edits) -> Header:
        covers = tuple(now.covers.values())
        more = {"dropped": tuple(sorted(now.dropped)), "visible": tuple(sorted(now.visible)), "covers": covers}
        return self.header.model_copy(update=more)

    def write(self, path: Path, name: str, now: Edits) -> None:
        """Write the faces file with edits, of a video with a name."""
        frames = (self.frame(number, now) for number in range(len(self._frames)))
        write_faces(path, self.header_of(now).model_copy(update={"video": name}), frames)

    def frame(self, number: int, edits: Edits | None = None) -> FrameFaces:
        """Return all faces of a frame, with their edited tracks."""
        tracks = (edits or self.edits).tracks[self.starts[number] : self.starts[number + 1]]
        return replace(self._frames[number], track_ids=tracks)

    def covered(self, number: int) -> FrameFaces:
        """Return the faces of a frame that are covered."""
        frame, now = self.frame(number), self.edits
        hidden = ~np.isin(frame.track_ids, [*now.visible, *now.dropped])
        return add_covers(frame[hidden], now.covers.values())

    def shown(self, number: int) -> list[dict[str, Any]]:
        """Return all faces of a frame as the page gets them."""
        frame, now = self.frame(number), self.edits
        faces = [
            {
                "track": face.track,
                "cover": None,
                "box": np.round(face.box, 1).tolist(),
                "score": round(face.score, 3),
                "visible": face.track in now.visible or face.track in now.dropped,
                "origin": face.origin,
            }
            for face in frame
        ]
        for key, cover in now.covers.items():
            if (box := cover.box_at(frame.pts_seconds)) is not None:
                drawn = {"track": None, "cover": key, "box": np.round(box, 1).tolist(), "score": None}
                faces.append({**drawn, "visible": False, "origin": "by hand"})
        return faces

    def edit(self, operation: Operation) -> None:
        """Apply an edit; raise OptionError if it is not possible."""
        self.history.apply(
            operation,
            {
                "visible": self._set_visible,
                "merge": self._merge,
                "split": self._split,
                **dict.fromkeys(("add", "move", "remove"), self._change_covers),
            },
        )

    def _known(self, tracks: Iterable[int], least: int) -> list[int]:
        chosen = list(dict.fromkeys(tracks))
        known = set(np.unique(self.edits.tracks).tolist())
        if missing := [track for track in chosen if track not in known]:
            raise OptionError(f"there is no track {missing[0]}")
        if len(chosen) < least:
            raise OptionError(f"choose {'a track' if least == 1 else 'two or more tracks'}")
        return chosen

    def _set_visible(self, operation: Operation) -> Edits:
        now, chosen = self.edits, frozenset(self._known(operation.tracks, 1))
        if not operation.visible:
            return replace(now, visible=now.visible - chosen, dropped=now.dropped - chosen)
        dropped = chosen & self.history.first.dropped
        return replace(now, visible=now.visible | (chosen - dropped), dropped=now.dropped | dropped)

    def _merge(self, operation: Operation) -> Edits:
        now, chosen = self.edits, self._known(operation.tracks, 2)
        is_own = np.isin(now.tracks, chosen) & (self._origins == "detected")
        for number in np.flatnonzero(np.bincount(self._numbers[is_own]) > 1):
            rows = np.flatnonzero(is_own & (self._numbers == number))
            if pairwise_iou(self._boxes[rows], self._boxes[rows]).min() < SAME_FACE:
                first, second = sorted(now.tracks[rows].tolist())[:2]
                at = format_time(self.times[number])
                raise OptionError(f"tracks {first} and {second} are two people: both are in the picture at {at}")
        kept = min(chosen)
        hidden = frozenset(chosen) - now.visible - now.dropped
        shown = frozenset({kept} if not hidden and now.visible & frozenset(chosen) else ())
        dropped = frozenset({kept} if not hidden and not shown else ())
        return replace(
            now,
            tracks=np.where(np.isin(now.tracks, chosen), kept, now.tracks),
            visible=(now.visible - frozenset(chosen)) | shown,
            dropped=(now.dropped - frozenset(chosen)) | dropped,
        )

    def _split(self, operation: Operation) -> Edits:
        now, (track,) = self.edits, self._known([operation.track], 1)
        first = bisect_right(self.times, operation.t - TOLERANCE)  # the frame at this time, or the next one
        is_own = now.tracks == track
        is_later = is_own & (self._numbers >= first)
        if not is_later.any() or is_later.sum() == is_own.sum():
            raise OptionError(f"track {track} has no faces on both sides of {format_time(operation.t)}")
        number = int(now.tracks.max()) + 1
        named = {name: getattr(now, name) for name in ("visible", "dropped")}
        more = {name: tracks | {number} if track in tracks else tracks for name, tracks in named.items()}
        return replace(now, tracks=np.where(is_later, number, now.tracks), **more)

    def _cover(self, operation: Operation) -> Cover:
        places = {place.t: place.box for place in sorted(operation.places, key=lambda place: place.t)}
        if not places:
            raise OptionError("draw the face at two moments or more")
        if len(places) == 1:  # only in this frame
            ((seconds, box),) = places.items()
            places = {max(0.0, seconds - SLACK / 10): box, seconds + SLACK / 10: box}
        cover = Cover(boxes=tuple(places.values()), pts_seconds=tuple(places))
        check_covers([cover], self.header.size)
        return cover

    def _change_covers(self, operation: Operation) -> Edits:
        covers, key, op = dict(self.edits.covers), operation.cover, operation.op
        if op == "add":
            key = self._next_cover
            if len(covers) >= MAX_COVERS:
                raise OptionError(f"at most {MAX_COVERS} faces can be drawn")
        elif key not in covers:
            raise OptionError("this drawn face is gone")
        if op == "remove":
            del covers[key]
        else:
            covers[key] = self._cover(operation)
        self._next_cover += op == "add"
        return replace(self.edits, covers=covers)

    def adopt(self, before: Faces) -> None:
        """Take over the covers by hand of another search, and what its visible tracks show."""
        visible: set[int] = set()
        for track in before.edits.visible:
            row, seen = before._best_row(track), before._numbers[before.edits.tracks == track]
            frame = self.frame(max(bisect_right(self.times, before.times[before._numbers[row]] + TOLERANCE) - 1, 0))
            for face in frame[pairwise_iou(before._boxes[row][None], frame.boxes)[0] > SAME_FACE]:
                own = self._numbers[self.edits.tracks == face.track]
                is_longer = own.min() < seen.min() - MAX_LONGER or own.max() > seen.max() + MAX_LONGER
                if not is_longer:  # it may be merged with others
                    visible.add(face.track)
        covers, self._next_cover = before.edits.covers, before._next_cover
        if visible or covers:
            first = self.history.first
            self.history = History(first, replace(first, visible=frozenset(visible), covers=covers))

    def _best_row(self, track: int) -> int:
        """Return the row of a track's best face: high score, large, and detected."""
        rows = np.flatnonzero(self.edits.tracks == track)
        sides = np.maximum(self._boxes[rows, 2:] - self._boxes[rows, :2], 0.0)
        weight = np.where(self._origins[rows] == "detected", 1.0, 0.1)
        return int(rows[np.argmax(self._scores[rows] * np.sqrt(sides.prod(axis=1)) * weight)])

    def best(self, track: int) -> tuple[float, NDArray[np.float64]]:
        """Return time and box of a track's best face; raise OptionError if there is no such track."""
        row = self._best_row(self._known([track], 1)[0])
        return self.times[self._numbers[row]], self._boxes[row]

    def timeline(self) -> dict[str, Any]:
        """Return tracks, moments to review and covers as the page gets them."""
        moments = self.moments()
        doubtful = {moment["track"] for moment in moments}
        tracks = [self._lane(track, track in doubtful) for track in np.unique(self.edits.tracks).tolist()]
        tracks.sort(key=lambda lane: (lane["dropped"], lane["spans"][0][0], lane["id"]))
        covers = [
            {"id": key, "places": [{"t": t, "box": box} for t, box in zip(cover.pts_seconds, cover.boxes, strict=True)]}
            for key, cover in self.edits.covers.items()
        ]
        return {"times": self.times, "tracks": tracks, "moments": moments, "covers": covers}

    def _lane(self, track: int, doubtful: bool) -> dict[str, Any]:
        rows = np.flatnonzero(self.edits.tracks == track)
        row, now = self._best_row(track), self.edits
        spans = self._spans(self._numbers[rows])
        return {
            "id": track,
            "score": round(float(self._scores[rows].max()), 3),
            "spans": spans,
            "gaps": [[one[1], other[0]] for one, other in pairwise(spans)],
            "filled": self._spans(self._numbers[rows[self._origins[rows] == "interpolated"]]),
            "visible": track in now.visible or track in now.dropped,
            "dropped": track in now.dropped,
            "doubtful": doubtful,
            "best": {"t": self.times[self._numbers[row]], "box": np.round(self._boxes[row], 1).tolist()},
        }

    def _spans(self, numbers: NDArray[np.int64]) -> list[list[float]]:
        """Return the times of runs of frames: those of the first and of the last frame."""
        frames = np.unique(numbers)
        if not len(frames):
            return []
        runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
        return [[self.times[run[0]], self.times[run[-1]]] for run in runs]

    def moments(self) -> list[dict[str, Any]]:
        """Return the moments to review, those of the report of ``anonymize``, in order of time."""
        hidden, covers = ~np.isin(self.edits.tracks, list(self.edits.visible)), self.edits.covers.values()
        parts = (hidden[start:end] for start, end in pairwise(self.starts))
        every = map(self.frame, range(len(self._frames)))
        frames = (frame if part.all() else frame[part] for frame, part in zip(every, parts, strict=True))
        summary = summarize_frames(self.header_of(self.edits), (add_covers(frame, covers) for frame in frames))
        moments = [
            _moment(track.first.pts_seconds, track.last.pts_seconds, "dropped", number, low_score(track))
            | {"t": track.best_pts_seconds, "box": np.round(track.best.box, 1).tolist()}
            for number, track in list(summary.dropped.items())[:MAX_DROPPED]
        ]
        moments += [
            _moment(one.start, one.end, one.doubt, one.track, doubt_text(one))
            | {"t": one.shown[0], "box": [round(side, 1) for side in one.shown[1]]}
            for one in summary.moments_to_review(MAX_SHOWN)
        ]
        moments += [_moment(*gap, "missing", None, "frames are missing") for gap in summary.gaps()]
        return sorted(moments, key=lambda moment: (moment["t0"], moment["t1"], moment["track"] or 0))


def _moment(start: float, end: float, kind: str, track: int | None, text: str) -> dict[str, Any]:
    if kind == "dropped":
        text = f"not covered, since a second look found no face: {text}"
    return {"t0": start, "t1": end, "kind": kind, "track": track, "text": text, "t": start, "box": None}


class Clip(Item):
    """A clip of a page; its faces are searched by :meth:`look`."""

    kind = "clip"

    def __init__(self, session: Session, key: str, name: str, path: Path, settings: Settings) -> None:
        if not can_use_clips():
            raise MissingDependencyError(CLIPS_UNAVAILABLE)
        super().__init__(session, key, name, settings)
        self.path = path
        self.state, self._step = "looking", "Waiting"
        self._looking = threading.Lock()
        self._lost = self._counted = 0  # frames, and bytes
        self._search = 0  # counts changes of what is searched
        self._faces: Faces | None = None
        self._timeline: tuple[Edits, dict[str, Any]] | None = None
        try:
            with VideoReader(path, damaged="keep") as reader:
                self.info_of_video = info = reader.info
        except VideoError as error:
            raise ImageError(f"{name} cannot be opened as a clip: {error.reason}") from error
        self.size = info.size
        if self.size[0] * self.size[1] > MAX_PIXELS:
            raise ImageError(f"{name} has more than {MAX_PIXELS // MILLION} million pixels: use a smaller one")
        self._proxies = Proxies(path.with_name("frames.jpegs"), info.frames)

    @property
    def nbytes(self) -> int:
        """Bytes of the clip and of the small pictures, on disk, and of the faces in memory."""
        file = self.path.stat().st_size if self.path.exists() else 0
        return file + self._proxies.size + (0 if self._faces is None else self._faces.nbytes)

    def _counts(self) -> dict[str, Any]:
        if self._faces is None or self.state != "ready":
            return {"faces": 0, "doubts": 0, "can_undo": False, "can_redo": False}
        shown = self._current()
        faces = len(shown["tracks"]) + len(shown["covers"])
        return {"faces": faces, "doubts": len(shown["moments"]), **self._faces.history.info()}

    def _notes(self) -> list[str]:
        return [f"{self._lost} frames of this file are damaged or missing."] if self._lost else []

    def set_settings(self, settings: Settings) -> bool:
        """Replace the settings; return whether faces have to be searched again."""
        with self._lock:
            again = settings.search != self.settings.search
            self.settings, self.version = settings, self.version + 1
            if again:
                self._search += 1
                self.reviewed = False
                self._report("looking", "Waiting")
        return again

    def look(self) -> bool:
        """Search the clip; return False, since no other look follows."""
        with self._looking:
            if self.closed or self.state == "ready":
                return False
            search, faces_file = self._search, self.path.with_name(f"found{FACES_SUFFIX}")
            settings, detector = self.settings, self.session.detector
            looks, told = Looks(settings.small_faces, settings.rotations, gflops(self.session.model)), 0.0

            def check() -> None:
                self._check_open()
                if self._search != search:
                    raise ClosedError("the settings have changed")

            def progress(_: str, done: int, total: int | None) -> None:
                nonlocal told
                check()
                if time.monotonic() - told > REPORT_SECONDS:
                    told = time.monotonic()
                    of = f" of {total:,}" if total else ""
                    self._report("looking", f"Finding faces: frame {done:,}{of}", done / total if total else None)

            def watch(frame: Frame) -> None:
                check()
                self._proxies.add(frame)
                self._count(COUNTED_BYTES)

            low = min(float(TrackingOptions.model_fields["low"].default), settings.score)
            summary = detect_video(
                self.path,
                faces_file,
                looks.for_video(detector, self.size),
                tracking=TrackingOptions(threshold=settings.score, low=low),
                overwrite=True,
                damaged="keep",
                progress=progress,
                watch=watch,
            )
            with FacesReader(faces_file) as file:
                found = Faces(file.header, file)
            with self._lock:
                check()
                if self._faces is not None:
                    found.adopt(self._faces)
                self._lost = summary.lost
                self._faces = found
                self._current()  # on this thread
                self._count()
                self.version += 1
                self._report("ready")
        return False

    def _count(self, least: int = 0) -> None:
        """Count what the clip takes; where the page has no room left, the other frames get no small pictures."""
        if self._proxies.size - self._counted >= least:
            self._counted = self._proxies.size
            try:
                self.session.hold()
            except ImageError:
                self._proxies.is_full = True

    def fail(self, reason: str) -> None:
        """Note why the clip cannot be searched."""
        super().fail(reason.replace(str(self.path), self.name))

    def _ready(self) -> Faces:
        if self._faces is None or self.state != "ready":
            raise ImageError("the faces of this clip are not known yet")
        return self._faces

    def _current(self) -> dict[str, Any]:
        """Return the timeline, which is made anew after each edit."""
        known, faces = self._timeline, self._faces
        assert faces is not None  # noqa: S101 - for mypy
        if known is None or known[0] is not faces.edits:
            known = self._timeline = faces.edits, faces.timeline()
        return known[1]

    def timeline(self) -> dict[str, Any]:
        """Return the times of all frames, tracks, moments to review and covers."""
        faces = self._ready()
        rate = float(self.info_of_video.rate)
        duration = max(self.info_of_video.duration or 0.0, faces.times[-1] + 1 / rate if faces.times else 0.0)
        return {"version": self.version, "duration": duration, "frame_rate": rate, **self._current()}

    def _edit(self, operation: Operation) -> dict[str, Any]:
        faces = self._ready()
        faces.edit(operation)
        self.version += 1
        return {"version": self.version, "timeline": self.timeline(), **faces.history.info()}

    def frame(self, seconds: float, covered: bool, side: int | None = None) -> bytes:
        """Return the stored frame at a time as JPEG; covered, as far as its faces are known."""
        number, content = self._proxies.at(seconds)
        if not covered:
            if side is None or side >= min(SIDE, max(self.size)):
                return content
            return jpeg(_decoded(content), side, QUALITY)
        faces, image = self._ready().covered(number), _decoded(content)
        if len(faces):
            image = np.asarray(self.session.overlay(self.settings)(image, self._small(faces, image)), np.uint8)
        return jpeg(image, side, QUALITY)

    def _small(self, faces: FrameFaces, image: Image) -> Any:
        """Return faces in pixels of a small picture."""
        scale = np.array(image.shape[1::-1]) / self.size
        landmarks = None if faces.landmarks is None else faces.landmarks * scale
        boxes = faces.boxes * np.tile(scale, 2)
        return replace(faces, boxes=boxes, landmarks=landmarks)._detections(image.shape[1::-1])

    def frame_faces(self, seconds: float) -> list[dict[str, Any]]:
        """Return all faces of the stored frame at a time."""
        return self._ready().shown(self._proxies.at(seconds)[0])

    def track_face(self, track: int, side: int) -> bytes:
        """Return the best face of a track as a square JPEG."""
        seconds, box = self._ready().best(track)
        image = _decoded(self._proxies.at(seconds)[1])
        crop, _ = face_crop(image, box * np.tile(np.array(image.shape[1::-1]) / self.size, 2), AROUND)
        way = cv2.INTER_AREA if len(crop) > side else cv2.INTER_CUBIC
        return jpeg(np.asarray(cv2.resize(crop, (side, side), interpolation=way), np.uint8))

    def thumbnail(self, overlay: str | None, side: int) -> bytes:
        """Return a small covered picture, or an overlay on the best face, or on a drawn one if there is none."""
        is_ready = self.state == "ready"
        tracks = self._current()["tracks"] if is_ready else ()
        best = max(tracks, key=lambda lane: (not lane["dropped"], lane["score"]), default=None)
        if overlay is None:
            return self.frame(best["best"]["t"] if best else 0.0, is_ready, side)
        if best is None:
            return jpeg(drawn_sample(overlay, side))
        number, content = self._proxies.at(best["best"]["t"])
        image, faces = _decoded(content), self._ready().frame(number)
        faces = faces[faces.track_ids == best["id"]]
        return jpeg(
            draw_sample(overlay, image, self._small(faces, image), side) if len(faces) else drawn_sample(overlay, side)
        )

    @property
    def _suffix(self) -> str:
        return OUTPUT_SUFFIXES.get(Path(self.name).suffix.lower(), ".mp4")

    def write(self, folder: Path, progress: Progress, *, faces_file: bool) -> list[tuple[str, Path]]:
        """Write the covered clip with its sound, on request with its faces file; errors of ``progress`` stop it."""
        with self._lock:
            name, overlay, faces = self.output_name, self.session.overlay(self.settings), self._ready()
            edits = faces.edits
        path, drawn = folder / f"result{Path(name).suffix}", folder / f"drawn{FACES_SUFFIX}"
        faces.write(drawn, self.name, edits)

        def report(_: str, done: int, total: int | None) -> None:
            self._check_open()
            progress(done, total, f"frame {done:,}" + (f" of {total:,}" if total else ""))

        try:
            render_video(self.path, path, drawn, overlay, overwrite=True, damaged="keep", progress=report)
        except VideoError as error:  # it names the temporary file
            raise VideoError(error.reason, subject=self.name) from error
        if faces_file:
            return [(name, path), (self.faces_name, drawn)]
        drawn.unlink()
        return [(name, path)]

    def write_faces(self, path: Path) -> None:
        """Write the faces file with all edits."""
        faces = self._ready()
        faces.write(path, self.name, faces.edits)

    def code(self) -> tuple[str, str]:
        """Return the command line and the program that make the result; with a faces file, where options cannot."""
        faces, settings, name = self._ready(), self.settings, self.name
        layers, model, hides = self.session.layers(settings), self.session.model, self.settings.mode == "hide"
        file = self.faces_name if faces.edits is not faces.history.first or settings.small_faces != hides else ""
        damaged = ["--damaged", "keep"] if self._lost else []
        line = command(name, settings, layers, model, faces=file, output=self.output_name)
        keep = ", damaged='keep'" if self._lost else ""
        if file:
            imports = ["from scrfd_trt.video import render_video"]
            calls = [f"render_video({name!r}, {self.output_name!r}, {file!r}, draw{keep})"]
        else:
            found = {key: value for key, value in faces.header.detector_options.items() if value}
            opened = open_detector(model, *(f"{key}={value!r}" for key, value in found.items()))
            options = ", ".join(f"{key}={faces.header.tracking[key]:g}" for key in ("threshold", "low"))
            imports = [
                "from scrfd_trt import SCRFDDetector",
                "from scrfd_trt.video import TrackingOptions, overlay_video",
            ]
            calls = [
                f"tracking = TrackingOptions({options})",
                f"with {opened} as detector:",
                f"    overlay_video({name!r}, {self.output_name!r}, detector, draw, tracking=tracking{keep})",
            ]
        lines = ["import overlays", *imports, "", *draw_lines(layers), *calls]
        return f"{line} {wrap_command(damaged)}".strip(), "\n".join(lines) + "\n"

    def close(self) -> None:
        """Stop what works on the clip, and delete its files."""
        self.closed = True
        self._proxies.close()
        self.session.files.delete(self.path)


def _decoded(content: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), np.uint8)
