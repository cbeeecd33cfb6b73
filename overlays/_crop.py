"""A sheet of the faces themselves, upright and of one size, along a side of the image."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._base import OverlayModel
from overlays._colors import ChannelOptions, Channels, Color
from overlays._masks import eye_turns
from overlays._placing import Placement, turned_about
from overlays._raster import Box, Region, clip_box
from scrfd_trt._detections import Detections

Image = NDArray[np.uint8]


class CropSheet(ChannelOptions, OverlayModel):
    """Lay crops of the faces, upright and all of one size, along a side of the image, or in its place.

    The surest face comes first. Where there are more faces than ``most``, or than find room, the rest is left out, and
    on video those that are shown stand in the order of their track numbers. An image without faces stays as it is.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    without_landmarks: ClassVar[str] = "Crops are as the faces lean, not upright."

    side: Literal["bottom", "top", "left", "right", "whole"] = Field(
        "bottom", description="Where the sheet lies: along a side of the image, or over the whole of it."
    )
    size: float = Field(
        0.22,
        ge=0.05,
        le=0.9,
        description="How far the sheet reaches into the image, as a share of its height (bottom, top) or width (left, "
        "right).",
    )
    margin: float = Field(0.2, ge=0.0, le=2.0, description="What is shown around a face, as a share of its size.")
    most: int = Field(24, ge=1, le=1000, description="How many faces there are at most.")
    ground: Color = Field("black", description="Colour behind the crops: #rrggbb, #rgb or a name.")

    def draw(self, canvas: Image, detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        cells = self._cells(detections)
        if not cells:
            return
        turn, ground = eye_turns(detections), self.channels(self.ground)
        crops = []
        for row, cell in cells:
            box = Box(*detections.boxes[row].astype(np.float64).tolist())
            crops.append(self._crop(canvas, box, (float(turn.cos[row]), float(turn.sin[row])), cell.size[0]))
        left, top, right, bottom = self._sheet(detections.image_size)
        # Far quicker than an assignment of three values.
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), ground, cv2.FILLED)
        for (_, cell), crop in zip(cells, crops, strict=True):
            canvas[cell.rows_columns] = crop

    def _crop(self, canvas: Image, box: Box, turn: tuple[float, float], side: int) -> Image:
        size = max(box.width, box.height) * (1.0 + 2.0 * self.margin)
        place = turned_about(box.center, (side / 2, side / 2), (turn[0], -turn[1]), side / size)
        around = place.inverse().box(Box(0.0, 0.0, side, side))
        region = clip_box(around.grown(1.0, 1.0), canvas.shape[1], canvas.shape[0])
        ground = self.channels(self.ground)
        if region is None:
            return np.full((side, side, 3), ground, np.uint8)
        return _warped(canvas, region, place, side, ground)

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the box of the sheet; see :meth:`overlays.OverlayModel.reach_boxes`."""
        sheet = [self._sheet(detections.image_size)] if self._cells(detections) else []
        return np.array(sheet, np.float64).reshape(-1, 4)

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
        """Share the sheet out: rows of the faces that are shown, and the square of each."""
        sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
        rows = np.flatnonzero((sides > 0).all(1))[: self.most].tolist()
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
    """Find the largest side of so many equal squares in a rectangle; 1 where even these find no room."""
    fits = (min(width // columns, height // math.ceil(count / columns)) for columns in range(1, count + 1))
    return max(1, *fits) if count > 1 else max(1, min(width, height))


def _warped(canvas: Image, region: Region, place: Placement, side: int, ground: Channels) -> Image:
    """Turn a region into a square; one that is much larger is averaged first, so that it shows no moiré."""
    scale = math.hypot(place.a, place.c)
    source, zoom = canvas[region.rows_columns], (1.0, 1.0)
    if scale < 0.7:
        small = tuple(max(1, round(extent * scale)) for extent in region.size)
        source = np.asarray(cv2.resize(source, small, interpolation=cv2.INTER_AREA), np.uint8)
        zoom = (region.size[0] / small[0], region.size[1] / small[1])
    x, y = place.at(region.left, region.top)
    a, b, c, d = place.a * zoom[0], place.b * zoom[1], place.c * zoom[0], place.d * zoom[1]
    # cv2 counts from the middle of the first pixel.
    warp = np.array([[a, b, x + (a + b - 1.0) / 2], [c, d, y + (c + d - 1.0) / 2]])
    return np.asarray(cv2.warpAffine(source, warp, (side, side), flags=cv2.INTER_LINEAR, borderValue=ground), np.uint8)
