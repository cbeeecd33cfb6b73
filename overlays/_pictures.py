"""Pictures with alpha, ready to be laid over faces of any size and turn."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays._mixing import Blending, stack
from overlays._placing import Placement
from overlays._raster import Box, clip_box
from scrfd_trt.errors import ImageError

MAX_SIDE = 4096
"""Longest side of a picture in pixels; larger ones are shrunk when read (``cv2.remap`` ends at 32,767)."""

_CRISP = 0.04
_STEP = math.sqrt(0.5)
_SMALLEST = 4


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with premultiplied alpha, and smaller copies of it.

    Premultiplied, so that shrinking does not mix the colour of clear pixels into the edges. Each copy is about
    0.7 times as large as the one before and is made from the full picture by averaging areas; drawing takes one that
    is at most 1.4 times too large, so that small faces show no moiré.

    Attributes
    ----------
    levels : tuple of numpy.ndarray
        ``(h, w, 4)`` uint8, blue, green, red times alpha, and alpha; the full size first.
    framed : bool
        Whether all pixels at the border are clear, so that no edge is to be cut.
    inner : Box
        The box around all pixels that are not clear.
    crisp : bool
        Whether hardly any pixel is half-transparent, so that only its rim is mixed with what lies below.
    """

    levels: tuple[NDArray[np.uint8], ...]
    framed: bool
    inner: Box
    crisp: bool

    @classmethod
    def from_bgra(cls, pixels: NDArray[np.uint8]) -> Picture:
        """Make a picture of ``(h, w, 4)`` uint8 blue, green, red, alpha, not premultiplied."""
        height, width = pixels.shape[:2]
        shrink = MAX_SIDE / max(width, height)
        alpha = cv2.cvtColor(np.ascontiguousarray(pixels[..., 3]), cv2.COLOR_GRAY2BGR)
        color = cv2.multiply(np.ascontiguousarray(pixels[..., :3]), alpha, scale=1 / 255)
        full = np.dstack([color, pixels[..., 3]])
        if shrink < 1.0:
            full = _shrunk(full, shrink)
        levels, factor = [full], _STEP
        while min(full.shape[:2]) * factor >= _SMALLEST:
            levels.append(_shrunk(full, factor))
            factor *= _STEP
        edge = full[..., 3]
        framed = not (edge[0].any() or edge[-1].any() or edge[:, 0].any() or edge[:, -1].any())
        x, y, w, h = cv2.boundingRect(np.ascontiguousarray(edge))
        partly = float(((edge > 0) & (edge < 255)).sum()) / max(1.0, float((edge > 0).sum()))
        return cls(tuple(levels), framed, Box(x, y, x + w, y + h), partly < _CRISP)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the full picture in pixels."""
        height, width = self.levels[0].shape[:2]
        return width, height

    def level(self, scale: float) -> NDArray[np.uint8]:
        """Return the copy for drawing at a scale: at most 1.4 times too large, where it is shrunk at all."""
        number = min(max(0, math.floor(math.log(scale) / math.log(_STEP) + 1e-9)), len(self.levels) - 1)
        return self.levels[number]

    def with_red_and_blue_swapped(self) -> Picture:
        """Return the picture for images whose channels run red, green, blue."""
        return replace(self, levels=tuple(np.ascontiguousarray(level[..., [2, 1, 0, 3]]) for level in self.levels))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and np.array_equal(self.levels[0], other.levels[0])

    __hash__ = None  # type: ignore[assignment]  # compared by its pixels


def _shrunk(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


_READ: weakref.WeakValueDictionary[tuple[Path, int, int], Picture] = weakref.WeakValueDictionary()
"""Pictures that some overlay still holds, by file, time and size: a large one takes seconds to be read."""


def read_picture(path: Path) -> Picture:
    """Read a picture of one's own; one that is in use already, and has not changed, is not read again.

    Parameters
    ----------
    path
        Any file that OpenCV reads. One without alpha is opaque: its whole rectangle is seen.

    Raises
    ------
    ImageError
        If there is no such file, or no picture in it, or all of it is clear.
    """
    try:
        about = path.stat()
        key = (path.absolute(), about.st_mtime_ns, about.st_size)
        if (known := _READ.get(key)) is not None:
            return known
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise ImageError(f"the picture {path} cannot be read: {error.strerror or error}; check the path") from error
    picture = _READ[key] = _picture(path, content)
    return picture


def _picture(path: Path, content: NDArray[np.uint8]) -> Picture:
    advice = "use a PNG or WebP with alpha, or a JPEG"
    try:
        pixels = _decoded(content) if content.size else None
    except cv2.error as error:
        raise ImageError(f"the picture {path} cannot be decoded: {advice}") from error
    if pixels is None:
        raise ImageError(f"the file {path} is no picture that OpenCV can decode: {advice}")
    if not pixels[..., 3].any():
        raise ImageError(f"the picture {path} is wholly clear, nothing would be drawn: {advice}")
    return Picture.from_bgra(pixels)


def _decoded(content: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if pixels is not None and pixels.shape[2:] == (4,) and pixels.dtype in (np.uint8, np.uint16):
        return np.asarray(np.round(pixels / 257.0) if pixels.dtype == np.uint16 else pixels, np.uint8)
    # Without alpha, OpenCV brings all kinds to 8 bits and turns photographs upright.
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR)
    return None if pixels is None else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA), np.uint8)


def around(picture: Picture, place: Placement) -> Box:
    """Return the box on the canvas around all that is drawn of a picture."""
    # Smaller copies of a picture are softer at its rim.
    rim = 2.0 if picture.framed else 0.5
    return place.box(picture.inner).grown(rim, rim)


def lay_over(
    canvas: NDArray[np.uint8],
    picture: Picture,
    place: Placement,
    opacity: float = 1.0,
    blending: Blending = "srgb",
) -> None:
    """Draw a picture over an image, turned, scaled and shifted; only the pixels under it are computed.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8, written in place.
    picture
        What is drawn.
    place
        Where. One that squeezes the picture to a line draws nothing.
    opacity
        0 to 1, multiplies alpha.
    blending
        How half-transparent colours are mixed. Where only the rim is half-transparent, it is mixed in sRGB: on one
        pixel it does not show.
    """
    area = place.area
    region = clip_box(around(picture, place), canvas.shape[1], canvas.shape[0])
    if region is None or area == 0.0 or opacity == 0.0:
        return
    scale = math.sqrt(abs(area))
    level = picture.level(scale)
    back = place.inverse()
    # cv2 counts from the middle of the first pixel of the region, and of the level.
    x, y = back.at(region.left + 0.5, region.top + 0.5)
    wide, high = level.shape[1] / picture.size[0], level.shape[0] / picture.size[1]
    warp = np.array([[back.a * wide, back.b * wide, x * wide - 0.5], [back.c * high, back.d * high, y * high - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_CONSTANT if picture.framed else cv2.BORDER_REPLICATE
    patch = np.asarray(cv2.warpAffine(level, warp, region.size, flags=flags, borderMode=border), np.uint8)
    if not picture.framed:
        axes = [(back.a, back.b, x, picture.size[0]), (back.c, back.d, y, picture.size[1])]
        patch = _cut(patch, axes)
    if opacity < 1.0:
        patch = np.asarray(cv2.convertScaleAbs(patch, alpha=opacity), np.uint8)
    stack(canvas, region, patch, "srgb" if picture.crisp and opacity == 1.0 else blending)


def _cut(patch: NDArray[np.uint8], axes: list[tuple[float, float, float, int]]) -> NDArray[np.uint8]:
    """Clear what lies beyond a picture's sides, with an edge one pixel of the canvas wide.

    ``axes`` tells of each axis of the picture how it runs along the patch's columns and rows, where the middle of the
    patch's first pixel lies on it, and how long it is.
    """
    columns, rows = np.arange(patch.shape[1]), np.arange(patch.shape[0])[:, None]
    kept = np.ones(patch.shape[:2], np.float32)
    for along, down, start, length in axes:
        at = along * columns + (down * rows + start)
        inside = (np.minimum(at, length - at) / math.hypot(along, down)).astype(np.float32)
        kept *= np.clip(inside + np.float32(0.5), 0.0, 1.0)
    return np.asarray(np.round(patch * kept[..., None]), np.uint8)
