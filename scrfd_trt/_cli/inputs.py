"""Find input files, distinguish images from videos, and read images."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
import unicodedata
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from scrfd_trt._cli import console, signals
from scrfd_trt._cli.content import VIDEO_SUFFIXES, has_video_stream, identify, is_motion_jpeg, not_media
from scrfd_trt._cli.folders import FolderSearch, LeftOut, problem_of
from scrfd_trt._files import user_path
from scrfd_trt._image_files import ImageFrame, open_image
from scrfd_trt._image_files.read import IMAGE_SUFFIXES, Damaged
from scrfd_trt._inputs import download_to, is_address
from scrfd_trt._jobs.ledger import Ledger, Stamp
from scrfd_trt._jobs.stages import grouped, mapped
from scrfd_trt.errors import ImageError, MissingDependencyError, VideoError, redact_password
from scrfd_trt.video._animation_reader import is_animation
from scrfd_trt.video._sources import is_pattern

LOOKED_AT = 64  # files that one thread looks into at a time
STDIN = "-"
VIDEO_LIMITS = {"max_bytes": 1 << 32, "max_seconds": 3600.0}  # of a download that may be a video
VALUES = {
    r"0?\.\d+": "; for the minimum score, use --threshold {}",
    r"-?\d+,?": "; a list of numbers has commas and no spaces, such as 1,2",
    r"(-?\d+(\.\d+)?,){3}\d+.*": "; quote the value of --cover",
}
"""What follows the problem of a part of an option's value that is typed as an input."""


@dataclass(eq=False)
class Source:
    """An input image or video."""

    path: Path
    relative_path: Path  # of its copy below an output folder: the file's name, or its path below the input folder
    problem: str = ""  # why the file cannot be read, or no copy be written
    copy: Path | None = None
    ledger: Ledger | None = None  # of a job that is recorded
    stamp: Stamp | None = None
    is_done: bool = False
    address: str = ""  # a web address, or ``-`` for standard input, whose content :meth:`fetch` puts into a file

    @property
    def name(self) -> Path | str:
        """What messages and results call the input."""
        return redact_password(self.address) or self.path

    @cached_property
    def key(self) -> str:
        """See :func:`same_file_key`."""
        return same_file_key(Path(self.name))

    @cached_property
    def is_video(self) -> bool:
        """Whether the file is a video."""
        return is_video(self.path)

    @cached_property
    def is_animation(self) -> bool:
        """Whether the file is a video, and an image by its content."""
        return self.is_video and is_animation(self.path)

    def fetch(self, folder: Path) -> None:
        """Write the content of an address into a folder; a failure is the problem of this input."""
        self.path = folder / self.relative_path
        try:
            folder.mkdir()
            with self.path.open("wb") as file:
                if self.address != STDIN:
                    is_image = self.path.suffix.lower() in IMAGE_SUFFIXES
                    limits: dict[str, Any] = {} if is_image else VIDEO_LIMITS
                    answer: Future[None] = Future()
                    run = partial(_settle, answer, partial(download_to, file, self.address, **limits))
                    Thread(target=run, daemon=True).start()
                    while not wait([answer], 0.2).done:
                        if signals.received() is not None:  # of the program, which waits for this thread
                            return
                    answer.result()
                elif sys.stdin is None:
                    self.problem = "standard input is closed"
                else:
                    shutil.copyfileobj(sys.stdin.buffer, file)
                    self.problem = "" if file.tell() else "standard input is empty"
        except (ImageError, MissingDependencyError) as error:
            self.problem = error.reason
        except OSError as error:
            self.problem = f"it cannot be copied into a temporary file: {error.strerror}"

    def look_up(self, ledger: Ledger) -> None:
        """Find out whether an earlier run of a job has done this input."""
        self.ledger, self.stamp = ledger, Stamp.of(self.path)
        entry = ledger.find(self.path, self.stamp)
        self.is_done = entry is not None and not self.problem
        self.copy = None if entry is None or entry.output is None else ledger.path.parent / entry.output

    def may_replace(self, path: Path) -> bool:
        """Return whether an unfinished run of this job wrote a file."""
        return self.ledger is not None and self.ledger.is_own(path)

    def finish(self, *, failed: bool = False) -> None:
        """Record that this input is done, unless it failed."""
        if self.ledger is not None:
            self.ledger.record(self.path, None if failed else self.stamp, self.copy)

    @property
    def pixels(self) -> None:
        """An image of the command line is not decoded yet."""

    def read(self) -> Path:
        """Return the path of an image; raise ImageError if there is a problem."""
        self.check()
        return self.path

    def check(self) -> None:
        """Raise ImageError if there is a problem."""
        if self.problem:
            raise ImageError(self.problem)
        if not is_regular_file(self.path):
            return
        if not self.path.stat().st_size:
            raise ImageError("the file is empty: copy or download it again")
        if not self.is_video and self.path.suffix.lower() not in IMAGE_SUFFIXES and (reason := not_media(self.path)):
            raise ImageError(reason)


def find_inputs(
    inputs: Iterable[str],
    *,
    recursive: bool = False,
    skip: Collection[Path] = (),
    left_out: LeftOut | None = None,
    listed: Iterable[str] = (),
    takes: Callable[[Path], bool] = lambda _: True,
    ledger: Ledger | None = None,
    folder: Callable[[], Path] | None = None,
) -> list[Source]:
    """Find images and videos by files, folders, and globs that the shell did not expand, ``**`` included.

    Returns each file once, in the order of ``inputs``, those of a folder or glob sorted by name, and then ``listed``
    files, whose copies are in the same folders. An input without a file is a source with a problem. ``skip`` are
    folders to leave out: those of the output. ``left_out`` records images and videos in folders that are not among the
    result. ``takes`` selects by the relative path, and ``ledger`` says what is done. The content of standard input and
    of web addresses is put into ``folder``; without one, they are names of files.
    """
    search = FolderSearch(LeftOut() if left_out is None else left_out, recursive=recursive, skip=skip)
    named = (source for text in inputs for source in _expand(text, search) if takes(source.relative_path))
    sources: dict[str, Source] = {}
    real_folder = lru_cache(os.path.realpath)
    for source in chain(named, _listed(listed, takes)):
        source.key = same_file_key(Path(source.name), real_folder)
        sources.setdefault(source.key, source)
    found = list(sources.values())
    fetched = {source: number for number, source in enumerate(found) if source.address} if folder is not None else {}
    place = folder() if folder is not None and fetched else Path()
    for source, number in fetched.items():
        if source.address == STDIN:  # in this thread, so that Ctrl-C ends it
            source.fetch(place / str(number))

    def look(group: Sequence[Source]) -> None:
        for source in group:
            if source in fetched and source.address != STDIN:
                source.fetch(place / str(fetched[source]))
            if ledger is not None:
                source.look_up(ledger)
            if not source.is_done:
                source.is_video  # noqa: B018 - looks into the file, and remembers what it is

    with mapped(look, grouped(found, 1 if fetched else LOOKED_AT), workers=4, ahead=8) as looks:
        deque(looks, 0)
    return found


def _settle(answer: Future[None], work: Callable[[], None]) -> None:
    try:
        work()
        answer.set_result(None)
    except Exception as error:  # noqa: BLE001 - raised by the future
        answer.set_exception(error)


def _listed(texts: Iterable[str], takes: Callable[[Path], bool]) -> Iterator[Source]:
    """Yield the files of a list; their copies keep the folders, without the root and ``..`` at the start."""
    for text in texts:
        if is_address(text):
            yield _remote(text)
            continue
        path = Path(text)
        parts = Path(os.path.normpath(path)).parts
        relative = Path(*(part for part in parts if part not in (path.anchor, "..")))
        if takes(relative):
            yield Source(path, relative, "this is a folder; list its files" if is_folder(path) else problem_of(path))


def _remote(address: str) -> Source:
    """Return the source of a web address or of standard input."""
    name = "stdin" if address == STDIN else Path(unquote(urlsplit(address).path)).name
    return Source(Path(address), Path(re.sub(r"[^\w.-]+", "_", name)[-100:].lstrip(".") or "image"), address=address)


def local_path(text: str, folder: Callable[[], Path]) -> Path:
    """Return the path of a file that a user names; ``folder`` takes the content of an address or standard input."""
    if text != STDIN and not is_address(text):
        return user_path(text)
    source = _remote(text)
    source.fetch(folder() / "0")
    if source.problem:
        raise VideoError(source.problem, subject=str(source.name))
    return source.path


def same_file_key(path: Path, real_folder: Callable[[str], str] = os.path.realpath) -> str:
    """Return a string that is equal for paths of one file, whatever case or form of Unicode, but for hard links."""
    try:
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114
            real = os.path.realpath(path)
        else:
            real = os.path.join(real_folder(folder), name)  # noqa: PTH118
        status = os.stat(real)  # noqa: PTH116 - for thousands of files, pathlib takes several times as long
    except OSError:
        return real
    except ValueError:  # a name that no file has
        return str(path)
    return f"{status.st_dev}:{status.st_ino}:{folded(real)}"


def folded(name: str) -> str:
    """Return a name without the differences that file systems may ignore."""
    return unicodedata.normalize("NFC", name).casefold()


def exists(path: Path) -> bool:
    """Return whether a path exists. As below, False in a folder without permission, where pathlib raises an error."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def is_regular_file(path: Path) -> bool:
    """Return whether a path is a regular file."""
    return os.path.isfile(path)  # noqa: PTH113


def _expand(text: str, search: FolderSearch) -> Iterator[Source]:
    path = user_path(text)
    if not text:
        yield Source(path, path, "an input has no name, as from a variable of the shell that is not set")
    elif text == STDIN or is_address(text):
        yield _remote(text)
    elif is_folder(path):
        yield from _expand_folder(path, search)
    elif is_pattern(text):
        name = path.stem.partition("%")[0].rstrip("_-. ") or path.parent.name or "frames"
        yield Source(path, Path(f"{name}.mp4"))
    elif os.path.lexists(path) or not glob.has_magic(text):
        problem = problem_of(path)
        hint = next((hint for form, hint in VALUES.items() if problem and re.fullmatch(form, text)), "")
        yield Source(path, Path(path.name), problem + hint.format(text))
    else:
        # Path.glob does not accept absolute patterns.
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
        files = [match for match in matches if not is_folder(match)]
        yield from (Source(match, Path(match.name), problem_of(match)) for match in files)
        if not files:
            yield Source(path, Path(path.name), "no file matches this pattern")


def _expand_folder(folder: Path, search: FolderSearch) -> Iterator[Source]:
    found = False
    for path, problem in search.files(folder):
        found = True
        yield Source(path, Path(path.name) if path == folder else path.relative_to(folder), problem)
    if not found:
        subfolders = any(folder in path.parents for path in search.left_out.folders)
        hint = "; add --recursive to search its subfolders" if subfolders else ""
        yield Source(folder, Path(folder.name), f"the folder contains no images or videos (.jpg, .mp4, …){hint}")


def is_video(path: Path) -> bool:
    """Return whether a file is a video, or a pattern of numbered images: by a known suffix, else by its content."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or is_pattern(str(path)):
        return True
    try:
        if not is_regular_file(path):  # opening a pipe or a device may block
            return False
        kind, name = identify(path)
        if kind == "image":
            return is_motion_jpeg(path) if name == "jpeg" else is_animation(path)
        return kind in {"video", "unknown"} and suffix not in IMAGE_SUFFIXES and has_video_stream(path)
    except MissingDependencyError:  # reported when the file is read, as the next
        return kind == "video"
    except (OSError, VideoError):
        return False


def read_image(path: Path, damaged: Damaged = "stop") -> ImageFrame:
    """Read the only image of a file, and print what damage is kept; raise ImageError for several, too."""
    file = open_image(path, damaged=damaged)
    if file.count > 1:
        what = "frames of an animation" if file.is_animation else "pages"
        raise ImageError(f"the file has {file.count} {what}, which is not supported: split it into single images")
    frame = next(file.frames())
    for line in file.damage:
        console.warning(f"the image is damaged: {line}")
    return frame
