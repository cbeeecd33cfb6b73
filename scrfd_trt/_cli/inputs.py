"""Find input files, distinguish images from videos, and read images."""

from __future__ import annotations

import glob
import io
import os
import re
import struct
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import console
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
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}
GIF, JPEG, PNG = b"GIF8", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
"""The first bytes of these files."""
NOT_VIDEO_FORMATS = ("tty", "image2")
"""FFmpeg's formats for text and for single images."""
DATA_LOSS = re.compile(r"corrupt|premature|error", re.IGNORECASE)
"""Matches messages of libjpeg, libpng and libtiff about lost pixels; others are about colour profiles and tags."""


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
    except (OSError, UnicodeEncodeError):  # reported when the file is read
        return False


def _is_image(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith((GIF, PNG)):
        return not _is_animated(path)
    str(path).encode()  # raises UnicodeEncodeError for a name that is not UTF-8, where OpenCV would crash
    return _is_heif(start) or bool(cv2.haveImageReader(str(path)))


def _is_animated(path: Path) -> bool:
    # Image.open would limit the number of pixels, which OpenCV does, and load more plugins.
    from PIL import GifImagePlugin, Image, PngImagePlugin  # noqa: PLC0415 - slow to import

    with path.open("rb") as file, _without_warnings():
        start = file.read(len(PNG))
        file.seek(0)
        try:
            if start.startswith(GIF):
                return GifImagePlugin.GifImageFile(file).is_animated
            if start == PNG:
                image = PngImagePlugin.PngImageFile(file)
                return bool(image.n_frames > 1 + image.default_image)
        except (IndexError, struct.error):  # the second frame of a GIF is cut off
            return True
        except (SyntaxError, ValueError, Image.DecompressionBombError):  # reported when the file is read
            pass
    return False


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Drop Pillow's warnings in the block: OpenCV reads the image, and has its own limits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_heif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS


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


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as ``(H, W, 3)`` uint8 BGR, turned upright by its EXIF orientation.

    16 bits become 8, grey becomes colour, alpha is dropped. Raises ImageError if the file is missing, unreadable,
    empty, cut off, damaged or not an image; lost pixels that libjpeg reports give a warning.
    """
    try:
        data = path.read_bytes()  # cv2.imread does not open non-ASCII paths on Windows
    except FileNotFoundError as error:
        raise ImageError("there is no such file") from error
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror or error}") from error
    if not data:
        raise ImageError("the file is empty: copy or download it again")
    if damage := find_damage(data):
        raise ImageError(f"the file is {damage}: copy or download it again")
    with captured_stderr() as lines:
        image = _decode(data)
    if image is None:
        raise ImageError(_undecodable(data, lines))
    for line in filter(DATA_LOSS.search, lines):
        console.warning(f"the image is damaged: {line}")
    return image


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise ImageError(
                "the image has more pixels than OpenCV reads; make it smaller, or set OPENCV_IO_MAX_IMAGE_PIXELS"
            ) from error
        reason = str(getattr(error, "err", "") or error).strip().splitlines()[0]
        raise ImageError(f"OpenCV cannot read the image: {reason}") from error
    # OpenCV returns None for undecodable data; its stubs do not say so.
    return np.asarray(image, np.uint8) if isinstance(image, np.ndarray) else None


def _undecodable(data: bytes, lines: list[str]) -> str:
    if _is_heif(data):
        return "HEIC images are not supported: convert it to JPEG or PNG"
    if lines:
        return f"the image is damaged ({lines[0]}): copy or download it again"
    return "not a supported image (JPEG, PNG, WebP, BMP, TIFF, …): convert it to JPEG or PNG"


def find_damage(data: bytes) -> str:
    """Return how a JPEG, PNG, WebP or BMP file is cut off or damaged, as far as its container shows.

    The text completes "the file is …". It is empty for complete files and for other formats.
    """
    if data.startswith(JPEG):
        return _jpeg_damage(data)
    if data.startswith(PNG):
        return _png_damage(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _cut_off(data, 8 + int.from_bytes(data[4:8], "little"))
    if data.startswith(b"BM") and len(data) >= 14:
        return _cut_off(data, int.from_bytes(data[2:6], "little"))
    return ""


def _cut_off(data: bytes, size: int) -> str:
    return f"cut off after {len(data):,} of {size:,} bytes" if len(data) < size else ""


def _jpeg_damage(data: bytes) -> str:
    """Look for the end marker behind the header of the first scan."""
    # OpenCV fills what is missing with grey, without a message. Pillow notices it only by decoding the image again.
    at, cut_off = 2, f"cut off after {len(data):,} bytes"
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return f"damaged at byte {at:,}: no JPEG marker there"
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # a marker without a segment
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == 0xDA:
                return "" if data.find(b"\xff\xd9", at) >= 0 else cut_off
    return cut_off


def _png_damage(data: bytes) -> str:
    from PIL.PngImagePlugin import PngImageFile  # noqa: PLC0415 - slow to import

    file = io.BytesIO(data)
    try:
        with _without_warnings():
            PngImageFile(file).verify()
    except (SyntaxError, OSError) as error:
        if file.tell() < len(data):
            return f"damaged before byte {file.tell():,}: {error}"
    except (ValueError, IndexError):  # Pillow's limit on texts, or no pixels: OpenCV decides
        return ""
    else:
        if len(file.read(4)) == 4:  # the last checksum, which Pillow does not read
            return ""
    return f"cut off after {len(data):,} bytes"


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Capture what OpenCV's libraries write to stderr in the block; libjpeg reports corrupt data in this way only.

    Yields a list that is filled when the block ends: lines without OpenCV's prefixes and without harmless warnings.
    """
    lines: list[str] = []
    if sys.stderr is not None:  # None in a program started with stderr closed
        sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # a process without stderr
        yield lines
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            lines += filter(None, map(_without_prefix, file.read().decode(errors="replace").splitlines()))


def _without_prefix(line: str) -> str:
    """Remove ``[ WARN:0@1.2] global file.cpp:34 function``; return nothing for a harmless warning."""
    text = re.sub(r"^\[[^\]]*\] global \S+ \S+ ", "", line.strip())
    text = re.sub(r"^.*error: \([^)]*\) (.*?)( in function '.*)?$", r"error: \1", text)
    return "" if re.search(r"warning|iCCP", text, re.IGNORECASE) else text
