"""Pixels: boxes and regions cut at the image's border.

Coordinates are continuous: pixel ``i`` covers ``i`` to ``i + 1``, its middle lies at ``i + 0.5``.
"""

from __future__ import annotations

import math
from typing import NamedTuple


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
