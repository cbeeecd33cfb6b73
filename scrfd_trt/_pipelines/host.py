"""The readable reference: NumPy and OpenCV around a backend that takes and returns host arrays."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._decode import Candidates, decode
from scrfd_trt._detections import Detections
from scrfd_trt._heads import check, recognize
from scrfd_trt._images import as_color, from_nv12, is_on_gpu
from scrfd_trt._letterbox import Letterbox, normalize_into
from scrfd_trt._pipelines.base import finish
from scrfd_trt._pipelines.scales import choose_scales, largest_batch, warn_if_thin
from scrfd_trt.backends._base import Backend
from scrfd_trt.errors import ClosedError, ImageError

if TYPE_CHECKING:
    from scrfd_trt._options import DetectorOptions


class Blob:
    """One network input, and what it still holds of the images before.

    Parameters
    ----------
    shape
        ``(B, 3, H, W)``.

    Attributes
    ----------
    array
        ``shape`` float32, C-contiguous.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array: NDArray[np.float32] = np.zeros(shape, np.float32)
        self._resized: list[tuple[int, int] | None] = [None] * shape[0]

    def fill(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Letterbox], color: Literal["bgr", "rgb"]
    ) -> None:
        """Letterbox images into the first places; what lies in the others stays."""
        for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
            padded = self._resized[index] == box.resized
            self._resized[index] = None
            normalize_into(self.array[index], image, box, color, padded=padded)
            self._resized[index] = box.resized


class BlobPool:
    """Lends blobs; of each shape as many exist as were ever lent at one time.

    Threads may borrow at the same time: ``list.append`` and ``list.pop`` are atomic.
    """

    def __init__(self) -> None:
        self._idle: dict[tuple[int, ...], list[Blob]] = {}

    @contextmanager
    def borrow(self, shape: tuple[int, ...]) -> Iterator[Blob]:
        """Lend a blob of this shape, with anything in it."""
        idle = self._idle.setdefault(shape, [])
        try:
            blob = idle.pop()
        except IndexError:
            blob = Blob(shape)
        try:
            yield blob
        finally:
            idle.append(blob)

    def clear(self) -> None:
        """Let go of all blobs that are not lent."""
        self._idle.clear()


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
        self._max_batch = {size: largest_batch(backend.ranges, size) or self._batch for size in self.scales}

    @property
    def images_at_once(self) -> int:
        return self._batch

    def prepare_image(self, image: Any) -> NDArray[np.uint8]:
        """Bring an image to the form that :meth:`detect` takes; see :meth:`scrfd_trt._pipelines.base.Pipeline.take`."""
        if is_on_gpu(image):
            raise ImageError(
                f"the image of type {type(image).__name__} lies on a GPU, and this detector takes images of the "
                "processor: copy it there, with .cpu().numpy() or .get() say, or open an engine with device cuda"
            )
        return from_nv12(image) if self._options.color == "nv12" else as_color(image)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Make an array to read a frame into; see :meth:`scrfd_trt._pipelines.base.Pipeline.pinned`."""
        return np.empty(shape, np.uint8)

    def submit(
        self, images: Sequence[NDArray[np.uint8]], threshold: float, max_faces: int | None
    ) -> Future[list[Detections]]:
        """Find the faces in a thread of its own; see :meth:`scrfd_trt._pipelines.base.Pipeline.submit`."""
        with self._lock:
            if self._closed:
                raise ClosedError("the detector was closed; open a new one")
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, "scrfd_trt")
            return self._worker.submit(self.detect, images, threshold, max_faces)

    start = submit

    def detect(self, images: Sequence[NDArray[np.uint8]], threshold: float, max_faces: int | None) -> list[Detections]:
        """Find the faces of some images; see :meth:`scrfd_trt._pipelines.base.Pipeline.detect`."""
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
        max_batch = self._max_batch[scale]
        parts = [images[start : start + max_batch] for start in range(0, len(images), max_batch)]
        return [found for part in parts for found in self._pass(part, scale, threshold)]

    def _pass(self, images: Sequence[NDArray[np.uint8]], scale: tuple[int, int], threshold: float) -> list[Candidates]:
        boxes = [Letterbox.fit((image.shape[1], image.shape[0]), scale) for image in images]
        places = 1 if len(images) == 1 and not self._fixed_batch else min(self._batch, self._max_batch[scale])
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
            with suppress(RuntimeError):  # the worker cannot wait for itself if a future's callback closes
                self._worker.shutdown(cancel_futures=True)
        self._backend.close()
        self._blobs.clear()
