"""What a network is prepared for, and the prepared network; nothing here imports onnx, which is optional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scrfd_trt._engine.build_options import Precision
from scrfd_trt._tensors import ShapeRange, TensorSpec

Ends = Literal["float32", "float16"]
Sizes = tuple[tuple[int, int], ...]

RECIPE = 1
"""Raised with each change that gives another network of the same file, so that kept engines are built anew."""


@dataclass(frozen=True)
class Request:
    """What a network is prepared for; types stay as they are where ``precision`` is None."""

    sizes: Sizes | None
    batch: tuple[int, int, int]
    batch_one: bool
    precision: Precision | None
    io: Ends


@dataclass(frozen=True)
class PreparedNetwork:
    """An ONNX network, ready to be built.

    Attributes
    ----------
    model
        The serialized ONNX, weights included.
    precision
        What was asked for. ``fp16`` is in the ONNX itself; ``fp32`` and ``tf32`` give the same ONNX.
    input
        ``(B, 3, H, W)``, None where a side is free.
    outputs
        In the network's own order.
    ranges
        One an optimization profile: of each size batch 1 where asked for, and the range.
    notes
        What was changed, a few words each.
    """

    model: bytes
    precision: Precision
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    ranges: tuple[ShapeRange, ...]
    notes: tuple[str, ...]

    @property
    def sizes(self) -> Sizes:
        """Width and height of the inputs that it was made for, in the order asked for."""
        return tuple(dict.fromkeys((shape.opt[3], shape.opt[2]) for shape in self.ranges))


def profiles(sizes: Sizes, batch: tuple[int, int, int], batch_one: bool) -> tuple[ShapeRange, ...]:
    """List the optimization profiles for some sizes: batch 1, where asked for, and the range, for each of them."""
    counts = [batch]
    if batch_one and batch[0] != batch[2]:
        counts.insert(0, (1, 1, 1))
    return tuple(
        ShapeRange(*((count, 3, height, width) for count in range_of_counts))
        for width, height in sizes
        for range_of_counts in counts
    )
