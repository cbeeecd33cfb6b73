"""Where people stand in a picture, so that all faces are seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drawing.backdrop import HORIZON
from scrfd_trt import OptionError

MOST = 60
"""So many people are drawn at most."""

SMALLEST = 6.0
"""Height in pixels below which no face is drawn."""

NEAR, BEHIND, FAR = 0.29, 0.150, 0.062
"""Height of the nearest faces, of the first behind them and of the farthest, as a share of :func:`measure`."""

Values = NDArray[np.float64]


class Spot(NamedTuple):
    """Where somebody stands: the middle of the face and its height, in pixels."""

    x: float
    y: float
    size: float


def measure(size: tuple[int, int]) -> float:
    """Return the height that the shares above refer to: less than the picture's where that is narrow."""
    return min(size[1], 0.75 * size[0])


def spots(size: tuple[int, int], faces: int, rng: np.random.Generator) -> list[Spot]:
    """Find a place for everybody, the nearest first; everybody gets smaller until all have room.

    Parameters
    ----------
    size
        Width and height of the picture in pixels.
    faces
        How many people.
    rng
        Source of chance.

    Raises
    ------
    OptionError
        If so many faces find no room.
    """
    unit, shrink = measure(size) * min(1.0, (9.0 / max(faces, 1)) ** 0.5), 1.0
    front = max(1, round(size[0] / (2.0 * NEAR * unit)))
    while faces <= MOST and shrink > 0.25:
        heights = _heights(faces, front, unit, shrink)
        if heights and heights[0] < SMALLEST:
            break
        for _ in range(3):
            places = _placed(size, heights, rng)
            if len(places) == faces:
                return places
        shrink *= 0.92
    raise OptionError(
        f"{faces} faces find no room in {size[0]}×{size[1]} pixels: ask for fewer (at most {MOST}) or a larger picture"
    )


def _heights(faces: int, front: int, unit: float, shrink: float) -> list[float]:
    """Heights of all faces, falling: a front row, then ever smaller ones, which shrink faster."""
    near = NEAR * unit * shrink**0.6
    row = [near * (1.0 - 0.12 * number / max(1, front - 1)) for number in range(min(faces, front))]
    rest = faces - len(row)
    last = FAR if rest < 6 else (FAR + BEHIND) / 2
    back = np.geomspace(BEHIND, last, rest) if rest > 1 else np.full(rest, 0.8 * BEHIND)
    return row + [max(SMALLEST, height * unit * shrink) for height in back.tolist()]


def _placed(size: tuple[int, int], heights: list[float], rng: np.random.Generator) -> list[Spot]:
    """Try to give each height a place; stop where one finds none."""
    near = sum(tall >= 0.8 * heights[0] for tall in heights)
    slots = np.argsort(rng.random(near))
    # A crowd is seen from higher up, so that the heads behind are above those in front.
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
    """Whether head or shoulders of somebody at the spot would cover part of a head farther away."""
    aside, below = np.abs(x - spot.x), y + 0.56 * tall
    heads = 0.58 * (spot.size + tall)
    beside_head = (
        (aside >= heads) | (below <= spot.y - 0.92 * spot.size) | (y - 0.92 * tall >= spot.y + 0.56 * spot.size)
    )
    beside_body = (aside >= 1.08 * spot.size + 0.58 * tall) | (below <= spot.y + 0.66 * spot.size)
    return np.asarray(~(beside_head & beside_body))
