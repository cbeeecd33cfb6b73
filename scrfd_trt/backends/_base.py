"""The interface between the CPU pipeline and what runs a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._tensors import ShapeRange, TensorSpec


@runtime_checkable
class Backend(Protocol):
    """A model that takes and returns host arrays.

    Attributes
    ----------
    input
        The one input of the model, ``(B, 3, H, W)``.
    outputs
        The outputs in the order of the model.
    ranges
        The accepted input shapes: those in any of these ranges. Empty if every shape that ``input`` allows is accepted.
    description
        What runs the model, a few words for messages.
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
        """Run the model once.

        Parameters
        ----------
        blob
            ``(B, 3, H, W)`` float32, C-contiguous, of a shape that ``input`` and ``ranges`` accept. The caller may
            overwrite it as soon as this returns.

        Returns
        -------
        sequence of numpy.ndarray
            One floating-point array per output, in the order of ``outputs``. Later runs do not change them.

        Raises
        ------
        BackendError
            If the run fails.
        ClosedError
            After ``close()``.
        """
        ...

    def close(self) -> None:
        """Release the model; a second call does nothing."""
        ...
