"""Read image files from outside: the header first, then frame by frame within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from scrfd_trt._image_files.frames import ImageFile, ImageFrame
from scrfd_trt._image_files.limits import DEFAULT, Limits

Damaged = Literal["stop", "keep"]


def open_image(
    source: Path | bytes, *, limits: Limits = DEFAULT, damaged: Damaged = "stop", name: str = ""
) -> ImageFile:
    """Read the header of an image file.

    Parameters
    ----------
    source
        A file, or its content.
    limits
        Largest size and work.
    damaged
        Whether a file that is cut off or damaged is an error (``stop``), or is read as far as possible (``keep``).
    name
        Subject of error messages.

    Returns
    -------
    ImageFile
        Its frames are decoded by :meth:`ImageFile.frames`, one at a time.

    Raises
    ------
    ImageError
        If the file is missing, unreadable, empty, beyond the limits, cut off, damaged or not a supported image.
    MissingDependencyError
        If reading the format requires a package that is not installed.
    """
    raise NotImplementedError


def read_image(
    source: Path | bytes, *, limits: Limits = DEFAULT, damaged: Damaged = "stop", name: str = ""
) -> ImageFrame:
    """Read the first frame of an image file; parameters and errors as for :func:`open_image`."""
    return next(open_image(source, limits=limits, damaged=damaged, name=name).frames())
