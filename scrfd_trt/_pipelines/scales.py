"""The sizes at which a network looks at each image."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scrfd_trt._letterbox import FREE_SCALES, Letterbox
from scrfd_trt._tensors import ShapeRange
from scrfd_trt.errors import BackendError, OptionError

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
    """Return the largest batch of this width and height that any profile accepts; 0 if none does."""
    return max((ranges[index].max[0] for index in _of_size(ranges, size)), default=0)


def opt_sizes(ranges: Sequence[ShapeRange]) -> tuple[tuple[int, int], ...]:
    """Return the widths and heights that the profiles were tuned for, each once, the smallest first."""
    sizes = {(each.opt[3], each.opt[2]) for each in ranges}
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
    if not any(ranges[index].min[1] <= shape[1] <= ranges[index].max[1] for index in fitting):
        raise BackendError(f"the engine cannot take an input of {_text(shape)}; it takes: {describe(ranges)}")
    max_batch = largest_batch(ranges, size)
    parts = []
    for start in range(0, shape[0], max_batch):
        images = min(max_batch, shape[0] - start)
        places, profile = _choose(ranges, fitting, (images, *shape[1:]))
        parts.append(Part(start, start + images, places, profile))
    return tuple(parts)


def describe(ranges: Sequence[ShapeRange]) -> str:
    """Write what profiles take on one line, for messages."""
    spans = ["×".join(_span(low, high) for low, high in zip(each.min, each.max, strict=True)) for each in ranges]
    return ", ".join(dict.fromkeys(spans)) or "nothing"


def _choose(ranges: Sequence[ShapeRange], fitting: Sequence[int], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many images to fill up to, and the profile."""
    images = shape[0]
    able = [index for index in fitting if images <= ranges[index].max[0]]
    places = {index: max(images, ranges[index].min[0]) for index in able}
    profile = min(able, key=lambda index: (places[index], _distance(ranges[index].opt, shape), _room(ranges[index])))
    return places[profile], profile


def _of_size(ranges: Sequence[ShapeRange], size: tuple[int, int]) -> list[int]:
    return [
        index
        for index, each in enumerate(ranges)
        if len(each.min) == RANK and each.admits((each.min[0], each.min[1], size[1], size[0]))
    ]


def _distance(opt: tuple[int, ...], shape: tuple[int, ...]) -> float:
    return sum(abs(math.log(tuned / side)) for tuned, side in zip(opt, shape, strict=True))


def _room(each: ShapeRange) -> float:
    return sum(math.log(high / low) for low, high in zip(each.min, each.max, strict=True))


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}…{high}"


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


log = logging.getLogger("scrfd_trt")

THINNEST = 8
"""An image scaled to fewer pixels than the finest stride has no cell of its own."""


def choose_scales(
    input_shape: tuple[int | None, ...],
    wanted: tuple[tuple[int, int], ...] | None,
    ranges: Sequence[ShapeRange] = (),
) -> tuple[tuple[int, int], ...]:
    """Settle the passes over each image.

    Parameters
    ----------
    input_shape
        Of the network, ``(B, 3, H, W)``, None where free.
    wanted
        Widths and heights asked for, or None for the network's own sizes: those that its profiles were tuned for, or
        its fixed one, or 128 and 640 where it takes any.
    ranges
        What the optimization profiles of an engine take; empty for a network without them.

    Raises
    ------
    OptionError
        If the network cannot be run at a size asked for.
    """
    height, width = input_shape[2:]
    if ranges:
        return _scales_in(ranges, wanted)
    if wanted is None:
        if height is None and width is None:
            return FREE_SCALES
        return ((width or FREE_SCALES[-1][0], height or FREE_SCALES[-1][1]),)
    for across, down in wanted:
        if across != (width or across) or down != (height or down):
            raise OptionError(
                f"scales: this network is fixed at {width or 'any'}×{height or 'any'} pixels and cannot run at "
                f"{across}×{down}; leave scales out, or use a network of free size"
            )
    return wanted


def _scales_in(ranges: Sequence[ShapeRange], wanted: tuple[tuple[int, int], ...] | None) -> tuple[tuple[int, int], ...]:
    if wanted is None:
        sizes, small = opt_sizes(ranges), FREE_SCALES[0]
        # A profile of free size takes the small pass too, though it was tuned for the large one.
        smaller = small[0] * small[1] < sizes[0][0] * sizes[0][1]
        return (small, *sizes) if smaller and largest_batch(ranges, small) else sizes
    for size in wanted:
        if not largest_batch(ranges, size):
            raise OptionError(
                f"scales: this engine cannot run at {size[0]}×{size[1]}; its inputs (images×3×height×width) are: "
                f"{describe(ranges)}; leave scales out, or build an engine with this size"
            )
    return wanted


def warn_if_thin(source: tuple[int, int], scales: tuple[tuple[int, int], ...]) -> None:
    """Warn of an image of (width, height) that is too thin in all passes for any face to be found."""
    if thin := _thin(source, scales):
        log.warning(
            "an image of %d×%d pixels shrinks to %d×%d for the network, too thin for any face to be found; cut it into "
            "pieces nearer to a square",
            *source,
            *thin,
        )


@lru_cache(maxsize=1024)
def _thin(source: tuple[int, int], scales: tuple[tuple[int, int], ...]) -> tuple[int, int] | None:
    thickest = max((Letterbox.fit(source, scale) for scale in scales), key=lambda box: min(box.resized))
    too_thin = min(thickest.resized) < THINNEST and max(source) > max(thickest.target)
    return thickest.resized if too_thin else None
