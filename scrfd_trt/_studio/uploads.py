"""Uploaded files: their names and kinds, and pictures within limits."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _image_files as image_files
from scrfd_trt._image_files.read import START_BYTES, image_kind

Image = NDArray[np.uint8]

MAX_PIXELS = 50_000_000
LIMITS = image_files.Limits(pixels=MAX_PIXELS, option="")
MAX_STICKER_BYTES = 16 * 2**20
CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")


def plain_name(name: str) -> str:
    """Return the name of an uploaded file without folders."""
    return Path(name.replace("\\", "/")).name or "picture"


def is_clip(name: str, content: bytes) -> bool:
    """Return whether a file is a clip, by its suffix; pictures are known by their content."""
    return Path(name).suffix.lower() in CLIP_SUFFIXES and image_kind(content[:START_BYTES]) is None


def open_picture(name: str, content: bytes) -> image_files.ImageFile:
    """Read the header of an uploaded picture; raise ImageError if it is unreadable or too large."""
    return image_files.open_image(content, limits=LIMITS, name=name)


def shrink(image: Image, side: int) -> Image:
    """Return an image whose longer side is at most ``side`` pixels."""
    factor = side / max(image.shape[:2])
    if factor >= 1.0:
        return image
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(image: Image, side: int | None = None, quality: int = 88) -> bytes:
    """Return an image as JPEG, at most ``side`` pixels wide and high."""
    small = image if side is None else shrink(image, side)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def can_use_clips() -> bool:
    """Return whether the packages of the extra ``video`` are installed."""
    return all(util.find_spec(name) is not None for name in ("av", "scipy"))
