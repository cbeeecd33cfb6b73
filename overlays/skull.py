"""A skull, or a picture of one's own, over each face."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from overlays import skull_art
from overlays.base import OverlayModel
from overlays.picture import Picture, lay_over, read_picture
from overlays.raster import Box
from scrfd_trt.crops import similarity
from scrfd_trt.detections import Detections

LEAST_FIT, MOST_FIT = 0.75, 1.33
"""How far the size by the landmarks may differ from the size by the box. On four photographs with 318 faces it is 0.78
to 1.13 times as large; what lies outside of these bounds comes from landmarks that make no face."""


@functools.cache
def _drawn_skull() -> Picture:
    return Picture.from_bgra(skull_art.draw())


class Skull(OverlayModel):
    """Lay a skull over each face, turned and sized by the five landmarks.

    The skull is drawn by this project. It is placed by the similarity that brings its own landmarks closest to the
    face's; where there are none, or all of them coincide, it stands upright on the box. ``image`` takes a picture
    of one's own instead: its middle comes to the middle of the face's box, it is turned by the eyes and sized to cover
    the box; without an alpha channel it is an opaque rectangle.

    Faces of lower score are drawn first, so that the surest lie on top.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    ImageError
        If ``image`` cannot be read.
    """

    opacity: float = Field(1.0, ge=0.0, le=1.0, description="How much the skull hides: 0 nothing, 1 all.")
    scale: float = Field(
        1.0, gt=0.0, le=10.0, description="Size of the skull; 1 covers the face from chin to hairline."
    )
    image: Path | None = Field(None, description="A picture to draw instead of the skull, best a PNG with alpha.")
    color: Literal["bgr", "rgb"] = Field("bgr", description="Order of the channels of the images drawn on.")

    _picture: Picture = PrivateAttr()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Read here, so that a missing picture shows when the overlay is made.
        picture = _drawn_skull() if self.image is None else read_picture(self.image)
        self._picture = picture if self.color == "bgr" else picture.with_red_and_blue_swapped()

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        place = _place_skull if self.image is None else functools.partial(_place_picture, size=self._picture.size)
        boxes = detections.boxes.astype(np.float64)
        for row in reversed(range(len(boxes))):
            box = Box(*boxes[row].tolist())
            if box.width <= 0.0 or box.height <= 0.0:
                continue
            points = None if detections.landmarks is None else detections.landmarks[row]
            lay_over(canvas, self._picture, place(box, points, scale=self.scale), self.opacity)


def _similarity_at(
    from_point: tuple[float, float], to_point: tuple[float, float], turn: tuple[float, float], size: float
) -> NDArray[np.float64]:
    """Turn by an angle (cosine, sine), scale, and bring one point onto another; (2, 3)."""
    linear = size * np.array([[turn[0], -turn[1]], [turn[1], turn[0]]])
    return np.column_stack([linear, np.asarray(to_point) - linear @ np.asarray(from_point)])


def _place_skull(box: Box, points: NDArray[np.float32] | None, *, scale: float) -> NDArray[np.float64]:
    """Find the similarity (2, 3) from the drawing's pixels to the image's."""
    own = Box(*skull_art.FACE_BOX)
    fit = None if points is None else similarity(skull_art.LANDMARKS, points)
    size = 0.0 if fit is None else math.hypot(fit[0, 0], fit[1, 0])
    if fit is None or points is None or size == 0.0:
        by_box = max(box.width / own.width, box.height / own.height)
        return _similarity_at(own.center, box.center, (1.0, 0.0), by_box * scale)
    turn = (float(fit[0, 0]) / size, float(fit[1, 0]) / size)
    # The diagonal of a box hardly changes when the face in it turns, unlike width and height.
    by_box = math.hypot(box.width, box.height) / math.hypot(own.width, own.height)
    size = min(max(size, LEAST_FIT * by_box), MOST_FIT * by_box)
    middle, to = skull_art.LANDMARKS.mean(0, np.float64), points.mean(0, np.float64)
    by_points = to + size * np.array([[turn[0], -turn[1]], [turn[1], turn[0]]]) @ (np.asarray(own.center) - middle)
    # In a head that looks aside the landmarks lie at one side of the box: half way, both eyes and cheek are covered.
    x, y = ((by_points + box.center) / 2).tolist()
    inside = (min(max(x, box.x1), box.x2), min(max(y, box.y1), box.y2))
    return _similarity_at(own.center, inside, turn, size * scale)


def _place_picture(
    box: Box, points: NDArray[np.float32] | None, *, scale: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Find the similarity (2, 3) that lays a picture of a size (width, height) over a face's box."""
    turn = (1.0, 0.0)
    if points is not None:
        x, y = (points[1].astype(np.float64) - points[0]).tolist()
        length = math.hypot(x, y)
        turn = (x / length, y / length) if length > 0.0 else turn
    # How far the ellipse within the box reaches along the turned axes.
    across = math.hypot(box.width * turn[0], box.height * turn[1])
    along = math.hypot(box.width * turn[1], box.height * turn[0])
    cover = max(across / size[0], along / size[1])
    return _similarity_at((size[0] / 2, size[1] / 2), box.center, turn, cover * scale)
