"""Choose input sizes (width, height) of a model, and split batches over an engine's optimization profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scrfd_trt._letterbox import FREE_SCALES, own_scales
from scrfd_trt._tensors import ShapeRange
from scrfd_trt.errors import BackendError, ModelFormatError, OptionError

RANK = 4

MAX_BATCH, MAX_SIDE = 1024, 8192  # maximum images per run, and maximum side of an input in pixels, as in the options


@dataclass(frozen=True)
class Part:
    """Consecutive images of a batch that one run of the engine takes."""

    start: int
    stop: int
    batch_size: int  # of the run, at least stop − start; the last images are padding
    profile: int  # number of the optimization profile


def split(ranges: Sequence[ShapeRange], shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Split a batch ``(B, 3, H, W)`` into the fewest parts that profiles accept, padded only where they must be."""
    size = (shape[-1], shape[-2])
    fitting = _of_size(ranges, size) if len(shape) == RANK and shape[0] else []
    if not any(ranges[index].min[1] <= shape[1] <= ranges[index].max[1] for index in fitting):
        text = "×".join(map(str, shape))
        raise BackendError(f"the engine cannot take an input of {text}; it takes: {describe(ranges)}")
    max_batch = largest_batch(ranges, size)
    parts = []
    for start in range(0, shape[0], max_batch):
        images = min(max_batch, shape[0] - start)
        batch_size, profile = _choose(ranges, fitting, (images, *shape[1:]))
        parts.append(Part(start, start + images, batch_size, profile))
    return tuple(parts)


def _choose(ranges: Sequence[ShapeRange], fitting: Sequence[int], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the batch size, at least ``shape[0]``, and the profile."""
    images = shape[0]
    sizes = {index: max(images, ranges[index].min[0]) for index in fitting if images <= ranges[index].max[0]}
    profile = min(sizes, key=lambda index: (sizes[index], _distance(ranges[index].opt, shape), _volume(ranges[index])))
    return sizes[profile], profile


def _distance(opt: tuple[int, ...], shape: tuple[int, ...]) -> float:
    return sum(abs(math.log(tuned / side)) for tuned, side in zip(opt, shape, strict=True))


def _volume(accepted: ShapeRange) -> float:
    return sum(math.log(high / low) for low, high in zip(accepted.min, accepted.max, strict=True))


def largest_batch(ranges: Sequence[ShapeRange], size: tuple[int, int]) -> int:
    """Return the largest batch of this size that any profile accepts; 0 if none does."""
    return max((ranges[index].max[0] for index in _of_size(ranges, size)), default=0)


def _of_size(ranges: Sequence[ShapeRange], size: tuple[int, int]) -> list[int]:
    return [
        index
        for index, accepted in enumerate(ranges)
        if len(accepted.min) == RANK and accepted.admits((*accepted.min[:2], size[1], size[0]))
    ]


def opt_sizes(ranges: Sequence[ShapeRange]) -> tuple[tuple[int, int], ...]:
    """Return the sizes that the profiles are tuned for, each once, the smallest area first."""
    sizes = {(accepted.opt[3], accepted.opt[2]) for accepted in ranges}
    return tuple(sorted(sizes, key=lambda size: (size[0] * size[1], size)))


def describe(ranges: Sequence[ShapeRange]) -> str:
    """Return the accepted shapes on one line, for messages: ``1…32×3×640×640``."""
    spans = ["×".join(map(_span, accepted.min, accepted.max)) for accepted in ranges]
    return ", ".join(dict.fromkeys(spans)) or "nothing"


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}…{high}"


def choose_scales(
    input_shape: tuple[int | None, ...],
    requested: tuple[tuple[int, int], ...] | None,
    ranges: Sequence[ShapeRange] = (),
) -> tuple[tuple[int, int], ...]:
    """Return the scales for an input ``(B, 3, H, W)``, None where free: as requested, else the engine's or model's."""
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
        return own_scales(height, width)
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
