"""Choose the directions in which the frames of a video are searched, beside the upright one.

The first frames of a scene, and one in each second, are searched in all directions that the detector is to search. The
frames that follow are searched in those in which a face was found: until the scene ends if it was found twice, else for
a short time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from scrfd_trt._detections import Detections
from scrfd_trt._jobs.profile import measured
from scrfd_trt._passes import Look
from scrfd_trt._tracking.scene_cuts import CutCandidates, Thumbnail

PROBE_SECONDS = 1.0
"""Time from one search in all directions to the next."""
START_SECONDS = 0.2
"""Time after the first search of a scene until the second, and the shortest between searches of two scenes."""
KEPT_SECONDS = 1.0
"""Time for which a direction is kept after the first find, and after a cut, which may be none."""
MIN_SCORE = 0.5
"""Of a face that stands for its direction."""


class Directions:
    """The directions of consecutive frames. They depend on the frames alone, not on threads and batches."""

    def __init__(self, detector: Any, min_face: float | None, rotations: tuple[int, ...]) -> None:
        self.choices = rotations
        self._detector, self._min_face = detector, min_face
        self._cuts = CutCandidates()
        self._until: dict[int, float] = {}
        self._finds: Counter[int] = Counter()  # in this scene
        self._due: list[float] = []
        self._searched = -math.inf

    def look(self, image: Any, seconds: float) -> Any:
        """Return what the detector is to see of a frame; search it in all directions if that is due."""
        if not self.choices:
            return image
        if self._due and seconds >= self._due[0]:
            self._due, self._searched = self._due[1:] or [seconds + PROBE_SECONDS], seconds
            with measured("detect"):
                found = self._detector.detect(Look(image, self._min_face, self.choices), threshold=MIN_SCORE)
            for one in directions(found, self.choices):
                self._finds[one] += 1
                kept = math.inf
                if self._finds[one] == 1:
                    kept, self._due[0] = seconds + KEPT_SECONDS, min(self._due[0], seconds + START_SECONDS)
                self._until[one] = max(kept, self._until.get(one, kept))
        active = tuple(one for one in self.choices if self._until.get(one, -math.inf) > seconds)
        return Look(image, self._min_face, active)

    def add(self, thumbnail: Thumbnail, seconds: float) -> None:
        """Note the next frame, before :meth:`look`."""
        if self._cuts.add(thumbnail):
            self._until = {one: min(until, seconds + KEPT_SECONDS) for one, until in self._until.items()}
            self._finds.clear()
            start = max(seconds, self._searched + START_SECONDS)
            self._due = [start, start + START_SECONDS]

    def interrupt(self) -> None:
        """Note that frames are left out."""
        self._cuts, self._until, self._due = CutCandidates(), {}, []
        self._finds.clear()


def directions(faces: Detections, choices: Iterable[int]) -> Iterator[int]:
    """Yield those of ``choices`` by which an image is turned, clockwise, so that one of its faces is upright.

    Without landmarks, all.
    """
    points = faces.landmarks
    if points is None:
        yield from choices if len(faces) else ()
        return
    x, y = (points[:, 3:5].mean(axis=1) - points[:, :2].mean(axis=1)).T  # from the eyes to the mouth
    turns = (np.round(np.degrees(np.arctan2(x, y)) / 90.0) * 90.0 % 360.0).astype(int)
    yield from set(choices) & set(turns.tolist())
