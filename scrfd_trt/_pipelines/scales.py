"""Choose the scales: the input sizes, width and height in pixels, at which the model sees each image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

from scrfd_trt._letterbox import FREE_SCALES, Letterbox
from scrfd_trt._pipelines.profiles import describe, largest_batch, opt_sizes
from scrfd_trt._tensors import ShapeRange
from scrfd_trt.errors import ModelFormatError, OptionError

log = logging.getLogger("scrfd_trt")

MAX_BATCH, MAX_SIDE = 1024, 8192
"""Maximum images per run, and maximum side of an input in pixels, as in the options."""

MIN_SIDE = 8
"""Side in pixels of a cell of the finest stride; a scaled image below it has no cell of its own."""


def choose_scales(
    input_shape: tuple[int | None, ...],
    requested: tuple[tuple[int, int], ...] | None,
    ranges: Sequence[ShapeRange] = (),
) -> tuple[tuple[int, int], ...]:
    """Return the scales; raise OptionError if the model cannot run at a requested one.

    ``input_shape`` is ``(B, 3, H, W)`` of the model, None where free. ``ranges`` are the shapes of an engine's
    optimization profiles. Without a request, the scales are the sizes that the profiles are tuned for, or the fixed
    size of the model, or 128 and 640 pixels if that is free. Raises ModelFormatError for a model whose input has
    another number of axes, or is fixed at a larger batch or size than the options allow: a damaged file may ask for
    any amount of memory.
    """
    if len(input_shape) != 4:
        raise ModelFormatError(f"the model's input has {len(input_shape)} axes; an input (B, 3, H, W) is required")
    batch, _, height, width = input_shape
    if (batch or 0) > MAX_BATCH or max(height or 0, width or 0) > MAX_SIDE:
        shape = "×".join(str(side or "?") for side in input_shape)
        raise ModelFormatError(
            f"this model is fixed at an input of {shape}; batches of up to {MAX_BATCH} images of up to "
            f"{MAX_SIDE}×{MAX_SIDE} pixels are supported"
        )
    if ranges:
        return _engine_scales(ranges, requested)
    if requested is None:
        if height is None and width is None:
            return FREE_SCALES
        return ((width or FREE_SCALES[-1][0], height or FREE_SCALES[-1][1]),)
    for across, down in requested:
        if across != (width or across) or down != (height or down):
            raise OptionError(
                f"scales: this model is fixed at {width or 'any'}×{height or 'any'} pixels and cannot run at "
                f"{across}×{down}; leave scales out, or use a model of free input size",
                fields=["scales"],
                value=requested,
            )
    return requested


def _engine_scales(
    ranges: Sequence[ShapeRange], requested: tuple[tuple[int, int], ...] | None
) -> tuple[tuple[int, int], ...]:
    if requested is None:
        sizes, small = opt_sizes(ranges), FREE_SCALES[0]
        # A profile of free size accepts the small scale too, although it is tuned for the large one.
        is_smaller = small[0] * small[1] < sizes[0][0] * sizes[0][1]
        return (small, *sizes) if is_smaller and largest_batch(ranges, small) else sizes
    for size in requested:
        if not largest_batch(ranges, size):
            raise OptionError(
                f"scales: this engine cannot run at {size[0]}×{size[1]}; its inputs (images×3×height×width) are: "
                f"{describe(ranges)}; leave scales out, or build an engine with this size",
                fields=["scales"],
                value=requested,
            )
    return requested


def warn_if_thin(source: tuple[int, int], scales: tuple[tuple[int, int], ...]) -> None:
    """Log a warning if an image of this size is too narrow at all scales for any face to be found."""
    if thin := _thin(source, scales):
        log.warning(
            "an image of %d×%d pixels is scaled to %d×%d for the model, too narrow for any face to be found; cut it "
            "into pieces closer to a square",
            *source,
            *thin,
        )


def is_thin(source: tuple[int, int], scales: tuple[tuple[int, int], ...]) -> bool:
    """Return whether :func:`warn_if_thin` logs a warning."""
    return _thin(source, scales) is not None


@lru_cache(maxsize=1024)
def _thin(source: tuple[int, int], scales: tuple[tuple[int, int], ...]) -> tuple[int, int] | None:
    thickest = max((Letterbox.fit(source, scale) for scale in scales), key=lambda box: min(box.resized))
    is_thin = min(thickest.resized) < MIN_SIDE and max(source) > max(thickest.target)
    return thickest.resized if is_thin else None
