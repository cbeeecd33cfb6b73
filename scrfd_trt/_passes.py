"""Plan what the model looks at: the whole image, overlapping tiles of it, and turned ones; and join what it finds."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._decode import Candidates
from scrfd_trt._letterbox import SIDE_STEP, TURNED_ASIDE, Letterbox
from scrfd_trt._nms import nms

if TYPE_CHECKING:
    from scrfd_trt._options import DetectorOptions

log = logging.getLogger("scrfd_trt")

Size = tuple[int, int]  # width and height in pixels
MIN_SIDE = 8  # side in pixels of a cell of the finest stride; a scaled image below it has no cell of its own
FOUND_FROM = 16  # longer side of a face in input pixels from which models find it reliably
FILLING = 256
"""Longer side of a face in input pixels from which a look at the whole image at a smaller scale may be better."""

LEVEL_RATIO = 8  # maximum ratio of the scales of two levels, so that tiles overlap by at most so many smallest faces
MAX_TILE = 1600  # side of a tile in input pixels, for models of free size on the CPU
MARGIN = 4  # distance in input pixels from an inner border of a window within which a face counts as cut
ROUNDING = 1e-9  # what a number may lie above a whole one by rounding
COVERED, SAME = 0.5, 0.2
"""Share of a box that gives way, above which another one covers it, and the intersection over union of both."""


WEAK = 0.1  # minimum score of faces in turned images that are looked at again; more for thresholds above 0.3
SHEET, CHIP, CHIP_FACE, TILTS = 6, 106, 44, (-25.0, 0.0, 25.0)
"""Faces that are looked at again: how many side by side, their distance and size in pixels, and degrees of each turn.

Measured: of faces rolled by 60 degrees, the four directions find 55 to 74 %, and with this look 90 to 98 %."""


@dataclass(frozen=True)
class View:
    """One look of the model at a part of an image.

    The part is scaled first, then turned, then placed top left in the input.
    """

    window: tuple[int, int, int, int]  # x, y, width and height of the part in source pixels
    rotation: int  # degrees clockwise by which the part is turned: 0, 90, 180 or 270
    box: Letterbox  # placement of the turned part in the input
    min_size: float = 0.0  # longer side in source pixels of the faces that the view is responsible for
    max_size: float = math.inf

    @property
    def target(self) -> Size:
        """Size of the input."""
        return self.box.target

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the part of an image ``(H, W, 3)``, as a view that is not turned."""
        x, y, width, height = self.window
        return image[y : y + height, x : x + width]


@dataclass(frozen=True)
class Look:
    """An image with options of its own, in place of an image; they replace those of the detector."""

    image: Any
    min_face: float | None = None
    rotations: tuple[int, ...] = ()

    @property
    def has_views(self) -> bool:
        """Whether the model may see more than the whole image, upright."""
        return bool(self.min_face or self.rotations)


def as_look(image: Any, options: DetectorOptions) -> Look:
    """Return an image with the options of the detector, unless it has its own."""
    return image if isinstance(image, Look) else Look(image, options.min_face, options.rotations)


def image_size(image: NDArray[np.uint8]) -> Size:
    """Return width and height of an array ``(H, W, 3)``."""
    return image.shape[1], image.shape[0]


@lru_cache(maxsize=256)
def plan_views(
    size: Size,
    scales: tuple[Size, ...],
    *,
    cut: bool = False,
    min_face: float | None = None,
    rotations: tuple[int, ...] = (),
) -> tuple[View, ...]:
    """Return the views of an image of this size.

    The whole image is seen at each of ``scales``. If a face of ``min_face`` source pixels is too small for the model
    there, tiles follow at the scales at which it is not. Everything is repeated for each of ``rotations``. With
    ``cut``, the model runs at sizes that fit the views; otherwise, at ``scales``, tiles at the largest of them.
    """
    views = _plan(size, scales, min_face, cut=cut)
    for rotation in rotations:
        turned = size if rotation == 180 else size[::-1]
        views += [_turn(view, rotation, size) for view in _plan(turned, scales, min_face, cut=cut)]
    return tuple(views)


def _plan(size: Size, scales: tuple[Size, ...], min_face: float | None, *, cut: bool) -> list[View]:
    boxes = [Letterbox.fit(size, scale) for scale in scales]
    views = [View((0, 0, *size), 0, box.cut() if cut else box) for box in boxes]
    coarsest = max(min(box.scale) for box in boxes)
    finest = FOUND_FROM / (min_face or math.inf)
    if finest <= coarsest:
        return views
    views = [replace(view, min_size=_smallest(view, boxes)) for view in views]
    target = (MAX_TILE, MAX_TILE) if cut else max(scales, key=math.prod)
    levels = math.ceil(math.log(finest / coarsest) / math.log(LEVEL_RATIO) - ROUNDING)
    levels_scales = [coarsest * (finest / coarsest) ** (level / levels) for level in range(levels + 1)]
    for above, scale in pairwise(levels_scales):
        smallest = 0.0 if scale == levels_scales[-1] else FOUND_FROM / scale  # no other view finds smaller ones
        views += _tiles(size, scale, (smallest, FOUND_FROM / above), target, cut=cut)
    return views


def _smallest(view: View, boxes: Sequence[Letterbox]) -> float:
    """Return the size from which faces are for a look at the whole image; a finer one sees most of them better."""
    finer = [min(box.scale) for box in boxes if min(box.scale) > min(view.box.scale)]
    return max(FOUND_FROM / min(view.box.scale), FILLING / min(finer, default=math.inf))


def _tiles(size: Size, scale: float, faces: tuple[float, float], target: Size, *, cut: bool) -> list[View]:
    """Return the tiles of a level for faces of these sizes; inputs have at most the size of ``target``."""
    columns, rows = (_split(side, scale, faces[1], limit, cut=cut) for side, limit in zip(size, target, strict=True))
    views = []
    for y, height, down in rows:
        for x, width, across in columns:
            resized = (min(across, max(1, round(width * scale))), min(down, max(1, round(height * scale))))
            box = Letterbox((width, height), (across, down), resized)
            views.append(View((x, y, width, height), 0, box, *faces))
    return views


def _split(side: int, scale: float, overlap: float, limit: int, *, cut: bool) -> list[tuple[int, int, int]]:
    """Return start and length in source pixels, and length of the input, of each window along one axis."""
    step = limit / scale
    overlap = min(overlap + 2 * MARGIN / scale, step / 2)
    count = max(1, math.ceil((side - overlap) / (step - overlap) - ROUNDING))
    length = side if count == 1 else (side + (count - 1) * overlap) / count
    across = min(limit, -(-math.ceil(length * scale) // SIDE_STEP) * SIDE_STEP) if cut else limit
    whole = min(side, int(across / scale))
    if count == 1:
        whole = side
    starts = [round(number * (side - whole) / max(1, count - 1)) for number in range(count)]
    return [(start, whole, across) for start in starts]


def _turn(view: View, rotation: int, size: Size) -> View:
    """Return a view, planned for a turned image, as one of the image itself of this size."""
    x, y, width, height = view.window
    if rotation == 90:
        window = (y, size[1] - x - width, height, width)
    elif rotation == 180:
        window = (size[0] - x - width, size[1] - y - height, width, height)
    else:
        window = (size[0] - y - height, x, height, width)
    return replace(view, window=window, rotation=rotation)


class ViewTable:
    """The views of an image, for faces of all of them at once; ``numbers`` ``(N,)`` say which view saw each face."""

    def __init__(self, views: Sequence[View], size: Size) -> None:
        aside, starts, signs, borders = [], [], [], []
        for view in views:
            x, y, width, height = view.window
            back_x, back_y = view.rotation in {180, 270}, view.rotation in {90, 180}
            aside.append(view.rotation in TURNED_ASIDE)
            signs.append((1 - 2 * back_x, 1 - 2 * back_y))
            starts.append((x + back_x * width, y + back_y * height))
            margin = MARGIN / min(view.box.scale)
            low = [start + margin if start > 0 else -math.inf for start in (x, y)]
            ends = zip((x + width, y + height), size, strict=True)
            borders.append([*low, *(end - margin if end < side else math.inf for end, side in ends)])
        self._is_turned = any(view.rotation for view in views)
        self._is_turned_aside = np.array(aside)[:, None, None]
        self._signs, self._starts = (np.array(each, np.float32)[:, None] for each in (signs, starts))
        self._borders = np.array(borders, np.float32)
        self._sizes = np.array([(view.min_size, view.max_size) for view in views], np.float32)

    def to_source(self, found: Candidates, numbers: NDArray[np.intp]) -> Candidates:
        """Map candidates from pixels of the turned windows to pixels of the image."""
        boxes = self._turn_back(found.boxes.reshape(-1, 2, 2), numbers).reshape(-1, 4)
        if self._is_turned:
            pairs = boxes[:, :2], boxes[:, 2:]
            boxes = np.concatenate([np.minimum(*pairs), np.maximum(*pairs)], axis=1)
        points = None if found.landmarks is None else self._turn_back(found.landmarks, numbers)
        return Candidates(boxes, found.scores, points)

    def _turn_back(self, points: NDArray[np.float32], numbers: NDArray[np.intp]) -> NDArray[np.float32]:
        if self._is_turned:
            points = np.where(self._is_turned_aside[numbers], points[..., ::-1], points) * self._signs[numbers]
        found: NDArray[np.float32] = self._starts[numbers] + points
        return found

    def gives_way(self, boxes: NDArray[np.float32], numbers: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return for each box, in pixels of the image, whether its view is not responsible for the face.

        It is not for faces of other sizes, nor for those that an inner border of the window cuts: another view sees
        them better.
        """
        sizes, limits = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0), self._sizes[numbers]
        borders, aside = self._borders[numbers], (sizes < limits[:, 0]) | (sizes > limits[:, 1])
        for axis in range(2):
            aside |= (boxes[:, axis] < borders[:, axis]) | (boxes[:, axis + 2] > borders[:, axis + 2])
        given: NDArray[np.bool_] = aside
        return given


def keep(candidates: Candidates, aside: NDArray[np.bool_] | None, iou: float) -> NDArray[np.intp]:
    """Return the rows of the faces of an image after one NMS over all of its views, by descending score.

    A candidate whose view is not responsible for it gives way to any other face that covers it.
    """
    boxes, scores = candidates.boxes, candidates.scores
    if aside is None or not aside.any():
        return nms(boxes, scores, iou)
    first, second = np.flatnonzero(~aside), np.flatnonzero(aside)
    kept = first[nms(boxes[first], scores[first], iou)]
    second = second[~_are_covered(boxes[second], boxes[kept])]
    kept = np.concatenate([kept, second[nms(boxes[second], scores[second], iou)]])
    return kept[np.argsort(-scores[kept], kind="stable")]


def _are_covered(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return for each of boxes ``(N, 4)`` whether any of others ``(M, 4)`` covers it."""
    a, b = boxes.T[:, :, None], others.T[:, None]
    inside = np.clip(np.minimum(a[2], b[2]) - np.maximum(a[0], b[0]), 0, None)
    inside *= np.clip(np.minimum(a[3], b[3]) - np.maximum(a[1], b[1]), 0, None)
    area, other_area = ((each[2] - each[0]) * (each[3] - each[1]) for each in (a, b))
    covered = (inside > COVERED * area) | (inside > SAME * (area + other_area - inside))
    found: NDArray[np.bool_] = covered.any(axis=1)
    return found


class Sheet:
    """Faces that a look at a turned image hardly sees, enlarged and turned further, side by side in one image."""

    def __init__(self, image: NDArray[np.uint8], faces: Candidates, tilts: NDArray[np.float64]) -> None:
        sizes = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1)
        centers = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
        self.image = np.zeros((SHEET * CHIP, SHEET * CHIP, 3), np.uint8)
        self._tilts = np.radians(tilts)
        self._maps = np.empty((len(faces), 2, 3))  # from the image to the sheet
        for number, (center, size, tilt) in enumerate(zip(centers.tolist(), sizes.tolist(), tilts, strict=True)):
            row, column = divmod(number, SHEET)
            matrix: NDArray[Any] = cv2.getRotationMatrix2D(center, tilt, CHIP_FACE / size)
            matrix[:, 2] += CHIP / 2 - np.array(center)
            part = self.image[row * CHIP : (row + 1) * CHIP, column * CHIP : (column + 1) * CHIP]
            part[:] = _warped(image, matrix, center, size * CHIP / CHIP_FACE)
            matrix[:, 2] += np.array([column, row], float) * CHIP
            self._maps[number] = matrix

    def to_source(self, found: Candidates) -> Candidates:
        """Return those faces of the sheet that are the enlarged ones, in pixels of the image.

        The box is that of the ellipse that the box in the sheet surrounds.
        """
        sizes, centers = found.boxes[:, 2:] - found.boxes[:, :2], (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        cells = np.clip(centers // CHIP, 0, SHEET - 1)
        numbers, side = (cells[:, 1] * SHEET + cells[:, 0]).astype(np.intp), sizes.max(axis=1, initial=0)
        is_it = (np.abs(centers - (cells + 0.5) * CHIP) < 0.4 * CHIP_FACE).all(axis=1) & (numbers < len(self._maps))
        rows = np.flatnonzero(is_it & (side > CHIP_FACE / 2) & (side < 2 * CHIP_FACE))
        matrices, tilts = self._maps[numbers[rows]], self._tilts[numbers[rows]][:, None]
        back = np.linalg.inv(matrices[:, :, :2])
        radii = sizes[rows] / 2 * np.linalg.norm(back[:, :, 0], axis=1)[:, None]
        reach = np.hypot(radii * np.cos(tilts), radii[:, ::-1] * np.sin(tilts))
        middle = np.einsum("nij,nj->ni", back, centers[rows] - matrices[:, :, 2])
        faces = found.select(rows)
        points = faces.landmarks
        if points is not None:
            points = np.einsum("nij,nkj->nki", back, points - matrices[:, None, :, 2]).astype(np.float32)
        return Candidates(np.hstack([middle - reach, middle + reach]).astype(np.float32), faces.scores, points)


def _warped(image: NDArray[np.uint8], matrix: NDArray[Any], center: list[float], reach: float) -> NDArray[Any]:
    """Return a chip of an image; releases of OpenCV before 5 read no image of more than 32,766 pixels across."""
    left, top = (max(0, int(middle - reach)) for middle in center)
    near = image[top : math.ceil(max(center[1] + reach, 1)), left : math.ceil(max(center[0] + reach, 1))]
    shifted = np.hstack([matrix[:, :2], matrix @ [[left], [top], [1.0]]])
    return cv2.warpAffine(near, shifted, (CHIP, CHIP), flags=cv2.INTER_LINEAR)


def sheets(image: NDArray[np.uint8], weak: Candidates) -> Iterator[Sheet]:
    """Yield weak faces of an image, each upright as a view saw it, and turned to both sides."""
    upright = np.zeros(len(weak))
    if weak.landmarks is not None:
        eyes = weak.landmarks[:, 1] - weak.landmarks[:, 0]
        upright = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
    rows = np.repeat(np.arange(len(weak)), len(TILTS))
    tilts = upright[rows] + np.tile(TILTS, len(weak))
    for start in range(0, len(rows), SHEET * SHEET):
        part = slice(start, start + SHEET * SHEET)
        yield Sheet(image, weak.select(rows[part]), tilts[part])


def find_weak(faces: Candidates, all_faces: Candidates) -> Candidates:
    """Return those of ``all_faces`` that are no other look at any of ``faces``."""
    return all_faces.select(np.flatnonzero(~_are_covered(all_faces.boxes, faces.boxes)))


def warn_if_thin(source: Size, scales: tuple[Size, ...]) -> None:
    """Log a warning if an image of this size is too narrow at all scales for any face to be found."""
    if thin := _thin(source, scales):
        log.warning(
            "an image of %d×%d pixels is scaled to %d×%d for the model, too narrow for any face to be found; set "
            "min_face to the size of the smallest face",
            *source,
            *thin,
        )


def is_thin(source: Size, scales: tuple[Size, ...]) -> bool:
    """Return whether :func:`warn_if_thin` logs a warning."""
    return _thin(source, scales) is not None


@lru_cache(maxsize=1024)
def _thin(source: Size, scales: tuple[Size, ...]) -> Size | None:
    thickest = max((Letterbox.fit(source, scale) for scale in scales), key=lambda box: min(box.resized))
    is_thin = min(thickest.resized) < MIN_SIDE and max(source) > max(thickest.target)
    return thickest.resized if is_thin else None
