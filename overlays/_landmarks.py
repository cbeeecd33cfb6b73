"""Boxes, scores and the five points, drawn in sizes that suit the image."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._base import OverlayModel
from overlays._colors import ChannelOptions, Color
from overlays._marks import Label, Sizes, frame, point, seen
from overlays._raster import Box
from scrfd_trt._detections import Detections


class Landmarks(ChannelOptions, OverlayModel):
    """Draw each face's box, its score in per cent, and its five points.

    Line widths, points and letters grow with the image and, within bounds, with the face. The score stands on a filled
    label, so that it can be read on any background; the label stays inside the image, and is left out where the image
    is too small for it. Faces without landmarks get box and score only; faces wholly outside get nothing.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    without_landmarks: ClassVar[str] = "Box and score are drawn, and no points."

    box: bool = Field(True, description="Draw the box.")
    score: bool = Field(True, description="Write the score in per cent.")
    points: bool = Field(True, description="Draw the five points, where there are any.")
    size: float = Field(1.0, ge=0.25, le=8.0, description="Makes lines, points and letters larger or smaller.")
    box_color: Color = Field("green", description="Colour of box and label: #rrggbb or a name.")
    left_color: Color = Field("cyan", description="Colour of the eye and the mouth corner at the left of the image.")
    right_color: Color = Field("magenta", description="Colour of the eye and the mouth corner at the right.")
    nose_color: Color = Field("yellow", description="Colour of the nose.")

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        ground, rows = self.channels(self.box_color), seen(detections, self.size)
        if self.box:
            for _, box, sizes in rows:
                frame(canvas, box, sizes.line, ground)
        if self.points and detections.landmarks is not None:
            sides = (self.left_color, self.right_color, self.nose_color, self.left_color, self.right_color)
            colors = [self.channels(color) for color in sides]
            for row, _, sizes in rows:
                five = detections.landmarks[row].astype(np.float64).tolist()
                for (x, y), color in zip(five, colors, strict=True):
                    point(canvas, x, y, sizes.point, color)
        if self.score:
            for row, box, sizes in rows:
                if label := self._label(box, float(detections.scores[row]), sizes, detections.image_size):
                    label.draw(canvas, ground, self.color)

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the boxes around lines, points and labels; see :meth:`overlays.OverlayModel.reach_boxes`."""
        found: list[Box | tuple[int, int, int, int]] = []
        for row, box, sizes in seen(detections, self.size):
            if self.box:
                found.append(box.grown(sizes.line + 2.0, sizes.line + 2.0))
            if self.points and detections.landmarks is not None:
                around = 2.0 * sizes.point + 3.0
                five = detections.landmarks[row].astype(np.float64).tolist()
                found += [Box(x, y, x, y).grown(around, around) for x, y in five]
            label = self._label(box, float(detections.scores[row]), sizes, detections.image_size)
            if self.score and label:
                found.append(label.region)
        return np.array(found, np.float64).reshape(-1, 4)

    def _label(self, box: Box, score: float, sizes: Sizes, size: tuple[int, int]) -> Label | None:
        edge = box._replace(x1=box.x1 - (sizes.line // 2 if self.box else 0))
        return Label.above(edge, f"{score:.0%}", sizes.text, *size)
