"""A picture of the best face of each track, with its number and times."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.video import Summary, TrackSummary, open_source
from scrfd_trt.video.info import clock
from scrfd_trt.video.reading import Damaged

Image = NDArray[np.uint8]

SIDE, GAP, CAPTION = 160, 12, 44
MARGIN = 0.35
"""What is shown around a face, as a share of its size."""
MOST_COLUMNS = 8
GROUND, INK, FAINT = (250, 250, 250), (20, 20, 20), (110, 110, 110)


def contact_sheet(video: Path, summary: Summary, damaged: Damaged = "stop") -> Image:
    """Make a picture of the best face of each track.

    Parameters
    ----------
    video
        Is read as far as the last of these faces.
    summary
        Its tracks; at least one.
    damaged
        As its faces were found with.

    Returns
    -------
    numpy.ndarray
        ``(H, W, 3)`` uint8 BGR.

    Raises
    ------
    VideoError
        If the video cannot be read so far.
    """
    tracks = list(summary.tracks.values())
    crops = _crops(video, tracks, damaged)
    columns = min(MOST_COLUMNS, math.ceil(math.sqrt(len(tracks) * 1.6)), len(tracks))
    rows = math.ceil(len(tracks) / columns)
    sheet = np.full((GAP + rows * (SIDE + CAPTION + GAP), GAP + columns * (SIDE + GAP), 3), GROUND, np.uint8)
    captions = []
    for place, track in enumerate(tracks):
        x = GAP + place % columns * (SIDE + GAP)
        y = GAP + place // columns * (SIDE + CAPTION + GAP)
        sheet[y : y + SIDE, x : x + SIDE] = crops[track.number]
        captions.append((x, y + SIDE + 4, track))
    return _written(sheet, captions)


def _crops(video: Path, tracks: list[TrackSummary], damaged: Damaged) -> dict[int, Image]:
    wanted: dict[int, list[TrackSummary]] = {}
    for track in tracks:
        wanted.setdefault(track.best_frame, []).append(track)
    found: dict[int, Image] = {}
    with open_source(video, damaged=damaged) as reader:
        for frame in reader:
            for track in wanted.pop(frame.number, ()):
                found[track.number] = _crop(frame.image, track.best.box)
            if not wanted:
                break
    blank = np.full((SIDE, SIDE, 3), 200, np.uint8)
    return {track.number: found.get(track.number, blank) for track in tracks}


def _crop(image: Image, box: NDArray[np.float64]) -> Image:
    """Cut a square around a face; what lies beyond the picture is black."""
    side = max(2, round(float((box[2:] - box[:2]).max()) * (1.0 + 2.0 * MARGIN)))
    left, top = np.round((box[:2] + box[2:]) / 2 - side / 2).astype(int).tolist()
    height, width = image.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x2 > x1 and y2 > y1:
        square[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
    kind = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=kind), np.uint8)


def _written(sheet: Image, captions: list[tuple[int, int, TrackSummary]]) -> Image:
    from PIL import Image as Pictures  # noqa: PLC0415 - takes long
    from PIL import ImageDraw, ImageFont  # noqa: PLC0415

    picture = Pictures.fromarray(cv2.cvtColor(sheet, cv2.COLOR_BGR2RGB))
    pen = ImageDraw.Draw(picture)
    large, small = (ImageFont.load_default(size) for size in (18, 14))
    for x, y, track in captions:
        pen.text((x, y), f"Track {track.number}", INK, large)
        times = f"{clock(track.first.time)} to {clock(track.last.time)}"
        pen.text((x, y + 22), times, FAINT, small)
    done: Any = np.asarray(picture, np.uint8)
    return np.asarray(cv2.cvtColor(done, cv2.COLOR_RGB2BGR), np.uint8)
