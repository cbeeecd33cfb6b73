"""Decode with OpenCV, and catch what its libraries write to stderr."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _forks
from scrfd_trt.errors import ImageError

COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
UNCHANGED = cv2.IMREAD_UNCHANGED
"""Flags that read pixels as stored: not turned by EXIF, which old OpenCV does for few formats."""
DATA_LOSS = re.compile(r"corrupt|premature|error", re.IGNORECASE)
"""Matches messages of libjpeg, libpng and libtiff about lost pixels; others are about colour profiles and tags."""
HARMLESS = re.compile(
    r"\b\d extraneous bytes before marker 0xd9|Bad value \d+ for \"Orientation\"|premature end of JPEG file",
    re.IGNORECASE,
)
"""Messages about data that every viewer ignores, or that :mod:`damage` reports."""
_STDERR = _forks.Lock()


def decode(data: bytes | bytearray, flags: int = COLOR) -> tuple[NDArray[Any] | None, list[str]]:
    """Return the pixels that OpenCV decodes, or None, and the messages of its libraries; raise ImageError."""
    if len(data) >= 1 << 31:
        raise ImageError("the file has more than 2 GB, which OpenCV does not read: convert it to PNG or JPEG")
    with captured_stderr() as lines:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise _translated(error) from error
        except MemoryError as error:
            raise ImageError(OUT_OF_MEMORY) from error
    # OpenCV returns None for undecodable data; its stubs do not say so.
    return image if isinstance(image, np.ndarray) and image.size else None, lines


OUT_OF_MEMORY = "there is not enough memory to decode the image: make it smaller"


def _translated(error: cv2.error) -> ImageError:
    text = str(error)
    if "CV_IO_MAX_IMAGE" in text:
        return ImageError(
            "the image has more pixels than OpenCV reads; make it smaller, or set OPENCV_IO_MAX_IMAGE_PIXELS"
        )
    if error.code == cv2.Error.StsNoMem or "Insufficient memory" in text:
        return ImageError(OUT_OF_MEMORY)
    reason = str(getattr(error, "err", "") or error).strip().splitlines()[0]
    return ImageError(f"OpenCV cannot read the image: {reason}")


def data_loss(lines: list[str]) -> list[str]:
    """Return the messages that are about lost pixels."""
    return [line for line in lines if DATA_LOSS.search(line) and not HARMLESS.search(line)]


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Capture what OpenCV's libraries write to stderr in the block; libjpeg reports corrupt data in this way only.

    Yields a list that is filled when the block ends: lines without OpenCV's prefixes and without harmless warnings.
    One thread at a time is in such a block, since the whole process has one stderr.
    """
    lines: list[str] = []
    with _STDERR:
        if sys.stderr is not None:  # None in a program started with stderr closed
            sys.stderr.flush()
        try:
            stderr = os.dup(2)
        except OSError:  # a process without stderr
            yield lines
            return
        try:
            with _memory_file() as file:
                os.dup2(file.fileno(), 2)
                try:
                    yield lines
                finally:
                    os.dup2(stderr, 2)
                    file.seek(0)
                    lines += filter(None, map(_without_prefix, file.read().decode(errors="replace").splitlines()))
        finally:
            os.close(stderr)


def _memory_file() -> Any:
    """Return a file without a name; on Linux it needs no folder that can be written to."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("scrfd-trt"), "w+b")
    return tempfile.TemporaryFile()


def _without_prefix(line: str) -> str:
    """Remove ``[ WARN:0@1.2] global file.cpp:34 function``; return nothing for a harmless warning."""
    text = re.sub(r"^\[[^\]]*\] global \S+ \S+ ", "", line.strip())
    text = re.sub(r"^.*error: \([^)]*\) (.*?)( in function '.*)?$", r"error: \1", text)
    return "" if re.search(r"warning|iCCP", text, re.IGNORECASE) else text
