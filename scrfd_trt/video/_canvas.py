"""Draw on frames: only the regions that an overlay uses are converted to BGR and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import drawn_by
from scrfd_trt._detections import Detections
from scrfd_trt._image_arrays import YUVImage
from scrfd_trt.errors import OverlayError
from scrfd_trt.video import _colors
from scrfd_trt.video._reader import Frame

OverlayFunction = Callable[[NDArray[np.uint8], Detections], NDArray[np.uint8]]
"""Takes an image and its faces, and returns the image with an overlay."""

GpuOverlay = Callable[[YUVImage, Detections], None]

INNER_MARGIN, MARGIN = 2, 12
"""Pixels at the edge of a region that swscale may convert otherwise than in the whole frame; and pixels around boxes,
so that the conversion back (:data:`_colors.PASTE_MARGIN`) has the same neighbours as in the whole frame."""
GAP = 32  # pixels; regions nearer to each other are joined
REGION_COST = 100 * 100  # pixels whose conversion takes as long as the preparation of a region
BACKGROUND = 0x01  # level of the canvas outside regions; no frame's pixels are there


def gpu_overlay(overlay: OverlayFunction) -> GpuOverlay | None:
    """Return what draws an overlay on a frame in GPU memory, in place; None if it draws on images only."""
    found: GpuOverlay | None = getattr(overlay, "_draw_on_gpu", None)
    return found


class Region(NamedTuple):
    """Columns ``left`` to ``right - 1`` and rows ``top`` to ``bottom - 1``, even numbers all."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Canvas:
    """An image of which only the regions that an overlay uses are filled, for one frame after the other."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint64)

    @contextmanager
    def drawn(self, frame: Frame, overlay: OverlayFunction, detections: Detections) -> Iterator[list[_colors.Patch]]:
        """Yield the parts of the image that the overlay drew on; none if it drew on the frame, on a GPU."""
        draw_on_gpu = gpu_overlay(overlay) if frame.is_on_gpu else None
        if draw_on_gpu is not None:
            draw_on_gpu(frame.yuv, detections)
            yield []
            return
        regions = _regions(frame.picture, overlay, detections)
        if regions is None:
            yield [_colors.Patch(0, 0, frame.image, drawn_by(overlay, frame.image, detections))]
            return
        memory, image = self._image(frame.picture.width, frame.picture.height)
        self._memory = np.empty(0, np.uint64)  # until it is empty again
        before = []
        for region in regions:
            inner = _inner(region, frame.picture)
            if inner.left >= inner.right or inner.top >= inner.bottom:
                continue  # its boxes are outside of the frame
            pixels = _colors.to_bgr(_colors.cut(frame.picture, *region))
            pixels = pixels[inner.top - region.top : inner.bottom - region.top]
            pixels = pixels[:, inner.left - region.left : inner.right - region.left]
            image[inner.slices] = pixels
            before.append((inner, pixels))
        overlay(image, detections, out=image)  # type: ignore[call-arg]  # overlays with used_boxes accept it
        yield [_colors.Patch(at.left, at.top, old, image[at.slices]) for at, old in before]
        for region, _ in before:
            image[region.slices] = BACKGROUND
        if (memory != _BACKGROUND_WORD).any():
            raise OverlayError(
                f"overlay {overlay!r} changes pixels outside its used_boxes(): return boxes that contain all of them, "
                "or None; overlays.testing checks it"
            )
        self._memory = memory

    def _image(self, width: int, height: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        words, size = -(-width * height * 3 // 8), width * height * 3
        memory = self._memory if len(self._memory) == words else np.full(words, _BACKGROUND_WORD)
        return memory, memory.view(np.uint8)[:size].reshape(height, width, 3)


_BACKGROUND_WORD = np.frombuffer(bytes([BACKGROUND] * 8), np.uint64)[0]


def _inner(region: Region, picture: Any) -> Region:
    """Return a region without the edges within the frame, whose pixels may differ from those of the whole frame."""
    left, top = (at and at + INNER_MARGIN for at in region[:2])
    right, bottom = (
        at if at == end else at - INNER_MARGIN
        for at, end in zip(region[2:], (picture.width, picture.height), strict=True)
    )
    return Region(left, top, right, bottom)


def _regions(picture: Any, overlay: OverlayFunction, detections: Detections) -> list[Region] | None:
    """Return the regions that an overlay uses; None if the whole frame is to be converted."""
    used_boxes = getattr(overlay, "used_boxes", None)
    size = (picture.width, picture.height)
    # In frames of odd size, swscale converts all pixels otherwise than in regions.
    if used_boxes is None or picture.format.name not in _colors.LAYOUTS or size[0] % 2 or size[1] % 2:
        return None
    boxes = used_boxes(detections)
    return None if boxes is None else join_boxes(boxes, size)


def join_boxes(boxes: NDArray[np.floating[Any]], size: tuple[int, int]) -> list[Region] | None:
    """Return disjoint regions around boxes ``(N, 4)`` with :data:`MARGIN`; None where the whole image is less work."""
    limits = np.array([*size, *size])
    low = np.floor(np.clip(boxes[:, :2], -MARGIN, limits[:2] + MARGIN)) - MARGIN
    high = np.ceil(np.clip(boxes[:, 2:], -MARGIN, limits[:2] + MARGIN)) + MARGIN
    sides = np.clip(np.concatenate([low, high], 1).astype(np.int64), 0, limits)
    sides[:, :2] &= ~1
    sides[:, 2:] = (sides[:, 2:] + 1) & ~1
    sides = sides[(sides[:, :2] < sides[:, 2:]).all(1)]
    while len(sides) > 1:
        near = (sides[:, None, :2] < sides[:, 2:] + GAP) & (sides[:, :2] < sides[:, None, 2:] + GAP)
        first = near.all(2).argmax(1)  # the first region near each one; often itself
        kept = np.unique(first)
        if len(kept) == len(sides):
            break
        joined = sides.copy()
        np.minimum.at(joined[:, :2], first, sides[:, :2])
        np.maximum.at(joined[:, 2:], first, sides[:, 2:])
        sides = joined[kept]
    area = ((sides[:, 2:] - sides[:, :2]).prod(1) + REGION_COST).sum()
    return None if area >= size[0] * size[1] else [Region(*row) for row in sides.tolist()]
