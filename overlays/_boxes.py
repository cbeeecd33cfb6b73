"""The overlay ``boxes``: boxes with scores or track ids."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._annotations import DrawSizes, Label, draw_box, visible_faces
from overlays._base import OverlayModel
from overlays._colors import COLORS, PALETTE, ChannelOptions, Color, Pixel
from overlays._geometry import Box, Image
from scrfd_trt._detections import Detections


class Boxes(ChannelOptions, OverlayModel):
    """Draw a box around each face, with its score or its track id.

    On video, where detections have track ids, each track has its own colour in all frames; faces without a track id are
    green. ``box_color`` replaces all colours.
    """

    is_local: ClassVar[bool] = True

    style: Literal["full", "corners"] = Field("corners", description="Draw the whole box, or its corners.")
    label: Literal["auto", "score", "track", "none"] = Field(
        "auto", description="Text of the label; auto: track id if there is one, otherwise score."
    )
    size: float = Field(1.0, ge=0.25, le=8.0, description="Size of lines and letters.")
    box_color: Color | None = Field(
        None, description="Colour of all boxes: #rrggbb, #rgb or a name; default: green, on video one per track."
    )

    def draw(self, canvas: Image, detections: Detections) -> None:
        faces = visible_faces(detections, self.size)
        for row, box, sizes in faces:
            color = self._color(detections, row)
            draw_box(canvas, box, self._line(sizes), color, corners=self.style == "corners")
        for row, box, sizes in faces:
            if label := self._label(detections, row, box, sizes):
                label.draw(canvas, self._color(detections, row), self.color)

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        found: list[Box | tuple[int, int, int, int]] = []
        for row, box, sizes in visible_faces(detections, self.size):
            reach = self._line(sizes) + 4.0
            found.append(box.padded(reach, reach))
            if label := self._label(detections, row, box, sizes):
                found.append(label.region)
        return np.array(found, np.float64).reshape(-1, 4)

    def _line(self, sizes: DrawSizes) -> int:
        return sizes.line + 1 if self.style == "corners" else sizes.line

    def _color(self, detections: Detections, row: int) -> Pixel:
        if self.box_color is not None or detections.track_ids is None:
            return self.channels(self.box_color or COLORS["green"])
        return self.channels(PALETTE[int(detections.track_ids[row]) % len(PALETTE)])

    def _label(self, detections: Detections, row: int, box: Box, sizes: DrawSizes) -> Label | None:
        if detections.track_ids is not None and self.label in ("auto", "track"):
            text = f"#{detections.track_ids[row]}"
        elif self.label in ("auto", "score"):
            text = f"{detections.scores[row]:.0%}"
        else:
            return None
        edge = box._replace(x1=box.x1 - self._line(sizes) // 2)
        return Label.above(edge, text, sizes.text, *detections.image_size)
