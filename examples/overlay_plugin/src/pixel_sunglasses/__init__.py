"""Pixel sunglasses over the eyes: an overlay in one file."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import overlays
from scrfd_trt import Detections

ROWS = (
    "################",
    "#######..#######",
    ".#o####..#o####.",
    "..#o##....#o##..",
    "...##......##...",
)
"""One character a square: ``#`` frame, ``o`` reflection, ``.`` nothing."""
EYES = ((3.5, 1.5), (12.5, 1.5))
"""Position of the eyes in these rows, x and y in squares."""


class Sunglasses(overlays.OverlayModel):
    """Draw pixel sunglasses on each face.

    They are rotated and scaled by the line between the eyes.
    """

    needs_landmarks: ClassVar[bool] = True
    is_local: ClassVar[bool] = True

    size: float = Field(1.0, ge=0.5, le=3.0, description="Size of the glasses; 1 fits the face.")
    shine: bool = Field(True, description="Draw reflections on the lenses.")

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw on the canvas."""
        for square, color in self._squares(detections):
            cv2.fillConvexPoly(canvas, np.rint(square).astype(np.int32), color)

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the box around each square."""
        boxes = [[*square.min(0) - 1, *square.max(0) + 2] for square, _ in self._squares(detections)]
        return np.array(boxes).reshape(-1, 4)

    def _squares(self, detections: Detections) -> list[tuple[NDArray[np.float64], tuple[int, int, int]]]:
        """Return the four corners and the colour of each square of each face."""
        found = []
        for face in detections:
            left, right = np.array(face.landmarks[:2], np.float64)
            along = (right - left) / (EYES[1][0] - EYES[0][0]) * self.size
            down, center = np.array([-along[1], along[0]]), (left + right) / 2
            if abs(center).max() > 30_000:  # cv2 cannot draw that far outside
                continue
            for y, row in enumerate(ROWS):
                for x, character in enumerate(row):
                    if character != ".":
                        corners = np.array([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)], float) - (8.0, EYES[0][1])
                        color = (255, 255, 255) if character == "o" and self.shine else (20, 20, 20)
                        found.append((center + corners[:, :1] * along + corners[:, 1:] * down, color))
        return found
