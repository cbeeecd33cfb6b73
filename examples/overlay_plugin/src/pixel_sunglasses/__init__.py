"""Pixel sunglasses that sit on the eyes: an overlay in one file."""

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
"""One letter a pixel: frame, shine, and nothing."""
EYES = ((3.5, 1.5), (12.5, 1.5))
"""Where the eyes lie in these rows, x and y in letters."""


class Sunglasses(overlays.OverlayModel):
    """Put pixel sunglasses on each face.

    They turn and grow with the line between the eyes.
    """

    needs_landmarks: ClassVar[bool] = True

    size: float = Field(1.0, ge=0.5, le=3.0, description="Size of the glasses; 1 fits the face.")
    shine: bool = Field(True, description="Let the lenses shine.")

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas."""
        for squares, color in self._squares(detections):
            cv2.fillConvexPoly(canvas, np.rint(squares).astype(np.int32), color)

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the box around each square that is drawn."""
        boxes = [[*square.min(0) - 1, *square.max(0) + 2] for square, _ in self._squares(detections)]
        return np.array(boxes).reshape(-1, 4)

    def _squares(self, detections: Detections) -> list[tuple[NDArray[np.float64], tuple[int, int, int]]]:
        """Lay out four corners and a colour for each letter of each face."""
        found = []
        for face in detections:
            left, right = np.array(face.landmarks[:2], np.float64)
            along = (right - left) / (EYES[1][0] - EYES[0][0]) * self.size
            down, middle = np.array([-along[1], along[0]]), (left + right) / 2
            if abs(middle).max() > 30_000:  # far outside of any image, where cv2 cannot draw
                continue
            for y, row in enumerate(ROWS):
                for x, letter in enumerate(row):
                    if letter != ".":
                        corners = np.array([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)], float) - (8.0, EYES[0][1])
                        color = (255, 255, 255) if letter == "o" and self.shine else (20, 20, 20)
                        found.append((middle + corners[:, :1] * along + corners[:, 1:] * down, color))
        return found
