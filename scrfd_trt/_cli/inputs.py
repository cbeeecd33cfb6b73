"""Find input files, distinguish images from videos, and read images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scrfd_trt._cli import console
from scrfd_trt._image_files import ImageFrame, open_image
from scrfd_trt._image_files.kinds import image_kind
from scrfd_trt._image_files.read import START_BYTES, Damaged
from scrfd_trt.errors import ImageError, MissingDependencyError
from scrfd_trt.video import _pyav
from scrfd_trt.video._sources import is_pattern

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".gif", ".avif"),
)
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".divx", ".m2v", ".dv", ".qt"),
)
NOT_VIDEO_FORMATS = ("tty", "image2")
"""FFmpeg's formats for text and for single images."""


@dataclass(frozen=True)
class Source:
    """An input image or video."""

    path: Path
    relative_path: Path  # of its copy below an output folder: the file's name, or its path below the input folder
    problem: str = ""  # why the file cannot be read

    @cached_property
    def is_video(self) -> bool:
        """Whether the file is a video."""
        return is_video(self.path)

    def check(self) -> None:
        """Raise ImageError if there is a problem."""
        if self.problem:
            raise ImageError(self.problem)


def find_inputs(inputs: Iterable[str], *, recursive: bool = False, skip: Path | None = None) -> list[Source]:
    """Find images and videos by files, folders, and globs that the shell did not expand, ``**`` included.

    Returns each file once, in the order of ``inputs``, those of a folder or glob sorted by name. An input without a
    file is a source with a problem. ``skip`` is a folder to leave out: the output folder.
    """
    sources: dict[str, Source] = {}
    for text in inputs:
        for source in _expand(text, recursive, skip):
            sources.setdefault(same_file_key(source.path), source)
    return list(sources.values())


def same_file_key(path: Path) -> str:
    """Return a string that is equal for two paths of the same file, also on systems that ignore case."""
    return os.path.realpath(path).casefold() if os.path.normcase("A") == "a" else os.path.realpath(path)


def exists(path: Path) -> bool:
    """Return whether a path exists. As below, False in a folder without permission, where pathlib raises an error."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def is_regular_file(path: Path) -> bool:
    """Return whether a path is a regular file."""
    return os.path.isfile(path)  # noqa: PTH113


def _expand(text: str, recursive: bool, skip: Path | None) -> Iterator[Source]:
    path = Path(text).expanduser()
    if is_folder(path):
        yield from _expand_folder(path, recursive, skip)
    elif is_pattern(text):
        name = path.stem.partition("%")[0].rstrip("_-. ") or path.parent.name or "frames"
        yield Source(path, Path(f"{name}.mp4"))
    elif exists(path) or not glob.has_magic(text):
        yield Source(path, Path(path.name), _problem(path))
    else:
        # Path.glob does not accept absolute patterns.
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
        files = [match for match in matches if not is_folder(match)]
        yield from (Source(match, Path(match.name)) for match in files)
        if not files:
            yield Source(path, Path(path.name), "no file matches this pattern")


def _problem(path: Path) -> str:
    try:
        path.stat()
    except FileNotFoundError:
        folder = "" if is_folder(path.parent) else f": there is no folder {path.parent}"
        return f"there is no such file{'' if path.suffix else ' or folder'}{folder}"
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    return ""


def _expand_folder(folder: Path, recursive: bool, skip: Path | None) -> Iterator[Source]:
    errors: list[OSError] = []
    found = False
    for path in _walk(folder, recursive, skip, errors):
        found = True
        yield Source(path, path.relative_to(folder))
    for error in errors:
        unreadable = Path(str(error.filename))
        yield Source(unreadable, Path(unreadable.name), f"the folder cannot be read: {error.strerror}")
    if not found and not errors:
        hint = "" if recursive else "; add --recursive to search its subfolders"
        yield Source(folder, Path(folder.name), f"the folder contains no images or videos (.jpg, .mp4, …){hint}")


def _walk(folder: Path, recursive: bool, skip: Path | None, errors: list[OSError]) -> Iterator[Path]:
    """Yield the images and videos of a folder by name; hidden files and links to folders are left out."""
    skipped = None if skip is None else same_file_key(skip)
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and same_file_key(Path(parent, name)) != skipped
        )
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES + VIDEO_SUFFIXES) and not name.startswith("."):
                yield Path(parent, name)


def is_video(path: Path) -> bool:
    """Return whether a file is a video, or a pattern of numbered images such as ``frames/%05d.png``.

    A known suffix decides, except that animated GIF and PNG files are videos. Otherwise the content decides.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or is_pattern(str(path)):
        return True
    try:
        if suffix in IMAGE_SUFFIXES:
            return suffix in {".gif", ".png"} and _is_animated(path)
        return path.is_file() and not _is_image(path) and _has_video_stream(path)
    except OSError:  # reported when the file is read
        return False


def _is_image(path: Path) -> bool:
    with path.open("rb") as file:
        kind = image_kind(file.read(START_BYTES))
    return kind is not None and not (kind in {"gif", "png"} and _is_animated(path))


def _is_animated(path: Path) -> bool:
    """Return whether a GIF or PNG file has several frames."""
    try:
        file = open_image(path, damaged="keep")
    except ImageError:  # reported when the image is read
        return False
    return file.kind in {"gif", "png"} and file.is_animation


def _has_video_stream(path: Path) -> bool:
    """Return whether FFmpeg finds a video stream; the cover image of an audio file is none."""
    try:
        av = _pyav.load()
    except MissingDependencyError:
        return False
    try:
        with _pyav.open_input(path) as container:
            name = container.format.name
            if name in NOT_VIDEO_FORMATS or name.endswith("_pipe"):
                return False
            cover = av.stream.Disposition.attached_pic
            return any(not stream.disposition & cover for stream in container.streams.video)
    except (av.error.FFmpegError, ValueError):
        return False


def read_image(path: Path, damaged: Damaged = "stop") -> ImageFrame:
    """Read the only image of a file; raise ImageError if there are several, or for any reason of ``open_image``.

    Prints a warning about lost pixels.
    """
    file = open_image(path, damaged=damaged)
    if file.count > 1:
        what = "frames of an animation" if file.is_animation else "pages"
        raise ImageError(f"the file has {file.count} {what}, which is not supported: split it into single images")
    frame = next(file.frames())
    for line in file.damage:
        console.warning(f"the image is damaged: {line}")
    return frame
