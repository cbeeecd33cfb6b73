"""The overlay ``landmarks``: boxes, scores and landmarks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._annotations import DrawSizes, Label, draw_box, draw_point, visible_faces
from overlays._base import OverlayModel
from overlays._colors import ChannelOptions, Color
from overlays._geometry import Box, Image
from scrfd_trt._detections import Detections


class Landmarks(ChannelOptions, OverlayModel):
    """Draw each face's box, its score in per cent, and its five landmarks.

    Lines, points and letters grow with the image and, within bounds, with the face. The score is written on a filled
    label, which is readable on any background. The label stays inside the image; an image that is too small gets none.
    Faces outside the image are skipped.
    """

    is_local: ClassVar[bool] = True
    without_landmarks: ClassVar[str] = "only box and score are drawn."

    box: bool = Field(True, description="Draw the box.")
    score: bool = Field(True, description="Write the score in per cent.")
    points: bool = Field(True, description="Draw the five landmarks.")
    size: float = Field(1.0, ge=0.25, le=8.0, description="Size of lines, points and letters.")
    box_color: Color = Field("green", description="Colour of box and label: #rrggbb, #rgb or a name.")
    left_color: Color = Field("cyan", description="Colour of the eye and mouth corner on the left of the image.")
    right_color: Color = Field("magenta", description="Colour of the eye and mouth corner on the right.")
    nose_color: Color = Field("yellow", description="Colour of the nose.")

    def draw(self, canvas: Image, detections: Detections) -> None:
        background, faces = self.channels(self.box_color), visible_faces(detections, self.size)
        if self.box:
            for _, box, sizes in faces:
                draw_box(canvas, box, sizes.line, background)
        if self.points and detections.landmarks is not None:
            by_point = (self.left_color, self.right_color, self.nose_color, self.left_color, self.right_color)
            colors = [self.channels(color) for color in by_point]
            for row, _, sizes in faces:
                landmarks = detections.landmarks[row].astype(np.float64).tolist()
                for (x, y), color in zip(landmarks, colors, strict=True):
                    draw_point(canvas, x, y, sizes.point, color)
        for row, box, sizes in faces:
            if label := self._label(detections, row, box, sizes):
                label.draw(canvas, background, self.color)

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        found: list[Box | tuple[int, int, int, int]] = []
        for row, box, sizes in visible_faces(detections, self.size):
            if self.box:
                found.append(box.padded(sizes.line + 2.0, sizes.line + 2.0))
            if self.points and detections.landmarks is not None:
                reach = 2.0 * sizes.point + 3.0
                landmarks = detections.landmarks[row].astype(np.float64).tolist()
                found += [Box(x, y, x, y).padded(reach, reach) for x, y in landmarks]
            if label := self._label(detections, row, box, sizes):
                found.append(label.region)
        return np.array(found, np.float64).reshape(-1, 4)

    def _label(self, detections: Detections, row: int, box: Box, sizes: DrawSizes) -> Label | None:
        if not self.score:
            return None
        edge = box._replace(x1=box.x1 - (sizes.line // 2 if self.box else 0))
        return Label.above(edge, f"{detections.scores[row]:.0%}", sizes.text, *detections.image_size)
