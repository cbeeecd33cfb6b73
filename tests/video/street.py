"""A street with drawn people who move, cross, turn, grow, leave and return; the position of each face is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import drawing
from scrfd_trt import Detection, Detections

SIZE = (640, 360)
RATE = 30
FRAMES = 180
CUT = 120

Image = NDArray[np.uint8]
Place = tuple[float, float, float, float]
"""Centre, height and angle of a face."""


class Actor(NamedTuple):
    """A person, the frames in which it is visible, and its path."""

    name: str
    look: drawing.Look
    spans: tuple[tuple[int, int], ...]
    way: Callable[[int], Place]

    def is_there(self, frame: int) -> bool:
        return any(first <= frame < last for first, last in self.spans)


def _look(seed: int) -> drawing.Look:
    return drawing.Look.random(seed, turn=0.0, glasses=False, fringe=False, beard="none")


ACTORS = (
    Actor("walks", _look(3), ((0, CUT),), lambda n: (60 + 4.0 * n, 200, 70, 4 * math.sin(n / 6))),
    Actor("crosses", _look(11), ((0, CUT),), lambda n: (560 - 4.0 * n, 130, 60, 3 * math.sin(n / 5))),
    Actor("comes nearer", _look(20), ((10, CUT),), lambda n: (320 + 20 * math.sin(n / 20), 110, 30 * 1.012**n, 0.0)),
    Actor("leans", _look(5), ((0, 40), (80, CUT)), lambda n: (540, 260, 64, 18 * math.sin(n / 8))),
    Actor("after the cut", _look(31), ((CUT, FRAMES),), lambda n: (180 + 2.0 * (n - CUT), 170, 90, 6.0)),
    Actor("stands", _look(8), ((CUT, 160),), lambda n: (470, 190, 80, 0.0)),
)


def truth(frame: int) -> dict[str, Detection]:
    """The faces of a frame."""
    return {
        actor.name: drawing.truth((x, y), size, angle, actor.look)
        for actor in ACTORS
        if actor.is_there(frame)
        for x, y, size, angle in [actor.way(frame)]
    }


_BACKDROPS: dict[str, Image] = {}


def draw(frame: int, size: tuple[int, int] = SIZE) -> Image:
    """Draw a frame; distant people first."""
    name = "park" if frame < CUT else "room"
    if name not in _BACKDROPS:
        _BACKDROPS[name] = drawing.BACKDROPS[name](SIZE, 4)
    image = _BACKDROPS[name].copy()
    there = sorted((actor for actor in ACTORS if actor.is_there(frame)), key=lambda actor: actor.way(frame)[2])
    for actor in there:
        x, y, height, angle = actor.way(frame)
        drawing.draw_face(image, (x, y), height, angle=angle, look=actor.look)
    return image


@cache
def visible(frame: int) -> dict[str, NDArray[np.bool_]]:
    """The ellipse within each face's box, without the part behind nearer faces."""
    faces = truth(frame)
    order = sorted(faces, key=lambda name: -faces[name].height)
    taken = np.zeros(SIZE[::-1], bool)
    found = {}
    for name in order:
        whole = ellipse(faces[name].box)
        found[name] = whole & ~taken
        taken |= whole
    return found


def ellipse(box: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    x1, y1, x2, y2 = box
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    return np.asarray(
        ((x - (x1 + x2) / 2) / ((x2 - x1) / 2)) ** 2 + ((y - (y1 + y2) / 2) / ((y2 - y1) / 2)) ** 2 <= 1.0
    )


class Blinking:
    """A detector that misses each face with a probability, and sometimes in three consecutive frames.

    Detections in the same place belong to the same face.
    """

    def __init__(self, detector: Any, probability: float = 0.2, three: float = 0.04, seed: int = 1) -> None:
        self._detector, self._chance, self._three = detector, probability, three
        self._rng = np.random.default_rng(seed)
        self.dropped = self.seen = 0
        self.kept: list[Detections] = []

    def stream(self, images: Any, **how: Any) -> Iterator[Detections]:
        blind: list[tuple[NDArray[np.float32], int]] = []
        for found in self._detector.stream(images, **how):
            keep, still = [], []
            for row, box in enumerate(found.boxes):
                middle, reach = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
                left = max((n for place, n in blind if np.abs(place - middle).max() < reach / 2), default=0)
                if left == 0 and self._rng.random() < self._three:
                    left = 3
                if left:
                    still.append((middle, left - 1))
                elif self._rng.random() >= self._chance:
                    keep.append(row)
                else:
                    continue
            self.seen += len(found)
            self.dropped += len(found) - len(keep)
            blind = [(place, n) for place, n in still if n]
            self.kept.append(found[keep])
            yield found[keep]
