"""Drawn faces over the real ones."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._base import OverlayModel
from overlays._colors import ChannelOptions
from overlays._masks import eye_turns
from overlays._mixing import MixOptions
from overlays._pictures import Picture, around, lay_over, read_picture
from overlays._placing import Placement, over_box
from overlays._raster import Box
from scrfd_trt._detections import Detections

_ROOM = 1.12
"""Size of a drawing against the face that it covers: its round head just reaches around the box's ellipse."""

KINDS = ("smile", "wink", "cool", "cat", "robot")
"""The pictures that ``kind=each`` goes through."""


@functools.cache
def _picture(kind: str, color: str) -> Picture:
    picture = read_picture(Path(__file__).parent / "assets" / f"emoji-{kind}.png")
    return picture if color == "bgr" else picture.with_red_and_blue_swapped()


class Emoji(ChannelOptions, MixOptions, OverlayModel):
    """Lay a drawn face over each face: smiling, winking, a cat, a robot.

    The faces are drawn by this project. They are turned by the eyes. ``kind=each`` gives each track of a video a face
    of its own, which it keeps; where faces have no track numbers, all smile.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    without_landmarks: ClassVar[str] = "It stands upright on the box."

    kind: Literal["each", "smile", "wink", "cool", "cat", "robot"] = Field(
        "each", description="Which face; each: one for each track of a video, and a smile elsewhere."
    )
    scale: float = Field(1.0, gt=0.0, le=10.0, description="Size of the face; 1 covers from chin to hairline.")

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        for picture, place in self._places(detections):
            lay_over(canvas, picture, place, self.opacity, self.blending)

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the boxes around all drawings; see :meth:`overlays.OverlayModel.reach_boxes`."""
        return np.array([around(*placed) for placed in self._places(detections)]).reshape(-1, 4)

    def _places(self, detections: Detections) -> Iterator[tuple[Picture, Placement]]:
        turn = eye_turns(detections)
        for row, corners in reversed(list(enumerate(detections.boxes.astype(np.float64).tolist()))):
            box = Box(*corners)
            if box.width > 0.0 and box.height > 0.0:
                angle = (float(turn.cos[row]), float(turn.sin[row]))
                picture = _picture(self._kind(detections, row), self.color)
                yield picture, over_box(box, angle, self.scale * _ROOM, picture.size)

    def _kind(self, detections: Detections, row: int) -> str:
        if self.kind != "each":
            return self.kind
        number = 0 if detections.track_ids is None else int(detections.track_ids[row])
        return KINDS[number % len(KINDS)]
