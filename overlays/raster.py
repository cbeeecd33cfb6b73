"""Pixels: regions cut at the image's border, soft-edged masks, and two ways of blending into a region.

Coordinates are continuous: pixel ``i`` covers ``i`` to ``i + 1``, its middle lies at ``i + 0.5``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Shape = Literal["ellipse", "rectangle"]

_HARD = 1e-3  # pixels; a narrower feather is a hard edge


class Region(NamedTuple):
    """Whole pixels of an image, at least one: columns ``left`` to ``right - 1``, rows ``top`` to ``bottom - 1``."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.right - self.left, self.bottom - self.top

    @property
    def rows_columns(self) -> tuple[slice, slice]:
        """Index of these pixels in an array of the image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Box(NamedTuple):
    """A rectangle in pixels, as Python floats, so that huge ones do not overflow."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.y2 - self.y1

    @property
    def center(self) -> tuple[float, float]:
        """Middle, x and y in pixels."""
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def grown(self, x: float, y: float) -> Box:
        """Move the sides out by so many pixels."""
        return Box(self.x1 - x, self.y1 - y, self.x2 + x, self.y2 + y)


def clip_box(box: Box, width: int, height: int) -> Region | None:
    """Find the pixels of an image that a box touches.

    Parameters
    ----------
    box
        In pixels; it may lie anywhere.
    width, height
        Size of the image in pixels.

    Returns
    -------
    Region or None
        None where the box has no area or touches no pixel.
    """
    left, top = math.floor(max(box.x1, 0.0)), math.floor(max(box.y1, 0.0))
    right, bottom = math.ceil(min(box.x2, width)), math.ceil(min(box.y2, height))
    if box.x2 <= box.x1 or box.y2 <= box.y1 or right <= left or bottom <= top:
        return None
    return Region(left, top, right, bottom)


def soft_mask(shape: Shape, box: Box, feather: float, region: Region) -> NDArray[np.float32]:
    """Weights that are 1 on every pixel that the shape touches and fall to 0 outside of it.

    Parameters
    ----------
    shape
        ``rectangle``, or ``ellipse`` for the one within the box.
    box
        In pixels.
    feather
        Width of the soft edge in pixels; it lies outside of the shape. 0 gives a hard edge.
    region
        The pixels wanted, as from ``clip_box(box.grown(feather, feather), …)``.

    Returns
    -------
    numpy.ndarray
        ``(h, w)`` float32 from 0 to 1.
    """
    if shape == "rectangle":
        across = _ramp(_beyond(box.x1, box.x2, region.left, region.right), feather)
        down = _ramp(_beyond(box.y1, box.y2, region.top, region.bottom), feather)
        return np.asarray(down[:, None] * across, np.float32)
    (x, y), a, b = box.center, max(box.width / 2, 0.5), max(box.height / 2, 0.5)
    # The corner of a pixel that is nearest to the middle decides, so that each pixel touched is wholly covered.
    dx = np.maximum(np.abs(np.arange(region.left, region.right) + (0.5 - x)) - 0.5, 0.0)
    dy = np.maximum(np.abs(np.arange(region.top, region.bottom) + (0.5 - y)) - 0.5, 0.0)
    radius = np.sqrt(((dx / a) ** 2).astype(np.float32) + ((dy / b) ** 2).astype(np.float32)[:, None])
    if feather < _HARD:
        return np.asarray(radius < 1.0, np.float32)
    # The same point's radius in the ellipse that ends the soft edge; along a ray both grow in proportion.
    outer = np.sqrt(
        ((dx / (a + feather)) ** 2).astype(np.float32) + ((dy / (b + feather)) ** 2).astype(np.float32)[:, None]
    )
    rise = np.maximum(radius - 1.0, 0.0)
    left = np.maximum(1.0 - outer, 0.0)
    return _smooth(np.asarray(1.0 - rise / np.maximum(rise + left, 1e-6), np.float32))


def blend(canvas: NDArray[np.uint8], region: Region, patch: NDArray[np.uint8], mask: NDArray[np.float32]) -> None:
    """Mix a patch into a region of the canvas, rounded to the nearest level.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8; only ``region`` is written.
    region
        Where the patch lies.
    patch
        ``(h, w, 3)`` uint8.
    mask
        ``(h, w)`` float32: 1 takes the patch, 0 keeps the canvas.
    """
    view = canvas[region.rows_columns]
    view[...] = cv2.blendLinear(patch, np.ascontiguousarray(view), mask, 1.0 - mask)


def stack(canvas: NDArray[np.uint8], region: Region, patch: NDArray[np.uint8]) -> None:
    """Lay a patch with premultiplied alpha over a region of the canvas ("over" of Porter and Duff, 1984).

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8; only ``region`` is written.
    region
        Where the patch lies.
    patch
        ``(h, w, 4)`` uint8: blue, green, red, each times alpha, and alpha.
    """
    view = canvas[region.rows_columns]
    kept = cv2.cvtColor(255 - patch[..., 3], cv2.COLOR_GRAY2BGR)
    below = cv2.multiply(np.ascontiguousarray(view), kept, scale=1 / 255)
    view[...] = cv2.add(below, cv2.cvtColor(patch, cv2.COLOR_BGRA2BGR))


def _beyond(low: float, high: float, first: int, last: int) -> NDArray[np.float64]:
    """Measure how far each pixel's nearest edge lies outside of an interval; 0 for those that touch it."""
    left = np.arange(first, last, dtype=np.float64)
    return np.maximum(np.maximum(low - (left + 1.0), left - high), 0.0)


def _ramp(distance: NDArray[np.float64], feather: float) -> NDArray[np.float32]:
    if feather < _HARD:
        return np.asarray(distance <= 0.0, np.float32)
    return _smooth(np.maximum(1.0 - distance / feather, 0.0).astype(np.float32))


def _smooth(t: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round off both ends of a ramp: 3t² − 2t³."""
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)
