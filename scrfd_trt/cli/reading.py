"""Read image files, or say in one line why one cannot be read."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cli import messages
from scrfd_trt.cli.intact import damage
from scrfd_trt.errors import ImageError

HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}
"""Brands of ISO/IEC 23008-12 files."""

KINDS = "JPEG, PNG, WebP, BMP, TIFF, …"
SERIOUS = re.compile(r"corrupt|premature|error", re.IGNORECASE)
"""Notes of libjpeg, libpng and libtiff that mean lost pixels; others are about colour profiles and unknown tags."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file.

    Parameters
    ----------
    path
        Of any kind that OpenCV reads; its name may have any letters.

    Returns
    -------
    numpy.ndarray
        ``(H, W, 3)`` uint8 BGR, turned upright as its EXIF data says. 16 bits become 8, grey becomes colour, alpha is
        dropped.

    Raises
    ------
    ImageError
        If there is no such file, it cannot be read, is empty, cut off or damaged, or is no image.
    """
    data = _bytes(path)
    if not data:
        raise ImageError("the file is empty: copy or download it again")
    if wrong := damage(data):
        raise ImageError(f"the file is {wrong}: copy or download it again")
    with native_notes() as notes:
        image = _decode(data)
    if image is None:
        raise ImageError(_why_not(data, notes))
    for text in filter(SERIOUS.search, notes):
        messages.warning(f"the image is damaged: {text}")
    return image


def _why_not(data: bytes, notes: list[str]) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in HEIF:
        return "this is a HEIC image, as telephones make them, which OpenCV does not read: convert it to JPEG or PNG"
    if notes:
        return f"the image is damaged ({notes[0]}): copy or download it again"
    return f"this is no image that OpenCV reads ({KINDS}); the file begins with {data[:12]!r}"


def _bytes(path: Path) -> bytes:
    try:
        # cv2.imread takes no path with letters that are not ASCII on Windows.
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("there is no such file") from error
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror or error}") from error


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise ImageError(
                "the image has more pixels than OpenCV reads; make it smaller, or set OPENCV_IO_MAX_IMAGE_PIXELS"
            ) from error
        raise ImageError(f"OpenCV cannot read the image: {_message(error)}") from error
    # OpenCV gives None for what it cannot read; its stubs do not say so.
    return np.asarray(image, np.uint8) if isinstance(image, np.ndarray) else None


def _message(error: cv2.error) -> str:
    return str(getattr(error, "err", "") or error).strip().splitlines()[0]


@contextmanager
def native_notes() -> Iterator[list[str]]:
    """Catch what OpenCV's libraries write to stderr past Python while the block runs.

    Yields
    ------
    list of str
        Filled when the block ends: their lines, without what OpenCV's log puts before them.
    """
    notes: list[str] = []
    if sys.stderr is not None:  # as it is in a program that was started with stderr closed
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without stderr
        yield notes
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield notes
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            lines = caught.read().decode(errors="replace").splitlines()
            notes += [clean for line in lines if (clean := _clean(line))]


def _clean(line: str) -> str:
    """Keep the words that tell a user something: no ``[ WARN:0@1.2] global file.cpp:34``, no harmless warnings."""
    text = re.sub(r"^\[[^\]]*\] global \S+ \S+ ", "", line.strip())
    text = re.sub(r"^.*error: \([^)]*\) (.*?)( in function '.*)?$", r"error: \1", text)
    return "" if re.search(r"warning|iCCP", text, re.IGNORECASE) else text
