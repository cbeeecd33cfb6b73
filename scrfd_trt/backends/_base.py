"""The seam between the pipelines and whatever runs a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._tensors import ShapeRange, TensorSpec


@runtime_checkable
class Backend(Protocol):
    """A network that takes and returns host arrays.

    Attributes
    ----------
    input
        The network's one input, ``(B, 3, H, W)``.
    outputs
        In the network's own order.
    ranges
        The input shapes that it takes: those of any of these ranges. Empty where it takes all that ``input`` allows.
    description
        What runs it, a few words for messages.
    """

    @property
    def input(self) -> TensorSpec: ...

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    @property
    def ranges(self) -> Sequence[ShapeRange]: ...

    @property
    def description(self) -> str: ...

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Run the network once.

        Parameters
        ----------
        blob
            ``(B, 3, H, W)`` float32, C-contiguous, sides as in ``input`` and of a size that one of ``ranges`` admits,
            where there are some. It may be written to as soon as this returns.

        Returns
        -------
        sequence of numpy.ndarray
            One array an output, floating point, in the order of ``outputs``; no later run writes into them.

        Raises
        ------
        BackendError
            If the run fails.
        ClosedError
            After ``close()``.
        """
        ...

    def close(self) -> None:
        """Give back what the network holds; a second call does nothing."""
        ...
