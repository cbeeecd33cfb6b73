"""The outside of a network: what its inputs and outputs are called, and their shapes and types."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a network.

    Attributes
    ----------
    name
        As the network calls it.
    shape
        Sides; None where a side is free. Names of free sides are left out on purpose: files in use give one name to
        sides that differ.
    dtype
        NumPy's name of the element type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        sides = "×".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} {sides or 'scalar'}" + ("" if self.dtype == "float32" else f" {self.dtype}")


def listing(tensors: Iterable[TensorSpec]) -> str:
    """Write tensors on one line, for messages."""
    return ", ".join(map(str, tensors)) or "none"


@dataclass(frozen=True)
class ShapeRange:
    """The input shapes that one optimization profile of an engine takes.

    Attributes
    ----------
    min, opt, max
        ``(B, 3, H, W)``: the smallest, the one that it was tuned for, and the largest.
    """

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an input of this shape lies in the range."""
        return len(shape) == len(self.min) and all(
            low <= side <= high for low, side, high in zip(self.min, shape, self.max, strict=True)
        )
