"""What is covered of a face: one shape, scale, margin and soft edge for all overlays that cover.

A mask is 255 on every pixel that its shape touches and falls to 0 within the feather, which lies outside of the shape.
So whatever the options, a pixel of the shape is never left half covered by the soft edge.
"""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._raster import Box, Region, clip_box
from scrfd_trt._crops import ARCFACE_TEMPLATE
from scrfd_trt._detections import Detections
from scrfd_trt._options import OptionsModel

Floats64 = NDArray[np.float64]


class Turns(NamedTuple):
    """Rotation and scale of faces against a template, each ``(N,)`` float64.

    Attributes
    ----------
    cos, sin : numpy.ndarray
        Of the angle, clockwise as seen in the image; 1 and 0 where there is none.
    scale : numpy.ndarray
        How many times as large as the template; 0 where landmarks are missing or coincide.
    """

    cos: Floats64
    sin: Floats64
    scale: Floats64


def turns(points: NDArray[np.float32] | None, count: int, template: NDArray[np.float32] = ARCFACE_TEMPLATE) -> Turns:
    """Find how each face is turned: the similarity with the least squared error (Umeyama, 1991), without its shift.

    Parameters
    ----------
    points
        ``(N, K, 2)`` landmarks in pixels, or None.
    count
        N.
    template
        ``(K, 2)`` where they lie in an upright face.
    """
    if points is None or count == 0:
        return Turns(np.ones(count), np.zeros(count), np.zeros(count))
    a = template.astype(np.float64)
    a -= a.mean(0)
    b = points.astype(np.float64)
    b -= b.mean(1, keepdims=True)
    spread = (a * a).sum()
    cosine = (b * a).sum((1, 2)) / spread
    sine = (a[:, 0] * b[:, :, 1] - a[:, 1] * b[:, :, 0]).sum(1) / spread
    scale = np.hypot(cosine, sine)
    safe = np.where(scale > 0.0, scale, 1.0)
    return Turns(np.where(scale > 0.0, cosine / safe, 1.0), sine / safe, scale)


def eye_turns(detections: Detections) -> Turns:
    """Find how the line between each face's eyes is turned; the scale is its length in pixels."""
    points, count = detections.landmarks, len(detections)
    eyes = None if points is None else points[:, :2]
    return turns(eyes, count, np.array([[0.0, 0.0], [1.0, 0.0]], np.float32))


Shape = Literal["ellipse", "rectangle", "aligned"]
"""The ellipse within the box, the whole box, or an ellipse that is turned by the landmarks."""

USUAL_HEIGHT = 1.24
"""Height of an upright face's box in its widths: the median over 318 faces in four photographs."""

_CACHED = 1 << 15  # pixels; larger masks are made anew each time

Weights = NDArray[np.uint8]
Floats = NDArray[np.float32]
_Real = TypeVar("_Real", np.float32, np.float64)


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
    """The options of every overlay that covers faces.

    Attributes
    ----------
    without_landmarks : str
        Of the class: see :class:`overlays.OverlayModel`.
    """

    without_landmarks: ClassVar[str] = "The shape aligned is the upright ellipse, as for ellipse."

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
        return _fall(*_shares(area, region), area)
    whole = _symmetric(area.shape, int(2 * area.a), int(2 * area.b), int(area.feather))
    left, top = int(area.x - across), int(area.y - down)
    return whole[region.top - top : region.bottom - top, region.left - left : region.right - left]


@functools.lru_cache(512)
def _symmetric(shape: Shape, width: int, height: int, feather: int) -> Weights:
    """Make the mask of an upright area with whole sides, from one quarter of it; soft edge on all sides."""
    area = Area(shape, 0.0, 0.0, width / 2, height / 2, 1.0, 0.0, float(feather), 0.0)
    right, bottom = (width + 1) // 2 + feather, (height + 1) // 2 + feather
    across, down = _OUTWARD[width % 2][:right], _OUTWARD[height % 2][:bottom, None]
    a, b = max(area.a, LEAST_HALF), max(area.b, LEAST_HALF)
    quarter = _fall(_floats(across / a), _floats(down / b), area)
    whole = _mirrored(quarter, height // 2 + feather, width // 2 + feather)
    whole.setflags(write=False)
    return whole


_OUTWARD = (np.arange(_CACHED / 2 + 1.0), np.maximum(np.arange(_CACHED / 2 + 1.0) - 0.5, 0.0))
"""How far the nearer side of each pixel lies from the middle of an even and of an odd number of them."""


def _mirrored(quarter: Weights, rows: int, columns: int) -> Weights:
    """Put so many mirrored rows and columns before a quarter; where that is one less, the first is the middle."""
    height, width = quarter.shape
    up = cv2.BORDER_REFLECT if rows == height else cv2.BORDER_REFLECT_101
    across = cv2.BORDER_REFLECT if columns == width else cv2.BORDER_REFLECT_101
    if up == across:
        return np.asarray(cv2.copyMakeBorder(quarter, rows, 0, columns, 0, up), np.uint8)
    half = cv2.copyMakeBorder(quarter, rows, 0, 0, 0, up)
    return np.asarray(cv2.copyMakeBorder(half, 0, 0, columns, 0, across), np.uint8)


def _shares(area: Area, region: Region) -> tuple[Floats, Floats]:
    """Measure how far pixels lie from the middle along an area's own axes, in its half sides; they broadcast to (h, w).

    The corner of a pixel that is nearest to the middle decides, so that each pixel touched is wholly covered.
    """
    a, b = max(area.a, LEAST_HALF), max(area.b, LEAST_HALF)
    columns = np.arange(region.left, region.right, dtype=np.float64) + (0.5 - area.x)
    rows = (np.arange(region.top, region.bottom, dtype=np.float64) + (0.5 - area.y))[:, None]
    if area.sin == 0.0:
        return _floats(_nearest(columns, 0.5) / a), _floats(_nearest(rows, 0.5) / b)
    extent = (abs(area.cos) + abs(area.sin)) / 2
    across = _floats(columns * (area.cos / a)) + _floats(rows * (area.sin / a))
    down = _floats(rows * (area.cos / b)) - _floats(columns * (area.sin / b))
    return _nearest(across, extent / a), _nearest(down, extent / b)


def _floats(values: NDArray[np.float64]) -> Floats:
    return values.astype(np.float32)


def _nearest(middles: NDArray[_Real], extent: float) -> NDArray[_Real]:
    """Bring distances of pixels' middles to those of their nearest corners, in place."""
    np.abs(middles, out=middles)
    middles -= middles.dtype.type(extent)
    return np.maximum(middles, middles.dtype.type(0.0), out=middles)


def _fall(across: Floats, down: Floats, area: Area) -> Weights:
    """Fall from 255 on the shape to 0 where its soft edge ends, ``(h, w)``; distances are in half sides."""
    if area.shape == "rectangle":
        slopes = _ramp(across, area.a, area.feather) * _ramp(down, area.b, area.feather)
        return _rounded(cv2.convertScaleAbs(slopes, alpha=255.0))
    x, y = across * across, down * down
    inner = x + y
    if area.feather <= 0.0:
        return np.where(inner < 1.0, np.uint8(255), np.uint8(0))
    # The same point's radius in the ellipse that ends the soft edge; along a ray both grow in proportion.
    outer = x * _shrinking(area.a, area.feather) + y * _shrinking(area.b, area.feather)
    return _between(np.sqrt(inner, out=inner), np.sqrt(outer, out=outer))


def _shrinking(half: float, feather: float) -> np.float32:
    """Square of how much smaller a distance is in half sides with the feather than in those without."""
    return np.float32((max(half, LEAST_HALF) / max(half + feather, LEAST_HALF)) ** 2)


def _ramp(share: Floats, half: float, feather: float) -> Floats:
    if feather <= 0.0:
        return np.asarray(share < 1.0, np.float32)
    return np.asarray(np.clip(1.0 - (share - 1.0) * (half / feather), 0.0, 1.0), np.float32)


def _between(inner: Floats, outer: Floats) -> Weights:
    """Fall from 255 where the first radius is 1 to 0 where the second is; both are written to."""
    inner -= outer
    inner += _TINY
    np.subtract(_ONE, outer, out=outer)
    # The division rounds, and brings what lies beyond both ends to 0 and 255.
    return _rounded(cv2.divide(outer, inner, scale=255.0, dtype=cv2.CV_8U))


_ONE, _TINY = np.float32(1.0), np.float32(1e-6)


_T = np.arange(256) / 255.0
_ROUNDED: Weights = np.asarray(np.rint(255.0 * (3.0 - 2.0 * _T) * _T * _T), np.uint8)
"""Rounds off both ends of a slope: 3t² − 2t³."""


def _rounded(steps: NDArray[Any]) -> Weights:
    return np.asarray(cv2.LUT(steps, _ROUNDED), np.uint8)


LEAST_HALF = 0.5
"""Half sides of a shape are at least this many pixels, however thin a face is."""
