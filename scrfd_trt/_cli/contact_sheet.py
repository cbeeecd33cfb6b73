"""A sheet of small pictures of faces, each with two lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

# Pixels: side of a face, gap, height of a caption.
SIDE, GAP, CAPTION = 160, 12, 44
MARGIN = 0.35
"""Shown around a face, as a share of its size."""
MAX_COLUMNS = 8
BACKGROUND, INK, GREY = (250, 250, 250), (20, 20, 20), (110, 110, 110)


def contact_sheet(tiles: Iterable[tuple[Image | None, str, str]]) -> Image:
    """Return an image of tiles, each with its lines below it, of which there must be one; None is a grey tile."""
    from PIL import Image as PilImage  # noqa: PLC0415 - slow import
    from PIL import ImageDraw, ImageFont  # noqa: PLC0415

    shown = list(tiles)
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(len(shown) * 1.6)), len(shown))
    rows = math.ceil(len(shown) / columns)
    size = GAP + columns * (SIDE + GAP), GAP + rows * (SIDE + CAPTION + GAP)
    sheet = PilImage.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    large, small = (ImageFont.load_default(size) for size in (18, 14))
    for index, (tile, title, text) in enumerate(shown):
        x, y = GAP + index % columns * (SIDE + GAP), GAP + index // columns * (SIDE + CAPTION + GAP)
        pixels: Any = np.full((SIDE, SIDE, 3), 200, np.uint8) if tile is None else tile
        sheet.paste(PilImage.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)), (x, y))
        draw.text((x, y + SIDE + 4), title, INK, large)
        draw.text((x, y + SIDE + 26), text, GREY, small)
    drawn: Any = np.asarray(sheet, np.uint8)
    return np.asarray(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), np.uint8)


def face_tile(image: Image, box: NDArray[np.floating[Any]]) -> Image:
    """Return a square around a face, black outside the image."""
    side = max(2, round(float((box[2:] - box[:2]).max()) * (1.0 + 2.0 * MARGIN)))
    left, top = np.round((box[:2] + box[2:]) / 2 - side / 2).astype(int).tolist()
    height, width = image.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x2 > x1 and y2 > y1:
        square[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
    interpolation = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=interpolation), np.uint8)
