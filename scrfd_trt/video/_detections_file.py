"""Detections files: the faces of a video as JSON lines, a header and then one frame per line."""

from __future__ import annotations

import codecs
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from math import inf
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from typing_extensions import NotRequired, TypedDict

from scrfd_trt._files import atomic_file, atomic_path, check_not_input, output_errors, user_path
from scrfd_trt._jobs.profile import measured
from scrfd_trt._option_names import explained_options
from scrfd_trt._options import reason
from scrfd_trt._tracking.faces import FrameFaces, Origin
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt.errors import ClosedError, DetectionsError
from scrfd_trt.video._reader import Source, VideoInfo
from scrfd_trt.video._selection import (
    ALWAYS,
    Cover,
    Span,
    TrackSelection,
    add_covers,
    check_covers,
    check_tracks,
    format_spans,
    join_spans,
)

FACES_SUFFIX = ".faces.jsonl"
SAMPLE_BYTES = 1 << 16  # bytes that the fingerprint reads at the start, in the middle and at the end of a file

MAX_LINE = 1 << 26  # bytes, more than 100,000 faces
MAX_COORDINATE = 1e7
Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE, allow_inf_nan=False)]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
Landmarks = Annotated[tuple[tuple[Coordinate, Coordinate], ...] | None, Field(min_length=5, max_length=5)]
Side = Annotated[int, Field(ge=1, le=1_000_000)]
MAX_SECONDS = 1e12
Seconds = Annotated[float, Field(ge=-MAX_SECONDS, le=MAX_SECONDS, allow_inf_nan=False)]


REVERSED = "must be x1, y1, x2, y2, the smaller values first"
SHAPES = {
    "box": "must be four numbers: x1, y1, x2, y2",
    "landmarks": "must be null or five points, x and y each",
    "image_size": "must be width and height",
    "size": "must be width and height",
}
WRONG_SHAPES = ("missing", "too_long", "too_short", "tuple_type")
PLAIN_WORDS = {
    "missing": "it is required",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "list_type": "must be a list",
}


class Header(BaseModel, frozen=True):
    """The first line of a detections file."""

    format: Literal["scrfd_trt.faces"] = "scrfd_trt.faces"
    version: Literal[1] = 1
    video: str  # name without its folder
    size: tuple[Side, Side]  # width and height of the upright frames in pixels
    rate: float = Field(gt=0, le=1e9)  # average frames per second
    tracking: dict[str, Any] = Field(default_factory=dict)  # values of TrackingOptions
    fingerprint: str | None = None  # None if the video is not a single file
    spans: tuple[tuple[Seconds | None, Seconds | None], ...] | None = None
    """Times in which faces were detected, null for no start or no end; null for the whole video."""
    covers: tuple[Cover, ...] = ()  # places that a person covers
    min_face: float | None = None  # the detector's options
    rotations: tuple[int, ...] = ()
    dropped: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Tracks that are not covered, since a second look found no face in them."""
    visible: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Tracks that are not covered, since a person leaves them visible."""

    @field_validator("spans")
    @classmethod
    def _in_order(cls, spans: Any) -> Any:
        if any(None not in span and span[0] > span[1] for span in spans or ()):
            raise ValueError("a span ends before it starts")
        return spans

    @field_validator("covers")
    @classmethod
    def _in_picture(cls, covers: tuple[Cover, ...], info: ValidationInfo) -> tuple[Cover, ...]:
        check_covers(covers, info.data.get("size", (inf, inf)))
        return covers

    @field_validator("tracking")
    @classmethod
    def _known_options(cls, tracking: dict[str, Any]) -> dict[str, Any]:
        """Drop options of later versions, and validate the rest."""
        known = {name: tracking[name] for name in TrackingOptions.model_fields if name in tracking}
        return TrackingOptions(**known).model_dump()

    @property
    def detector_options(self) -> dict[str, Any]:
        """The options of the detector."""
        return {"min_face": self.min_face, "rotations": self.rotations}

    @property
    def detected_spans(self) -> tuple[Span, ...] | None:
        """Times in which faces were detected, with ``inf`` for no end; None for the whole video."""
        if self.spans is None:
            return None
        return join_spans((-inf if start is None else start, inf if end is None else end) for start, end in self.spans)


class FaceFields(BaseModel):
    """What detections files of videos and of images say of a face."""

    box: Box
    landmarks: Landmarks = None

    @field_validator("box")
    @classmethod
    def _not_reversed(cls, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        if box[0] > box[2] or box[1] > box[3]:
            raise ValueError(REVERSED)
        return box

    def why_invisible(self, size: tuple[int, int]) -> str:
        """Return why a box covers nothing of an image; empty if it does, or holds landmarks, as a detector's do."""
        x1, y1, x2, y2 = self.box
        if self.landmarks is not None:
            x, y = np.mean(self.landmarks, axis=0)
            if x1 <= x <= x2 and y1 <= y <= y2 and max(self.box) > 1:
                return ""
        if min(x2 - x1, y2 - y1) < 1:
            return f"{list(self.box)} is smaller than 1 pixel; boxes are in pixels of the image, not in fractions"
        if x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]:
            return f"{list(self.box)} lies outside of the image of {size[0]}×{size[1]} pixels"
        return ""


# Dictionaries are read in half the time of models; pydantic wants those of typing_extensions, which it requires.
_Face = TypedDict(
    "_Face",
    {
        "track": Annotated[int, Field(ge=0, lt=1 << 63)],
        "box": Box,
        "score": Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)],
        "landmarks": NotRequired[Landmarks],
        "from": NotRequired[Origin],
    },
)


class _Frame(TypedDict):
    frame: Annotated[int, Field(ge=0)]
    pts_seconds: Seconds
    cut: NotRequired[bool]
    faces: NotRequired[list[_Face]]


_FRAME: TypeAdapter[_Frame] = TypeAdapter(_Frame)
MISSING_LANDMARKS = ((np.nan, np.nan),) * 5


@explained_options
class FacesWriter:
    """Write the faces of a video; the file exists once the block has ended without an error.

    Parameters
    ----------
    path
        The file; its folder must exist.
    info, options
        Properties of the video, and the tracking options that were used.
    spans
        Start and end, in seconds, of the parts of the video in which faces are detected; None for the whole video.
    covers
        Places that are covered by hand; readers add them to the faces of each frame.
    min_face, rotations
        As in :class:`scrfd_trt.DetectorOptions`.
    overwrite
        Whether an existing file may be replaced.

    Attributes
    ----------
    dropped
        Tracks that the file states not to be faces; set before the block ends.

    Raises
    ------
    OptionError
        If the file exists already.
    OutputError
        If it cannot be written.
    """

    def __init__(
        self,
        path: Source,
        info: VideoInfo,
        options: TrackingOptions | None = None,
        *,
        spans: Iterable[Span] | None = None,
        covers: Iterable[Cover] = (),
        min_face: float | None = None,
        rotations: Iterable[int] = (),
        overwrite: bool = False,
    ) -> None:
        self.path, covers = Path(path), tuple(covers)
        check_not_input(path, info.name)
        check_covers(covers, info.size)
        header = Header(
            video=os.fsencode(Path(info.name).name).decode("utf-8", "replace"),
            size=info.size,
            rate=float(info.rate),
            tracking=(options or TrackingOptions()).model_dump(),
            fingerprint=fingerprint(info.name),
            spans=None if spans is None else [_finite(span) for span in spans],
            covers=covers,
            min_face=min_face,
            rotations=tuple(rotations),
        )
        with ExitStack() as stack:
            part = stack.enter_context(atomic_path(self.path, overwrite=overwrite))
            with output_errors(self.path):
                self._file = part.open("wb")
            stack.callback(self._close)
            self.dropped: Collection[int] = ()
            self._write_line(_header_line(header))
            self._stack = stack.pop_all()

    def write(self, frame: FrameFaces) -> None:
        """Write the faces of the next frame; raise ``OutputError`` if that fails."""
        with measured("write"):
            self._write_line(_frame_line(frame))

    def _write_line(self, line: Mapping[str, Any]) -> None:
        with output_errors(self.path):
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _close(self) -> None:
        with output_errors(self.path):
            self._file.close()

    def _state_dropped(self) -> None:
        """Write the file again, with the dropped tracks in the first line."""
        self._close()
        part = Path(self._file.name)
        with (
            output_errors(self.path),
            atomic_path(part, overwrite=True) as other,
            part.open("rb") as lines,
            other.open("wb") as copy,
        ):
            header = orjson.loads(next(lines)) | {"dropped": sorted(self.dropped)}
            copy.write(orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE))
            shutil.copyfileobj(lines, copy, SAMPLE_BYTES)

    def __enter__(self) -> FacesWriter:
        return self

    def __exit__(self, *exception: Any) -> None:
        if not self.dropped or exception[0] is not None:
            self._stack.__exit__(*exception)
            return
        with self._stack.pop_all():
            self._state_dropped()


def add_faces(path: Path, faces: Mapping[int, FrameFaces]) -> None:
    """Add faces to a file, by the numbers of their frames."""
    with atomic_file(path, overwrite=True) as copy, path.open("rb") as file:
        for _, text in read_lines(file, path, "frame"):
            line = orjson.loads(text)
            if (more := faces.get(line.get("frame", -1))) is not None:
                line["faces"] = [*line.get("faces", []), *_as_dicts(more)]
                text = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)  # noqa: PLW2901
            copy.write(text)


def write_faces(path: Path, header: Header, frames: Iterable[FrameFaces]) -> None:
    """Write a file anew from the header and the frames of another one; covers are in the header only."""
    with output_errors(path), atomic_file(path, overwrite=True) as file:
        for line in chain([_header_line(header)], map(_frame_line, frames)):
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def open_lines(path: Path) -> BinaryIO:
    """Open a file of JSON lines; raise DetectionsError if that fails."""
    try:
        if path.is_file() or not path.exists():  # it may be read twice, which a pipe does not allow
            return path.open("rb")
    except (OSError, ValueError) as error:
        raise DetectionsError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    raise DetectionsError(f"{path} cannot be read: it is not a regular file")


def read_lines(file: BinaryIO, path: Path, item: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers from 1; ``item`` is what a line holds."""
    number = 0
    try:
        while text := file.readline(MAX_LINE + 1):
            number += 1
            if len(text) > MAX_LINE:
                raise DetectionsError(f"{path}, line {number}: more than {MAX_LINE >> 20} MiB; write one {item} a line")
            text = text.removeprefix(codecs.BOM_UTF8) if number == 1 else text
            if text.strip():
                yield number, text
    except OSError as error:
        raise DetectionsError(f"{path}, after line {number}: {error.strerror or error}") from error


@explained_options
class FacesReader:
    """Read a file of :class:`FacesWriter`, or one in the same format, frame by frame; ``header`` is its first line.

    Raises
    ------
    DetectionsError
        If the file cannot be read, or is not a detections file.
    """

    def __init__(self, path: Source) -> None:
        self.path = user_path(Path(path))
        self._file = open_lines(self.path)
        try:
            number, text = next(self._lines(), (1, b""))
            self.header: Header = self._parse(Header.model_validate_json, text, number)
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[FrameFaces]:
        """Read all frames; raise ``DetectionsError`` for a line that is not a frame, or not the next one."""
        if self._file.closed:
            raise ClosedError("the detections file was closed; open it again")
        lines = self._lines()
        next(lines, None)
        for expected, (number, text) in enumerate(lines):
            with measured("read"):
                line: _Frame = self._parse(_FRAME.validate_json, text, number)
                frame = _columns(line)
            if frame.number != expected:
                raise DetectionsError(f"{self.path}, line {number}: expected frame {expected}, not {frame.number}")
            for face, why in _wrong_boxes(frame.boxes, line.get("faces", []), self.header.size):
                raise DetectionsError(f"{self.path}, line {number}, face {face + 1}, box: {why}")
            yield add_covers(frame, self.header.covers)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        return read_lines(self._file, self.path, "frame")

    def _parse(self, validate: Callable[[bytes], Any], text: bytes, number: int) -> Any:
        try:
            return validate(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if validate == _FRAME.validate_json or first["loc"][:1] in (("tracking",), ("covers",)):
                raise DetectionsError(f"{self.path}, line {number}{problem(first)}") from error
            where = "".join(f", {part}" for part in first["loc"])
            of_images = b'"image"' in text and b'"faces"' in text
            what = "a detections file of images, not of a video" if of_images else "not a detections file"
            raise DetectionsError(
                f"{self.path}, line {number}{'' if of_images else where}: this is {what}; detect_video() writes one",
                fields=["faces_file"],
            ) from error

    def check(self, info: VideoInfo) -> None:
        """Raise ``DetectionsError`` if the faces belong to another video, by its size and the hash of its file."""
        advice = "name the video that they were detected in, or detect its faces again"
        if self.header.size != info.size:
            (width, height), (own_width, own_height) = self.header.size, info.size
            raise DetectionsError(
                f"{self.path}: the faces belong to another video, of {width}×{height}; {info.name} has "
                f"{own_width}×{own_height}: {advice}"
            )
        own = None if self.header.fingerprint is None else fingerprint(info.name)
        if own not in (None, self.header.fingerprint):
            raise DetectionsError(
                f"{self.path}: the faces belong to another video, {self.header.video} as it was; {info.name} is "
                f"another file: {advice}"
            )

    def covered(self, selection: TrackSelection) -> Iterator[tuple[FrameFaces, FrameFaces]]:
        """Yield the faces of each frame, and those that are covered, with all covers by hand."""
        chosen = selection.resolve_regions(self, self.header.size)
        visible = chosen.except_tracks | (frozenset(self.header.visible) - chosen.only_tracks)
        chosen = chosen.model_copy(
            update={"drop_tracks": chosen.drop_tracks | self.dropped(selection), "except_tracks": visible}
        )
        covers = [cover for cover in chosen.covers if cover not in self.header.covers]
        for frame in self:
            yield frame, add_covers(chosen.apply(frame), covers, len(self.header.covers))

    def check_selection(self, selection: TrackSelection) -> None:
        """Raise ``DetectionsError`` if faces would be covered at times in which none were detected.

        Raises ``OptionError`` for a track that does not exist, and a cover outside of the frames.
        """
        if selection.selected_tracks:
            check_tracks(selection, {int(track) for frame in self for track in frame.track_ids}, self.path)
        check_covers(selection.covers, self.header.size)
        detected, covered = self.header.detected_spans, selection.covered_spans
        by_hand = [cover.span for cover in (*selection.covers, *self.header.covers)]
        covered = join_spans([*(ALWAYS if covered is None else covered), *by_hand])
        if detected is None or all(any(a <= start and end <= b for a, b in detected) for start, end in covered):
            return
        raise DetectionsError(
            f"{self.path}: faces were detected only {format_spans(detected)}; cover those times only, or detect "
            "the faces of the whole video",
            fields=["only_spans"],
        )

    def dropped(self, selection: TrackSelection) -> frozenset[int]:
        """Return the tracks that a selection does not cover since a second look dropped them."""
        named = selection.only_tracks | selection.drop_tracks
        return frozenset() if selection.keep_doubtful else frozenset(self.header.dropped) - named

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> FacesReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def problem(item: Mapping[str, Any]) -> str:
    """Return place and reason of a pydantic error in a line, such as ``, face 1, box: must be four numbers``."""
    loc = list(item["loc"])
    places = [f"face {loc[1] + 1}"] if loc[:1] == ["faces"] and len(loc) > 1 else []
    names = [str(part) for part in (loc[2:] if places else loc) if isinstance(part, str)]
    place = "".join(f", {part}" for part in places + names)
    is_missing = item["type"] == "missing" and isinstance(loc[-1], str)
    if names and names[0] in SHAPES and item["type"] in WRONG_SHAPES and not is_missing:
        return f"{place}: {SHAPES[names[0]]}"
    return f"{place}: {PLAIN_WORDS.get(item['type']) or reason(item)}"


def _columns(line: _Frame) -> FrameFaces:
    faces = line.get("faces", [])
    points = [face.get("landmarks") or MISSING_LANDMARKS for face in faces]
    has_landmarks = not faces or any(each is not MISSING_LANDMARKS for each in points)
    numbers = chain.from_iterable
    return FrameFaces(
        line["frame"],
        line["pts_seconds"],
        line.get("cut", False),
        np.array([face["track"] for face in faces], np.int64),
        np.fromiter(numbers(face["box"] for face in faces), np.float64).reshape(-1, 4),
        np.array([face["score"] for face in faces], np.float64),
        np.fromiter(numbers(numbers(points)), np.float64).reshape(-1, 5, 2) if has_landmarks else None,
        np.array([face.get("from", "detected") for face in faces], "U12"),
    )


def _wrong_boxes(boxes: NDArray[np.float64], faces: list[_Face], size: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """Yield reversed boxes and those that cover nothing, with reasons; trackers may leave the frame."""
    low, high = boxes[:, :2], boxes[:, 2:]
    for index in np.flatnonzero((low > high).any(axis=1)).tolist():
        yield index, REVERSED
    for index in np.flatnonzero(((high - low < 1) | (high <= 0) | (low >= size)).any(axis=1)).tolist():
        face = faces[index]
        is_fraction = min(face["box"]) >= 0 and max(face["box"]) <= 1
        if "from" not in face or (face["from"] == "detected" and is_fraction):
            fields = FaceFields.model_construct(box=face["box"], landmarks=face.get("landmarks"))
            if why := fields.why_invisible(size):
                yield index, why


def _finite(span: Span) -> tuple[float | None, float | None]:
    start, end = (at if abs(at) < MAX_SECONDS else None for at in span)
    return start, end


def _header_line(header: Header) -> dict[str, Any]:
    defaults = {"spans": None, "covers": (), "min_face": None, "rotations": (), "dropped": (), "visible": ()}
    return header.model_dump(exclude={name for name, nothing in defaults.items() if getattr(header, name) == nothing})


def _frame_line(frame: FrameFaces) -> dict[str, Any]:
    line: dict[str, Any] = {"frame": frame.number, "pts_seconds": round(frame.pts_seconds, 6)}
    return line | ({"cut": True} if frame.cut else {}) | {"faces": _as_dicts(frame)}


def _as_dicts(frame: FrameFaces) -> list[dict[str, Any]]:
    points: list[Any] = [None] * len(frame)
    if frame.landmarks is not None:
        points = _rounded(frame.landmarks)
        for index in np.flatnonzero(np.isnan(frame.landmarks).any(axis=(1, 2))).tolist():
            points[index] = None
    numbers, scores, origins = frame.track_ids.tolist(), np.round(frame.scores, 4).tolist(), frame.origins.tolist()
    return [
        {"track": track, "box": box, "score": score, "landmarks": landmarks, "from": origin}
        for track, box, score, landmarks, origin in zip(
            numbers, _rounded(frame.boxes), scores, points, origins, strict=True
        )
    ]


def _rounded(coordinates: NDArray[np.float64]) -> list[Any]:
    rounded: list[Any] = np.round(np.clip(coordinates, -MAX_COORDINATE, MAX_COORDINATE), 2).tolist()
    return rounded


def fingerprint(name: str) -> str | None:
    """Return the size of a file and a hash of parts of it, ``12345-9f86d081884c7d65``; None if ``name`` is no file."""
    path = Path(name)
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for at in (0, size // 2, max(0, size - SAMPLE_BYTES)):
                file.seek(at)
                digest.update(file.read(SAMPLE_BYTES))
    except (OSError, ValueError):
        return None
    return f"{size}-{digest.hexdigest()[:16]}"
