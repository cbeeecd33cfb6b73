"""Masks over faces: one shape, scale, margin and soft edge for all overlays that cover faces.

A mask is 255 on every pixel that its shape touches and falls to 0 within the feather, which lies outside the shape.
The soft edge therefore never leaves a pixel of the shape half covered.
"""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._geometry import Box, Image, Region, fit_rotations
from scrfd_trt._detections import Detections
from scrfd_trt._options import OptionsModel

Shape = Literal["ellipse", "rectangle", "aligned"]
"""The ellipse within the box, the whole box, or an ellipse rotated by the landmarks."""

TYPICAL_ASPECT = 1.24  # height of an upright face's box by its width: the median of 318 faces in four photographs

MIN_HALF_SIDE = 0.5  # lower bound of a shape's half sides in pixels, however thin the face

_CACHED_PIXELS = 1 << 15  # larger masks are not cached

_Floats = NDArray[np.float32]
_Doubles = NDArray[np.float64]


class Mask(NamedTuple):
    """The mask over one face, in pixels.

    Attributes
    ----------
    x, y
        Centre of the shape.
    a, b
        Half its width and half its height, before rotation.
    cos, sin
        Of the clockwise rotation.
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
    def box(self) -> Box:
        """Box that contains every pixel of the mask, including its soft edge."""
        a, b = max(self.a, MIN_HALF_SIDE) + self.feather, max(self.b, MIN_HALF_SIDE) + self.feather
        across, down = math.hypot(a * self.cos, b * self.sin), math.hypot(a * self.sin, b * self.cos)
        box = Box(self.x - across, self.y - down, self.x + across, self.y + down)
        # A rotated pixel extends beyond its row and column by up to 0.21; a whole pixel is safe.
        return box if self.sin == 0.0 else box.padded(1.0, 1.0)

    def region(self, image: Image) -> Region | None:
        """Return the pixels of an image ``(H, W, 3)`` that the mask covers, or None if there are none."""
        height, width = image.shape[:2]
        if self.sin != 0.0:
            return self.box.clip(width, height)
        across, down = self.a + self.feather, self.b + self.feather
        left, top = max(int(self.x - across), 0), max(int(self.y - down), 0)
        right, bottom = min(int(self.x + across), width), min(int(self.y + down), height)
        return Region(left, top, right, bottom) if left < right and top < bottom else None

    def rasterize(self, region: Region) -> Image:
        """Return the mask's pixels in a region that :meth:`region` returned: ``(h, w)`` uint8, read-only.

        They are 255 where the shape touches the pixel, and 0 beyond its soft edge.
        """
        across, down = self.a + self.feather, self.b + self.feather
        left, top = int(self.x - across), int(self.y - down)
        is_small = across * down <= _CACHED_PIXELS / 4
        is_whole = (region.right - region.left, region.bottom - region.top) == (2 * across, 2 * down)
        if self.sin != 0.0 or not (is_small or (is_whole and max(across, down) <= _CACHED_PIXELS / 2)):
            return _soft_edge(*_distances(self, region), self)
        make = _upright_mask if is_small else _upright_mask.__wrapped__
        whole = make(self.shape, int(2 * self.a), int(2 * self.b), int(self.feather))
        return whole[region.top - top : region.bottom - top, region.left - left : region.right - left]


class MaskColumns(NamedTuple):
    """The masks over faces as columns; the fields are those of :class:`Mask`."""

    center: _Doubles  # (N, 2), and half
    half: _Doubles
    cos: _Doubles  # (N,), and all others
    sin: _Doubles
    feather: _Doubles
    size: _Doubles

    def boxes(self, padding: _Doubles | float = 0.0) -> _Doubles:
        """Return :attr:`Mask.box` of each face, ``(N, 4)``, with its sides moved out by so many pixels."""
        half = np.maximum(self.half, MIN_HALF_SIDE) + self.feather[:, None]
        across = np.hypot(half[:, 0] * self.cos, half[:, 1] * self.sin)
        down = np.hypot(half[:, 0] * self.sin, half[:, 1] * self.cos)
        reach = (np.stack([across, down]) + ((self.sin != 0.0) + padding)).T
        return np.concatenate([self.center - reach, self.center + reach], 1)


class MaskOptions(OptionsModel):
    """Options of overlays that cover faces."""

    without_landmarks: ClassVar[str] = "shape=aligned works like shape=ellipse."

    shape: Shape = Field(
        "ellipse", description="Ellipse within the box, whole box, or ellipse rotated by the landmarks (aligned)."
    )
    scale: float = Field(1.0, gt=0.0, le=10.0, description="Size of the shape; below 1, part of the face is visible.")
    margin: float = Field(
        0.15, ge=0.0, le=2.0, description="Distance covered beyond the box, as a fraction of its sides."
    )
    feather: float = Field(0.1, ge=0.0, le=1.0, description="Width of the soft edge, as a fraction of the face's size.")

    def masks(self, detections: Detections) -> list[Mask]:
        """Return the mask over each face, in order, without those whose box has no area.

        With ``shape="aligned"``, faces without landmarks get the upright ellipse.
        """
        center, half, *others = self.mask_columns(detections)
        columns = [column.tolist() for column in (*center.T, *half.T, *others)]
        return [Mask(self.shape, *row) for row in zip(*columns, strict=True)]

    def mask_columns(self, detections: Detections) -> MaskColumns:
        """Return the masks of :meth:`masks` as columns."""
        boxes = detections.boxes.astype(np.float64)
        sides = boxes[:, 2:] - boxes[:, :2]
        rows = np.flatnonzero((sides > 0.0).all(1))
        boxes, sides, center = boxes[rows], sides[rows], (boxes[rows, :2] + boxes[rows, 2:]) / 2
        size = sides.max(1, initial=0.0)
        landmarks = detections.landmarks if self.shape == "aligned" else None
        rotations = fit_rotations(landmarks, len(detections))
        cos, sin = rotations.cos[rows], rotations.sin[rows]
        half = _ellipse_sides(sides, cos, sin) * (self.scale * (0.5 + self.margin))
        feather = size * self.feather
        # On whole pixels, an upright mask is symmetric and identical for all faces of its size.
        upright = sin == 0.0
        low, high = np.floor(center - half), np.ceil(center + half)
        center = np.where(upright[:, None], (low + high) / 2, center)
        half = np.where(upright[:, None], (high - low) / 2, half)
        feather = np.where(upright, np.ceil(feather), feather)
        return MaskColumns(center, half, cos, sin, feather, size)


def _ellipse_sides(
    sides: NDArray[np.float64], cos: NDArray[np.float64], sin: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sides of rotated ellipses from those of the upright boxes around them; both ``(N, 2)``.

    With W and H the sides of the box and A and B those of the ellipse, W² + H² = A² + B², and
    W² − H² = (A² − B²) cos 2t. Near t = 45° the second is undetermined; the typical aspect of faces replaces it.
    """
    if not sin.any():
        return sides
    squares = sides * sides
    total, difference = squares.sum(1), squares[:, 0] - squares[:, 1]
    cos2, sin2 = cos * cos - sin * sin, 2.0 * cos * sin
    typical = total * (1.0 - TYPICAL_ASPECT**2) / (1.0 + TYPICAL_ASPECT**2)
    fitted = cos2 * difference + sin2 * sin2 * typical
    return np.asarray(np.sqrt(np.maximum(np.stack([total + fitted, total - fitted], 1), 0.0) / 2.0), np.float64)


@functools.lru_cache(512)
def _upright_mask(shape: Shape, width: int, height: int, feather: int) -> Image:
    """Return the whole mask, mirrored from one quarter; its sides are whole pixels."""
    mask = Mask(shape, 0.0, 0.0, width / 2, height / 2, 1.0, 0.0, float(feather), 0.0)
    right, bottom = (width + 1) // 2 + feather, (height + 1) // 2 + feather
    across, down = _INNER_EDGES[width % 2][:right], _INNER_EDGES[height % 2][:bottom, None]
    a, b = max(mask.a, MIN_HALF_SIDE), max(mask.b, MIN_HALF_SIDE)
    quarter = _soft_edge((across / a).astype(np.float32), (down / b).astype(np.float32), mask)
    whole = _mirrored(quarter, height // 2 + feather, width // 2 + feather)
    whole.setflags(write=False)
    return whole


_INNER_EDGES = (np.arange(_CACHED_PIXELS / 2 + 1.0), np.maximum(np.arange(_CACHED_PIXELS / 2 + 1.0) - 0.5, 0.0))
"""Distance from the centre to the nearer side of each pixel, for an even and an odd number of pixels."""


def _mirrored(quarter: Image, rows: int, columns: int) -> Image:
    """Prepend mirrored rows and columns; if one fewer than the quarter has, its first is the centre."""
    height, width = quarter.shape
    up = cv2.BORDER_REFLECT if rows == height else cv2.BORDER_REFLECT_101
    across = cv2.BORDER_REFLECT if columns == width else cv2.BORDER_REFLECT_101
    if up == across:
        return np.asarray(cv2.copyMakeBorder(quarter, rows, 0, columns, 0, up), np.uint8)
    half = cv2.copyMakeBorder(quarter, rows, 0, 0, 0, up)
    return np.asarray(cv2.copyMakeBorder(half, 0, 0, columns, 0, across), np.uint8)


def _distances(mask: Mask, region: Region) -> tuple[_Floats, _Floats]:
    """Return distances from the centre along the mask's axes, in half sides; they broadcast to ``(h, w)``.

    They are those of each pixel's nearest corner, so that each pixel touched is fully covered.
    """
    a, b = max(mask.a, MIN_HALF_SIDE), max(mask.b, MIN_HALF_SIDE)
    columns = np.arange(region.left, region.right, dtype=np.float64) + (0.5 - mask.x)
    rows = (np.arange(region.top, region.bottom, dtype=np.float64) + (0.5 - mask.y))[:, None]
    if mask.sin == 0.0:
        return (_to_corner(columns, 0.5) / a).astype(np.float32), (_to_corner(rows, 0.5) / b).astype(np.float32)
    extent = (abs(mask.cos) + abs(mask.sin)) / 2
    across = (columns * (mask.cos / a)).astype(np.float32) + (rows * (mask.sin / a)).astype(np.float32)
    down = (rows * (mask.cos / b)).astype(np.float32) - (columns * (mask.sin / b)).astype(np.float32)
    return _to_corner(across, extent / a), _to_corner(down, extent / b)


def _to_corner(centers: NDArray[Any], extent: float) -> NDArray[Any]:
    """Turn distances of pixel centres into those of their nearest corners, in place."""
    np.abs(centers, out=centers)
    centers -= centers.dtype.type(extent)
    np.maximum(centers, centers.dtype.type(0.0), out=centers)
    return centers


def _soft_edge(across: _Floats, down: _Floats, mask: Mask) -> Image:
    """Return ``(h, w)`` from 255 on the shape to 0 where its soft edge ends; distances are in half sides."""
    if mask.shape == "rectangle":
        slopes = _ramp(across, mask.a, mask.feather) * _ramp(down, mask.b, mask.feather)
        return _smooth(cv2.convertScaleAbs(slopes, alpha=255.0))
    x, y = across * across, down * down
    inner = x + y
    if mask.feather <= 0.0:
        return np.where(inner < 1.0, np.uint8(255), np.uint8(0))
    # The same point's radius in the ellipse that ends the soft edge; along a ray both grow in proportion.
    outer = x * _squared_ratio(mask.a, mask.feather) + y * _squared_ratio(mask.b, mask.feather)
    inner, outer = np.sqrt(inner, out=inner), np.sqrt(outer, out=outer)
    inner -= outer
    inner += np.float32(1e-6)
    np.subtract(np.float32(1.0), outer, out=outer)
    # The division rounds, and saturates values beyond both ends.
    return _smooth(cv2.divide(outer, inner, scale=255.0, dtype=cv2.CV_8U))


def _squared_ratio(half: float, feather: float) -> np.float32:
    """Square of the half side divided by the half side with the feather."""
    return np.float32((max(half, MIN_HALF_SIDE) / max(half + feather, MIN_HALF_SIDE)) ** 2)


def _ramp(distance: _Floats, half: float, feather: float) -> _Floats:
    if feather <= 0.0:
        return np.asarray(distance < 1.0, np.float32)
    return np.asarray(np.clip(1.0 - (distance - 1.0) * (half / feather), 0.0, 1.0), np.float32)


_T = np.arange(256) / 255.0
_SMOOTHSTEP: Image = np.asarray(np.rint(255.0 * (3.0 - 2.0 * _T) * _T * _T), np.uint8)


def _smooth(ramp: NDArray[Any]) -> Image:
    return np.asarray(cv2.LUT(ramp, _SMOOTHSTEP), np.uint8)
