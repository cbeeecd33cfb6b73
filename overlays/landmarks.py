"""Boxes, scores and the five points, drawn in sizes that suit the image."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from overlays.base import OverlayModel
from overlays.raster import Box, clip_box
from scrfd_trt.detections import Detections

COLORS = {
    "black": "#000000", "white": "#ffffff", "grey": "#808080", "red": "#ff3b30", "orange": "#ff9500",
    "yellow": "#ffd60a", "green": "#30d158", "cyan": "#40d8e0", "blue": "#0a84ff", "magenta": "#ff2d92",
}  # fmt: skip
"""Names that stand for colours."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_TEXT = 7.0
_DARK = 140.0


def _as_hex(value: str) -> str:
    color = COLORS.get(value.lower(), value.lower())
    if re.fullmatch(r"#[0-9a-f]{3}", color):
        color = "#" + "".join(digit * 2 for digit in color[1:])
    if not re.fullmatch(r"#[0-9a-f]{6}", color):
        raise ValueError(f"a colour is #rrggbb, #rgb or one of {', '.join(COLORS)}")
    return color


Color = Annotated[str, AfterValidator(_as_hex)]
"""A colour as ``#rrggbb``, ``#rgb`` or a name of ``COLORS``; kept as ``#rrggbb``."""


class _Sizes(NamedTuple):
    """What is drawn of one face, in pixels."""

    line: int
    point: float
    text: float


class Landmarks(OverlayModel):
    """Draw each face's box, its score in per cent, and its five points.

    Line widths, points and letters grow with the image and, within bounds, with the face. The score stands on a filled
    label, so that it can be read on any background; the label stays inside the image, and is left out where the image
    is too small for it. Faces without landmarks get box and score only; faces wholly outside get nothing.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    box: bool = Field(True, description="Draw the box.")
    score: bool = Field(True, description="Write the score in per cent.")
    points: bool = Field(True, description="Draw the five points, where there are any.")
    size: float = Field(1.0, ge=0.25, le=8.0, description="Makes lines, points and letters larger or smaller.")
    box_color: Color = Field("green", description="Colour of box and label: #rrggbb or a name.")
    left_color: Color = Field("cyan", description="Colour of the eye and the mouth corner at the left of the image.")
    right_color: Color = Field("magenta", description="Colour of the eye and the mouth corner at the right.")
    nose_color: Color = Field("yellow", description="Colour of the nose.")
    color: Literal["bgr", "rgb"] = Field("bgr", description="Order of the channels of the images drawn on.")

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        height, width = canvas.shape[:2]
        rows = []
        # The surest face is drawn last, over the others.
        for row in reversed(range(len(detections))):
            box = Box(*detections.boxes[row].astype(np.float64).tolist())
            if clip_box(box.grown(0.5, 0.5), width, height) is not None:
                rows.append((row, box, self._sizes(box, width, height)))
        if self.box:
            for _, box, sizes in rows:
                self._draw_box(canvas, box, sizes)
        if self.points and detections.landmarks is not None:
            for row, _, sizes in rows:
                self._draw_points(canvas, detections.landmarks[row], sizes)
        if self.score:
            for row, box, sizes in rows:
                self._draw_score(canvas, box, float(detections.scores[row]), sizes)

    def _sizes(self, box: Box, width: int, height: int) -> _Sizes:
        image, face = float(np.sqrt(width * height)), max(box.width, box.height)
        text = min(max(0.13 * face, 0.008 * image, 8.5), max(0.03 * image + 6.0, 8.5)) * self.size
        line = max(1, round(min(max(0.012 * face, 0.0012 * image), 0.004 * image) * self.size))
        point = max(0.7, min(max(0.022 * face, 0.0008 * image), 0.012 * image) * self.size)
        return _Sizes(line, point, text)

    def _draw_box(self, canvas: NDArray[np.uint8], box: Box, sizes: _Sizes) -> None:
        height, width = canvas.shape[:2]
        # Sides that are far outside are drawn just outside: cv2 takes no huge numbers.
        beyond = sizes.line + 2
        x1, x2 = (round(min(max(x, -beyond), width + beyond)) for x in (box.x1, box.x2 - 1))
        y1, y2 = (round(min(max(y, -beyond), height + beyond)) for y in (box.y1, box.y2 - 1))
        cv2.rectangle(canvas, (x1, y1), (max(x1, x2), max(y1, y2)), self._bgr(self.box_color), sizes.line)

    def _draw_points(self, canvas: NDArray[np.uint8], points: NDArray[np.float32], sizes: _Sizes) -> None:
        height, width = canvas.shape[:2]
        reach = sizes.point + 2
        colors = (self.left_color, self.right_color, self.nose_color, self.left_color, self.right_color)
        rim = max(0.75, 0.3 * sizes.point)
        for (x, y), color in zip(points.astype(np.float64).tolist(), colors, strict=True):
            if -reach < x < width + reach and -reach < y < height + reach:
                if sizes.point >= 2.0:
                    _disc(canvas, x, y, sizes.point + rim, (0, 0, 0))
                _disc(canvas, x, y, sizes.point, self._bgr(color))

    def _draw_score(self, canvas: NDArray[np.uint8], box: Box, score: float, sizes: _Sizes) -> None:
        height, width = canvas.shape[:2]
        text = f"{score:.0%}"
        label = _Label.fitted(text, sizes.text, width, height)
        if label is None:
            return
        left = round(min(max(box.x1 - (sizes.line // 2 if self.box else 0), 0.0), float(width - label.width)))
        top = round(min(max(box.y1 - label.height, 0.0), float(height - label.height)))
        ground = self._bgr(self.box_color)
        canvas[top : top + label.height, left : left + label.width] = ground
        blue, green, red = ground if self.color == "bgr" else ground[::-1]
        ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > _DARK else (255, 255, 255)
        at = (left + label.pad, top + label.height - label.pad - 1)
        cv2.putText(canvas, text, at, _FONT, label.scale, ink, label.stroke, cv2.LINE_AA)

    def _bgr(self, color: str) -> tuple[int, int, int]:
        red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
        return (blue, green, red) if self.color == "bgr" else (red, green, blue)


class _Label(NamedTuple):
    """Size of a label and of its letters in pixels, and what ``cv2.putText`` wants for it."""

    width: int
    height: int
    pad: int
    scale: float
    stroke: int

    @classmethod
    def fitted(cls, text: str, letters: float, width: int, height: int) -> _Label | None:
        """Make a label with letters of some height, smaller ones where the image asks for it; None if too small."""
        while letters >= _LEAST_TEXT:
            stroke = max(1, round(letters / 9))
            # Measured, since fonts differ between versions of OpenCV.
            full = cv2.getTextSize(text, _FONT, 1.0, 1)[0][1]
            scale = letters / full
            (wide, tall), _ = cv2.getTextSize(text, _FONT, scale, stroke)
            pad = max(2, round(letters * 0.3))
            label = cls(wide + 2 * pad, tall + 2 * pad, pad, scale, stroke)
            if label.width <= width and label.height <= height:
                return label
            letters *= 0.8
        return None


def _disc(canvas: NDArray[np.uint8], x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
    at = (round((x - 0.5) * 16), round((y - 0.5) * 16))
    cv2.circle(canvas, at, round(radius * 16), color, cv2.FILLED, cv2.LINE_AA, 4)
