"""The readable reference: NumPy and OpenCV around a backend that takes and returns host arrays."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.backends.base import Backend
from scrfd_trt.backends.profiles import best_sizes, describe, largest_batch
from scrfd_trt.decode import Candidates, decode, merge
from scrfd_trt.detections import Detections
from scrfd_trt.errors import BackendError, DetectionsError, OptionError
from scrfd_trt.heads import check, recognize
from scrfd_trt.letterbox import Letterbox
from scrfd_trt.nms import nms
from scrfd_trt.options import FREE_SCALES, DetectorOptions
from scrfd_trt.pipelines.blobs import BlobPool
from scrfd_trt.tensors import ShapeRange

log = logging.getLogger("scrfd_trt")

THINNEST = 8
"""An image scaled to fewer pixels than the finest stride has no cell of its own."""


class HostPipeline:
    """Letterbox, backend, decode, NMS and map back, on the host.

    Parameters
    ----------
    backend
        Runs the network. It belongs to the pipeline from now on and is closed with it.
    options
        Of the detector.

    Raises
    ------
    ModelFormatError
        If the network is no SCRFD network.
    OptionError
        If ``scales`` asks for a size that the network does not take.
    """

    def __init__(self, backend: Backend, options: DetectorOptions) -> None:
        self.layout = recognize(backend.outputs)
        self.scales = choose_scales(backend.input.shape, options.scales, backend.ranges)
        self.description = backend.description
        self._backend = backend
        self._options = options
        self._blobs = BlobPool()
        batch = backend.input.shape[0]
        self._fixed_batch = batch
        self._batch = batch or (options.max_batch if self.layout.has_batch_axis else 1)
        self._most = {size: largest_batch(backend.ranges, size) or self._batch for size in self.scales}

    def detect(self, images: Sequence[NDArray[np.uint8]], threshold: float, max_faces: int | None) -> list[Detections]:
        """Find the faces of some images; see :meth:`scrfd_trt.pipelines.base.Pipeline.detect`."""
        found: list[Detections] = []
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            for image in part:
                _warn_if_thin((image.shape[1], image.shape[0]), self.scales)
            passes = [self._passes(part, scale, threshold) for scale in self.scales]
            found += [
                self._result(image, merge(candidates), max_faces)
                for image, *candidates in zip(part, *passes, strict=True)
            ]
        return found

    def _passes(
        self, images: Sequence[NDArray[np.uint8]], scale: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Look at all images in one size, as many at a time as the network takes in that size."""
        most = self._most[scale]
        parts = [images[start : start + most] for start in range(0, len(images), most)]
        return [found for part in parts for found in self._pass(part, scale, threshold)]

    def _pass(self, images: Sequence[NDArray[np.uint8]], scale: tuple[int, int], threshold: float) -> list[Candidates]:
        boxes = [Letterbox.fit((image.shape[1], image.shape[0]), scale) for image in images]
        places = 1 if len(images) == 1 and not self._fixed_batch else min(self._batch, self._most[scale])
        with self._blobs.borrow((places, 3, scale[1], scale[0])) as blob:
            blob.fill(images, boxes, self._options.color)
            outputs = self._backend.run(blob.array[: self._fixed_batch or len(images)])
        check(self.layout, outputs, scale)
        return [decode(self.layout, outputs, index, scale, threshold).to_source(box) for index, box in enumerate(boxes)]

    def _result(self, image: NDArray[np.uint8], candidates: Candidates, max_faces: int | None) -> Detections:
        kept = candidates.take(nms(candidates.boxes, candidates.scores, self._options.iou)[:max_faces])
        size = (image.shape[1], image.shape[0])
        try:
            return Detections(kept.boxes, kept.scores, kept.landmarks, image_size=size)
        except DetectionsError as error:
            raise BackendError(f"{self.description}: the network gave no faces but nonsense: {error}") from error

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()
        self._blobs.clear()


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


def _warn_if_thin(source: tuple[int, int], scales: Sequence[tuple[int, int]]) -> None:
    thickest = max((Letterbox.fit(source, scale) for scale in scales), key=lambda box: min(box.resized))
    if min(thickest.resized) < THINNEST and max(source) > max(thickest.target):
        log.warning(
            "an image of %d×%d pixels shrinks to %d×%d for the network, too thin for any face to be found; cut it into "
            "pieces nearer to a square",
            *source,
            *thickest.resized,
        )
