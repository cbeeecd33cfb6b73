"""The overlay ``skull``: a skull, or the user's own picture, over each face."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from overlays._geometry import Box, Placement, drawing_columns, eye_rotations, fit_rotations
from overlays._pictures import Picture, PictureOverlay, PlacedPictures, read_picture
from scrfd_trt._detections import Detections

MIN_FIT, MAX_FIT = 0.75, 1.33
"""Bounds of the size by the landmarks divided by the size by the box. It is 0.78 to 1.13 for 318 faces in four
photographs; values outside these bounds come from landmarks that do not form a face."""

LANDMARKS: NDArray[np.float32] = np.array([[174, 305], [338, 305], [256, 397], [190, 492], [322, 492]], np.float32)
"""The five landmarks of the skull's picture, ``(5, 2)``, x and y in pixels, in the order of ``Detections``."""

FACE_BOX = Box(70.0, 127.0, 442.0, 617.0)
"""The face's box in the skull's picture, in pixels: hairline to chin, cheek to cheek."""

_LANDMARKS_CENTER = (float(LANDMARKS[:, 0].mean()), float(LANDMARKS[:, 1].mean()))


@functools.cache
def _skull() -> Picture:
    return read_picture(Path(__file__).parent / "assets" / "skull.png")


class Skull(PictureOverlay):
    """Draw a skull over each face, rotated and scaled by the five landmarks.

    A similarity transform fits the skull's landmarks to the face's. Without landmarks, or if all of them coincide, the
    skull stands upright on the box. ``image`` replaces the skull by another picture, which is centred on the face's
    box, rotated by the eyes and scaled to cover the box; a picture without alpha is an opaque rectangle.

    Faces are drawn in ascending order of score, so that the highest lies on top. A picture that cannot be read raises
    ``ImageError``.
    """

    without_landmarks: ClassVar[str] = "drawn upright."

    scale: float = Field(1.0, gt=0.0, le=10.0, description="Size; 1 covers the face from chin to hairline.")
    image: Path | None = Field(None, description="Picture to draw instead of the skull, preferably a PNG with alpha.")

    _picture: Picture = PrivateAttr()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Read here, so that a missing file fails at construction.
        self._picture = (_skull() if self.image is None else read_picture(self.image)).in_order(self.color)

    def placements(self, detections: Detections) -> PlacedPictures:
        rows, box = drawing_columns(detections)
        picture, landmarks = self._picture, detections.landmarks
        if self.image is not None:
            rotation = eye_rotations(detections).of_faces(rows)
            placed = Placement.cover_box(box, picture.size, rotation, self.scale)
        else:
            rotations = fit_rotations(landmarks, len(detections), LANDMARKS)
            by_box = np.maximum(box.width / FACE_BOX.width, box.height / FACE_BOX.height)
            placed = Placement.from_rotation(FACE_BOX.center, box.center, (1.0, 0.0), by_box * self.scale)
            if landmarks is not None:
                center, size = landmarks[rows].mean(1, dtype=np.float64).T, rotations.scale[rows]
                fitted = _place_by_landmarks(box, center, rotations.of_faces(rows), size, self.scale)
                placed = Placement._make(
                    np.where(size == 0.0, upright, other) for upright, other in zip(placed, fitted, strict=True)
                )
        return PlacedPictures([picture], np.zeros(len(rows), np.intp), placed)


def _place_by_landmarks(
    box: Box, center: NDArray[np.float64], rotation: tuple[Any, Any], size: NDArray[np.float64], scale: float
) -> Placement:
    """Place the skull by the landmarks' centre, rotation and size, within bounds given by the box."""
    # Unlike width and height, the diagonal of a box hardly changes when its face rotates.
    by_box = np.hypot(box.width, box.height) / math.hypot(FACE_BOX.width, FACE_BOX.height)
    size = np.minimum(np.maximum(size, MIN_FIT * by_box), MAX_FIT * by_box)
    fitted = Placement.from_rotation(_LANDMARKS_CENTER, (center[0], center[1]), rotation, size)
    x, y = fitted.apply(*FACE_BOX.center)
    # In profile, the landmarks lie at one side of the box: half way, both the eyes and the cheek are covered.
    x, y = (x + box.center[0]) / 2, (y + box.center[1]) / 2
    inside = np.minimum(np.maximum(x, box.x1), box.x2), np.minimum(np.maximum(y, box.y1), box.y2)
    return Placement.from_rotation(FACE_BOX.center, inside, rotation, size * scale)
