"""Boxes, points, texts and labels in sizes that suit the image and the face."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from overlays._colors import Pixel
from overlays._geometry import Box, Image, Region, face_boxes, rows_by_score
from scrfd_trt._detections import Detections
from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import OptionError

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MIN_TEXT = 7.0
_BRIGHT = 140.0
_CORNER = 0.25
_MAX_FONT, _MAX_TEXT = 128, 200
"""Largest size at which letters are rendered, to be enlarged from there on, and their largest number."""
_MAX_HEIGHT, _FAR = 1e9, 1e12  # limits in pixels, so that numbers stay exact


class DrawSizes(NamedTuple):
    """Sizes for drawing one face, in pixels: width of lines, radius of landmarks, and height of capital letters."""

    line: int
    point: float
    text: float

    @classmethod
    def for_box(cls, box: Box, width: int, height: int, size: float = 1.0) -> DrawSizes:
        """Return sizes that suit a face's box in an image of ``width`` × ``height`` pixels, multiplied by ``size``."""
        image, face = float(np.sqrt(width * height)), max(box.width, box.height)
        text = min(max(0.13 * face, 0.008 * image, 8.5), max(0.03 * image + 6.0, 8.5)) * size
        line = max(1, round(min(max(0.012 * face, 0.0012 * image), 0.004 * image) * size))
        point = max(0.7, min(max(0.022 * face, 0.0008 * image), 0.012 * image) * size)
        return cls(line, point, text)


def visible_faces(detections: Detections, size: float = 1.0) -> list[tuple[int, Box, DrawSizes]]:
    """Return row, box and sizes of each face that touches the image, lowest score first; ``size`` scales all sizes."""
    width, height = detections.image_size
    boxes = face_boxes(detections)
    return [
        (row, box, DrawSizes.for_box(box, width, height, size))
        for row, box in ((row, boxes[row]) for row in rows_by_score(detections)[::-1].tolist())
        if box.padded(0.5, 0.5).clip(width, height) is not None
    ]


@explained_options
def draw_box(canvas: Image, box: Box, line: int, color: Pixel, *, corners: bool = False) -> None:
    """Draw a box, or only its corners, on an image ``(H, W, 3)``, in place.

    Parameters
    ----------
    box
        It may lie anywhere.
    line
        Line width in pixels.
    """
    height, width = canvas.shape[:2]
    # cv2 does not accept huge numbers: sides far outside are moved to just outside.
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


@explained_options
def draw_point(canvas: Image, x: float, y: float, radius: float, color: Pixel) -> None:
    """Draw a filled circle on an image ``(H, W, 3)``, in place; it is skipped outside the image.

    Its centre and radius are in pixels; from a radius of 2 on, it has a dark outline.
    """
    height, width = canvas.shape[:2]
    reach = radius + 2
    if -reach < x < width + reach and -reach < y < height + reach:
        if radius >= 2.0:
            _draw_disc(canvas, x, y, radius + max(0.75, 0.3 * radius), (0, 0, 0))
        _draw_disc(canvas, x, y, radius, color)


def _draw_disc(canvas: Image, x: float, y: float, radius: float, color: Pixel) -> None:
    at = (round((x - 0.5) * 16), round((y - 0.5) * 16))
    cv2.circle(canvas, at, round(radius * 16), color, cv2.FILLED, cv2.LINE_AA, 4)


@explained_options
def draw_text(
    canvas: Image, text: str, x: float, y: float, *, height: float, color: Pixel, font: Path | None = None
) -> None:
    """Draw one line of text on an image ``(H, W, 3)`` uint8, in place; what lies outside the image is left out.

    Any text, place and size is accepted. Letters that the font lacks become empty boxes, and control characters spaces.

    Parameters
    ----------
    text
        Only its first 200 characters are drawn.
    x, y
        Left end of the line on which the letters stand, in pixels.
    height
        Height of capital letters in pixels.
    color
        In the order of the image's channels.
    font
        A TrueType or OpenType file; None for Pillow's font, which has ASCII only.

    Raises
    ------
    OptionError
        If the font cannot be read.
    """
    box = text_box(text, x, y, height=height, font=font)
    region = box.clip(canvas.shape[1], canvas.shape[0])
    if region is None:
        return
    mask = _rendered(text, _font_size(height, font), font)[0]
    start, end = np.reshape(region, (2, 2)) - box[:2]
    scale = mask.width / box.width
    seen = (*np.maximum(start * scale, 0.0), *np.minimum(end * scale, mask.size))
    alpha = np.asarray(mask.resize(region.size, PillowImage.Resampling.BILINEAR, seen), np.float32)[..., None] / 255
    view = canvas[region.slices]
    view[...] = np.rint(view + alpha * (np.array(color, np.float32) - view))


@explained_options
def text_box(text: str, x: float, y: float, *, height: float, font: Path | None = None) -> Box:
    """Return the box of what :func:`draw_text` draws, for ``changed_boxes``; without area if that is nothing."""
    size = _font_size(height, font)
    if size < 1 or not (math.isfinite(x) and math.isfinite(y)):
        return Box(0.0, 0.0, 0.0, 0.0)
    mask, left, top = _rendered(text, size, font)
    scale = 1.0 if size < _MAX_FONT else min(height, _MAX_HEIGHT) / (_capitals(font) * size)
    x, y = (round(min(max(at, -_FAR), _FAR)) + offset * scale for at, offset in ((x, left), (y, top)))
    return Box(x, y, x + mask.width * scale, y + mask.height * scale)


def _font_size(height: float, font: Path | None) -> int:
    """Return the size at which letters are rendered; 0 if they are too small, or their height is not a number."""
    return round(min(height / _capitals(font), _MAX_FONT)) if height > 0.0 else 0


@lru_cache(16)
def _capitals(font: Path | None) -> float:
    """Return the height of capital letters for a font size of 1."""
    return max(-_load(font, 100).getbbox("H", anchor="ls")[1], 1.0) / 100


def _load(font: Path | None, size: int) -> ImageFont.FreeTypeFont:
    try:
        loaded = ImageFont.load_default(size) if font is None else ImageFont.truetype(str(font), size)
    except (OSError, ValueError) as error:
        raise OptionError(f"{font} is not a font that can be read; use a .ttf or .otf file") from error
    return cast("ImageFont.FreeTypeFont", loaded)


@lru_cache(32)
def _rendered(text: str, size: int, font: Path | None) -> tuple[PillowImage.Image, int, int]:
    """Return a text in white on black, and its left and top from the start of its line."""
    text = "".join(letter if letter.isprintable() else " " for letter in text[:_MAX_TEXT])
    loaded = _load(font, size)
    left, top, right, bottom = map(round, loaded.getbbox(text, anchor="ls"))
    mask = PillowImage.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=loaded, anchor="ls")
    return mask, left, top


class Label(NamedTuple):
    """A text on a filled background.

    Attributes
    ----------
    region
        Pixels of the background.
    pad
        Space around the text in pixels.
    scale, stroke
        Font scale and line width for ``cv2.putText``.
    """

    region: Region
    text: str
    pad: int
    scale: float
    stroke: int

    @classmethod
    def above(cls, box: Box, text: str, letters: float, width: int, height: int) -> Label | None:
        """Return a label at a box's upper left corner, inside the image.

        Parameters
        ----------
        letters
            Height of capital letters in pixels; smaller if the label does not fit.
        width, height
            Size of the image in pixels. If it is too small for readable text, None is returned.
        """
        while letters >= _MIN_TEXT:
            stroke = max(1, round(letters / 9))
            # Measured, because fonts differ between versions of OpenCV.
            scale = letters / cv2.getTextSize(text, _FONT, 1.0, 1)[0][1]
            (wide, tall), _ = cv2.getTextSize(text, _FONT, scale, stroke)
            pad = max(2, round(letters * 0.3))
            wide, tall = wide + 2 * pad, tall + 2 * pad
            if wide <= width and tall <= height:
                left = round(min(max(box.x1, 0.0), float(width - wide)))
                top = round(min(max(box.y1 - tall, 0.0), float(height - tall)))
                return cls(Region(left, top, left + wide, top + tall), text, pad, scale, stroke)
            letters *= 0.8
        return None

    def draw(self, canvas: Image, background: Pixel, order: str = "bgr") -> None:
        """Draw the label in black or white, whichever contrasts more with the background.

        ``canvas`` is drawn on in place; it has the size given to :meth:`above`, and channels in ``order``, bgr or rgb.
        """
        view = canvas[self.region.slices]
        view[...] = background
        blue, green, red = background if order == "bgr" else background[::-1]
        ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > _BRIGHT else (255, 255, 255)
        at = (self.pad, view.shape[0] - self.pad - 1)
        cv2.putText(view, self.text, at, _FONT, self.scale, ink, self.stroke, cv2.LINE_AA)
