"""Look again at doubtful tracks: enlarged, upright crops of some of their frames tell whether they show a face."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
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
KEPT_FROM = 0.35  # score in one of its crops from which it is kept
SAMPLES, SPACING, RECENT = 6, 3, 60  # samples of a track; frames between two, and within which they are counted
MIN_LENGTH = 24  # pixels of the longer side of a box; smaller faces show too little to be judged
MIN_SHARPNESS = 0.35
"""Least share of fine detail in a crop; where all are out of focus, faces are not found again, so the track is kept."""
MAX_BYTES = 64 << 20  # of all crops in memory; tracks without any are kept
MAX_PER_FRAME = 8
SAME_PLACE = 0.3  # overlap from which two boxes are of the same face

CELL, COLUMNS = 128, 5
"""Side of a crop in pixels, and crops in a row of the square image in which the model sees them."""
SIDES = (48, 32, 20)
"""Longer sides of a face in the crops of a sample: in small ones, a face that is out of focus is sharp."""
MAX_OFFSET, MIN_SIDE, MAX_SIDE = 0.35, 0.5, 2.0
"""How far what is found in a crop may lie aside, and its least and greatest size, in sides of the face."""

Image = NDArray[np.uint8]


class Sample(NamedTuple):
    """A detection and its crops ``(3, CELL, CELL, 3)`` uint8 BGR."""

    frame: int
    score: float
    box: NDArray[np.float32]
    crops: Image


class SecondLook:
    """Collects crops of doubtful tracks while a video is searched, and looks at them with the same detector.

    ``detector`` needs a method ``detect_batch``; ``threshold`` is the score from which a face starts a track.
    """

    def __init__(self, detector: FrameDetector, threshold: float) -> None:
        self._detector, self._threshold = detector, threshold
        self._recent: deque[Sample] = deque()
        self._pending: dict[int, list[Sample]] = {}  # by frame, until the frame's tracks are known
        self._tracks: dict[int, list[Sample] | None] = {}  # by number; None: it is a face
        self._ended: list[tuple[int, list[Sample]]] = []
        self._bytes = 0
        self._dropped: set[int] = set()

    def take(self, frame: Frame, found: Detections) -> None:
        """Take crops of the doubtful faces of a frame."""
        while self._recent and self._recent[0].frame <= frame.number - RECENT:
            self._recent.popleft()
        is_doubtful = (found.scores >= self._threshold) & (found.scores <= DOUBTFUL)
        if not (is_doubtful.any() or self._recent) or self._bytes > MAX_BYTES:
            return
        known = np.array([sample.box for sample in self._recent], np.float64).reshape(-1, 4)
        is_near = pairwise_iou(found.boxes.astype(np.float64), known) > SAME_PLACE
        is_fresh = np.array([frame.number - sample.frame < SPACING for sample in self._recent], bool)
        # Lower scores in the place of a doubtful face are of its track.
        is_doubtful |= is_near.any(axis=1) & (found.scores < self._threshold)
        is_doubtful &= (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0) >= MIN_LENGTH
        is_doubtful &= (is_near.sum(axis=1) < SAMPLES) & ~(is_near & is_fresh).any(axis=1)
        with measured("detect"):
            for row in np.flatnonzero(is_doubtful)[:MAX_PER_FRAME].tolist():
                points = None if found.landmarks is None else found.landmarks[row]
                crops = crop(frame, found.boxes[row], points)
                sample = Sample(frame.number, float(found.scores[row]), found.boxes[row], crops)
                self._recent.append(sample._replace(crops=crops[:0]))
                self._pending.setdefault(frame.number, []).append(sample)
                self._bytes += crops.nbytes

    def add(self, faces: FrameFaces) -> None:
        """Give the samples of a frame to its tracks, and look at the tracks that have ended."""
        is_detected = faces.origins == "detected"
        for number in faces.track_ids[is_detected & (faces.scores > DOUBTFUL)].tolist():
            self._forget(self._tracks.get(number) or ())
            self._tracks[number] = None
        for sample in self._pending.pop(faces.number, ()):
            own = np.flatnonzero(is_detected & (np.abs(faces.scores - sample.score) < 1e-6))
            number = int(faces.track_ids[own[0]]) if len(own) else 0
            samples = self._tracks.setdefault(number, []) if number else None
            if samples is None or len(samples) >= SAMPLES:
                self._forget([sample])
            else:
                samples.append(sample)
        if gone := self._tracks.keys() - set(faces.track_ids.tolist()):
            self._end(gone)

    def _end(self, tracks: set[int]) -> None:
        for number in tracks:
            if samples := self._tracks.pop(number):
                self._ended.append((number, samples))
        if sum(len(samples) for _, samples in self._ended) * len(SIDES) >= 2 * COLUMNS**2:
            self._look()

    def _forget(self, samples: Sequence[Sample]) -> None:
        self._bytes -= sum(sample.crops.nbytes for sample in samples)

    def finish(self) -> frozenset[int]:
        """Return the tracks that show no face."""
        self._end(set(self._tracks))
        self._look()
        return frozenset(self._dropped)

    def _look(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            with measured("detect"):
                crops = np.concatenate([sample.crops for _, samples in ended for sample in samples])
                owners = np.repeat(np.arange(len(ended)), [len(samples) * len(SIDES) for _, samples in ended])
                looks = np.bincount(owners[self._find(crops)], minlength=len(ended))
            for (number, samples), count in zip(ended, looks.tolist(), strict=True):
                if not count and any(sharpness(sample.crops[0]) >= MIN_SHARPNESS for sample in samples):
                    self._dropped.add(number)
                self._forget(samples)

    def _find(self, crops: Image) -> NDArray[np.bool_]:
        """Return whether each crop shows a face in its middle."""
        each = COLUMNS**2
        images = [mosaic(crops[start : start + each]) for start in range(0, len(crops), each)]
        looks: list[Any] = [Look(image) for image in images] if getattr(self._detector, "_takes_looks", False) else []
        detect: Any = self._detector.detect_batch  # type: ignore[attr-defined]
        sides = np.array(SIDES)
        shown = np.zeros(len(crops), bool)
        for number, found in enumerate(detect(looks or images, threshold=KEPT_FROM, max_faces=10 * each)):
            middles, sizes = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2, (found.boxes[:, 2:] - found.boxes[:, :2])
            cells = np.clip(middles // CELL, 0, COLUMNS - 1).astype(int)
            places = number * each + cells[:, 1] * COLUMNS + cells[:, 0]
            side = sides[places % len(SIDES)]
            share = sizes.max(axis=1, initial=0) / side
            is_central = np.abs(middles - (cells + 0.5) * CELL).max(axis=1, initial=0) < MAX_OFFSET * side
            is_face = is_central & (share > MIN_SIDE) & (share < MAX_SIDE) & (places < len(crops))
            shown[places[is_face]] = True
        return shown


def sharpness(crop: Image) -> float:
    """Return the contrast of fine detail in the middle of a crop, as a share of that of coarser detail."""
    margin = CELL // 4
    grey = cv2.cvtColor(crop[margin:-margin, margin:-margin], cv2.COLOR_BGR2GRAY).astype(np.float32)
    soft, softer = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1.5, 6.0))
    return float((grey - soft).std() / ((soft - softer).std() + 2.0))


def second_look(detector: FrameDetector, threshold: float) -> SecondLook | None:
    """Return a second look with a detector; None if it only takes streams of images."""
    return SecondLook(detector, threshold) if hasattr(detector, "detect_batch") else None


def mosaic(crops: Image) -> Image:
    """Return up to 25 crops as one image, row by row."""
    cells = np.full((COLUMNS**2, CELL, CELL, 3), 127, np.uint8)
    cells[: len(crops)] = crops
    rows = cells.reshape(COLUMNS, COLUMNS, CELL, CELL, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(rows.reshape(COLUMNS * CELL, COLUMNS * CELL, 3))


def crop(frame: Frame, box: NDArray[np.float32], landmarks: NDArray[np.float32] | None) -> Image:
    """Return crops ``(3, CELL, CELL, 3)`` about a face, upright and with the face in the sizes of :data:`SIDES`."""
    centre, side = (box[:2] + box[2:]).astype(np.float64) / 2, max(float((box[2:] - box[:2]).max()), 4.0)
    angle = 0.0 if landmarks is None else roll(landmarks)
    reach = side * CELL / min(SIDES) * math.sqrt(0.5)
    left, top = (np.maximum(centre - reach, 0) // 2 * 2).astype(int).tolist()
    right, bottom = np.ceil(np.maximum(centre + reach, 2)).astype(int).tolist()
    if frame.is_on_gpu:
        region = _nvdec.region(frame.yuv, left, top, right, bottom)
    else:
        region = frame.image[top:bottom, left:right]
    if not region.size:
        region = np.zeros((2, 2, 3), np.uint8)
    shrink = min(1.0, SIDES[0] / side)
    if shrink < 1.0:
        size = [max(1, round(length * shrink)) for length in region.shape[1::-1]]
        region = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_AREA), np.uint8)
    x, y = (centre - (left, top)) * shrink
    crops = np.empty((len(SIDES), CELL, CELL, 3), np.uint8)
    for out, target in zip(crops, SIDES, strict=True):
        turn = cv2.getRotationMatrix2D((x, y), angle, target / (side * shrink))
        turn[:, 2] += CELL / 2 - x, CELL / 2 - y
        cv2.warpAffine(region, turn, (CELL, CELL), dst=out, borderMode=cv2.BORDER_REPLICATE)
    return crops


def roll(landmarks: NDArray[np.float32]) -> float:
    """Return by how many degrees clockwise a face is turned, from its landmarks ``(5, 2)``."""
    across = landmarks[1] - landmarks[0] + landmarks[4] - landmarks[3]
    down = landmarks[3] + landmarks[4] - landmarks[0] - landmarks[1]
    return math.degrees(math.atan2(across[1] - down[0], across[0] + down[1]))
