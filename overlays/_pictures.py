"""Pictures with alpha, drawn over faces of any size and rotation."""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays._base import OverlayModel
from overlays._blending import Blending, BlendOptions, blend_premultiplied
from overlays._colors import ChannelOptions
from overlays._geometry import Box, Image, Placement
from overlays._records import FACE, PICTURE, GpuFaces, clip_boxes
from scrfd_trt._detections import Detections
from scrfd_trt._image_files import Limits, read_image
from scrfd_trt.errors import ImageError

MAX_SIDE = 4096  # pixels; larger pictures are shrunk when read (cv2.remap is limited to 32,767)
LIMITS = Limits(pixels=50_000_000, option="")

_MAX_SOFT = 0.04  # fraction of partly transparent pixels below which a picture counts as hard-edged
_LEVEL_STEP = math.sqrt(0.5)
_MIN_LEVEL = 4  # pixels
_MAX_LEVELS = 64  # no picture has as many
_SOFT_RIM, _HARD_RIM = 2.0, 0.5  # smaller copies are softer at their edges


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with premultiplied alpha, and smaller copies (mipmaps) of it.

    Premultiplied alpha keeps the colour of transparent pixels out of the edges. Each copy is 0.7 times as large as the
    previous one; drawing takes one that is at most 1.4 times too large, so that small faces show no moiré.

    Attributes
    ----------
    levels
        ``(h, w, 4)`` uint8, three channels multiplied by alpha, and alpha; full size first.
    clear_border
        Whether all pixels at the border are transparent.
    content
        Box around all pixels that are not transparent.
    hard_edged
        Whether hardly any pixel is partly transparent.
    """

    levels: tuple[Image, ...]
    clear_border: bool
    content: Box
    hard_edged: bool

    @classmethod
    def from_bgra(cls, pixels: Image) -> Picture:
        """Return the picture of ``(h, w, 4)`` uint8 blue, green, red, alpha, not premultiplied."""
        height, width = pixels.shape[:2]
        shrink = MAX_SIDE / max(width, height)
        alpha = cv2.cvtColor(np.ascontiguousarray(pixels[..., 3]), cv2.COLOR_GRAY2BGR)
        color = cv2.multiply(np.ascontiguousarray(pixels[..., :3]), alpha, scale=1 / 255)
        full = np.dstack([color, pixels[..., 3]])
        if shrink < 1.0:
            full = _shrink(full, shrink)
        levels, factor = [full], _LEVEL_STEP
        while min(full.shape[:2]) * factor >= _MIN_LEVEL:
            levels.append(_shrink(full, factor))
            factor *= _LEVEL_STEP
        edge = full[..., 3]
        clear_border = not (edge[0].any() or edge[-1].any() or edge[:, 0].any() or edge[:, -1].any())
        x, y, w, h = cv2.boundingRect(np.ascontiguousarray(edge))
        partly = float(((edge > 0) & (edge < 255)).sum()) / max(1.0, float((edge > 0).sum()))
        return cls(tuple(levels), clear_border, Box(x, y, x + w, y + h), partly < _MAX_SOFT)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the full picture in pixels."""
        height, width = self.levels[0].shape[:2]
        return width, height

    def is_opaque_within(self, radius: float) -> bool:
        """Return whether an ellipse about the centre is opaque; its half sides are ``radius`` times the picture's."""
        alpha = self.levels[0][..., 3]
        height, width = alpha.shape
        x = (2.0 * np.arange(width) + 1.0) / width - 1.0
        y = (2.0 * np.arange(height)[:, None] + 1.0) / height - 1.0
        return bool((alpha[x * x + y * y < radius * radius] == 255).all())

    def in_order(self, color: str) -> Picture:
        """Return the picture for images of a channel order, ``bgr`` or ``rgb``."""
        if color == "bgr":
            return self
        return replace(self, levels=tuple(np.ascontiguousarray(level[..., [2, 1, 0, 3]]) for level in self.levels))

    def placed_box(self, placement: Placement) -> Box:
        """Return the box in the image around all pixels that :meth:`draw` changes."""
        rim = _SOFT_RIM if self.clear_border else _HARD_RIM
        return placement.map_box(self.content).padded(rim, rim)

    def draw(self, canvas: Image, placement: Placement, opacity: float = 1.0, blending: Blending = "srgb") -> None:
        """Draw the picture on an image, in place; only the pixels under it are computed.

        Parameters
        ----------
        placement
            Position, size and rotation. One with determinant 0 draws nothing.
        opacity
            0 to 1, multiplies alpha.
        blending
            How partly transparent colours are mixed. A hard-edged picture is always mixed as sRGB: on an edge one pixel
            wide the difference is not visible.
        """
        region = self.placed_box(placement).clip(canvas.shape[1], canvas.shape[0])
        if region is None or placement.determinant == 0.0 or opacity == 0.0:
            return
        level = self._level(math.sqrt(abs(placement.determinant)))
        back = placement.inverse()
        # cv2 places pixel centres at whole numbers, both in the region and in the level.
        x, y = back.apply(region.left + 0.5, region.top + 0.5)
        wide, high = level.shape[1] / self.size[0], level.shape[0] / self.size[1]
        warp = np.array(
            [[back.a * wide, back.b * wide, x * wide - 0.5], [back.c * high, back.d * high, y * high - 0.5]]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        border = cv2.BORDER_CONSTANT if self.clear_border else cv2.BORDER_REPLICATE
        patch = np.asarray(cv2.warpAffine(level, warp, region.size, flags=flags, borderMode=border), np.uint8)
        if not self.clear_border:
            axes = [(back.a, back.b, x, self.size[0]), (back.c, back.d, y, self.size[1])]
            patch = _cut_at_sides(patch, axes)
        if opacity < 1.0:
            patch = np.asarray(cv2.convertScaleAbs(patch, alpha=opacity), np.uint8)
        blend_premultiplied(canvas, region, patch, "srgb" if self.hard_edged and opacity == 1.0 else blending)

    def _level(self, scale: float) -> Image:
        number = min(max(0, math.floor(math.log(scale) / math.log(_LEVEL_STEP) + 1e-9)), len(self.levels) - 1)
        return self.levels[number]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and np.array_equal(self.levels[0], other.levels[0])

    __hash__ = None  # type: ignore[assignment]  # compared by its pixels


class PictureOverlay(ChannelOptions, BlendOptions, OverlayModel):
    """Base class of overlays that draw pictures over faces.

    A subclass implements :meth:`placements`. The options of :class:`BlendOptions` control how pictures are mixed.
    """

    is_local: ClassVar[bool] = True

    @abstractmethod
    def placements(self, detections: Detections) -> Iterable[tuple[Picture, Placement]]:
        """Return the pictures to draw, in drawing order, and their placements; fastest as :class:`PlacedPictures`."""

    def privacy_warnings(self) -> list[str]:
        visible = f"opacity {self.opacity:g} leaves the face visible; use 1 to hide it"
        return [visible] if self.opacity < 1.0 else []

    def draw(self, canvas: Image, detections: Detections) -> None:
        for picture, placement in self.placements(detections):
            picture.draw(canvas, placement, self.opacity, self.blending)

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        return PlacedPictures.of(self.placements(detections)).boxes

    def gpu_faces(self, detections: Detections) -> GpuFaces | None:
        if not self._draws_as(PictureOverlay):
            return None
        placed = PlacedPictures.of(self.placements(detections))
        area = np.asarray(placed.placement.determinant)
        regions, kept = clip_boxes(np.where(area[:, None] == 0.0, 0.0, placed.boxes), detections.image_size)
        back = Placement._make(np.asarray(field)[kept] for field in placed.placement).inverse()
        about, number = placed.about[kept], placed.number[kept]
        size, is_clear, is_hard, count = about[:, 4:6], about[:, 6], about[:, 7], about[:, 8]
        wanted = np.floor(np.log(np.abs(area[kept])) / (2.0 * math.log(_LEVEL_STEP)) + 1e-9)
        levels = np.clip(wanted, 0, count - 1).astype(np.int64)
        used, at = np.unique(number * _MAX_LEVELS + levels, return_inverse=True)
        copies = [placed.pictures[each // _MAX_LEVELS].levels[each % _MAX_LEVELS] for each in used.tolist()]
        grid = np.array([copy.shape[1::-1] for copy in copies], np.float64).reshape(-1, 2)[at]
        # As in Picture.draw.
        x, y = back.apply(regions[:, 0] + 0.5, regions[:, 1] + 0.5)
        wide, high = (grid / size).T
        warp = (back.a * wide, back.b * wide, x * wide - 0.5, back.c * high, back.d * high, y * high - 0.5)
        records = np.zeros(len(regions), FACE)
        records["warp"], records["clear"] = np.stack(warp, 1), is_clear
        records["region"], records["grid"], records["row"] = regions, grid, 4 * grid[:, 0]
        records["pixels"], records["kind"], records["opacity"] = at, PICTURE, self.opacity
        records["linear"] = (self.blending == "linear") & ((is_hard == 0.0) | (self.opacity < 1.0))
        return GpuFaces(records, copies)


@dataclass(frozen=True)
class PlacedPictures:
    """Pictures and their placements as columns, and as pairs when iterated over."""

    pictures: Sequence[Picture]  # different ones
    number: NDArray[np.intp]  # which of them is placed, (N,)
    placement: Placement  # where; each field is (N,)

    @classmethod
    def of(cls, placed: Iterable[tuple[Picture, Placement]]) -> PlacedPictures:
        """Return pairs as columns."""
        if isinstance(placed, PlacedPictures):
            return placed
        pairs = list(placed)
        numbers: dict[int, int] = {}
        number = [numbers.setdefault(id(picture), len(numbers)) for picture, _ in pairs]
        pictures = list({id(picture): picture for picture, _ in pairs}.values())
        columns = np.array([placement for _, placement in pairs], np.float64).reshape(-1, 6).T
        return cls(pictures, np.array(number, np.intp), Placement(*columns))

    def __iter__(self) -> Iterator[tuple[Picture, Placement]]:
        return zip((self.pictures[each] for each in self.number.tolist()), self.placement.rows(), strict=True)

    @property
    def about(self) -> NDArray[np.float64]:
        """Box of its content, size, ``clear_border``, ``hard_edged`` and number of levels of each, ``(N, 9)``."""
        rows = [
            (*each.content, *each.size, each.clear_border, each.hard_edged, len(each.levels)) for each in self.pictures
        ]
        return np.array(rows, np.float64).reshape(-1, 9)[self.number]

    @property
    def boxes(self) -> NDArray[np.float64]:
        """:meth:`Picture.placed_box` of each, ``(N, 4)``."""
        about = self.about
        rim = np.where(about[:, 6] > 0.0, _SOFT_RIM, _HARD_RIM)
        boxes = self.placement.map_box(Box(*about[:, :4].T))
        return np.stack([boxes.x1 - rim, boxes.y1 - rim, boxes.x2 + rim, boxes.y2 + rim], 1)


_IN_USE: weakref.WeakValueDictionary[tuple[Path, int, int], Picture] = weakref.WeakValueDictionary()
"""Pictures that an overlay holds, by file, time and size: reading a large one takes seconds."""


def read_picture(path: Path) -> Picture:
    """Read any image file that scrfd_trt reads; one without alpha is an opaque rectangle.

    An unchanged file that is still in use is not read again. Of several frames or pages, the first is taken.

    Raises
    ------
    ImageError
        If the file cannot be read or decoded, has too many pixels, or is fully transparent.
    """
    try:
        info = path.stat()
        key = (path.absolute(), info.st_mtime_ns, info.st_size)
        if (known := _IN_USE.get(key)) is not None:
            return known
    except OSError as error:
        raise ImageError(f"the picture {path} cannot be read: {error.strerror or error}; check the path") from error
    frame = read_image(path, limits=LIMITS, name=f"the picture {path}")
    alpha = np.full(frame.pixels.shape[:2], 255, np.uint8) if frame.alpha is None else frame.alpha
    if not alpha.any():
        raise ImageError(f"the picture {path} is fully transparent: use a PNG or WebP with alpha, or a JPEG")
    picture = _IN_USE[key] = Picture.from_bgra(np.dstack([frame.pixels, alpha]))
    return picture


def _shrink(pixels: Image, factor: float) -> Image:
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _cut_at_sides(patch: Image, axes: list[tuple[float, float, float, int]]) -> Image:
    """Clear the patch beyond the picture's sides, with an edge one image pixel wide.

    ``axes`` holds for each axis of the picture: its change per column and per row of the patch, its value at the centre
    of the patch's first pixel, and the picture's length along it.
    """
    columns, rows = np.arange(patch.shape[1]), np.arange(patch.shape[0])[:, None]
    kept = np.ones(patch.shape[:2], np.float32)
    for along, down, start, length in axes:
        at = along * columns + (down * rows + start)
        inside = (np.minimum(at, length - at) / math.hypot(along, down)).astype(np.float32)
        kept *= np.clip(inside + np.float32(0.5), 0.0, 1.0)
    return np.asarray(np.round(patch * kept[..., None]), np.uint8)
