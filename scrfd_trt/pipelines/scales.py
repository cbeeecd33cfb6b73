"""The sizes at which a network looks at each image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

from scrfd_trt.errors import OptionError
from scrfd_trt.letterbox import Letterbox
from scrfd_trt.options import FREE_SCALES
from scrfd_trt.pipelines.profiles import best_sizes, describe, largest_batch
from scrfd_trt.tensors import ShapeRange

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
        sizes, small = best_sizes(ranges), FREE_SCALES[0]
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
