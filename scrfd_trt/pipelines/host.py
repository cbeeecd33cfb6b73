"""The readable reference: NumPy and OpenCV around a backend that takes and returns host arrays."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.backends.base import Backend
from scrfd_trt.decode import Candidates, decode
from scrfd_trt.detections import Detections
from scrfd_trt.errors import ClosedError, ImageError
from scrfd_trt.heads import check, recognize
from scrfd_trt.images import as_color, from_nv12, is_on_gpu
from scrfd_trt.letterbox import Letterbox
from scrfd_trt.options import DetectorOptions
from scrfd_trt.pipelines.blobs import BlobPool
from scrfd_trt.pipelines.finish import finish
from scrfd_trt.pipelines.profiles import largest_batch
from scrfd_trt.pipelines.scales import choose_scales, warn_if_thin


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
        self._color: Literal["bgr", "rgb"] = "rgb" if options.color == "rgb" else "bgr"
        self._worker: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._most = {size: largest_batch(backend.ranges, size) or self._batch for size in self.scales}

    @property
    def images_at_once(self) -> int:  # noqa: D102 - told in the protocol
        return self._batch

    def take(self, image: Any) -> NDArray[np.uint8]:
        """Bring an image to the form that :meth:`detect` takes; see :meth:`scrfd_trt.pipelines.base.Pipeline.take`."""
        if is_on_gpu(image):
            raise ImageError(
                f"the image of type {type(image).__name__} lies on a GPU, and this detector takes images of the "
                "processor: copy it there, with .cpu().numpy() or .get() say, or open an engine with device cuda"
            )
        return from_nv12(image) if self._options.color == "nv12" else as_color(image)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Make an array to read a frame into; see :meth:`scrfd_trt.pipelines.base.Pipeline.pinned`."""
        return np.empty(shape, np.uint8)

    def submit(
        self, images: Sequence[NDArray[np.uint8]], threshold: float, max_faces: int | None
    ) -> Future[list[Detections]]:
        """Find the faces in a thread of its own; see :meth:`scrfd_trt.pipelines.base.Pipeline.submit`."""
        with self._lock:
            if self._closed:
                raise ClosedError("the detector was closed; open a new one")
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, "scrfd_trt")
            return self._worker.submit(self.detect, images, threshold, max_faces)

    start = submit

    def detect(self, images: Sequence[NDArray[np.uint8]], threshold: float, max_faces: int | None) -> list[Detections]:
        """Find the faces of some images; see :meth:`scrfd_trt.pipelines.base.Pipeline.detect`."""
        found: list[Detections] = []
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            for image in part:
                warn_if_thin((image.shape[1], image.shape[0]), self.scales)
            passes = [self._passes(part, scale, threshold) for scale in self.scales]
            found += [
                finish(candidates, self._options.iou, max_faces, (image.shape[1], image.shape[0]), self.description)
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
            blob.fill(images, boxes, self._color)
            outputs = self._backend.run(blob.array[: self._fixed_batch or len(images)])
        check(self.layout, outputs, scale)
        return [decode(self.layout, outputs, index, scale, threshold).to_source(box) for index, box in enumerate(boxes)]

    def close(self) -> None:
        """Close the backend, after what was submitted."""
        with self._lock:
            self._closed = True
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)
        self._backend.close()
        self._blobs.clear()
