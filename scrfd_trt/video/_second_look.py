"""Look again at doubtful tracks, in enlarged, upright crops of some of their frames."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._jobs.profile import measured
from scrfd_trt._nms import pairwise_iou
from scrfd_trt._passes import Look
from scrfd_trt.video import _nvdec

if TYPE_CHECKING:
    from scrfd_trt._detections import Detections
    from scrfd_trt._tracking.faces import FrameFaces
    from scrfd_trt.video._first_pass import FrameDetector
    from scrfd_trt.video._reader import Frame

DOUBTFUL = 0.6  # score up to which a track is doubtful
SAMPLES, SPACING, RECENT = 6, 3, 60  # samples of a track; frames between two, and within which they are counted
SURE_FRAMES = 10  # a doubtful detection is no sample if so many frames before show a sure face in its place
MIN_LENGTH = 40  # pixels of the longer side of a box; smaller faces show too little to be judged, and cover little
MIN_SHARPNESS = 0.35
"""Least share of fine detail in a crop; where all are out of focus, faces are not found again, so the track is kept."""
MAX_BYTES = 64 << 20  # of all crops in memory; tracks without any are kept
MAX_PER_FRAME = 8
SAME_PLACE = 0.3  # overlap from which two boxes are of the same face

CROP, FACE = 128, 40  # side of a crop, and longer side of the face in it, in pixels
SIDE, CELL = 640, 96  # side of the square image in which the model sees crops, and of the part of each
TURNS = (90, 180, 270)
"""Degrees by which crops are turned: faces that lie or hang are found with low scores and landmarks of upright ones."""
MEAN_FROM, BEST_FROM = 0.15, 0.3
"""Scores from which a track is kept: the mean over its upright crops; the best of them, or of TURNED turned ones."""
MIN_SAMPLES, TURNED = 2, 3
FOUND_FROM = 0.05
MAX_OFFSET, MIN_SIZE, MAX_SIZE = 0.35, 0.5, 2.0
"""How far what is found in a crop may lie aside, and its least and greatest size, in sides of the face."""

Image = NDArray[np.uint8]


class Sample(NamedTuple):
    """A detection and its crop ``(CROP, CROP, 3)`` uint8 BGR."""

    frame: int
    score: float
    box: NDArray[np.float32]
    crop: Image


class SecondLook:
    """Collects crops of doubtful tracks while a video is searched, and looks at them with the same detector.

    ``detector`` needs a method ``detect_batch``; ``threshold`` is the score from which a face starts a track.
    """

    def __init__(self, detector: FrameDetector, threshold: float) -> None:
        self._detector: Any = detector
        self._threshold = threshold
        largest = max((min(scale) for scale in getattr(detector, "scales", ())), default=SIDE)
        self._columns = max(1, min(largest, SIDE) // CELL)
        self._recent: deque[tuple[int, NDArray[np.float32]]] = deque()  # frame and box of samples
        self._sure: deque[NDArray[np.float32]] = deque(maxlen=SURE_FRAMES)
        self._pending: dict[int, list[Sample]] = {}  # by frame, until the frame's tracks are known
        self._tracks: dict[int, list[Sample] | None] = {}  # by number; None: it is a face
        self._ended: list[tuple[int, list[Sample]]] = []
        self._bytes = 0
        self._dropped: set[int] = set()

    def take(self, frame: Frame, found: Detections) -> None:
        """Take crops of the doubtful faces of a frame."""
        while self._recent and self._recent[0][0] <= frame.number - RECENT:
            self._recent.popleft()
        self._sure.append(found.boxes[found.scores > DOUBTFUL])
        is_long = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0) >= MIN_LENGTH
        rows = np.flatnonzero(is_long & (found.scores <= DOUBTFUL))
        if not len(rows) or self._bytes > MAX_BYTES:
            return
        is_near = _overlaps(found.boxes[rows], [box for _, box in self._recent])
        is_fresh = np.array([frame.number - number < SPACING for number, _ in self._recent], bool)
        # Lower scores in the place of a doubtful face are of its track.
        is_sample = (found.scores[rows] >= self._threshold) | is_near.any(axis=1)
        is_sample &= (is_near.sum(axis=1) < SAMPLES) & ~(is_near & is_fresh).any(axis=1)
        is_sample &= ~_overlaps(found.boxes[rows], np.concatenate(self._sure)).any(axis=1)
        with measured("detect"):
            for row in rows[is_sample][:MAX_PER_FRAME].tolist():
                points = None if found.landmarks is None else found.landmarks[row]
                box = found.boxes[row]
                sample = Sample(frame.number, float(found.scores[row]), box, crop(frame, box, points))
                self._recent.append((frame.number, box))
                self._pending.setdefault(frame.number, []).append(sample)
                self._bytes += sample.crop.nbytes

    def add(self, faces: FrameFaces) -> None:
        """Give the samples of a frame to its tracks, and look at the tracks that have ended."""
        is_detected = faces.origins == "detected"
        for number in faces.track_ids[is_detected & (faces.scores > DOUBTFUL)].tolist():
            self._forget(self._tracks.get(number) or ())
            self._tracks[number] = None
        for sample in self._pending.pop(faces.number, ()):
            is_own = is_detected & (np.abs(faces.scores - sample.score) < 1e-6)
            is_own &= _overlaps(faces.boxes, [sample.box])[:, 0]
            number = int(faces.track_ids[is_own][0]) if is_own.any() else 0
            samples = self._tracks.setdefault(number, []) if number else None
            if samples is None:
                self._forget([sample])
                continue
            samples.append(sample)
            samples.sort(key=lambda each: -each.score)
            self._forget(samples[SAMPLES:])
            del samples[SAMPLES:]
        self._end(self._tracks.keys() - set(faces.track_ids.tolist()))

    def _end(self, tracks: set[int]) -> None:
        for number in tracks:
            if samples := self._tracks.pop(number):
                self._ended.append((number, samples))
            if sum(len(samples) for _, samples in self._ended) >= 2 * self._columns**2:
                self._look()

    def _forget(self, samples: Sequence[Sample]) -> None:
        self._bytes -= sum(sample.crop.nbytes for sample in samples)

    def finish(self) -> frozenset[int]:
        """Return the tracks that show no face."""
        self._end(set(self._tracks))
        self._look()
        return frozenset(self._dropped)

    def _look(self) -> None:
        """Look at the crops of the tracks that have ended, and turn those of tracks that are not found."""
        for _, samples in self._ended:
            self._forget(samples)
        tracks = {
            number: [each.crop for each in samples] for number, samples in self._ended if len(samples) >= MIN_SAMPLES
        }
        self._ended = []
        with measured("detect"):
            left = {number: crops for number, crops in tracks.items() if max(map(sharpness, crops)) >= MIN_SHARPNESS}
            scores = self._scores(left.values(), (0,))
            found = [own.mean() >= MEAN_FROM or own.max() >= BEST_FROM for own in scores]
            left = {number: left[number][:TURNED] for number, is_kept in zip(left, found, strict=True) if not is_kept}
            scores = self._scores(left.values(), TURNS)
        self._dropped |= {number for number, own in zip(left, scores, strict=True) if own.max() < BEST_FROM}

    def _scores(self, tracks: Collection[Sequence[Image]], angles: Sequence[int]) -> list[NDArray[np.float64]]:
        """Return the scores of the faces in the middle of each track's crops, turned, as ``(angles, crops)``."""
        cells = [turned(crop, angle) for angle in angles for crops in tracks for crop in crops]
        each = self._columns**2
        looks: list[Any] = [mosaic(cells[start : start + each], self._columns) for start in range(0, len(cells), each)]
        if getattr(self._detector, "_takes_looks", False):
            looks = [Look(image) for image in looks]
        scores = np.zeros(len(looks) * each)
        found = self._detector.detect_batch(looks, threshold=FOUND_FROM, max_faces=20 * each) if looks else []
        for number, faces in enumerate(found):
            middles, sizes = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2, faces.boxes[:, 2:] - faces.boxes[:, :2]
            places = np.clip(middles // CELL, 0, self._columns - 1).astype(int)
            share = sizes.max(axis=1, initial=0) / FACE
            is_face = np.abs(middles - (places + 0.5) * CELL).max(axis=1, initial=0) < MAX_OFFSET * FACE
            is_face &= (share > MIN_SIZE) & (share < MAX_SIZE)
            at = number * each + places[:, 1] * self._columns + places[:, 0]
            np.maximum.at(scores, at[is_face], faces.scores[is_face])
        table = scores[: len(cells)].reshape(len(angles), -1)
        return np.split(table, np.cumsum([len(crops) for crops in tracks])[:-1], axis=1) if tracks else []


def _overlaps(boxes: NDArray[Any], others: Any) -> NDArray[np.bool_]:
    """Return whether boxes are in the same place, as ``(boxes, others)``."""
    return pairwise_iou(boxes.astype(np.float64), np.array(others, np.float64).reshape(-1, 4)) > SAME_PLACE


def sharpness(crop: Image) -> float:
    """Return the contrast of fine detail in the middle of a crop, as a share of that of coarser detail."""
    margin = CROP // 4
    grey = cv2.cvtColor(crop[margin:-margin, margin:-margin], cv2.COLOR_BGR2GRAY).astype(np.float32)
    soft, softer = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1.5, 6.0))
    return float((grey - soft).std() / ((soft - softer).std() + 2.0))


def second_look(detector: FrameDetector, threshold: float) -> SecondLook | None:
    """Return a second look with a detector; None if it only takes streams of images."""
    return SecondLook(detector, threshold) if hasattr(detector, "detect_batch") else None


def turned(crop: Image, angle: float) -> Image:
    """Return the middle of a crop, turned by degrees counterclockwise."""
    turn: Any = cv2.getRotationMatrix2D(((CROP - 1) / 2, (CROP - 1) / 2), angle, 1.0)
    turn[:, 2] += (CELL - CROP) / 2
    return np.asarray(cv2.warpAffine(crop, turn, (CELL, CELL), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def mosaic(cells: Sequence[Image], columns: int) -> Image:
    """Return crops as one image, row by row."""
    side = SIDE if columns == SIDE // CELL else columns * CELL
    image = np.full((side, side, 3), 127, np.uint8)
    for number, cell in enumerate(cells):
        y, x = (CELL * at for at in divmod(number, columns))
        image[y : y + CELL, x : x + CELL] = cell
    return image


def crop(frame: Frame, box: NDArray[np.float32], landmarks: NDArray[np.float32] | None) -> Image:
    """Return a crop ``(CROP, CROP, 3)`` about a face, upright by its landmarks, with the face in the size of FACE."""
    centre, side = (box[:2] + box[2:]).astype(np.float64) / 2, max(float((box[2:] - box[:2]).max()), 4.0)
    angle = 0.0 if landmarks is None else roll(landmarks)
    share = abs(math.sin(math.radians(angle))) + abs(math.cos(math.radians(angle)))
    reach = side * CROP / FACE / 2 * share + 2
    left, top = (np.maximum(centre - reach, 0) // 2 * 2).astype(int).tolist()
    right, bottom = np.ceil(np.maximum(centre + reach, 2)).astype(int).tolist()
    if frame.is_on_gpu:
        region = _nvdec.region(frame.yuv, left, top, right, bottom)
    else:
        region = frame.image[top:bottom, left:right]
    if not region.size:
        region = np.zeros((2, 2, 3), np.uint8)
    shrink = min(1.0, FACE / side)
    if shrink < 1.0:
        size = [max(1, round(length * shrink)) for length in region.shape[1::-1]]
        region = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_AREA), np.uint8)
    x, y = (centre - (left, top)) * shrink
    turn = cv2.getRotationMatrix2D((x, y), angle, FACE / (side * shrink))
    turn[:, 2] += CROP / 2 - x, CROP / 2 - y
    return np.asarray(cv2.warpAffine(region, turn, (CROP, CROP), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def roll(landmarks: NDArray[np.float32]) -> float:
    """Return by how many degrees clockwise a face is turned, from its landmarks ``(5, 2)``."""
    across = landmarks[1] - landmarks[0] + landmarks[4] - landmarks[3]
    down = landmarks[3] + landmarks[4] - landmarks[0] - landmarks[1]
    return math.degrees(math.atan2(across[1] - down[0], across[0] + down[1]))
