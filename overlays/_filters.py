"""Blurred and pixelated regions of an image."""

from __future__ import annotations

import math
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from overlays._geometry import Image, Region

MIN_STRENGTH = 0.2
"""Lower bound of a block's side as a fraction of the face's size. Familiar faces are recognised at 7×10 blocks (Sinha
et al., "Face recognition by humans: nineteen results", Proc. IEEE 94(11), 2006); this leaves 5 along the face."""

Strength = Annotated[float, Field(ge=MIN_STRENGTH, le=1.0)]

_SMALL_SIGMA = 1.5  # standard deviation on the smaller copy on which a wide blur is done
_STACK_SIZE, _STACK_SIGMA = 7, math.sqrt(2.5)  # cv2.stackBlur's triangular kernel, nearly a Gaussian
_STACK_SIDE = 6  # from this reduction on, the copy's scale can be chosen to fit that kernel


def blur_region(canvas: Image, region: Region, sigma: float) -> Image:
    """Return a region ``(h, w, 3)`` under a Gaussian blur of ``sigma`` pixels, mirrored at the image's border.

    A wide blur is done on a smaller copy, so that the time hardly depends on ``sigma``.
    """
    side = max(1, round(sigma / _SMALL_SIGMA))
    if side >= _STACK_SIDE:
        side = round(sigma / _STACK_SIGMA)
        small, whole = _shrink(canvas, region, side)
        if min(small.shape[:2]) >= _STACK_SIZE:
            soft = np.asarray(cv2.stackBlur(small, (_STACK_SIZE, _STACK_SIZE)), np.uint8)
            return _enlarge(soft, whole, region, cv2.INTER_LINEAR)
    small, whole = _shrink(canvas, region, side)
    # Capped, because a side of one pixel would need a kernel as wide as sigma.
    sigmas = [min(sigma * small.shape[1 - axis] / whole.size[axis], 2 * _SMALL_SIGMA) for axis in (0, 1)]
    across, down = (cv2.getGaussianKernel(round(6.0 * each + 1.0) | 1, each) for each in sigmas)
    # On few pixels, cv2.GaussianBlur takes three times as long because of its set-up.
    out = cv2.sepFilter2D(small, -1, across, down, borderType=cv2.BORDER_REFLECT)
    return _enlarge(np.asarray(out, np.uint8), whole, region, cv2.INTER_LINEAR)


def pixelate_region(canvas: Image, region: Region, side: int) -> Image:
    """Return a region ``(h, w, 3)`` averaged over blocks of ``side`` pixels; larger blocks if the image is small."""
    small, whole = _shrink(canvas, region, side)
    return _enlarge(small, whole, region, cv2.INTER_NEAREST)


def _shrink(canvas: Image, region: Region, side: int) -> tuple[Image, Region]:
    """Average over blocks, one pixel each; return them and the region that they fill."""
    height, width = canvas.shape[:2]
    x = _whole_blocks(region.left, region.right, side, width)
    y = _whole_blocks(region.top, region.bottom, side, height)
    whole = Region(x[0], y[0], x[1], y[1])
    pixels = canvas[whole.slices]
    count = (max(1, whole.size[0] // side), max(1, whole.size[1] // side))
    if count == whole.size:
        return np.ascontiguousarray(pixels), whole
    return np.asarray(cv2.resize(pixels, count, interpolation=cv2.INTER_AREA), np.uint8), whole


def _whole_blocks(start: int, end: int, side: int, limit: int) -> tuple[int, int]:
    """Move both ends out to a whole number of blocks within the image; averages of these are much faster."""
    missing = (start - end) % side
    if end - start + missing > limit:
        return start, end
    first = min(max(start - missing // 2, 0), limit - (end - start + missing))
    return first, first + end - start + missing


def _enlarge(small: Image, whole: Region, region: Region, interpolation: int) -> Image:
    large = small
    if small.shape[1::-1] != whole.size:
        large = np.asarray(cv2.resize(small, whole.size, interpolation=interpolation), np.uint8)
    return large[region.top - whole.top : region.bottom - whole.top, region.left - whole.left :][:, : region.size[0]]
