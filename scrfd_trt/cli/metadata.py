"""Save an image with what its source file says of it: camera, place, colour profile."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cli import writing
from scrfd_trt.errors import MissingDependencyError, OutputError

ORIENTATION = 0x0112
"""Tag of EXIF; 1 says that the picture is upright."""
KINDS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}


def save_with_metadata(
    image: NDArray[np.uint8], path: Path, source: Path, *, overwrite: bool, quality: int = 95
) -> None:
    """Write an image file with the EXIF data and the colour profile of another file.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8 BGR, upright: the orientation that the file is given.
    path
        JPEG, PNG, WebP or TIFF.
    source
        Where the data comes from.
    overwrite, quality
        As for :func:`scrfd_trt.cli.writing.save_image`.

    Raises
    ------
    MissingDependencyError
        If Pillow is not installed.
    OutputError
        If the file cannot be written, or holds no such data.
    """
    try:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - comes with the extra
    except ImportError as error:
        raise MissingDependencyError('--keep-metadata needs Pillow: pip install "scrfd-trt[video]"') from error
    suffix = path.suffix.lower()
    kind = KINDS.get(writing.SAME_AS.get(suffix, suffix))
    if kind is None:
        raise OutputError(f"cannot write {path}: metadata is kept in {', '.join(KINDS)} files only; take one of these")
    try:
        with Image.open(source) as before:
            exif, profile = before.getexif(), before.info.get("icc_profile")
    except (OSError, UnidentifiedImageError) as error:
        raise OutputError(f"cannot keep the metadata of {source}: {error}") from error
    if ORIENTATION in exif:
        exif[ORIENTATION] = 1
    data = io.BytesIO()
    quality_of = {"quality": quality, "subsampling": 0} if kind == "JPEG" else {"quality": quality}
    Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).save(
        data, kind, exif=exif, icc_profile=profile, **(quality_of if kind in {"JPEG", "WEBP"} else {})
    )
    writing.make_folder(path.parent)
    with writing.replacing(path, overwrite=overwrite) as file:
        file.write(data.getvalue())
