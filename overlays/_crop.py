"""The overlay ``crop``: a sheet of face crops."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._base import OverlayModel
from overlays._colors import ChannelOptions, Color, Pixel
from overlays._geometry import Box, Image, Placement, Region, eye_rotations, face_boxes, rows_by_score
from scrfd_trt._detections import Detections


class CropSheet(ChannelOptions, OverlayModel):
    """Show upright crops of the faces, all of one size, along a side of the image or in place of the whole image.

    The face with the highest score comes first. Faces beyond ``max_faces``, or that do not fit, are left out; on video,
    those shown are in the order of their track ids. An image without faces stays unchanged.
    """

    without_landmarks: ClassVar[str] = "crops are not rotated upright."

    side: Literal["bottom", "top", "left", "right", "whole"] = Field(
        "bottom", description="Position of the sheet: a side of the image, or the whole image."
    )
    size: float = Field(
        0.22, ge=0.05, le=0.9, description="Height or width of the sheet, as a fraction of the image's."
    )
    margin: float = Field(0.2, ge=0.0, le=2.0, description="Surroundings shown, as a fraction of the face's size.")
    max_faces: int = Field(24, ge=1, le=1000, description="Maximum number of faces.")
    background: Color = Field("black", description="Background colour: #rrggbb, #rgb or a name.")

    def draw(self, canvas: Image, detections: Detections) -> None:
        cells = self._cells(detections)
        if not cells:
            return
        boxes, rotations, background = face_boxes(detections), eye_rotations(detections), self.channels(self.background)
        crops = [self._crop(canvas, boxes[row], rotations.of_face(row), cell.size[0]) for row, cell in cells]
        left, top, right, bottom = self._sheet(detections.image_size)
        # Much faster than assigning three values.
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), background, cv2.FILLED)
        for (_, cell), crop in zip(cells, crops, strict=True):
            canvas[cell.slices] = crop

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        sheet = [self._sheet(detections.image_size)] if self._cells(detections) else []
        return np.array(sheet, np.float64).reshape(-1, 4)

    def _crop(self, canvas: Image, box: Box, rotation: tuple[float, float], side: int) -> Image:
        size = max(box.width, box.height) * (1.0 + 2.0 * self.margin)
        back = (rotation[0], -rotation[1])
        placement = Placement.from_rotation(box.center, (side / 2, side / 2), back, side / size)
        source = placement.inverse().map_box(Box(0.0, 0.0, side, side)).padded(1.0, 1.0)
        region = source.clip(canvas.shape[1], canvas.shape[0])
        background = self.channels(self.background)
        if region is None:
            return np.full((side, side, 3), background, np.uint8)
        return _warp(canvas, region, placement, side, background)

    def _sheet(self, image_size: tuple[int, int]) -> Region:
        width, height = image_size
        wide, high = max(1, round(width * self.size)), max(1, round(height * self.size))
        return {
            "bottom": Region(0, height - high, width, height),
            "top": Region(0, 0, width, high),
            "left": Region(0, 0, wide, height),
            "right": Region(width - wide, 0, width, height),
            "whole": Region(0, 0, width, height),
        }[self.side]

    def _cells(self, detections: Detections) -> list[tuple[int, Region]]:
        """Return the row of each face shown, and its square in the sheet."""
        sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
        order = rows_by_score(detections)
        rows = order[(sides[order] > 0).all(1)][: self.max_faces].tolist()
        sheet = self._sheet(detections.image_size)
        if not rows:
            return []
        width, height = sheet.size
        side = _largest_square(width, height, len(rows))
        gap = 1 + side // 40 if side >= 8 else 0
        columns = max(1, width // side)
        lines = min(max(1, height // side), math.ceil(len(rows) / columns))
        shown = rows[: columns * lines]
        if detections.track_ids is not None:
            shown.sort(key=detections.track_ids.__getitem__)
        left = sheet.left + (width - min(columns, len(shown)) * side) // 2
        top = sheet.top + (height - lines * side) // 2
        found = []
        for number, row in enumerate(shown):
            x, y = left + number % columns * side + gap, top + number // columns * side + gap
            found.append((row, Region(x, y, x + side - 2 * gap, y + side - 2 * gap)))
        return found


def _largest_square(width: int, height: int, count: int) -> int:
    """Return the largest side of ``count`` equal squares in a rectangle, at least 1."""
    fits = (min(width // columns, height // math.ceil(count / columns)) for columns in range(1, count + 1))
    return max(1, *fits)


def _warp(canvas: Image, region: Region, placement: Placement, side: int, background: Pixel) -> Image:
    """Warp a region to a square; a much larger one is averaged first to avoid moiré."""
    scale = math.hypot(placement.a, placement.c)
    source, zoom = canvas[region.slices], (1.0, 1.0)
    if scale < 0.7:
        small = tuple(max(1, round(extent * scale)) for extent in region.size)
        source = np.asarray(cv2.resize(source, small, interpolation=cv2.INTER_AREA), np.uint8)
        zoom = (region.size[0] / small[0], region.size[1] / small[1])
    x, y = placement.apply(region.left, region.top)
    a, b, c, d = placement.a * zoom[0], placement.b * zoom[1], placement.c * zoom[0], placement.d * zoom[1]
    # cv2 places pixel centres at whole numbers.
    warp = np.array([[a, b, x + (a + b - 1.0) / 2], [c, d, y + (c + d - 1.0) / 2]])
    return np.asarray(cv2.warpAffine(source, warp, (side, side), borderValue=background), np.uint8)
