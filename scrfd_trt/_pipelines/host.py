"""The pipeline on the CPU: NumPy and OpenCV around a backend that takes and returns host arrays.

It is the reference that the pipeline on the GPU is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._decode import Candidates, decode
from scrfd_trt._detections import Detections
from scrfd_trt._devices import usable_cores
from scrfd_trt._heads import check, recognize
from scrfd_trt._image_arrays import YUVImage, as_color, from_nv12, from_yuv, is_on_gpu
from scrfd_trt._letterbox import Letterbox, normalize_into
from scrfd_trt._pipelines.base import Outcome, all_found, merge_passes
from scrfd_trt._pipelines.profiles import largest_batch
from scrfd_trt._pipelines.scales import choose_scales, warn_if_thin
from scrfd_trt._pipelines.streaming import Pending, Runs
from scrfd_trt._pipelines.workers import Workers
from scrfd_trt.backends import Backend, OnnxBackend
from scrfd_trt.errors import BackendError, ImageError, is_out_of_memory, one_line, out_of_memory

if TYPE_CHECKING:
    from scrfd_trt._options import DetectorOptions

Images = Sequence[NDArray[np.uint8]]
Run = Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]]


class HostPipeline:
    """Letterbox, backend, decoding and NMS on the CPU; the methods are those of :class:`Pipeline`.

    The pipeline owns the backend and closes it. Raises ModelFormatError if the backend does not run a SCRFD model, and
    OptionError if it does not accept a size in ``options.scales``. ``cut_padding=False`` runs models of free size at
    the size of each scale, for comparisons.
    """

    parallel = 1

    def __init__(self, backend: Backend, options: DetectorOptions, *, cut_padding: bool = True) -> None:
        self.layout = recognize(backend.outputs)
        self.scales = choose_scales(backend.input.shape, options.scales, backend.ranges)
        self.cuts_padding = cut_padding and backend.input.shape[2:] == (None, None) and not backend.ranges
        self.description = backend.description
        self._backend = backend
        self._options = options
        self._fixed_batch = backend.input.shape[0]
        self.max_batch = self._fixed_batch or (options.max_batch if self.layout.has_batch_axis else 1)
        self._batch_at = {scale: largest_batch(backend.ranges, scale) or self.max_batch for scale in self.scales}
        self._color: Literal["bgr", "rgb"] = "rgb" if options.color == "rgb" else "bgr"
        self._blobs = BlobPool()
        self._worker = Workers(1)
        self._cores = usable_cores()
        self._spread = Workers(self._cores)

    def prepare_image(self, image: Any) -> NDArray[np.uint8]:
        is_yuv = isinstance(image, YUVImage)
        if is_on_gpu(image.y if is_yuv else image):
            raise ImageError(
                f"the image of type {type(image).__name__} is on a GPU, but this detector runs on the CPU: copy the "
                "image with .cpu().numpy() or .get(), or open the detector with device cuda"
            )
        if is_yuv:
            return from_yuv(image, self._color)
        return from_nv12(image) if self._options.color == "nv12" else as_color(image)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return np.empty(shape, np.uint8)

    def detect(self, images: Images, threshold: float, max_faces: int | None) -> list[Detections]:
        runs = self._on_cores(images, threshold, max_faces)
        return all_found(self._outcomes(images, threshold, max_faces) if runs is None else runs.result())

    def _outcomes(
        self, images: Images, threshold: float, max_faces: int | None, backend: Backend | None = None
    ) -> list[Outcome]:
        found: list[Outcome] = []
        try:
            for start in range(0, len(images), self.max_batch):
                batch = images[start : start + self.max_batch]
                sizes = [(image.shape[1], image.shape[0]) for image in batch]
                for size in sizes:
                    warn_if_thin(size, self.scales)
                passes = self._passes(batch, threshold, backend)
                found += [
                    merge_passes(candidates, self._options.iou, max_faces, size, self.description)
                    for size, *candidates in zip(sizes, *passes, strict=True)
                ]
        except (MemoryError, cv2.error) as error:
            if is_out_of_memory(error):
                raise out_of_memory("detecting faces") from error
            raise BackendError(f"OpenCV failed: {one_line(error)}") from error
        return found

    def letterbox(self, source: tuple[int, int], scale: tuple[int, int]) -> Letterbox:
        """Return the placement of an image of this size in the input of one pass."""
        box = Letterbox.fit(source, scale)
        return box.cut() if self.cuts_padding else box

    def _passes(self, images: Images, threshold: float, backend: Backend | None) -> list[list[Candidates]]:
        """Return the candidates of each pass; the input of the last one is prepared while the others run.

        With a ``backend`` in place of the own one, and with backends that may depend on the order, one runs at a time.
        """
        overlap = backend is None and isinstance(self._backend, OnnxBackend) and self._cores > 1
        detect = partial(self._pass, images, threshold, (backend or self._backend).run)
        started: list[Future[list[Candidates]]] = []
        try:
            with suppress(BackendError):  # without another thread: the limit is reached, or Python exits
                for scale in self.scales[:-1] if overlap else ():
                    started.append(self._spread.submit(detect, scale))  # noqa: PERF401
            rest = [detect(scale) for scale in self.scales[len(started) :]]
        finally:  # what has not started waits for the images of streams
            wait([each for each in started if not each.cancel()])
        first = [
            detect(scale) if each.cancelled() else each.result()
            for scale, each in zip(self.scales, started, strict=False)
        ]
        return [*first, *rest]

    def _pass(self, images: Images, threshold: float, run: Run, scale: tuple[int, int]) -> list[Candidates]:
        """Return the candidates of each image at one scale, in source pixels."""
        boxes = [self.letterbox((image.shape[1], image.shape[0]), scale) for image in images]
        by_size: dict[tuple[int, int], list[int]] = {}  # numbers of the images that can run together
        for number, box in enumerate(boxes):
            by_size.setdefault(box.target, []).append(number)
        step = self._batch_at[scale]
        found: dict[int, Candidates] = {}
        for numbers in by_size.values():
            for start in range(0, len(numbers), step):
                part = numbers[start : start + step]
                some = [images[number] for number in part], [boxes[number] for number in part]
                found.update(zip(part, self._run(*some, scale, threshold, run), strict=True))
        return [found[number] for number in range(len(images))]

    def _run(
        self, images: Images, boxes: Sequence[Letterbox], scale: tuple[int, int], threshold: float, run: Run
    ) -> list[Candidates]:
        """Run the model once, for images whose inputs have the same size."""
        size, is_single = boxes[0].target, len(images) == 1 and not self._fixed_batch
        batch = 1 if is_single else min(self.max_batch, self._batch_at[scale])
        with self._blobs.borrow((batch, 3, scale[1], scale[0])) as blob:
            outputs = run(blob.fill(images, boxes, self._color)[: self._fixed_batch or len(images)])
        try:
            check(self.layout, outputs, size, self._fixed_batch or len(images))
        except (AttributeError, TypeError) as error:  # a backend of the caller may return anything
            raise BackendError(f"{self.description}: the model must return arrays: {one_line(error)}") from error
        return [decode(self.layout, outputs, index, size, threshold).to_source(box) for index, box in enumerate(boxes)]

    def submit(self, images: Images, threshold: float, max_faces: int | None) -> Future[list[Detections]]:
        return self._worker.submit(self.detect, images, threshold, max_faces)

    def start(self, images: Images, threshold: float, max_faces: int | None) -> Pending[Outcome]:
        runs = self._on_cores(images, threshold, max_faces)
        return self._worker.submit(self._outcomes, images, threshold, max_faces) if runs is None else runs

    def _on_cores(self, images: Images, threshold: float, max_faces: int | None) -> Runs | None:
        """Start to detect each image on a core of its own, which is faster for many; None for few of them."""
        is_enough = 2 * len(images) > self._cores > 1 and len(images) > 1 and self._fixed_batch in {None, 1}
        backend = self._backend.on_one_thread() if is_enough and isinstance(self._backend, OnnxBackend) else None
        if backend is None:
            return None
        return Runs(
            (self._spread.submit(self._outcomes, [image], threshold, max_faces, backend), (place,))
            for place, image in enumerate(images)
        )

    def close(self) -> None:
        """Close the backend after the runs in progress; submitted runs that have not started raise ClosedError."""
        self._worker.close()
        self._spread.close()
        self._backend.close()
        self._blobs.clear()


class Blob:
    """Memory for inputs of up to ``(B, 3, H, W)`` float32, that remembers where it already holds padding."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._memory: NDArray[np.float32] = np.zeros(shape, np.float32).reshape(-1)
        self._batch = shape[0]
        self._placed: list[Letterbox | None] = [None] * self._batch

    def fill(self, images: Images, boxes: Sequence[Letterbox], color: Literal["bgr", "rgb"]) -> NDArray[np.float32]:
        """Letterbox images, into inputs of one size, and return the batch; other rows hold any numbers."""
        shape = (self._batch, 3, *boxes[0].target[::-1])
        if any(placed is not None and placed.target != boxes[0].target for placed in self._placed):
            self._placed = [None] * self._batch
        array = self._memory[: math.prod(shape)].reshape(shape)
        for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
            placed, self._placed[index] = self._placed[index], None
            padded = placed is not None and placed.resized == box.resized
            normalize_into(array[index], image, box, color, padded=padded)
            self._placed[index] = box
        return array


class BlobPool:
    """Reuses blobs: of each shape it makes as many as are in use at the same time.

    It needs no lock, since ``list.append`` and ``list.pop`` are atomic.
    """

    def __init__(self) -> None:
        self._idle: dict[tuple[int, ...], list[Blob]] = {}

    @contextmanager
    def borrow(self, shape: tuple[int, ...]) -> Iterator[Blob]:
        """Yield a blob of this shape with any content."""
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
        """Free all blobs that are not in use."""
        self._idle.clear()
