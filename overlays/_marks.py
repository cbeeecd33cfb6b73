"""Frames, points and labels in sizes that suit the image, for overlays that point faces out."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays._colors import Channels
from overlays._raster import Box, Region, clip_box
from scrfd_trt._detections import Detections

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_TEXT = 7.0
_DARK = 140.0
_CORNER = 0.25

Image = NDArray[np.uint8]


class Sizes(NamedTuple):
    """What is drawn of one face, in pixels."""

    line: int
    point: float
    text: float

    @classmethod
    def of(cls, box: Box, width: int, height: int, size: float) -> Sizes:
        """Choose sizes by face and image; ``size`` multiplies them."""
        image, face = float(np.sqrt(width * height)), max(box.width, box.height)
        text = min(max(0.13 * face, 0.008 * image, 8.5), max(0.03 * image + 6.0, 8.5)) * size
        line = max(1, round(min(max(0.012 * face, 0.0012 * image), 0.004 * image) * size))
        point = max(0.7, min(max(0.022 * face, 0.0008 * image), 0.012 * image) * size)
        return cls(line, point, text)


def seen(detections: Detections, size: float) -> list[tuple[int, Box, Sizes]]:
    """Return row, box and sizes of each face that touches the image, the surest last, so that it lies on top."""
    width, height = detections.image_size
    found = []
    for row, corners in reversed(list(enumerate(detections.boxes.astype(np.float64).tolist()))):
        box = Box(*corners)
        if clip_box(box.grown(0.5, 0.5), width, height) is not None:
            found.append((row, box, Sizes.of(box, width, height, size)))
    return found


def frame(canvas: Image, box: Box, line: int, color: Channels, *, corners: bool = False) -> None:
    """Draw a box, or only its corners."""
    height, width = canvas.shape[:2]
    # Sides that are far outside are drawn just outside: cv2 takes no huge numbers.
    beyond = line + 2
    x1, x2 = (round(min(max(x, -beyond), width + beyond)) for x in (box.x1, box.x2 - 1))
    y1, y2 = (round(min(max(y, -beyond), height + beyond)) for y in (box.y1, box.y2 - 1))
    x2, y2 = max(x1, x2), max(y1, y2)
    if not corners:
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, line)
        return
    arm = max(2, round(_CORNER * min(x2 - x1, y2 - y1)))
    for x, dx in ((x1, arm), (x2, -arm)):
        for y, dy in ((y1, arm), (y2, -arm)):
            cv2.line(canvas, (x, y), (x + dx, y), color, line)
            cv2.line(canvas, (x, y), (x, y + dy), color, line)


def point(canvas: Image, x: float, y: float, size: float, color: Channels) -> None:
    """Draw a point, with a dark rim where it is large enough; one that lies outside is left out."""
    height, width = canvas.shape[:2]
    reach = size + 2
    if -reach < x < width + reach and -reach < y < height + reach:
        if size >= 2.0:
            _disc(canvas, x, y, size + max(0.75, 0.3 * size), (0, 0, 0))
        _disc(canvas, x, y, size, color)


def _disc(canvas: Image, x: float, y: float, radius: float, color: Channels) -> None:
    at = (round((x - 0.5) * 16), round((y - 0.5) * 16))
    cv2.circle(canvas, at, round(radius * 16), color, cv2.FILLED, cv2.LINE_AA, 4)


class Label(NamedTuple):
    """A text on a filled ground: where it lies, and what ``cv2.putText`` wants for it."""

    region: Region
    text: str
    pad: int
    scale: float
    stroke: int

    @classmethod
    def above(cls, box: Box, text: str, letters: float, width: int, height: int) -> Label | None:
        """Lay a label on a box's upper left corner, inside the image; smaller where it must be, None if too small."""
        while letters >= _LEAST_TEXT:
            stroke = max(1, round(letters / 9))
            # Measured, since fonts differ between versions of OpenCV.
            full = cv2.getTextSize(text, _FONT, 1.0, 1)[0][1]
            scale = letters / full
            (wide, tall), _ = cv2.getTextSize(text, _FONT, scale, stroke)
            pad = max(2, round(letters * 0.3))
            wide, tall = wide + 2 * pad, tall + 2 * pad
            if wide <= width and tall <= height:
                left = round(min(max(box.x1, 0.0), float(width - wide)))
                top = round(min(max(box.y1 - tall, 0.0), float(height - tall)))
                return cls(Region(left, top, left + wide, top + tall), text, pad, scale, stroke)
            letters *= 0.8
        return None

    def draw(self, canvas: Image, ground: Channels, order: str) -> None:
        """Draw it in black or white, whichever is read better on the ground; ``order`` is that of the channels."""
        view = canvas[self.region.rows_columns]
        view[...] = ground
        blue, green, red = ground if order == "bgr" else ground[::-1]
        ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > _DARK else (255, 255, 255)
        at = (self.pad, view.shape[0] - self.pad - 1)
        cv2.putText(view, self.text, at, _FONT, self.scale, ink, self.stroke, cv2.LINE_AA)
