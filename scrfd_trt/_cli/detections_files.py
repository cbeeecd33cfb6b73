"""Detections files: checks before any work, and what they contain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from scrfd_trt._cli import outputs
from scrfd_trt._cli.image_faces import ImageFaces
from scrfd_trt._cli.inputs import Source, same_file_key
from scrfd_trt._cli.options import CopySettings, DetectionsFileArgs
from scrfd_trt._files import temporary_folder
from scrfd_trt.errors import OptionError
from scrfd_trt.video import FacesReader
from scrfd_trt.video._detections_file import FACES_SUFFIX
from scrfd_trt.video._selection import missing_tracks


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
