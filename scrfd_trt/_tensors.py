"""Names, shapes and types of the inputs and outputs of models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes
    ----------
    name
        As in the model.
    shape
        Sides; None where free.
    dtype
        NumPy's name of the type, such as ``float32``.
    """

    name: str
    shape: tuple[int | None, ...]  # names of free sides are dropped: files reuse one name
    dtype: str = "float32"

    def __str__(self) -> str:
        sides = "×".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} {sides or 'scalar'}" + ("" if self.dtype == "float32" else f" {self.dtype}")


def listing(tensors: Iterable[TensorSpec]) -> str:
    """Return tensors on one line, for messages."""
    return ", ".join(map(str, tensors)) or "none"


@dataclass(frozen=True)
class ShapeRange:
    """The input shapes ``(B, 3, H, W)`` of one optimization profile of an engine.

    Attributes
    ----------
    min, opt, max
        The smallest shape, the one that the profile is tuned for, and the largest.

    Raises
    ------
    ValueError
        If they have different numbers of sides, or a side is negative.
    """

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        ends = (self.min, self.opt, self.max)
        if len({len(end) for end in ends}) != 1 or any(side < 0 for end in ends for side in end):
            raise ValueError("min, opt and max must have as many sides, none below 0")

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Return whether an input of this shape is in the range."""
        return len(shape) == len(self.min) and all(
            low <= side <= high for low, side, high in zip(self.min, shape, self.max, strict=True)
        )

    def __str__(self) -> str:
        low, tuned, high = ("×".join(map(str, shape)) for shape in (self.min, self.opt, self.max))
        return tuned if low == high else f"{low} to {high}, tuned for {tuned}"
