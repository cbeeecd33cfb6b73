"""Look again at doubtful faces of photographs, in enlarged crops of several sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._passes import Look
from scrfd_trt.video._second_look import DOUBTFUL, MIN_LENGTH, MIN_SHARPNESS, roll, sharpness

Image = NDArray[np.uint8]

LARGE = 64
"""Longer side in pixels from which a face shows all that the model needs."""
KEPT_FROM, KEPT_SHARE, TURNED_FROM = 0.35, 0.8, 0.45
"""Score of a crop from which a face is kept, or share of its own score; score for large faces that lie or hang."""
CELL, COLUMNS, SHEETS = 128, 5, 4
"""Side of a crop in pixels, crops in a row of a sheet, and sheets that the model sees together."""
SURE, AGREED, SIZES = 0.5, 0.5, 3
"""A large face also scores SURE in a crop, or AGREED times its own score in the mean of crops of so many sizes."""
LOOKS = ((48, 0), (64, 0), (32, 0), (20, 0), (48, 90), (48, 180), (48, 270))
"""Longer side of the face in each crop, and degrees by which it is turned; the first may do.

In small ones, a face that is out of focus is sharp; turned ones mend wrong landmarks.
"""
FOUND_FROM = 0.1
MAX_OFFSET, MIN_SIZE, MAX_SIZE = 0.35, 0.5, 2.0  # of what is found, in sides of the face


def find_dropped(detector: SCRFDDetector, image: Image, faces: Detections) -> NDArray[np.bool_]:
    """Return for each face, if large and in focus, whether it is doubtful and none of its crops shows a face."""
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0)
    rows = np.flatnonzero((faces.scores <= DOUBTFUL) & (sides >= MIN_LENGTH)).tolist()
    least = np.minimum(KEPT_FROM, KEPT_SHARE * faces.scores.astype(np.float64))
    rolls = np.array([0.0] * len(faces) if faces.landmarks is None else [roll(each) for each in faces.landmarks])
    least[(sides >= LARGE) & (np.abs(rolls) > 45)] = TURNED_FROM
    table = np.zeros((len(faces), len(LOOKS)))
    for columns in (range(1), range(1, len(LOOKS))):
        todo = [(row, column) for row in rows for column in columns]
        for start in range(0, len(todo), SHEETS * COLUMNS**2):
            part = todo[start : start + SHEETS * COLUMNS**2]
            looks = [(row, *LOOKS[column]) for row, column in part]
            table[tuple(zip(*part, strict=True))] = _scores(detector, image, faces, looks)
        best = table.max(axis=1)
        is_sure = (sides < LARGE) | (table[:, 0] >= least) | (best >= SURE)
        is_sure |= table[:, :SIZES].mean(axis=1) >= AGREED * faces.scores
        is_face = (best >= least) & is_sure
        rows = [row for row in rows if not is_face[row]]
    dropped = np.zeros(len(faces), bool)
    for row in rows:
        shown = (48, 32, 20) if sides[row] >= LARGE else (48,)
        dropped[row] = any(sharpness(_crop(image, faces, row, side, 0)) >= MIN_SHARPNESS for side in shown)
    return dropped


def _scores(
    detector: SCRFDDetector, image: Image, faces: Detections, looks: Sequence[tuple[int, int, int]]
) -> NDArray[np.float64]:
    """Return the best score of a face in the middle of each crop; a look is row, side of the face and turn."""
    each = COLUMNS**2
    cells = np.full((-(-len(looks) // each) * each, CELL, CELL, 3), 127, np.uint8)
    for cell, look in zip(cells, looks, strict=False):
        cell[:] = _crop(image, faces, *look)
    sheets = cells.reshape(-1, COLUMNS, COLUMNS, CELL, CELL, 3).swapaxes(2, 3)
    images: list[Any] = list(sheets.reshape(-1, COLUMNS * CELL, COLUMNS * CELL, 3))
    images = [Look(sheet) for sheet in images] if detector._takes_looks else images
    sides, scores = np.array([side for _, side, _ in looks]), np.zeros(len(looks))
    for number, found in enumerate(detector.detect_batch(images, threshold=FOUND_FROM, max_faces=10 * each)):
        middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        places = np.clip(middles // CELL, 0, COLUMNS - 1).astype(int)
        numbers = number * each + places[:, 1] * COLUMNS + places[:, 0]
        side = sides[np.minimum(numbers, len(looks) - 1)]
        share = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0) / side
        is_it = np.abs(middles - (places + 0.5) * CELL).max(axis=1, initial=0) < MAX_OFFSET * side
        is_it &= (share > MIN_SIZE) & (share < MAX_SIZE) & (numbers < len(looks))
        np.maximum.at(scores, numbers[is_it], found.scores[is_it])
    return scores


def _crop(image: Image, faces: Detections, row: int, side: int, turn: int) -> Image:
    """Return a crop ``(CELL, CELL, 3)`` about a face, upright by its landmarks, then turned by so many degrees."""
    box = faces.boxes[row].astype(np.float64)
    centre, scale = (box[:2] + box[2:]) / 2, side / max((box[2:] - box[:2]).max(), 1.0)
    angle = turn + (0.0 if faces.landmarks is None else roll(faces.landmarks[row]))
    reach = CELL * math.sqrt(0.5) / scale + 2
    left, top = np.maximum(centre - reach, 0).astype(int).tolist()
    right, bottom = np.maximum(np.ceil(centre + reach), 1).astype(int).tolist()
    part, shrink = image[top:bottom, left:right], min(1.0, scale)
    if not part.size:  # the face lies outside
        return np.zeros((CELL, CELL, 3), np.uint8)
    if shrink < 1.0:
        size = [max(1, round(length * shrink)) for length in part.shape[1::-1]]
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    x, y = (centre - (left, top)) * shrink
    matrix = cv2.getRotationMatrix2D((x, y), angle, scale / shrink)
    matrix[:, 2] += CELL / 2 - x, CELL / 2 - y
    return np.asarray(cv2.warpAffine(part, matrix, (CELL, CELL), borderMode=cv2.BORDER_REPLICATE), np.uint8)
