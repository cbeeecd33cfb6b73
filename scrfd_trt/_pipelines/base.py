"""The last step on the host: candidates of all passes to detections."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._decode import Candidates, merge
from scrfd_trt._detections import Detections
from scrfd_trt._heads import HeadLayout
from scrfd_trt._nms import nms
from scrfd_trt._pipelines.streaming import Pending
from scrfd_trt.errors import BackendError, DetectionsError


class Pipeline(Protocol):
    """Images in, detections out.

    Attributes
    ----------
    layout
        The network's head layout.
    scales
        Width and height in pixels of the passes over each image.
    images_at_once
        How many images go through the network at once, at most.
    description
        What runs the network, a few words.
    """

    @property
    def layout(self) -> HeadLayout: ...

    @property
    def scales(self) -> tuple[tuple[int, int], ...]: ...

    @property
    def images_at_once(self) -> int: ...

    @property
    def description(self) -> str: ...

    def prepare_image(self, image: Any) -> Any:
        """Check what a caller hands in as an image, and bring it to a form that :meth:`detect` takes.

        Raises
        ------
        ImageError
            If it cannot be understood, or lies where this pipeline does not look.
        """
        ...

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Make an array of uint8 from where images are taken the fastest."""
        ...

    def detect(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> list[Detections]:
        """Find the faces of some images; several threads may call this at the same time.

        Parameters
        ----------
        images
            As :meth:`take` returns them.
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

    def submit(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> Future[list[Detections]]:
        """Do what :meth:`detect` does while the caller goes on.

        Images on the GPU are put in order behind the work of the library that made them before this returns. Images
        must not be changed until the future is done.

        Raises
        ------
        ClosedError
            After ``close()``.
        """
        ...

    def start(self, images: Sequence[Any], threshold: float, max_faces: int | None) -> Pending[Detections]:
        """Put images on their way, at most ``images_at_once``, and return at once where that can be.

        Each must be ended by its ``result()``, in any order and in any thread. They must not be changed until then.
        """
        ...

    def close(self) -> None:
        """Give back what the pipeline holds; a second call does nothing."""
        ...


def finish(
    passes: Sequence[Candidates], iou: float, max_faces: int | None, image_size: tuple[int, int], description: str
) -> Detections:
    """Suppress all but the best candidate of each face.

    Parameters
    ----------
    passes
        Candidates of one image by pass, in source pixels.
    iou
        As for :func:`scrfd_trt._nms.nms`.
    max_faces
        Keep only so many, those with the highest scores; None keeps all.
    image_size
        Width and height of the image in pixels.
    description
        What ran the network, for messages.

    Raises
    ------
    BackendError
        If numbers are no faces: not finite, or scores beyond 1.
    """
    candidates = merge(passes)
    kept = candidates.select(nms(candidates.boxes, candidates.scores, iou)[:max_faces])
    try:
        return Detections(kept.boxes, kept.scores, kept.landmarks, image_size=image_size)
    except DetectionsError as error:
        raise BackendError(f"{description}: the network gave no faces but nonsense: {error}") from error
