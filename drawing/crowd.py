"""Positions of people in a picture in which all faces are visible."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drawing.backdrop import HORIZON
from scrfd_trt import OptionError

MAX_FACES = 60
"""Maximum number of people."""

MIN_HEIGHT = 6.0
"""Minimum height of a face in pixels."""

NEAR, BEHIND, FAR = 0.29, 0.150, 0.062
"""Heights of the nearest faces, of the first behind them and of the farthest, in units of :func:`unit_height`."""

Values = NDArray[np.float64]


class Spot(NamedTuple):
    """Position of a person: centre and height of the face, in pixels."""

    x: float
    y: float
    size: float


def unit_height(size: tuple[int, int]) -> float:
    """Return the unit of ``NEAR``, ``BEHIND`` and ``FAR`` in pixels; limited by the width of narrow pictures."""
    return min(size[1], 0.75 * size[0])


def place_people(size: tuple[int, int], faces: int, rng: np.random.Generator) -> list[Spot]:
    """Return a position for each person, nearest first; all are scaled down until they fit.

    Raise ``OptionError`` if they do not fit.
    """
    unit, shrink = unit_height(size) * min(1.0, (9.0 / max(faces, 1)) ** 0.5), 1.0
    front = max(1, round(size[0] / (2.0 * NEAR * unit)))
    while faces <= MAX_FACES and shrink > 0.25:
        heights = _heights(faces, front, unit, shrink)
        if heights and heights[0] < MIN_HEIGHT:
            break
        for _ in range(3):
            places = _try_heights(size, heights, rng)
            if len(places) == faces:
                return places
        shrink *= 0.92
    raise OptionError(
        f"{faces} faces do not fit into {size[0]}×{size[1]} pixels: use fewer (at most {MAX_FACES}) or a larger picture"
    )


def _heights(faces: int, front: int, unit: float, shrink: float) -> list[float]:
    """Return the heights of all faces, descending: a front row, then smaller ones, which shrink faster."""
    near = NEAR * unit * shrink**0.6
    row = [near * (1.0 - 0.12 * number / max(1, front - 1)) for number in range(min(faces, front))]
    rest = faces - len(row)
    last = FAR if rest < 6 else (FAR + BEHIND) / 2
    back = np.geomspace(BEHIND, last, rest) if rest > 1 else np.full(rest, 0.8 * BEHIND)
    return row + [max(MIN_HEIGHT, height * unit * shrink) for height in back.tolist()]


def _try_heights(size: tuple[int, int], heights: list[float], rng: np.random.Generator) -> list[Spot]:
    """Return positions for the heights, up to the first that does not fit."""
    near = sum(tall >= 0.8 * heights[0] for tall in heights)
    slots = np.argsort(rng.random(near))
    # A crowd is seen from higher up, with the heads at the back above those in front.
    above = 0.55 + min(2.2, 0.09 * max(0, len(heights) - 8))
    places: list[Spot] = []
    for number, tall in enumerate(heights):
        row = number < near
        x, y = rng.random((2, 16 if row else 240))
        if row:
            x = (slots[number] + 0.5 + 0.16 * (x - 0.5)) / near
        x, y = x * size[0], HORIZON * size[1] + tall * (above + 0.35 * y)
        aside = (0.58 if row else 1.16) * tall
        free = (x >= aside) & (x <= size[0] - aside) & (y >= 0.92 * tall) & (y <= size[1] - 0.56 * tall)
        apart = np.full(x.shape, np.inf)
        for other in places:
            free &= ~_hides(other, x, y, tall)
            apart = np.minimum(apart, np.hypot(x - other.x, y - other.y) / (other.size + tall))
        if not free.any():
            break
        best = int(np.argmax(np.where(free, apart, -1.0)))
        places.append(Spot(float(x[best]), float(y[best]), tall))
    return places


def _hides(spot: Spot, x: Values, y: Values, tall: float) -> NDArray[np.bool_]:
    """Return whether head or shoulders at a spot cover part of a head farther away."""
    aside, below = np.abs(x - spot.x), y + 0.56 * tall
    heads = 0.58 * (spot.size + tall)
    beside_head = (
        (aside >= heads) | (below <= spot.y - 0.92 * spot.size) | (y - 0.92 * tall >= spot.y + 0.56 * spot.size)
    )
    beside_body = (aside >= 1.08 * spot.size + 0.58 * tall) | (below <= spot.y + 0.66 * spot.size)
    return np.asarray(~(beside_head & beside_body))
