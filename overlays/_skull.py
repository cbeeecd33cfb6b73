"""A skull, or a picture of one's own, over each face."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from overlays._base import OverlayModel
from overlays._colors import ChannelOptions
from overlays._masks import eye_turns, turns
from overlays._mixing import MixOptions
from overlays._pictures import Picture, around, lay_over, read_picture
from overlays._placing import Placement, over_box, turned_about
from overlays._raster import Box
from scrfd_trt._detections import Detections

LEAST_FIT, MOST_FIT = 0.75, 1.33
"""How far the size by the landmarks may differ from the size by the box. On four photographs with 318 faces it is 0.78
to 1.13 times as large; what lies outside of these bounds comes from landmarks that make no face."""

LANDMARKS: NDArray[np.float32] = np.array([[174, 305], [338, 305], [256, 397], [190, 492], [322, 492]], np.float32)
"""The five points of a face in the skull's picture, ``(5, 2)``, x and y in pixels, in the order of ``Detections``."""

FACE_BOX = Box(70.0, 127.0, 442.0, 617.0)
"""The box of the skull's face in its picture, in pixels: hairline to chin, cheek to cheek."""


@functools.cache
def _skull() -> Picture:
    return read_picture(Path(__file__).parent / "assets" / "skull.png")


class Skull(ChannelOptions, MixOptions, OverlayModel):
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

    without_landmarks: ClassVar[str] = "It stands upright on the box."

    scale: float = Field(
        1.0, gt=0.0, le=10.0, description="Size of the skull; 1 covers the face from chin to hairline."
    )
    image: Path | None = Field(None, description="A picture to draw instead of the skull, best a PNG with alpha.")

    _picture: Picture = PrivateAttr()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Read here, so that a missing picture shows when the overlay is made.
        picture = _skull() if self.image is None else read_picture(self.image)
        self._picture = picture if self.color == "bgr" else picture.with_red_and_blue_swapped()

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        for place in self._places(detections):
            lay_over(canvas, self._picture, place, self.opacity, self.blending)

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the boxes around all skulls; see :meth:`overlays.OverlayModel.reach_boxes`."""
        return np.array([around(self._picture, place) for place in self._places(detections)]).reshape(-1, 4)

    def _places(self, detections: Detections) -> Iterator[Placement]:
        """Place one picture after the other, the surest face last."""
        own = self.image is not None
        turn = eye_turns(detections) if own else turns(detections.landmarks, len(detections), LANDMARKS)
        points = detections.landmarks
        middles = None if points is None else points.mean(1, dtype=np.float64).tolist()
        columns = [detections.boxes.astype(np.float64).tolist(), *(column.tolist() for column in turn)]
        for row, (corners, cos, sin, size) in reversed(list(enumerate(zip(*columns, strict=True)))):
            box = Box(*corners)
            if box.width <= 0.0 or box.height <= 0.0:
                continue
            if own:
                yield over_box(box, (cos, sin), self.scale, self._picture.size)
            else:
                middle = None if middles is None or size == 0.0 else middles[row]
                yield _place_skull(box, middle, (cos, sin), size, self.scale)


def _place_skull(
    box: Box, middle: list[float] | None, turn: tuple[float, float], size: float, scale: float
) -> Placement:
    """Place the drawing by box, the middle of the landmarks, and how these are turned and sized."""
    if middle is None:
        by_box = max(box.width / FACE_BOX.width, box.height / FACE_BOX.height)
        return turned_about(FACE_BOX.center, box.center, (1.0, 0.0), by_box * scale)
    # The diagonal of a box hardly changes when the face in it turns, unlike width and height.
    by_box = math.hypot(box.width, box.height) / math.hypot(FACE_BOX.width, FACE_BOX.height)
    size = min(max(size, LEAST_FIT * by_box), MOST_FIT * by_box)
    x, y = turned_about(_MIDDLE, (middle[0], middle[1]), turn, size).at(*FACE_BOX.center)
    # In a head that looks aside the landmarks lie at one side of the box: half way, both eyes and cheek are covered.
    x, y = (x + box.center[0]) / 2, (y + box.center[1]) / 2
    inside = (min(max(x, box.x1), box.x2), min(max(y, box.y1), box.y2))
    return turned_about(FACE_BOX.center, inside, turn, size * scale)


_MIDDLE = (float(LANDMARKS[:, 0].mean()), float(LANDMARKS[:, 1].mean()))
