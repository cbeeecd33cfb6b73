"""Find the frames at which scenes begin, from thumbnails: ``(3, 18, 32)`` float32, Y, U and V, levels up to 255."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Thumbnail = NDArray[np.float32]
Table = NDArray[np.float64]
THUMBNAIL_SHAPE = (3, 18, 32)
MIDDLE_LEVEL = 128.0
Item = TypeVar("Item")

MIN_DIFFERENCE, MIN_RATIO = 20.0, 2.5  # difference at a cut: at least, and as a multiple of that of the frames around
CHANGED, MIN_CHANGED_AREA = 10.0, 0.5  # difference from which a pixel has changed, and share of such pixels at a cut
SAME_CORRELATION, MAX_GAIN = 0.9, 8.0
"""Correlation from which two frames show the same scene in another light, and the largest ratio of their contrasts."""
MIN_MIXED, MIN_MIXED_POWER = 4, 1e4
"""Frames of a dissolve or a fade at least, and squared difference of so many frames, summed over their pixels."""
MAX_UNEVEN, MAX_REST = 0.15, 0.02
"""How far from even the shares of a new scene may be, and the part of the difference that they may not explain."""
BEFORE_MIX, MAX_BEFORE = 2, 0.5  # frames that are looked at before a mix, and steps of it that the last may make
MAX_MIX_CORRELATION = 0.6  # of the pictures before and after a dissolve, even if one is moved
MAX_REPEATS = 5  # frames that may repeat one picture: a camera of 6 frames per second gives as many in a video of 30


def mark_cuts(items: Iterable[tuple[Item, Thumbnail]], near: int) -> Iterator[tuple[Item, int]]:
    """Yield each item with the number of frames in which a new scene replaces the old one; read ``near`` items ahead.

    0: no scene begins, as at the first item; 1: a cut; more: a dissolve, or a fade to or from a plain picture.

    A frame begins a scene if it differs from the one before it by much more than the frames around it differ from each
    other: a fast pan differs all along, even if each picture is repeated. A scene that comes back within ``near``
    frames was interrupted by a flash or by somebody before the camera. In doubt there is no cut, and faces are covered
    a little longer.
    """
    waiting: deque[Item] = deque()
    thumbnails: list[Thumbnail] = []
    steps: list[float] = []
    products = _Products(near + BEFORE_MIX + 1)
    due, remaining = 0, 0

    def transition() -> int:
        """Return the number for the item that is due."""
        nonlocal remaining
        if _is_cut(thumbnails, steps, due, near):
            return 1
        if remaining:
            remaining -= 1
            return 0
        found = _mixed_frames(thumbnails, products, len(waiting) + BEFORE_MIX, due, near)
        remaining = max(found - 1, 0)
        return found

    for item, thumbnail in items:
        steps.append(difference(thumbnails[-1], thumbnail) if thumbnails else 0.0)
        thumbnails.append(thumbnail)
        products.add(thumbnail)
        waiting.append(item)
        if len(waiting) > near:
            yield waiting[0], transition()
            waiting.popleft()
            due += 1
        if due > near + MAX_REPEATS:
            del thumbnails[0], steps[0]
            due -= 1
    while waiting:
        yield waiting[0], transition()
        waiting.popleft()
        due += 1


class CutCandidates:
    """Finds possible cuts without reading ahead; those of :func:`mark_cuts` are among them."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._steps: deque[float] = deque(maxlen=MAX_REPEATS)

    def add(self, thumbnail: Thumbnail) -> bool:
        """Return whether the next frame may begin a scene; True for the first."""
        last, self._last = self._last, thumbnail
        if last is None:
            return True
        step = difference(last, thumbnail)
        before = _first_motion(reversed(self._steps))
        self._steps.append(step)
        return _stands_out(step, before)


def difference(one: Thumbnail, other: Thumbnail) -> float:
    """Return the mean difference of two thumbnails, summed over Y, U and V.

    It is 0 if most of the picture is unchanged. Another light on the same scene makes no difference.
    """
    if _wide_change(one - other) == 0.0:
        return 0.0
    planes = [thumbnail[0] - thumbnail[0].mean() for thumbnail in (one, other)]
    powers = [float(np.square(plane).sum()) for plane in planes]
    low, high = (one, other) if powers[0] <= powers[1] else (other, one)
    gain = _gain(*planes, *powers)
    steps = high - low if gain is None else high - gain * low
    changed = steps[: 1 if gain is None else 3]
    changed -= _medians(changed)
    return _wide_change(steps)


def _medians(planes: Thumbnail) -> Thumbnail:
    """Return the median of each plane, as ``numpy.median`` in a third of its time."""
    values = planes.reshape(len(planes), -1)
    high = values.shape[1] // 2
    middle = np.partition(values, (high - 1, high), axis=1)[:, high - 1 : high + 1]
    medians: Thumbnail = middle.sum(axis=1)[:, None, None] / np.float32(2)
    return medians


def _wide_change(steps: Thumbnail) -> float:
    change = np.abs(steps).sum(axis=0)
    # Somebody who steps before the camera changes much, but leaves most of the picture as it was.
    return float(change.mean()) if (change > CHANGED).mean() >= MIN_CHANGED_AREA else 0.0


def _gain(one: Thumbnail, other: Thumbnail, power: float, other_power: float) -> float | None:
    """Return the ratio of the contrasts of two planes without their means; None if they do not show the same scene."""
    own, both = min(power, other_power), float((one * other).sum())
    if own == 0.0 or both < SAME_CORRELATION * np.sqrt(power * other_power):
        return None
    return min(both / own, MAX_GAIN)


def _is_cut(thumbnails: list[Thumbnail], steps: list[float], at: int, near: int) -> bool:
    before = _first_motion(reversed(steps[max(0, at - MAX_REPEATS) : at]))
    after = _first_motion(steps[at + 1 : at + 1 + MAX_REPEATS])
    if not _stands_out(steps[at], max(before, after)):
        return False
    return not _is_seen_again(thumbnails[max(0, at - near) : at], thumbnails[at : at + near + 1], steps[at])


def _is_seen_again(old: list[Thumbnail], new: list[Thumbnail], step: float) -> bool:
    """Return whether the old scene returns soon, or the new one was seen shortly before."""
    pairs = [(old[-1], thumbnail) for thumbnail in new[1:]] + [(new[0], thumbnail) for thumbnail in old[:-1]]
    return any(MIN_RATIO * difference(one, other) <= step for one, other in pairs)


class _Products:
    """Inner products of the latest thumbnails with each other; each thumbnail takes one pass over those before.

    ``einsum`` sums in this thread: BLAS would share such small sums among all cores.
    """

    def __init__(self, size: int) -> None:
        self._vectors = np.zeros((size, math.prod(THUMBNAIL_SHAPE)), np.float32)
        self.table, self._count = np.zeros((size, size)), 0

    def add(self, thumbnail: Thumbnail) -> None:
        place = self._count % len(self._vectors)
        np.subtract(thumbnail.ravel(), MIDDLE_LEVEL, out=self._vectors[place])
        self.table[place] = self.table[:, place] = np.einsum("nk,k->n", self._vectors, self._vectors[place])
        self._count += 1

    def latest(self, count: int) -> list[int]:
        """Return the places of the latest thumbnails in the table; fewer if there have not been so many."""
        return [number % len(self._vectors) for number in range(max(0, self._count - count), self._count)]


def _mixed_frames(thumbnails: list[Thumbnail], all_products: _Products, count: int, at: int, near: int) -> int:
    """Return the number of frames, mixed of the one before and of their last, in which a scene becomes another; or 0.

    Neither a camera nor people that move make mixes of two pictures. The products of the latest ``count`` thumbnails
    are read, those from BEFORE_MIX frames before on.
    """
    first, places = min(at, BEFORE_MIX), all_products.latest(count)  # of the mixed frames
    if not first or len(places) < first + MIN_MIXED:
        return 0
    # Mostly, nothing is mixed, which four frames show.
    early = first + MIN_MIXED - 1
    some = [places[number] for number in (first - 1, early, 0, first)]
    power, *shares = _changes(all_products.table[np.ix_(some, some)], 0)[1, 1:].tolist()
    before, begun = (share / max(power, MIN_MIXED_POWER) * MIN_MIXED for share in shares)
    # The change is even, and begins there.
    if power < MIN_MIXED_POWER or abs(begun - 1.0) > 0.5 or before < -1.5 * MAX_BEFORE:
        return 0
    moves = _changes(all_products.table[np.ix_(places, places)], first - 1)
    powers = moves.diagonal()
    shares = moves / np.maximum(powers, MIN_MIXED_POWER)  # of the picture of each column in that of each row
    counts = np.arange(len(moves)) - first + 1
    is_mixed = (counts[:, None] > 0) & (counts[:, None] <= counts)
    uneven = np.abs(shares - counts[:, None] / np.maximum(counts, 1)) * is_mixed
    rest = (powers[:, None] - shares**2 * powers) * is_mixed
    is_end = (counts >= MIN_MIXED) & (powers >= MIN_MIXED_POWER) & (uneven.max(axis=0) <= MAX_UNEVEN)
    is_end &= (rest.sum(axis=0) <= MAX_REST * powers * counts) & (shares[0] * counts >= -MAX_BEFORE)
    for last in is_end.nonzero()[0].tolist():
        following = shares[last + 1, last] if last + 1 < len(moves) else 1.0
        one, other = thumbnails[at - 1], thumbnails[new := at + last - first]
        step = difference(one, other)
        is_end_of_mix = (following - 1.0) * counts[last] <= 0.5 and step >= MIN_DIFFERENCE
        if is_end_of_mix and not _is_moved(one[0], other[0]):
            is_same = _is_seen_again(thumbnails[max(0, at - near) : at], thumbnails[new : at + near + 1], step)
            return 0 if is_same else int(counts[last])
    return 0


def _changes(products: Table, base: int) -> Table:
    """Return the inner products of the changes since a frame."""
    table: Table = products - products[base] - products[base][:, None] + products[base, base]
    return table


def _is_moved(one: Thumbnail, other: Thumbnail) -> bool:
    """Return whether a plane is like another that has moved by a few pixels; a shift by one is an even mix, too."""
    contrasts = sorted((float(one.std()), float(other.std())))
    if contrasts[0] * MAX_GAIN < contrasts[1]:
        return False
    middle = np.ascontiguousarray(one[2:-2, 3:-3])
    return bool(cv2.matchTemplate(other, middle, cv2.TM_CCOEFF_NORMED).max() > MAX_MIX_CORRELATION)


def _stands_out(step: float, around: float) -> bool:
    return step >= MIN_DIFFERENCE and step >= MIN_RATIO * around


def _first_motion(steps: Iterable[float]) -> float:
    """Return the first step above 0: repeated pictures do not move."""
    return next((step for step in steps if step > 0.0), 0.0)
