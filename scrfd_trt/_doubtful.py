"""Look again at doubtful faces, in crops of several sizes and directions of one or several of their pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._passes import Look

Image = NDArray[np.uint8]

DOUBTFUL = 0.6  # score up to which a face is doubtful
MIN_LENGTH = 40  # pixels of the longer side of a box; smaller faces show too little to be judged, and cover little
LARGE = 90  # pixels of the longer side from which a face shows all that the model needs, unless the border cuts it
BORDER = 0.05  # share of its longer side within which a box touches the border of the picture
MIN_SHARPNESS = 0.35
"""Least share of fine detail in a crop; where all are out of focus, faces are not found again, so they are kept."""

SIDE, CELL, SHEETS = 640, 128, 4  # of the square image of crops, of each crop, and images that the model sees together
GREY = 127  # level that the model sees as 0
REACH, STORED = 2.0, 48
"""How far the part of a picture that is kept reaches from the middle of a face, in sides; its largest side in it."""


class View(NamedTuple):
    """Longer side of the face in a crop, degrees by which it is turned, and whether it is mirrored."""

    side: int
    turn: int = 0
    is_mirrored: bool = False


STAGES = (
    (View(48),),
    (View(64), View(32), View(20), View(48, 0, True), View(32, 0, True)),
    (View(48, 90), View(48, 180), View(48, 270)),
)
"""Crops that are looked at one after the other, until a face is found.

In small ones, a face that is out of focus is sharp; faces that lie or hang may have the landmarks of upright ones.
"""
MIN_WHOLE = 2  # whole samples that stand for a face
UPRIGHT_STAGES, TURNED = 2, 3  # stages with upright crops; samples of a face that are turned
BEST_FROM = 0.3  # best score of all crops from which a face of a single picture is kept
SURE, MEAN_FROM = 0.5, 0.24
"""Mean score of the first crops, and of all upright ones, from which a face of several pictures is kept.

Measured: clutter has a mean from 0 to 0.2, rarely more; dim, blurred, noisy and cut faces, and most half hidden ones,
have 0.26 and more.
"""
AGREED, AGREED_SHARE = 0.36, 0.85
"""Mean score of all upright crops from which a large face is kept, or share of its score.

Sharp faces that nothing hides have a mean from 0.42 on; clutter, and a third of half hidden ones, 0.1 to 0.35.
"""
TURNED_FROM = 0.6  # score from which a face of several pictures is kept that is found only once it is turned
AGREEING = 32  # pixels of the face in a crop from which large faces have to be found in all sizes
FOUND_FROM = 0.05
MAX_OFFSET, MIN_SIZE, MAX_SIZE = 0.35, 0.5, 2.0
"""How far what is found in a crop may lie aside, and its least and greatest size, in sides of the face."""


class Sample(NamedTuple):
    """A detection, and the part of its picture around it, which may be shrunk."""

    image: Image
    middle: tuple[float, float]
    side: float  # longer side of the face in ``image``
    roll: float
    length: float  # longer side in the picture
    score: float
    is_cut: bool  # by the border of the picture


Part = Callable[[int, int, int, int], Image]  # of the pixels between left, top, right and bottom


def take(part: Part, faces: Detections, row: int) -> Sample:
    """Return the sample of a face in a picture, of which ``part`` returns the pixels."""
    box, score = faces.boxes[row], float(faces.scores[row])
    centre, side = (box[:2] + box[2:]).astype(np.float64) / 2, max(float((box[2:] - box[:2]).max()), 4.0)
    left, top = (np.maximum(centre - REACH * side - 2, 0) // 2 * 2).astype(int).tolist()
    right, bottom = np.ceil(np.maximum(centre + REACH * side + 2, 2)).astype(int).tolist()
    image, shrink = part(left, top, right, bottom), min(1.0, STORED / side)
    if not image.size:  # the face lies outside
        image = np.zeros((2, 2, 3), np.uint8)
    x, y = ((centre - (left, top)) * shrink).tolist()
    roll = 0.0 if faces.landmarks is None else roll_of(faces.landmarks[row])
    is_cut = bool((box[:2] < BORDER * side).any() or (box[2:] > np.array(faces.image_size) - BORDER * side).any())
    return Sample(_shrunk(image, shrink), (x, y), side * shrink, roll, side, score, is_cut)


def roll_of(landmarks: NDArray[np.float32]) -> float:
    """Return by how many degrees clockwise a face is turned, from its landmarks ``(5, 2)``."""
    across = landmarks[1] - landmarks[0] + landmarks[4] - landmarks[3]
    down = landmarks[3] + landmarks[4] - landmarks[0] - landmarks[1]
    return math.degrees(math.atan2(across[1] - down[0], across[0] + down[1]))


def find_dropped(detector: Any, image: Image, faces: Detections) -> NDArray[np.bool_]:
    """Return for each face of an image whether it is doubtful and none of its crops shows a face."""
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0)
    rows = np.flatnonzero((faces.scores <= DOUBTFUL) & (sides >= MIN_LENGTH))
    dropped = np.zeros(len(faces), bool)
    part: Part = lambda left, top, right, bottom: image[top:bottom, left:right]  # noqa: E731
    dropped[rows] = ~are_faces(detector, [[take(part, faces, row)] for row in rows.tolist()])
    return dropped


def best_scores(detector: Any, samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Return the best score of all crops of each sample; 1 for those that are out of focus."""
    views = [view for views in STAGES for view in views]
    scores = _scores(detector, [(sample, view) for sample in samples for view in views]).reshape(-1, len(views))
    is_sharp = [_is_sharp([sample]) for sample in samples]
    return np.where(is_sharp, scores.max(axis=1), 1.0)


def are_faces(detector: Any, tracks: Sequence[Sequence[Sample]]) -> NDArray[np.bool_]:
    """Return for each track, of which there are samples by descending score, whether it may be a face."""
    tracks = [_whole(samples) for samples in tracks]
    kept = np.array([not _is_sharp(samples) for samples in tracks], np.bool_)
    upright: list[NDArray[np.float64]] = [np.zeros((len(samples), 0)) for samples in tracks]
    for stage, views in enumerate(STAGES):
        left = np.flatnonzero(~kept).tolist()
        count = None if stage < UPRIGHT_STAGES else TURNED
        looks = [(sample, view) for at in left for sample in tracks[at][:count] for view in views]
        found = iter(np.split(_scores(detector, looks), len(looks) // len(views)) if looks else ())
        for at in left:
            scores = np.array([next(found) for _ in tracks[at][:count]])
            if stage < UPRIGHT_STAGES:
                upright[at] = np.hstack([upright[at], scores])
            kept[at] = _is_found(stage, upright[at], scores, tracks[at][0].score if is_large(tracks[at]) else None)
    return kept


def _is_found(stage: int, upright: NDArray[Any], scores: NDArray[Any], large: float | None) -> bool:
    """Return whether a face is found by its upright crops so far, and a stage's; ``large``: a large one's own score."""
    if len(upright) == 1:
        return bool(scores.max() >= BEST_FROM)
    if stage == UPRIGHT_STAGES:
        return bool(scores.max() >= TURNED_FROM)
    if stage == 0:
        return bool(upright.mean() >= SURE)
    if large is None:
        return bool(upright.mean() >= MEAN_FROM)
    views = [view for views in STAGES[:UPRIGHT_STAGES] for view in views]
    agreed = upright[:, [view.side >= AGREEING for view in views]].mean()
    return bool(agreed >= min(AGREED, AGREED_SHARE * large))


def _whole(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples that the border does not cut, which show more, if there are several."""
    whole = [each for each in samples if not each.is_cut]
    return whole if len(whole) >= MIN_WHOLE else samples


def is_large(samples: Sequence[Sample]) -> bool:
    """Return whether most samples show whole faces, which are large."""
    lengths = [each.length for each in samples if not each.is_cut]
    return 2 * len(lengths) > len(samples) and sum(lengths) >= LARGE * len(lengths)


def _is_sharp(samples: Sequence[Sample]) -> bool:
    # Grey beyond the border would be an edge, which looks like fine detail.
    crops = (_crop(sample, View(side), cv2.BORDER_REPLICATE) for sample in samples for side in (48, 32, 20))
    return any(sharpness(crop) >= MIN_SHARPNESS for crop in crops)


def sharpness(crop: Image) -> float:
    """Return the contrast of fine detail in the middle of a crop, as a share of that of coarser detail."""
    margin = CELL // 4
    grey = cv2.cvtColor(crop[margin:-margin, margin:-margin], cv2.COLOR_BGR2GRAY).astype(np.float32)
    soft, softer = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1.5, 6.0))
    return float((grey - soft).std() / ((soft - softer).std() + 2.0))


def _scores(detector: Any, looks: Sequence[tuple[Sample, View]]) -> NDArray[np.float64]:
    """Return the best score of a face in the middle of each crop."""
    scores = np.zeros(len(looks))
    columns = max(1, min(max((min(scale) for scale in getattr(detector, "scales", ())), default=SIDE), SIDE) // CELL)
    each = columns**2
    for start in range(0, len(looks), SHEETS * each):
        part = looks[start : start + SHEETS * each]
        cells = np.full((-(-len(part) // each) * each, CELL, CELL, 3), GREY, np.uint8)
        for cell, look in zip(cells, part, strict=False):
            cell[:] = _crop(*look)
        sheets = cells.reshape(-1, columns, columns, CELL, CELL, 3).swapaxes(2, 3)
        images: list[Any] = list(sheets.reshape(-1, columns * CELL, columns * CELL, 3))
        images = [Look(sheet) for sheet in images] if getattr(detector, "_takes_looks", False) else images
        sides = np.array([view.side for _, view in part])
        for number, found in enumerate(detector.detect_batch(images, threshold=FOUND_FROM, max_faces=20 * each)):
            middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
            places = np.clip(middles // CELL, 0, columns - 1).astype(int)
            numbers = number * each + places[:, 1] * columns + places[:, 0]
            side = sides[np.minimum(numbers, len(part) - 1)]
            share = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0) / side
            is_it = np.abs(middles - (places + 0.5) * CELL).max(axis=1, initial=0) < MAX_OFFSET * side
            is_it &= (share > MIN_SIZE) & (share < MAX_SIZE) & (numbers < len(part))
            np.maximum.at(scores, start + numbers[is_it], found.scores[is_it])
    return scores


def _crop(sample: Sample, view: View, border: int = cv2.BORDER_CONSTANT) -> Image:
    """Return a crop ``(CELL, CELL, 3)`` about a face, upright by its landmarks, then turned by so many degrees."""
    scale = view.side / sample.side
    shrink = min(1.0, scale)
    x, y = (each * shrink for each in sample.middle)
    matrix: Any = cv2.getRotationMatrix2D((x, y), view.turn + sample.roll, scale / shrink)
    matrix[:, 2] += CELL / 2 - x, CELL / 2 - y
    part = _shrunk(sample.image, shrink)
    # Convolutions continue pictures with grey, too: a face that the border cuts is found as in its picture.
    beyond = (GREY, GREY, GREY)
    crop = np.asarray(cv2.warpAffine(part, matrix, (CELL, CELL), borderMode=border, borderValue=beyond), np.uint8)
    return crop[:, ::-1] if view.is_mirrored else crop


def _shrunk(image: Image, shrink: float) -> Image:
    if shrink == 1.0:
        return image
    size = [max(1, round(length * shrink)) for length in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
