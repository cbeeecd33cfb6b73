"""Pixels without detail: blurred, or averaged over blocks."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays._raster import Region

FINE_SIGMA = 1.5
"""Standard deviation in pixels on the smaller copy on which a wide blur is done."""

_STACK_SIZE, _STACK_SIGMA = 7, math.sqrt(2.5)
"""Side and standard deviation of the triangular kernel (1 2 3 4 3 2 1) of ``cv2.stackBlur``, all but a Gaussian."""

_STACKED = 6
"""Where a copy is so many times smaller, its scale can be chosen to fit the triangle."""

LEAST_DETAIL = 0.2
"""Share of a face's size. Familiar faces are still known at 7×10 blocks (Sinha et al., "Face recognition by humans:
nineteen results", Proc. IEEE 94(11), 2006); this leaves half of these ten along the face."""


def blurred(canvas: NDArray[np.uint8], region: Region, sigma: float) -> NDArray[np.uint8]:
    """Blur a region by a Gaussian, mirrored at its border; a wide one is done on a smaller copy.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8.
    region
        The pixels wanted.
    sigma
        Standard deviation in pixels.

    Returns
    -------
    numpy.ndarray
        ``(h, w, 3)`` uint8. The time hardly depends on ``sigma``.
    """
    side = max(1, round(sigma / FINE_SIGMA))
    if side >= _STACKED:
        side = round(sigma / _STACK_SIGMA)
        small, whole = shrunk(canvas, region, side)
        if min(small.shape[:2]) >= _STACK_SIZE:
            soft = np.asarray(cv2.stackBlur(small, (_STACK_SIZE, _STACK_SIZE)), np.uint8)
            return _enlarged(soft, whole, region, cv2.INTER_LINEAR)
    small, whole = shrunk(canvas, region, side)
    # A side of one pixel would ask for a kernel as wide as sigma itself.
    sigmas = [min(sigma * small.shape[1 - axis] / whole.size[axis], 2 * FINE_SIGMA) for axis in (0, 1)]
    across, down = (cv2.getGaussianKernel(round(6.0 * each + 1.0) | 1, each) for each in sigmas)
    # On so few pixels, cv2.GaussianBlur takes three times as long, most of it to begin.
    out = cv2.sepFilter2D(small, -1, across, down, borderType=cv2.BORDER_REFLECT)
    return _enlarged(np.asarray(out, np.uint8), whole, region, cv2.INTER_LINEAR)


def blocks(canvas: NDArray[np.uint8], region: Region, side: int) -> NDArray[np.uint8]:
    """Average over blocks.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8.
    region
        The pixels wanted.
    side
        Side of a block in pixels, 1 or more. Where the image is too small for whole blocks, they are larger.

    Returns
    -------
    numpy.ndarray
        ``(h, w, 3)`` uint8.
    """
    small, whole = shrunk(canvas, region, side)
    return _enlarged(small, whole, region, cv2.INTER_NEAREST)


def shrunk(canvas: NDArray[np.uint8], region: Region, side: int) -> tuple[NDArray[np.uint8], Region]:
    """Average over blocks of some side, one pixel each; return them and the region that they fill."""
    height, width = canvas.shape[:2]
    x = _whole_blocks(region.left, region.right, side, width)
    y = _whole_blocks(region.top, region.bottom, side, height)
    whole = Region(x[0], y[0], x[1], y[1])
    pixels = canvas[whole.rows_columns]
    count = (max(1, whole.size[0] // side), max(1, whole.size[1] // side))
    if count == whole.size:
        return np.ascontiguousarray(pixels), whole
    return np.asarray(cv2.resize(pixels, count, interpolation=cv2.INTER_AREA), np.uint8), whole


def _whole_blocks(start: int, end: int, side: int, limit: int) -> tuple[int, int]:
    """Move both ends out to a whole number of blocks, within the image: averages of these are much quicker."""
    missing = (start - end) % side
    if end - start + missing > limit:
        return start, end
    first = min(max(start - missing // 2, 0), limit - (end - start + missing))
    return first, first + end - start + missing


def _enlarged(small: NDArray[np.uint8], whole: Region, region: Region, interpolation: int) -> NDArray[np.uint8]:
    if small.shape[1::-1] == whole.size:
        large = small
    else:
        large = np.asarray(cv2.resize(small, whole.size, interpolation=interpolation), np.uint8)
    return large[region.top - whole.top : region.bottom - whole.top, region.left - whole.left :][:, : region.size[0]]
