"""Find the images and videos that a command is to work on: files, folders and globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scrfd_trt.cli import kinds
from scrfd_trt.cli.kinds import SUFFIXES, VIDEO_SUFFIXES
from scrfd_trt.errors import ImageError
from scrfd_trt.video.images import is_pattern


@dataclass(frozen=True)
class Source:
    """An image or a video to work on.

    Attributes
    ----------
    path
        As it was named, or the folder as it was named and the rest.
    below
        Where a copy of it goes below an output folder: its name, or the way to it from the folder that was named.
    problem
        Why there is nothing to read; empty if there is.
    """

    path: Path
    below: Path
    problem: str = ""

    @cached_property
    def is_video(self) -> bool:
        """Whether it is a video, by its name or else by what is in it."""
        return kinds.is_video(self.path)

    def check(self) -> None:
        """Raise the problem, if there is one, as ImageError."""
        if self.problem:
            raise ImageError(self.problem)


def find(inputs: Iterable[str], *, recursive: bool = False, skip: Path | None = None) -> list[Source]:
    """Find the images and videos.

    Parameters
    ----------
    inputs
        Files, folders, and globs that no shell has put file names for (``*``, ``?``, ``[…]``, ``**``).
    recursive
        Look into folders in folders.
    skip
        A folder that is not looked into: the one that results go to.

    Returns
    -------
    list of Source
        In the order given, those of a folder or glob by name; each file once. What leads to no file is there with its
        problem, so that it can be told at its turn.
    """
    seen: set[str] = set()
    found = []
    for text in inputs:
        for source in _expand(text, recursive, skip):
            key = same_file_key(source.path)
            if key not in seen:
                seen.add(key)
                found.append(source)
    return found


def same_file_key(path: Path) -> str:
    """Return what is equal for two ways to one file, also where letters of both cases are one."""
    return os.path.realpath(path).casefold() if os.path.normcase("A") == "a" else os.path.realpath(path)


def is_there(path: Path) -> bool:
    """Tell whether there is anything, as far as may be seen; ``Path.exists`` raises in a folder closed to us."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder, as far as may be seen."""
    return os.path.isdir(path)  # noqa: PTH112


def is_plain_file(path: Path) -> bool:
    """Tell whether there is a file with contents of its own, as far as may be seen."""
    return os.path.isfile(path)  # noqa: PTH113


def _expand(text: str, recursive: bool, skip: Path | None) -> Iterator[Source]:
    path = Path(text).expanduser()
    if is_folder(path):
        yield from _folder(path, recursive, skip)
    elif is_pattern(text):
        name = path.stem.partition("%")[0].rstrip("_-. ") or path.parent.name or "frames"
        yield Source(path, Path(f"{name}.mp4"))
    elif is_there(path) or not glob.has_magic(text):
        yield Source(path, Path(path.name), _problem(path))
    else:
        # Path.glob takes no pattern that begins at the root.
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
        files = [match for match in matches if not is_folder(match)]
        yield from (Source(match, Path(match.name)) for match in files)
        if not files:
            yield Source(path, Path(path.name), "no file has a name like this")


def _problem(path: Path) -> str:
    try:
        path.stat()
    except FileNotFoundError:
        folder = "" if is_folder(path.parent) else f", for there is no folder {path.parent}"
        return f"there is no such file{folder}"
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    return ""


def _folder(folder: Path, recursive: bool, skip: Path | None) -> Iterator[Source]:
    problems: list[OSError] = []
    count = 0
    for path in _walk(folder, recursive, skip, problems):
        count += 1
        yield Source(path, path.relative_to(folder))
    for error in problems:
        place = Path(str(error.filename))
        yield Source(place, Path(place.name), f"the folder cannot be read: {error.strerror}")
    if not count and not problems:
        deeper = "" if recursive else "; --recursive looks into its folders, too"
        yield Source(folder, Path(folder.name), f"the folder has no images or videos in it (.jpg, .mp4, …){deeper}")


def _walk(folder: Path, recursive: bool, skip: Path | None, problems: list[OSError]) -> Iterator[Path]:
    """Go through a folder by name, without what is hidden; links to folders are not followed, so it has an end."""
    left_out = None if skip is None else same_file_key(skip)
    for place, folders, names in os.walk(folder, onerror=problems.append):
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and same_file_key(Path(place, name)) != left_out
        )
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES + VIDEO_SUFFIXES) and not name.startswith("."):
                yield Path(place, name)
