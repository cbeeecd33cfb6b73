"""Choose the directions in which the frames of a video are searched, beside the upright one.

The first frames of a scene, and one in each second, are searched in all directions that the detector is to search. A
direction in which a face is found, surely or twice in the same place, is searched in all frames until the scene ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._jobs.profile import measured
from scrfd_trt._passes import Look
from scrfd_trt._tracking.scene_cuts import CutCandidates, Thumbnail

PROBE_SECONDS = 1.0  # time from one search in all directions to the next
START_SECONDS = 0.2
"""Time after the first search of a scene, or one that found a face, until the second; and between two scenes."""
KEPT_SECONDS = 1.0  # time for which a direction is kept after a cut, which may be none
MIN_SCORE, SURE = 0.5, 0.7
"""Of a turned face, and of one that stands for its direction at once, or is large.

Measured: people who lie have scores from 0.8 on; in upright scenes, turned looks give false ones of up to 0.55.
"""
LARGE = 0.5  # share of the shorter side of the frame from which a face is large
MAX_DISTANCE, MAX_RATIO = 1.0, 2.0  # between two finds in the same place: in sides of the face, and of the sides


class Directions:
    """The directions of consecutive frames. They depend on the frames alone, not on threads and batches.

    ``threshold`` is the minimum score of upright faces.
    """

    def __init__(self, detector: Any, threshold: float, min_face: float | None, rotations: tuple[int, ...]) -> None:
        self.choices = rotations
        self._detector, self._threshold, self._min_face = detector, threshold, min_face
        self._cuts = CutCandidates()
        self._until: dict[int, float] = {}
        self._first: Detections | None = None  # turned faces of a search that another follows soon
        self._due: list[float] = []
        self._searched = -math.inf

    def look(self, image: Any, seconds: float) -> tuple[Any, Detections | None]:
        """Return what the detector is to see of a frame; if a search in all directions is due, the faces, too."""
        if not self.choices:
            return image, None
        found = None
        if self._due and seconds >= self._due[0]:
            self._due, self._searched = self._due[1:] or [seconds + PROBE_SECONDS], seconds
            with measured("detect"):
                found = self._detector.detect(Look(image, self._min_face, self.choices), threshold=self._threshold)
            self._note(found, seconds)
        active = tuple(one for one in self.choices if self._until.get(one, -math.inf) > seconds)
        return Look(image, self._min_face, active), None if found is None else counted(found, active)

    def _note(self, found: Detections, seconds: float) -> None:
        if found.landmarks is None:  # the direction is unknown
            self._until |= dict.fromkeys(self.choices if (found.scores >= MIN_SCORE).any() else (), math.inf)
            return
        turns = directions(found)
        rows = np.isin(turns, self.choices) & (found.scores >= MIN_SCORE)
        faces, turns = found[rows], turns[rows]
        sure = faces.scores >= SURE
        if self._first is not None:
            same = are_near(faces.boxes, self._first.boxes) & (turns[:, None] == directions(self._first))
            sure |= same.any(axis=1)
        self._until |= dict.fromkeys(turns[sure].tolist(), math.inf)
        is_second, self._first = self._first is not None, None
        is_open = ~np.isin(turns, [one for one, until in self._until.items() if until == math.inf])
        if is_open.any() and not is_second:
            self._first, self._due[0] = faces, min(self._due[0], seconds + START_SECONDS)

    def add(self, thumbnail: Thumbnail, seconds: float) -> None:
        """Note the next frame, before :meth:`look`."""
        if self._cuts.add(thumbnail):
            self._until = {one: min(until, seconds + KEPT_SECONDS) for one, until in self._until.items()}
            self._first = None
            start = max(seconds, self._searched + START_SECONDS)
            self._due = [start, start + START_SECONDS]

    def interrupt(self) -> None:
        """Note that frames are left out."""
        self._cuts, self._until, self._due, self._first = CutCandidates(), {}, [], None


def directions(faces: Detections) -> NDArray[np.int64]:
    """Return by how many degrees clockwise, a multiple of 90, an image is turned so that each face is upright.

    Without landmarks, 0.
    """
    points = faces.landmarks
    if points is None or not len(points):
        return np.zeros(len(faces), np.int64)
    x, y = (points[:, 3:5].mean(axis=1) - points[:, :2].mean(axis=1)).T  # from the eyes to the mouth
    turns: NDArray[np.int64] = (np.round(np.degrees(np.arctan2(x, y)) / 90.0) * 90.0 % 360.0).astype(np.int64)
    return turns


def counted(faces: Detections, active: Sequence[int]) -> Detections:
    """Return the faces of a frame that was searched in more directions: of turned ones, the likely of active ones.

    A large face has a high score, also if it lies; a false one of low score would hide most of the picture.
    """
    turns, sides = directions(faces), (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0)
    scores = np.where(sides > LARGE * min(faces.image_size), SURE, MIN_SCORE)
    kept: Detections = faces[(turns == 0) | np.isin(turns, active) & (faces.scores >= scores)]
    return kept


def are_near(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return ``(N, M)`` whether each of ``(N, 4)`` boxes may show the face of each of ``(M, 4)`` a moment before."""
    middles = [(each[:, :2] + each[:, 2:]) / 2 for each in (boxes, others)]
    sides = [(each[:, 2:] - each[:, :2]).max(axis=1, initial=0) for each in (boxes, others)]
    ratios = sides[0][:, None] / np.maximum(sides[1], 1e-6)
    apart = np.abs(middles[0][:, None] - middles[1]).max(axis=2, initial=0)
    near = apart < MAX_DISTANCE * np.maximum(sides[0][:, None], sides[1])
    found: NDArray[np.bool_] = near & (ratios < MAX_RATIO) & (ratios > 1 / MAX_RATIO)
    return found
