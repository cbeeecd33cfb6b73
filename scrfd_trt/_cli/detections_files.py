"""Detections files: checks before any work, and what they contain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scrfd_trt._cli import outputs
from scrfd_trt._cli.inputs import Source, same_file_key
from scrfd_trt._cli.options import CopySettings, DetectionsFileArgs
from scrfd_trt._detections import Detections
from scrfd_trt._files import temporary_folder
from scrfd_trt.errors import DetectionsError, OptionError
from scrfd_trt.video import FacesReader
from scrfd_trt.video._detections_file import FACES_SUFFIX, FaceFields, Side, open_lines, problem, read_lines
from scrfd_trt.video._selection import missing_tracks

ADVICE = "'scrfd-trt detect PHOTO -o NAME.faces.jsonl' writes one"


class _Face(FaceFields):
    score: float = Field(1.0, ge=0.0, le=1.0, allow_inf_nan=False)  # added by hand, faces are certain
    track: int | None = Field(None, ge=0, lt=1 << 63)
    dropped: bool = False


class _Image(BaseModel):
    model_config = ConfigDict(extra="ignore")

    image_size: tuple[Side, Side]
    threshold: float | None = Field(None, ge=0.0, le=1.0)
    min_face: float | None = None
    rotations: tuple[int, ...] = ()
    page: int = Field(1, ge=1)
    faces: list[_Face]

    @property
    def sorted_faces(self) -> list[_Face]:
        """The faces, highest scores first."""
        return sorted(self.faces, key=lambda face: -face.score)

    def detections(self) -> Detections:
        """Return the faces, highest scores first; with track ids if all have a track."""
        faces = self.sorted_faces
        points = [face.landmarks for face in faces]
        tracks = [face.track for face in faces]
        return Detections(
            np.array([face.box for face in faces], np.float64).reshape(-1, 4),
            np.array([face.score for face in faces], np.float64),
            None if None in points else np.array(points, np.float64).reshape(-1, 5, 2),
            image_size=self.image_size,
            track_ids=None if None in tracks else np.array(tracks, np.int64),
        )


class _Entry(NamedTuple):
    line: int
    image: str
    faces: Detections | None
    error: str
    threshold: float | None = None
    dropped: Sequence[bool] = ()
    looks: tuple[bool, bool] = (False, False)  # whether it was detected with ``min_face`` and ``rotations``


class ImageFaces:
    """The faces in a detections file of images; raises DetectionsError if it is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[tuple[str, int], _Entry] = {}
        with open_lines(path) as file:
            entries = list(_read(path, read_lines(file, path, "image")))
        for entry, page in entries:
            before = self._entries.setdefault((same_file_key(Path(entry.image)), page), entry)
            if before is not entry:
                raise DetectionsError(
                    f"{path}, line {entry.line}: {entry.image} is in line {before.line} as well; delete one of them"
                )
        # The file may have moved together with its images, or detect ran in its folder.
        for entry, page in entries:
            self._entries.setdefault((same_file_key(path.parent / entry.image), page), entry)

    @property
    def threshold(self) -> float | None:
        """The highest threshold that faces were detected with; None if no line has one."""
        known = [entry.threshold for entry in self._entries.values() if entry.threshold is not None]
        return max(known, default=None)

    @property
    def looks(self) -> tuple[bool, bool]:
        """Whether all faces were detected with ``min_face``, and with ``rotations``."""
        known = [entry.looks for entry in self._entries.values() if entry.threshold is not None]
        return all(one for one, _ in known), all(other for _, other in known)

    @property
    def tracks(self) -> set[int]:
        """All track numbers."""
        known = (entry.faces for entry in self._entries.values())
        ids = (faces.track_ids for faces in known if faces is not None)
        return {number for one in ids if one is not None for number in one.tolist()}

    def find(self, source: Source, image: NDArray[np.uint8], page: int = 1) -> Detections:
        """Return the faces of an image; raise DetectionsError if there is no entry, or one of another image."""
        entry = self._entries.get((source.key, page))
        if entry is None:
            what = f"page {page} of this image" if page > 1 else "this image"
            raise DetectionsError(f"{self.path} has no faces of {what}, so it is not written; detect them first")
        if entry.faces is None:
            raise DetectionsError(f"{self.path}, line {entry.line}: no faces were detected: {entry.error}")
        size = (image.shape[1], image.shape[0])
        if entry.faces.image_size != size:
            (width, height), (own_width, own_height) = entry.faces.image_size, size
            raise DetectionsError(
                f"{self.path}, line {entry.line}: the faces belong to an image of {width}×{height}, and this one has "
                f"{own_width}×{own_height}; detect them again"
            )
        return entry.faces

    def dropped(self, source: Source, page: int = 1) -> NDArray[np.bool_]:
        """Return for each face of an image that :meth:`find` has returned whether a second look dropped it."""
        return np.array(self._entries[source.key, page].dropped, bool)


def _read(path: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[_Entry, int]]:
    """Yield the entries with their numbers of pages; the lines of videos between them are skipped."""
    found = False
    for number, text in lines:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DetectionsError(f"{path}, line {number}: this is not JSON: {error}; {ADVICE}") from error
        name = value.get("image") if isinstance(value, dict) else None
        if isinstance(name, str):
            found = True
            yield _entry(path, number, name, value)
        elif not found:
            is_video = isinstance(value, dict) and value.get("format") == "scrfd_trt.faces"
            what = "a detections file of a video" if is_video else "not a detections file of images"
            raise DetectionsError(f"{path}, line {number}: this is {what}; {ADVICE}")
        elif not (isinstance(value, dict) and {"format", "frame"} & value.keys()):
            raise DetectionsError(f'{path}, line {number}: there is no "image"; {ADVICE}')
    if not found:
        raise DetectionsError(f"{path}: the file is empty; {ADVICE}")


def _entry(path: Path, number: int, name: str, value: dict[str, Any]) -> tuple[_Entry, int]:
    if "error" in value and "faces" not in value:
        return _Entry(number, name, None, str(value["error"])), 1
    try:
        image = _Image.model_validate({key: value[key] for key in _Image.model_fields.keys() & value.keys()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DetectionsError(f"{path}, line {number}{problem(first)}") from error
    for count, face in enumerate(image.faces, 1):
        if why := face.why_invisible(image.image_size):
            raise DetectionsError(f"{path}, line {number}, face {count}, box: {why}")
    dropped = [face.dropped for face in image.sorted_faces]
    looks = image.min_face is not None, bool(image.rotations)
    return _Entry(number, name, image.detections(), "", image.threshold, dropped, looks), image.page


def check_inputs(
    settings: CopySettings, sources: Sequence[Source], targets: Mapping[Source, Path]
) -> ImageFaces | None:
    """Check detections files and selected tracks; return the faces of images, if they come from a file."""
    files, selection = settings.files, settings.selection
    has_videos = any(source.is_video for source in sources)
    if has_videos and len(sources) != 1:
        options = ("only_tracks", "except_tracks", "drop_tracks")
        given = {name: getattr(selection, name) for name in options} | vars(files)
        if name := next((name for name, value in given.items() if value), None):
            kinds = "images, or to a single video" if hasattr(files, name) else "a single video"
            raise OptionError(f"--{name.replace('_', '-')} applies to {kinds}; process the videos one by one")
    for source in sources:
        others = {"the input": source.path, "the output": targets.get(source)}
        check_files(files, others, overwrite=settings.overwrite)
    faces = None if files.detections is None or has_videos else ImageFaces(files.detections)
    if files.detections and has_videos:
        with FacesReader(files.detections) as reader:
            reader.check_selection(selection)
    if sources and not has_videos and any(cover.pts_seconds for cover in selection.covers):
        raise OptionError("photographs have no time; leave out what follows '@' in --cover")
    if faces is not None and (message := missing_tracks(selection, faces.tracks)):
        hint = "" if faces.tracks else '; put "track": 1 in each face to select it'
        raise OptionError(f"{files.detections}: {message}{hint}")
    return faces


def check_files(files: DetectionsFileArgs, others: Mapping[str, Path | None], *, overwrite: bool) -> None:
    """Raise OptionError if the file to save exists, has another suffix, or is one of ``others``, by their names."""
    target = files.save_detections
    if files.detections and target:
        raise OptionError("--detections and --save-detections exclude each other: the faces are already in a file")
    if target is None:
        return
    for name, other in others.items():
        if other is not None and same_file_key(other) == same_file_key(target):
            raise OptionError(f"--save-detections {target} is {name}; name another file, NAME{FACES_SUFFIX}")
    if target.suffix.lower() != ".jsonl":
        raise OptionError(
            f"--save-detections {target}: the format is JSON lines; name a file that ends in {FACES_SUFFIX}"
        )
    outputs.check_free(target, kind="text", overwrite=overwrite)


@contextmanager
def path_or_temporary(path: Path | None, beside: Path | None = None) -> Iterator[Path]:
    """Yield the path, or without one that of a file that is deleted at the end, at worst in ``beside``."""
    if path is not None:
        yield path
        return
    with temporary_folder(beside) as folder:
        yield folder / f"clip{FACES_SUFFIX}"
