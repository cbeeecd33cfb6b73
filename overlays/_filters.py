"""What replaces the pixels of faces: one colour, or the blurred or pixelated image."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays import _records
from overlays._geometry import Image, Region

MIN_STRENGTH = 0.2
"""Lower bound of a block's side as a fraction of the face's size. Familiar faces are recognised at 7×10 blocks (Sinha
et al., "Face recognition by humans: nineteen results", Proc. IEEE 94(11), 2006); this leaves 5 along the face."""

Strength = Annotated[float, Field(ge=MIN_STRENGTH, le=1.0)]

_SMALL_SIGMA = 1.5  # standard deviation on the smaller copy on which a wide blur is done
_STACK_SIZE, _STACK_SIGMA = 7, math.sqrt(2.5)  # cv2.stackBlur's triangular kernel, nearly a Gaussian
_STACK_SIDE = 6  # from this reduction on, the copy's scale can be chosen to fit that kernel

Values = NDArray[np.float64]  # one value a face, ``(N,)``


class Fill(ABC):
    """What replaces the pixels of faces. The three in this module are kernels on the GPU; others work on the CPU."""

    @property
    @abstractmethod
    def reach(self) -> Values | float:
        """How far from a mask the fill depends on the image, in pixels."""

    @abstractmethod
    def replace(self, canvas: Image, region: Region, row: int) -> Image:
        """Return the pixels ``(h, w, 3)`` that replace those of a region, for the face in a row of the values."""

    def pack(self, records: NDArray[Any], size: tuple[int, int]) -> None:
        """Write the fields of all faces' records for the GPU, which hold their regions of an image of that size."""
        raise NotImplementedError(f"{type(self).__name__} works on the CPU")


@dataclass(frozen=True)
class FlatFill(Fill):
    """One colour, in the channel order of the image."""

    color: tuple[int, int, int]

    @property
    def reach(self) -> float:
        return 0.0

    def replace(self, canvas: Image, region: Region, row: int) -> Image:
        width, height = region.size
        out = np.empty((height, width, 3), np.uint8)
        # Much faster than assigning three values.
        cv2.rectangle(out, (0, 0), (width, height), self.color, cv2.FILLED)
        return out

    def pack(self, records: NDArray[Any], size: tuple[int, int]) -> None:
        records["kind"], records["color"] = _records.FLAT, self.color


@dataclass(frozen=True)
class MosaicFill(Fill):
    """The image in blocks; ``side`` is that of a block in whole pixels."""

    side: Values

    @property
    def reach(self) -> Values:
        return self.side

    def replace(self, canvas: Image, region: Region, row: int) -> Image:
        return pixelate_region(canvas, region, int(self.side[row]))

    def pack(self, records: NDArray[Any], size: tuple[int, int]) -> None:
        records["kind"] = _records.MOSAIC
        _pack_cells(records, self.side.astype(np.int64), size)


@dataclass(frozen=True)
class BlurFill(Fill):
    """The image under a Gaussian blur; ``sigma`` is in pixels."""

    sigma: Values

    @property
    def reach(self) -> Values:
        return np.ceil(2.0 * self.sigma)  # up to a whole number of blocks

    def replace(self, canvas: Image, region: Region, row: int) -> Image:
        return blur_region(canvas, region, float(self.sigma[row]))

    def pack(self, records: NDArray[Any], size: tuple[int, int]) -> None:
        records["kind"] = _records.BLUR
        side = np.maximum(1.0, np.rint(self.sigma / _SMALL_SIGMA))
        is_wide = side >= _STACK_SIDE
        side = np.where(is_wide, np.rint(self.sigma / _STACK_SIGMA), side)
        _pack_cells(records, side.astype(np.int64), size)
        sigmas = np.minimum(self.sigma[:, None] / records["whole"][:, 2:] * records["grid"], 2 * _SMALL_SIGMA)
        is_stack = is_wide & (records["grid"].min(1) >= _STACK_SIZE)
        records["sigma"] = np.where(is_stack[:, None], 0.0, sigmas)


FILLS = (FlatFill, MosaicFill, BlurFill)


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


def _pack_cells(records: NDArray[Any], side: NDArray[np.int64], size: tuple[int, int]) -> None:
    """Write which pixels are averaged to which cells, for all faces as :func:`_shrink` does for one."""
    side = side[:, None]
    start, end = records["region"][:, :2].astype(np.int64), records["region"][:, 2:].astype(np.int64)
    missing = (start - end) % side
    length = end - start + missing
    first = np.clip(start - missing // 2, 0, np.maximum(size - length, 0))
    fits = length <= size
    first, length = np.where(fits, first, start), np.where(fits, length, end - start)
    records["whole"] = np.concatenate([first, length], 1)
    records["grid"] = grid = np.maximum(1, length // side)
    records["ratio"] = 1.0 / (length / grid)


def _enlarge(small: Image, whole: Region, region: Region, interpolation: int) -> Image:
    large = small
    if small.shape[1::-1] != whole.size:
        large = np.asarray(cv2.resize(small, whole.size, interpolation=interpolation), np.uint8)
    return large[region.top - whole.top : region.bottom - whole.top, region.left - whole.left :][:, : region.size[0]]
