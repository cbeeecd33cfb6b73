"""The contract of all pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.detections import Detections
from scrfd_trt.heads import HeadLayout


class Pipeline(Protocol):
    """Images in, detections out.

    Attributes
    ----------
    layout
        The network's head layout.
    scales
        Width and height in pixels of the passes over each image.
    description
        What runs the network, a few words.
    """

    @property
    def layout(self) -> HeadLayout: ...  # noqa: D102 - told above

    @property
    def scales(self) -> tuple[tuple[int, int], ...]: ...  # noqa: D102

    @property
    def description(self) -> str: ...  # noqa: D102

    def detect(self, images: Sequence[NDArray[np.uint8]], threshold: float, max_faces: int | None) -> list[Detections]:
        """Find the faces of some images; several threads may call this at the same time.

        Parameters
        ----------
        images
            Each ``(H, W, 3)`` uint8, of any size from 1×1 up.
        threshold
            Lowest score of a face, 0 to 1.
        max_faces
            Keep only so many faces of an image, those with the highest scores; None keeps all.

        Returns
        -------
        list of Detections
            One an image, in order, with arrays of their own.
        """
        ...

    def close(self) -> None:
        """Give back what the pipeline holds; a second call does nothing."""
        ...
