"""The pipeline on the CPU, the reference for the GPU's: NumPy and OpenCV around a backend of host arrays."""

from __future__ import annotations

import math
from collections import deque
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
from scrfd_trt._nms import nms
from scrfd_trt._passes import Look, Size, View, as_look, image_size, plan_views, warn_if_thin
from scrfd_trt._pipelines.base import Outcome, all_found, least_score, look_again, merge_passes
from scrfd_trt._pipelines.profiles import choose_scales, largest_batch
from scrfd_trt._pipelines.streaming import Pending, Runs, Workers
from scrfd_trt.backends import Backend, OnnxBackend
from scrfd_trt.errors import BackendError, ImageError, ScrfdError, is_out_of_memory, one_line, out_of_memory

if TYPE_CHECKING:
    from scrfd_trt._options import DetectorOptions

Images = Sequence[Any]
Run = Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]]


class HostPipeline:
    """Letterbox, backend, which it closes, decoding and NMS on the CPU; ``cut_padding=False`` is for comparisons."""

    parallel = 1
    takes_looks = True

    def __init__(self, backend: Backend, options: DetectorOptions, *, cut_padding: bool = True) -> None:
        self.layout = recognize(backend.outputs)
        self.scales = choose_scales(backend.input.shape, options.scales, backend.ranges)
        needs_padding = backend.ranges or getattr(backend, "norms_whole_input", False)
        self.cuts_padding = cut_padding and backend.input.shape[2:] == (None, None) and not needs_padding
        self.description = backend.description
        self._backend = backend
        self._options = options
        self._fixed_batch = backend.input.shape[0]
        self.max_batch = self._fixed_batch or (options.max_batch if self.layout.has_batch_axis else 1)
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
                batch = [as_look(image, self._options) for image in images[start : start + self.max_batch]]
                plans = [self.plan(look) for look in batch]
                least = least_score(batch, threshold)
                passes = self._passes([look.image for look in batch], plans, least, backend)
                for look, plan, candidates in zip(batch, plans, passes, strict=True):
                    if look.has_views and len(plan) > 1:  # few of many are left for the NMS over all of them
                        iou = self._options.iou
                        candidates = [each.select(nms(each.boxes, each.scores, iou)) for each in candidates]  # noqa: PLW2901
                    strong = [each.above(threshold) for each in candidates] if least < threshold else candidates
                    faces = self._merge(look, plan, strong, None if look.rotations else max_faces)
                    if look.rotations and not isinstance(faces, ScrfdError):
                        again = partial(self._outcomes, threshold=threshold, max_faces=None, backend=backend)
                        every = self._merge(look, plan, candidates, None)
                        image = partial(getattr, look, "image")
                        faces = look_again(image, faces, every, again, (self._options.iou, max_faces))
                    found.append(faces)
        except (MemoryError, cv2.error) as error:
            if is_out_of_memory(error):
                raise out_of_memory("detecting faces") from error
            raise BackendError(f"OpenCV failed: {one_line(error)}") from error
        return found

    def _merge(self, look: Look, plan: Sequence[View], found: Sequence[Candidates], max_faces: int | None) -> Outcome:
        size, iou = image_size(look.image), self._options.iou
        return merge_passes(found, iou, max_faces, size, self.description, views=plan)

    def plan(self, look: Look) -> tuple[View, ...]:
        """Return the views of an image."""
        size = image_size(look.image)
        if look.min_face is None:
            warn_if_thin(size, self.scales)
        how = {"min_face": look.min_face, "rotations": look.rotations}
        return plan_views(size, self.scales, cut=self.cuts_padding, **how)

    def _passes(
        self, images: Images, plans: Sequence[Sequence[View]], threshold: float, backend: Backend | None
    ) -> list[list[Candidates]]:
        """Return the candidates of each view of each image; where cores and backend allow, several runs at a time."""
        single = backend
        if backend is None and isinstance(self._backend, OnnxBackend) and sum(map(len, plans)) >= 2 * self._cores > 2:
            single = self._backend.on_one_thread()
        own = single or self._backend
        runs = deque(self._runs(plans, self._fixed_batch or 1 if single else None))
        found: dict[tuple[int, int], Candidates] = {}

        def work() -> None:
            with suppress(IndexError):  # all are done
                while True:
                    part = runs.popleft()
                    views = [(images[image], plans[image][view]) for image, view in part]
                    found.update(zip(part, self._run(views, threshold, own.run), strict=True))

        helpers: list[Future[None]] = []
        overlap = backend is None and isinstance(own, OnnxBackend)
        try:
            with suppress(BackendError):  # without another thread: the limit is reached, or Python exits
                for _ in range(min(self._cores, len(runs)) - 1 if overlap else 0):
                    helpers.append(self._spread.submit(work))  # noqa: PERF401
            work()
        except BaseException:
            runs.clear()
            raise
        finally:  # what has not started waits for the images of streams
            wait([each for each in helpers if not each.cancel()])
        for each in helpers:
            if not each.cancelled():
                each.result()
        return [[found[image, view] for view in range(len(plan))] for image, plan in enumerate(plans)]

    def _runs(self, plans: Sequence[Sequence[View]], batch: int | None) -> list[list[tuple[int, int]]]:
        """Return image and number of the views of each run of the model, ``batch`` together, None for all it takes."""
        by_size: dict[Size, list[tuple[int, int]]] = {}
        for image, plan in enumerate(plans):
            for number, view in enumerate(plan):
                by_size.setdefault(view.target, []).append((image, number))
        runs = []
        for size, views in by_size.items():
            step = batch or self._batch_at(size)
            runs += [views[start : start + step] for start in range(0, len(views), step)]
        return runs

    def _batch_at(self, size: Size) -> int:
        return min(self.max_batch, largest_batch(self._backend.ranges, size) or self.max_batch)

    def _run(self, views: Sequence[tuple[NDArray[np.uint8], View]], threshold: float, run: Run) -> list[Candidates]:
        """Run the model once, for views whose inputs have the same size."""
        size, is_single = views[0][1].target, len(views) == 1 and not self._fixed_batch
        batch = 1 if is_single else self._batch_at(size)
        with self._blobs.borrow((batch, 3, size[1], size[0])) as blob:
            outputs = run(blob.fill(views, self._color)[: self._fixed_batch or len(views)])
        try:
            check(self.layout, outputs, size, self._fixed_batch or len(views))
        except (AttributeError, TypeError) as error:  # a backend of the caller may return anything
            raise BackendError(f"{self.description}: the model must return arrays: {one_line(error)}") from error
        return [
            decode(self.layout, outputs, index, size, threshold).to_source(view.box)
            for index, (_, view) in enumerate(views)
        ]

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

    def __init__(self, size: int) -> None:
        self._memory: NDArray[np.float32] = np.zeros(size, np.float32)
        self._shape: tuple[int, ...] = ()
        self._placed: list[Letterbox | None] = []

    def take(self, shape: tuple[int, ...]) -> Blob:
        """Make it an input of this shape, with any content."""
        if shape != self._shape:
            self._shape, self._placed = shape, [None] * shape[0]
        return self

    def fill(
        self, views: Sequence[tuple[NDArray[np.uint8], View]], color: Literal["bgr", "rgb"]
    ) -> NDArray[np.float32]:
        """Letterbox views of images, and return the batch; other rows hold any numbers."""
        array = self._memory[: math.prod(self._shape)].reshape(self._shape)
        for index, (image, view) in enumerate(views):
            placed, self._placed[index] = self._placed[index], None
            padded = placed is not None and placed.resized == view.box.resized
            normalize_into(array[index], view.crop(image), view.box, color, padded=padded, rotation=view.rotation)
            self._placed[index] = view.box
        return array


class BlobPool:
    """Reuses blobs, by powers of two of floats; it needs no lock, since append and pop of lists are atomic."""

    def __init__(self) -> None:
        self._idle: dict[int, list[Blob]] = {}

    @contextmanager
    def borrow(self, shape: tuple[int, ...]) -> Iterator[Blob]:
        """Yield a blob of this shape with any content."""
        size = 1 << (math.prod(shape) - 1).bit_length()
        idle = self._idle.setdefault(size, [])
        try:
            blob = idle.pop()
        except IndexError:
            blob = Blob(size)
        try:
            yield blob.take(shape)
        finally:
            idle.append(blob)

    def clear(self) -> None:
        """Free all blobs that are not in use."""
        self._idle.clear()
