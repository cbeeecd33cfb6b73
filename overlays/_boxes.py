"""Frames around faces, with scores or track numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._base import OverlayModel
from overlays._colors import COLORS, PALETTE, ChannelOptions, Color
from overlays._marks import Label, Sizes, frame, seen
from overlays._raster import Box
from scrfd_trt._detections import Detections


class Boxes(ChannelOptions, OverlayModel):
    """Draw a frame around each face, with its score or its track number.

    On video, where detections carry track numbers, each track has a colour of its own, which it keeps from frame to
    frame; faces without a number are green. ``box_color`` is the colour of all.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    style: Literal["full", "corners"] = Field("corners", description="The whole frame, or its corners.")
    label: Literal["auto", "score", "track", "none"] = Field(
        "auto", description="What is written: the score, the track number, or (auto) the number where there is one."
    )
    size: float = Field(1.0, ge=0.25, le=8.0, description="Makes lines and letters larger or smaller.")
    box_color: Color | None = Field(
        None,
        description="Colour of all frames, #rrggbb, #rgb or a name; left out: green, and on video one for each track.",
    )

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        rows = seen(detections, self.size)
        for row, box, sizes in rows:
            frame(canvas, box, self._line(sizes), self._color(detections, row), corners=self.style == "corners")
        for row, box, sizes in rows:
            if label := self._label(detections, row, box, sizes):
                label.draw(canvas, self._color(detections, row), self.color)

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the boxes around frames and labels; see :meth:`overlays.OverlayModel.reach_boxes`."""
        found: list[Box | tuple[int, int, int, int]] = []
        for row, box, sizes in seen(detections, self.size):
            around = self._line(sizes) + 4.0
            found.append(box.grown(around, around))
            if label := self._label(detections, row, box, sizes):
                found.append(label.region)
        return np.array(found, np.float64).reshape(-1, 4)

    def _line(self, sizes: Sizes) -> int:
        return sizes.line + 1 if self.style == "corners" else sizes.line

    def _color(self, detections: Detections, row: int) -> tuple[int, int, int]:
        if self.box_color is not None or detections.track_ids is None:
            return self.channels(self.box_color or COLORS["green"])
        return self.channels(PALETTE[int(detections.track_ids[row]) % len(PALETTE)])

    def _label(self, detections: Detections, row: int, box: Box, sizes: Sizes) -> Label | None:
        tracked = detections.track_ids is not None and self.label in ("auto", "track")
        if tracked and detections.track_ids is not None:
            text = f"#{detections.track_ids[row]}"
        elif self.label in ("auto", "score"):
            text = f"{detections.scores[row]:.0%}"
        else:
            return None
        edge = box._replace(x1=box.x1 - self._line(sizes) // 2)
        return Label.above(edge, text, sizes.text, *detections.image_size)
