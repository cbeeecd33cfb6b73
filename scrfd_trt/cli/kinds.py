"""Tell images from videos: by their names, and where these do not tell, by what is in the files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import cv2

from scrfd_trt.cli.reading import HEIF
from scrfd_trt.errors import MissingDependencyError
from scrfd_trt.video import pyav
from scrfd_trt.video.images import is_pattern

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".gif", ".avif"),
)
"""What counts as an image in a folder; a file that is named itself may be called anything."""

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".divx", ".m2v", ".dv", ".qt"),
)
"""What counts as a video, in a folder and by its own name."""

MOVING = (".gif", ".png")
"""Images that may have several pictures, which FFmpeg reads."""
NO_VIDEOS = ("tty", "image2")
"""What FFmpeg takes texts and single images for."""


def is_video(path: Path) -> bool:
    """Tell whether a file is a video, or the pattern of the images that make one: ``frames/%05d.png``.

    Parameters
    ----------
    path
        It need not be there.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or is_pattern(str(path)):
        return True
    try:
        if suffix in SUFFIXES:
            return suffix in MOVING and _moves(path)
        return path.is_file() and not _is_image(path) and _has_pictures(path)
    except OSError:  # told when the file is read
        return False


def _moves(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"GIF8"):
            return _gif_moves(file)
        return start == b"\x89PNG\r\n\x1a\n" and _png_moves(file)


def _gif_moves(file: BinaryIO) -> bool:
    """Walk the blocks up to a second picture (GIF89a, 18 to 26)."""
    file.seek(10)
    _skip_colours(file, file.read(3)[:1])
    pictures = 0
    while (kind := file.read(1)) in {b"!", b","}:
        if kind == b",":
            pictures += 1
            _skip_colours(file, file.read(9)[8:])
        file.read(1)  # an extension's label, or the size of the codes
        while size := file.read(1)[:1]:
            if size == b"\0":
                break
            file.seek(size[0], 1)
    return pictures > 1


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, 1)


def _png_moves(file: BinaryIO) -> bool:
    """Walk the chunks up to the pixels; acTL says how many pictures there are (PNG, 11.3.6)."""
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"acTL":
            return int.from_bytes(file.read(4), "big") > 1
        if kind == b"IDAT":
            break
        file.seek(length + 4, 1)
    return False


def _is_image(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] == b"ftyp" and start[8:12] in HEIF:
        return True
    if start.startswith((b"GIF8", b"\x89PNG")):
        return not _moves(path)
    return bool(cv2.haveImageReader(str(path)))


def _has_pictures(path: Path) -> bool:
    """Ask FFmpeg; the cover of a piece of music is no video."""
    try:
        av = pyav.load()
    except MissingDependencyError:
        return False
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            form = container.format.name
            if form in NO_VIDEOS or form.endswith("_pipe"):
                return False
            cover = av.stream.Disposition.attached_pic
            return any(not stream.disposition & cover for stream in container.streams.video)
    except (av.error.FFmpegError, ValueError):
        return False
