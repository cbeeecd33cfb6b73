"""Which optimization profile of an engine takes which input, and how a batch is split over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scrfd_trt.errors import BackendError
from scrfd_trt.tensors import ShapeRange

RANK = 4


@dataclass(frozen=True)
class Part:
    """Some images of a batch, which go through the engine at once.

    Attributes
    ----------
    start, stop
        Which images.
    places
        How many the engine is given: at least ``stop - start``; what lies in the others is no image.
    profile
        Number of the optimization profile.
    """

    start: int
    stop: int
    places: int
    profile: int


def largest_batch(ranges: Sequence[ShapeRange], size: tuple[int, int]) -> int:
    """Return the most images of this width and height that any profile takes at once; 0 if none takes them."""
    return max((ranges[index].most[0] for index in _of_size(ranges, size)), default=0)


def best_sizes(ranges: Sequence[ShapeRange]) -> tuple[tuple[int, int], ...]:
    """Return the widths and heights that the profiles were tuned for, each once, the smallest first."""
    sizes = {(each.best[3], each.best[2]) for each in ranges}
    return tuple(sorted(sizes, key=lambda size: (size[0] * size[1], size)))


def split(ranges: Sequence[ShapeRange], shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Split a batch so that each part fits a profile.

    Parameters
    ----------
    ranges
        What each profile takes, in order.
    shape
        ``(B, 3, H, W)``.

    Returns
    -------
    tuple of Part
        As few as there can be. Of several profiles that take a part, the one that was tuned for the nearest shape; a
        part is filled up only where no profile takes as few images.

    Raises
    ------
    BackendError
        If no profile takes images of this size; the message lists what they take.
    """
    size = (shape[-1], shape[-2])
    fitting = _of_size(ranges, size) if len(shape) == RANK and shape[0] else []
    if not any(ranges[index].least[1] <= shape[1] <= ranges[index].most[1] for index in fitting):
        raise BackendError(f"the engine cannot take an input of {_text(shape)}; it takes: {describe(ranges)}")
    most = largest_batch(ranges, size)
    parts = []
    for start in range(0, shape[0], most):
        images = min(most, shape[0] - start)
        places, profile = _choose(ranges, fitting, (images, *shape[1:]))
        parts.append(Part(start, start + images, places, profile))
    return tuple(parts)


def describe(ranges: Sequence[ShapeRange]) -> str:
    """Write what profiles take on one line, for messages."""
    spans = ["×".join(_span(low, high) for low, high in zip(each.least, each.most, strict=True)) for each in ranges]
    return ", ".join(dict.fromkeys(spans)) or "nothing"


def _choose(ranges: Sequence[ShapeRange], fitting: Sequence[int], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many images to fill up to, and the profile."""
    images = shape[0]
    able = [index for index in fitting if images <= ranges[index].most[0]]
    places = {index: max(images, ranges[index].least[0]) for index in able}
    profile = min(able, key=lambda index: (places[index], _distance(ranges[index].best, shape), _room(ranges[index])))
    return places[profile], profile


def _of_size(ranges: Sequence[ShapeRange], size: tuple[int, int]) -> list[int]:
    return [
        index
        for index, each in enumerate(ranges)
        if len(each.least) == RANK and each.admits((each.least[0], each.least[1], size[1], size[0]))
    ]


def _distance(best: tuple[int, ...], shape: tuple[int, ...]) -> float:
    return sum(abs(math.log(tuned / side)) for tuned, side in zip(best, shape, strict=True))


def _room(each: ShapeRange) -> float:
    return sum(math.log(high / low) for low, high in zip(each.least, each.most, strict=True))


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}…{high}"


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
