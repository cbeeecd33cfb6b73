"""What is covered of a face: one shape, scale, margin and soft edge for all overlays that cover.

A mask is 255 on every pixel that its shape touches and falls to 0 within the feather, which lies outside of the shape.
So whatever the options, a pixel of the shape is never left half covered by the soft edge.
"""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays.fitting import turns
from overlays.raster import Box, Region, clip_box
from scrfd_trt.detections import Detections
from scrfd_trt.options import OptionsModel

Shape = Literal["ellipse", "rectangle", "aligned"]
"""The ellipse within the box, the whole box, or an ellipse that is turned by the landmarks."""

USUAL_HEIGHT = 1.24
"""Height of an upright face's box in its widths: the median over 318 faces in four photographs."""

_CACHED = 1 << 15  # pixels; larger masks are made anew each time

Weights = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Area(NamedTuple):
    """The shape that covers one face, in pixels.

    Attributes
    ----------
    shape
        Which of the three.
    x, y
        Its middle.
    a, b
        Half its width and half its height, before it is turned.
    cos, sin
        Of the angle by which it is turned, clockwise as seen in the image.
    feather
        Width of the soft edge around it.
    size
        The longer side of the face's box.
    """

    shape: Shape
    x: float
    y: float
    a: float
    b: float
    cos: float
    sin: float
    feather: float
    size: float

    @property
    def reach(self) -> Box:
        """The box outside of which no pixel belongs to the mask, soft edge included."""
        a, b = max(self.a, LEAST_HALF) + self.feather, max(self.b, LEAST_HALF) + self.feather
        across, down = math.hypot(a * self.cos, b * self.sin), math.hypot(a * self.sin, b * self.cos)
        return Box(self.x - across, self.y - down, self.x + across, self.y + down)


class MaskOptions(OptionsModel):
    """The options of every overlay that covers faces."""

    shape: Shape = Field(
        "ellipse",
        description="What is covered: an ellipse within the box, the whole box (rectangle), or an ellipse turned by "
        "the landmarks (aligned).",
    )
    scale: float = Field(
        1.0, gt=0.0, le=10.0, description="Size of the shape in sizes of the face; below 1, some of it stays in sight."
    )
    margin: float = Field(
        0.15, ge=0.0, le=2.0, description="How far the shape reaches beyond the box, as a share of the box's sides."
    )
    feather: float = Field(
        0.1, ge=0.0, le=1.0, description="Width of the soft edge outside of the shape, as a share of the face's size."
    )


def areas(options: MaskOptions, detections: Detections) -> list[Area]:
    """Lay out the shape over each face.

    Parameters
    ----------
    options
        Shape, scale, margin and feather.
    detections
        The faces. For ``aligned``, those without landmarks get the upright ellipse.

    Returns
    -------
    list of Area
        In the order of the faces, without those whose box has no area.
    """
    boxes = detections.boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    seen = np.flatnonzero((sides > 0.0).all(1))
    boxes, sides, middle = boxes[seen], sides[seen], (boxes[seen, :2] + boxes[seen, 2:]) / 2
    size = sides.max(1, initial=0.0)
    turn = turns(detections.landmarks if options.shape == "aligned" else None, len(detections))
    cos, sin = turn.cos[seen], turn.sin[seen]
    half = _turned(sides, cos, sin) * (options.scale * (0.5 + options.margin))
    feather = size * options.feather
    upright = sin == 0.0
    # On whole pixels, an upright mask is symmetric, and the same for all faces of its size.
    low, high = np.floor(middle - half), np.ceil(middle + half)
    middle = np.where(upright[:, None], (low + high) / 2, middle)
    half = np.where(upright[:, None], (high - low) / 2, half)
    feather = np.where(upright, np.ceil(feather), feather)
    columns = [*middle.T.tolist(), *half.T.tolist(), cos.tolist(), sin.tolist(), feather.tolist(), size.tolist()]
    return [Area(options.shape, *row) for row in zip(*columns, strict=True)]


def _turned(sides: NDArray[np.float64], cos: NDArray[np.float64], sin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find width and height of turned ellipses from the upright boxes around them; all ``(N, 2)``.

    With W and H the sides of the box and A and B those of the ellipse, W² + H² = A² + B², and
    W² − H² = (A² − B²) cos 2t. Near t = 45° the second says nothing, and the usual proportion of faces takes its place.
    """
    if not sin.any():
        return sides
    squares = sides * sides
    total, apart = squares.sum(1), squares[:, 0] - squares[:, 1]
    cos2, sin2 = cos * cos - sin * sin, 2.0 * cos * sin
    usual = total * (1.0 - USUAL_HEIGHT**2) / (1.0 + USUAL_HEIGHT**2)
    difference = cos2 * apart + sin2 * sin2 * usual
    return np.asarray(np.sqrt(np.maximum(np.stack([total + difference, total - difference], 1), 0.0) / 2.0), np.float64)


def region_of(area: Area, canvas: NDArray[np.uint8]) -> Region | None:
    """Find the pixels of an image ``(H, W, 3)`` that a mask reaches; None where there are none."""
    height, width = canvas.shape[:2]
    if area.sin != 0.0:
        # A turned pixel sticks out of its row and column by up to 0.21; its whole width is on the safe side.
        return clip_box(area.reach.grown(1.0, 1.0), width, height)
    across, down = area.a + area.feather, area.b + area.feather
    left, top = max(int(area.x - across), 0), max(int(area.y - down), 0)
    right, bottom = min(int(area.x + across), width), min(int(area.y + down), height)
    return Region(left, top, right, bottom) if left < right and top < bottom else None


def weights(area: Area, region: Region) -> Weights:
    """Make the mask of an area.

    Parameters
    ----------
    area
        From :func:`areas`.
    region
        The pixels wanted, from :func:`region_of`.

    Returns
    -------
    numpy.ndarray
        ``(h, w)`` uint8, read-only: 255 on every pixel that the shape touches, 0 beyond its soft edge.
    """
    across, down = area.a + area.feather, area.b + area.feather
    if area.sin != 0.0 or across * down > _CACHED / 4:
        return _levels(_slopes(area, region))
    whole = _symmetric(area.shape, int(2 * area.a), int(2 * area.b), int(area.feather))
    left, top = int(area.x - across), int(area.y - down)
    return whole[region.top - top : region.bottom - top, region.left - left : region.right - left]


@functools.lru_cache(512)
def _symmetric(shape: Shape, width: int, height: int, feather: int) -> Weights:
    """Make the mask of an upright area with whole sides, from one quarter of it; soft edge on all sides."""
    w, h = width + 2 * feather, height + 2 * feather
    area = Area(shape, w / 2, h / 2, width / 2, height / 2, 1.0, 0.0, float(feather), 0.0)
    right, bottom = (w + 1) // 2, (h + 1) // 2
    quarter = _levels(_slopes(area, Region(0, 0, right, bottom)))
    whole = np.empty((h, w), np.uint8)
    whole[:bottom, :right] = quarter
    whole[:bottom, w - right :] = quarter[:, ::-1]
    whole[h - bottom :] = whole[bottom - 1 :: -1]
    whole.setflags(write=False)
    return whole


def _slopes(area: Area, region: Region) -> Floats:
    """Fall from 1 and more on the shape to 0 and less where its soft edge ends, ``(h, w)``."""
    columns = np.arange(region.left, region.right, dtype=np.float64) + (0.5 - area.x)
    rows = np.arange(region.top, region.bottom, dtype=np.float64) + (0.5 - area.y)
    if area.sin == 0.0:
        # The corner of a pixel that is nearest to the middle decides, so that each pixel touched is wholly covered.
        across, down = np.maximum(np.abs(columns) - 0.5, 0.0), np.maximum(np.abs(rows) - 0.5, 0.0)[:, None]
    else:
        extent = (abs(area.cos) + abs(area.sin)) / 2
        across = np.maximum(np.abs(columns * area.cos + (rows * area.sin)[:, None]) - extent, 0.0)
        down = np.maximum(np.abs((rows * area.cos)[:, None] - columns * area.sin) - extent, 0.0)
    if area.shape == "rectangle":
        return _ramp(across - area.a, area.feather) * _ramp(down - area.b, area.feather)
    return _elliptic(across, down, area)


def _elliptic(across: NDArray[np.float64], down: NDArray[np.float64], area: Area) -> Floats:
    inner = _radius(across, down, area.a, area.b)
    if area.feather <= 0.0:
        return np.asarray(inner < 1.0, np.float32)
    # The same point's radius in the ellipse that ends the soft edge; along a ray both grow in proportion.
    outer = _radius(across, down, area.a + area.feather, area.b + area.feather)
    inner -= outer
    inner += np.float32(1e-6)
    np.subtract(np.float32(1.0), outer, out=outer)
    outer /= inner
    return outer


def _radius(across: NDArray[np.float64], down: NDArray[np.float64], a: float, b: float) -> Floats:
    x, y = (across / max(a, LEAST_HALF)).astype(np.float32), (down / max(b, LEAST_HALF)).astype(np.float32)
    square = x * x + y * y
    return np.asarray(np.sqrt(square, out=square), np.float32)


def _ramp(beyond: NDArray[np.float64], feather: float) -> Floats:
    if feather <= 0.0:
        return np.asarray(beyond < 0.0, np.float32)
    return np.asarray(np.clip(1.0 - beyond / feather, 0.0, 1.0), np.float32)


_T = np.arange(256) / 255.0
_ROUNDED: Weights = np.asarray(np.rint(255.0 * (3.0 - 2.0 * _T) * _T * _T), np.uint8)
"""Rounds off both ends of a slope: 3t² − 2t³."""


def _levels(slopes: Floats) -> Weights:
    """Bring slopes to 0 to 255: 1 and more are full, 0 and less are nothing."""
    steps = cv2.convertScaleAbs(np.maximum(slopes, 0.0, out=slopes), alpha=255.0)
    return np.asarray(cv2.LUT(steps, _ROUNDED), np.uint8)


LEAST_HALF = 0.5
"""Half sides of a shape are at least this many pixels, however thin a face is."""
