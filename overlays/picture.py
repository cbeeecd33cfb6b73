"""Pictures with alpha, ready to be laid over faces of any size and turn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays.raster import Box, clip_box, stack
from scrfd_trt.errors import ImageError

MAX_SIDE = 4096
"""Longest side of a picture in pixels; larger ones are shrunk when read (``cv2.remap`` ends at 32,767)."""

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
    """

    levels: tuple[NDArray[np.uint8], ...]
    framed: bool

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
        return cls(tuple(levels), framed)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the full picture in pixels."""
        height, width = self.levels[0].shape[:2]
        return width, height

    def with_red_and_blue_swapped(self) -> Picture:
        """Return the picture for images whose channels run red, green, blue."""
        return Picture(tuple(np.ascontiguousarray(level[..., [2, 1, 0, 3]]) for level in self.levels), self.framed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and np.array_equal(self.levels[0], other.levels[0])

    __hash__ = None  # type: ignore[assignment]  # compared by its pixels


def _shrunk(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def read_picture(path: Path) -> Picture:
    """Read a picture of one's own.

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
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise ImageError(f"the picture {path} cannot be read: {error.strerror or error}; check the path") from error
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


def lay_over(canvas: NDArray[np.uint8], picture: Picture, matrix: NDArray[np.float64], opacity: float = 1.0) -> None:
    """Draw a picture over an image, turned, scaled and shifted; only the pixels under it are computed.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8, written in place.
    picture
        What is drawn.
    matrix
        ``(2, 3)`` float64, a similarity from the full picture's pixels to the canvas's; continuous coordinates, in
        which pixel ``i`` covers ``i`` to ``i + 1``. Scale 0 draws nothing.
    opacity
        0 to 1, multiplies alpha.
    """
    width, height = picture.size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64) @ matrix[:, :2].T + matrix[:, 2]
    (x1, y1), (x2, y2) = corners.min(0).tolist(), corners.max(0).tolist()
    region = clip_box(Box(x1, y1, x2, y2), canvas.shape[1], canvas.shape[0])
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    if region is None or scale == 0.0 or opacity == 0.0:
        return
    number = min(max(0, math.floor(math.log(scale) / math.log(_STEP) + 1e-9)), len(picture.levels) - 1)
    level = picture.levels[number]
    back = np.linalg.inv(matrix[:, :2])
    zoom = np.array([level.shape[1] / width, level.shape[0] / height])
    turn = zoom[:, None] * back
    # cv2 counts from the middle of the first pixel of the region, and of the level.
    origin = np.array([region.left + 0.5, region.top + 0.5]) - matrix[:, 2]
    warp = np.column_stack([turn, turn @ origin - 0.5])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_CONSTANT if picture.framed else cv2.BORDER_REPLICATE
    patch = np.asarray(cv2.warpAffine(level, warp, region.size, flags=flags, borderMode=border), np.uint8)
    if not picture.framed:
        shift = back @ origin
        patch = _cut(patch, [(back[axis], shift[axis], picture.size[axis]) for axis in (0, 1)], scale)
    if opacity < 1.0:
        patch = np.asarray(cv2.convertScaleAbs(patch, alpha=opacity), np.uint8)
    stack(canvas, region, patch)


def _cut(
    patch: NDArray[np.uint8], axes: list[tuple[NDArray[np.float64], float, int]], scale: float
) -> NDArray[np.uint8]:
    """Clear what lies beyond a picture's sides, with an edge one pixel of the canvas wide.

    ``axes`` tells of each axis of the picture how it runs along the patch's columns and rows, where the middle of the
    patch's first pixel lies on it, and how long it is.
    """
    columns, rows = np.arange(patch.shape[1]), np.arange(patch.shape[0])[:, None]
    kept = np.ones(patch.shape[:2], np.float32)
    for (along, down), start, length in axes:
        at = along * columns + (down * rows + start)
        inside = (np.minimum(at, length - at) * scale).astype(np.float32)
        kept *= np.clip(inside + np.float32(0.5), 0.0, 1.0)
    return np.asarray(np.round(patch * kept[..., None]), np.uint8)
