"""Look again at doubtful tracks: take samples of them while a video is searched, and judge those when they end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._doubtful import DOUBTFUL, MIN_LENGTH, Sample, are_faces, best_scores, is_large, take
from scrfd_trt._jobs.profile import measured
from scrfd_trt._nms import pairwise_iou
from scrfd_trt.video import _nvdec

if TYPE_CHECKING:
    from scrfd_trt._detections import Detections
    from scrfd_trt._tracking.faces import FrameFaces
    from scrfd_trt.video._first_pass import FrameDetector
    from scrfd_trt.video._reader import Frame

SAMPLES, SPACING, RECENT = 6, 3, 60  # samples of a track; frames between two, and within which they are counted
MIN_SAMPLES, ALONE_FROM = 2, 0.2
"""Samples of a track that is judged by all; score of any crop from which a face is kept that is the only sample.

The only sample is judged if it is the track's only detection, or is large and whole.
"""
SURE, SURE_SHARE = 0.7, 0.06
"""Score of a sure face; share of a track's detections above the doubtful scores from which it is sure.

Measured: large clutter that reaches 0.6 does so in 1 to 5 of 100 detections, faces in 9 and more.
"""
SURE_FRAMES = 10  # a doubtful detection is no sample if so many frames before show a sure face in its place
MAX_BYTES = 128 << 20  # of all samples in memory; tracks without any are kept
MAX_PER_FRAME, TOGETHER = 8, 8  # samples that a frame gives; tracks that are looked at together
SAME_PLACE = 0.3  # overlap from which two boxes are of the same face


class Seen(NamedTuple):
    """A sample, and the box in which it was found."""

    box: NDArray[np.float32]
    sample: Sample


class SecondLook:
    """Collects crops of doubtful tracks while a video is searched, and looks at them with the same detector.

    ``detector`` needs a method ``detect_batch``; ``threshold`` is the score from which a face starts a track.
    """

    def __init__(self, detector: FrameDetector, threshold: float) -> None:
        self._detector: Any = detector
        self._threshold = threshold
        self._recent: deque[tuple[int, NDArray[np.float32]]] = deque()  # frame and box of samples
        self._sure: deque[NDArray[np.float32]] = deque(maxlen=SURE_FRAMES)
        self._pending: dict[int, list[Seen]] = {}  # by frame, until the frame's tracks are known
        self._tracks: dict[int, list[Seen] | None] = {}  # by number; None: it is a face
        self._ended: list[tuple[int, list[Seen]]] = []
        self._detected: Counter[int] = Counter()  # frames of tracks, and those in which they are not doubtful
        self._likely: Counter[int] = Counter()
        self._bytes = 0
        self._dropped: set[int] = set()

    def take(self, frame: Frame, found: Detections) -> None:
        """Take crops of the doubtful faces of a frame."""
        while self._recent and self._recent[0][0] <= frame.number - RECENT:
            self._recent.popleft()
        self._sure.append(found.boxes[found.scores > SURE])
        is_long = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0) >= MIN_LENGTH
        rows = np.flatnonzero(is_long & (found.scores <= SURE))
        if not len(rows) or self._bytes > MAX_BYTES:
            return
        others = np.concatenate([*(box for _, box in self._recent), *self._sure])
        overlaps = _overlaps(found.boxes[rows], others)
        is_near, is_sure = overlaps[:, : len(self._recent)], overlaps[:, len(self._recent) :]
        is_fresh = np.array([frame.number - number < SPACING for number, _ in self._recent], bool)
        # Lower scores in the place of a doubtful face are of its track.
        is_sample = (found.scores[rows] >= self._threshold) | is_near.any(axis=1)
        is_sample &= (is_near.sum(axis=1) < SAMPLES) & ~(is_near & is_fresh).any(axis=1)
        is_sample &= ~is_sure.any(axis=1)
        with measured("detect"):
            for row in rows[is_sample][:MAX_PER_FRAME].tolist():
                seen = Seen(found.boxes[row], take(partial(_part, frame), found, row))
                self._recent.append((frame.number, seen.box[None]))
                self._pending.setdefault(frame.number, []).append(seen)
                self._bytes += seen.sample.image.nbytes

    def add(self, faces: FrameFaces) -> None:
        """Give the samples of a frame to its tracks, and look at the tracks that have ended."""
        is_detected = faces.origins == "detected"
        self._detected.update(faces.track_ids[is_detected].tolist())
        self._likely.update(faces.track_ids[is_detected & (faces.scores > DOUBTFUL)].tolist())
        for number in faces.track_ids[is_detected & (faces.scores > SURE)].tolist():
            if (samples := self._tracks.get(number, [])) is not None:
                self._forget(samples)
                self._tracks[number] = None
        for seen in self._pending.pop(faces.number, ()):
            is_own = is_detected & (np.abs(faces.scores - seen.sample.score) < 1e-6)
            is_own &= _overlaps(faces.boxes, [seen.box])[:, 0]
            number = int(faces.track_ids[is_own][0]) if is_own.any() else 0
            samples = self._tracks.setdefault(number, []) if number else None
            if samples is None:
                self._forget([seen])
                continue
            samples.append(seen)
            samples.sort(key=lambda each: -each.sample.score)
            self._forget(samples[SAMPLES:])
            del samples[SAMPLES:]
        self._end(self._detected.keys() - set(faces.track_ids.tolist()))

    def _end(self, tracks: set[int]) -> None:
        for number in tracks:
            detected, likely = self._detected.pop(number), self._likely.pop(number, 0)
            if samples := self._tracks.pop(number, None):
                is_shown = len(samples) >= MIN_SAMPLES or detected == 1 or is_large([samples[0].sample])
                if is_shown and likely < SURE_SHARE * detected:
                    self._ended.append((number, samples))
                self._forget(samples)
            if len(self._ended) >= TOGETHER:
                self._look()

    def _forget(self, samples: Sequence[Seen]) -> None:
        self._bytes -= sum(each.sample.image.nbytes for each in samples)

    def finish(self) -> frozenset[int]:
        """Return the tracks that show no face."""
        self._end(set(self._detected))
        self._look()
        return frozenset(self._dropped)

    def _look(self) -> None:
        """Look at the tracks that have ended."""
        ended, self._ended = self._ended, []
        tracks = {number: [each.sample for each in own] for number, own in ended if len(own) >= MIN_SAMPLES}
        alone = {number: own[0].sample for number, own in ended if len(own) < MIN_SAMPLES}
        with measured("detect"):
            kept = are_faces(self._detector, list(tracks.values()))
            best = best_scores(self._detector, list(alone.values())) if alone else ()
        self._dropped |= {number for number, is_kept in zip(tracks, kept.tolist(), strict=True) if not is_kept}
        self._dropped |= {number for number, score in zip(alone, best, strict=True) if score < ALONE_FROM}


def _overlaps(boxes: NDArray[Any], others: Any) -> NDArray[np.bool_]:
    """Return whether boxes are in the same place, as ``(boxes, others)``."""
    return pairwise_iou(boxes.astype(np.float64), np.array(others, np.float64).reshape(-1, 4)) > SAME_PLACE


def _part(frame: Frame, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
    """Return a copy of a part of a frame."""
    if frame.is_on_gpu:
        return _nvdec.region(frame.yuv, left, top, right, bottom)
    return frame.image[top:bottom, left:right].copy()
