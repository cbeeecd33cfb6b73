"""Search folders for images and videos, and record those that are not read, so that none is skipped unnoticed."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scrfd_trt._cli import console
from scrfd_trt._cli.console import count
from scrfd_trt._cli.content import SHARED_SUFFIXES, VIDEO_SUFFIXES, identify, look
from scrfd_trt._image_files.read import IMAGE_SUFFIXES

OWN_PREFIX = ".scrfd-trt-"  # of unfinished files of other runs
LISTED = 20  # names in each list of the report
MAX_LOOKED_AT = 10_000  # files in all folders that are not searched; a folder that is left then is named as well
SPECIAL_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Found(NamedTuple):
    """A file to read, or the reason why it cannot be read."""

    path: Path
    problem: str = ""


@dataclass
class LeftOut:
    """Images and videos that are not read."""

    files: list[tuple[Path, str]] = field(default_factory=list)  # each with the reason
    folders: list[Path] = field(default_factory=list)
    """Subfolders that hold some; they are searched with ``--recursive``."""
    hidden: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    """Hidden folders, and links to folders, that hold some; they are searched only if they are named."""

    def __bool__(self) -> bool:
        return bool(self.files or self.folders or self.hidden or self.links)

    def report(self, *, failed: bool, quiet: bool) -> None:
        """Print what is not read, as errors if the command failed because of it, else as warnings."""
        for heading, names in self.groups().items():
            if failed or not quiet:
                ends = " (exit code 1)" if failed else ""
                console.listing("error" if failed else "warning", heading + ends, names)

    def groups(self) -> dict[str, list[str]]:
        """Return the names of files and folders by what the report says of them; long lists are cut."""
        found = "with images or videos not searched"
        groups: dict[str, Sequence[object]] = {
            f"{count(len(self.files), 'file')} skipped": [f"{path}: {reason}" for path, reason in self.files],
            f"{count(len(self.folders), 'subfolder')} {found}; add --recursive": self.folders,
            f"{count(len(self.hidden), 'hidden folder')} {found}; name a folder to search it": self.hidden,
            f"{count(len(self.links), 'linked folder')} {found}; name a folder to search it": self.links,
        }
        return {heading: _cut([str(name) for name in names]) for heading, names in groups.items() if names}


def _cut(names: list[str]) -> list[str]:
    rest = len(names) - LISTED
    return names if rest <= 0 else [*names[:LISTED], f"and {rest:,} more"]


class FolderSearch:
    """Searches folders; ``skip`` are folders to leave out without a word, such as that of the output."""

    def __init__(self, left_out: LeftOut, *, recursive: bool, skip: Collection[os.PathLike[str]] = ()) -> None:
        self.left_out = left_out
        self.recursive = recursive
        self._skip = {os.path.realpath(folder) for folder in skip}
        self._budget = MAX_LOOKED_AT

    def files(self, folder: Path) -> Iterator[Found]:
        """Yield the images and videos of a folder by name, then those of its subfolders; errors are problems."""
        yield from self._files(folder, os.path.realpath(folder))

    def _files(self, folder: Path, root: str) -> Iterator[Found]:
        try:
            entries = _entries(folder)
        except OSError as error:
            yield Found(folder, f"the folder cannot be read: {error.strerror}")
            return
        subfolders = []
        for entry in entries:
            if _is_folder(entry):
                subfolders.append(entry)
            elif (found := self._file(folder / entry.name, entry)) is not None:
                yield found
        for entry in subfolders:
            path = folder / entry.name
            real = os.path.realpath(path)
            if real in self._skip or entry.name.startswith(OWN_PREFIX):
                continue
            if entry.is_symlink():
                if not f"{real}/".startswith(f"{root}/"):
                    self._note(self.left_out.links, path)
            elif entry.name.startswith("."):
                self._note(self.left_out.hidden, path)
            elif self.recursive:
                yield from self._files(path, root)
            else:
                self._note(self.left_out.folders, path)

    def _file(self, path: Path, entry: os.DirEntry[str]) -> Found | None:
        """Return a file to read; record one that is an image or a video and is not read."""
        suffix, hidden = path.suffix.lower(), entry.name.startswith(".")
        if entry.name.startswith(OWN_PREFIX):
            return None
        if not hidden and suffix in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            is_source_code = suffix in SHARED_SUFFIXES and _is_text(path)
            return None if is_source_code else Found(path, problem_of(path))
        is_media, reason = look(path)
        if hidden:
            reason = "hidden; name it to process it" if is_media else ""
        if reason:
            self.left_out.files.append((path, reason))
        return Found(path) if is_media and not reason else None

    def _note(self, folders: list[Path], folder: Path) -> None:
        if self._has_media(folder):
            folders.append(folder)

    def _has_media(self, folder: Path) -> bool:
        """Return whether a folder holds an image or a video, or is too large to tell."""
        for parent, subfolders, names in os.walk(folder):
            subfolders[:] = [name for name in subfolders if os.path.realpath(Path(parent, name)) not in self._skip]
            for name in names:
                self._budget -= 1
                if self._budget < 0 or look(Path(parent, name))[0]:
                    return True
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _is_text(path: Path) -> bool:
    try:
        return identify(path).kind == "text"
    except OSError:
        return False


def problem_of(path: Path) -> str:
    """Return why a file cannot be read, or an empty string; it is not opened."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            return "the link leads to no file"
        folder = "" if os.path.isdir(path.parent) else f": there is no folder {path.parent}"  # noqa: PTH112
        return f"there is no such file{'' if path.suffix else ' or folder'}{folder}"
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    except ValueError:  # a name with a zero byte
        return "there is no such file"
    special = SPECIAL_FILES.get(stat.S_IFMT(mode))
    return f"this is {special}, not a file; copy the content into a file" if special else ""
