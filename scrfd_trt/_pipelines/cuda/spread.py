"""The pipeline on several GPUs: each batch goes to the GPU with the fewest in flight, or to the one where it is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from itertools import cycle
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.interop import gpu_of
from scrfd_trt._detections import Detections
from scrfd_trt._image_arrays import YUVImage
from scrfd_trt._passes import Look
from scrfd_trt._pipelines.base import Outcome, all_found
from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.pipeline import CudaPipeline
from scrfd_trt._pipelines.cuda.pool import SLOTS
from scrfd_trt._pipelines.streaming import Pending, Runs, Workers, in_order, in_place
from scrfd_trt.errors import OptionError

Images = Sequence[Any]


class SpreadPipeline:
    """One pipeline a GPU, which it closes, with the same options; OptionError if their sizes differ."""

    cuts_padding = False
    takes_looks = True

    def __init__(self, pipelines: Sequence[CudaPipeline]) -> None:
        self._pipelines = {pipeline.device.index: pipeline for pipeline in pipelines}
        self._first = first = pipelines[0]
        self.layout, self.scales = first.layout, first.scales
        if any(pipeline.scales != self.scales for pipeline in pipelines):
            raise OptionError(
                "scales: the engines of these GPUs run at different sizes; choose some that all have", fields=["scales"]
            )
        self.max_batch = min(pipeline.max_batch for pipeline in pipelines)
        self.parallel = len(pipelines)
        kinds = Counter((pipeline.runtime, pipeline.device.gpu.name) for pipeline in pipelines)
        self.description = ", ".join(f"{runtime} on {count} × {name}" for (runtime, name), count in kinds.items())
        self._workers = Workers(1)
        self._turns = cycle(pipelines)

    @property
    def frame_device(self) -> str:
        """Device in whose memory the frames of a video may lie; each video gets another one."""
        return next(self._turns).frame_device

    def prepare_image(self, image: Any) -> Any:
        return self._first.prepare_image(image)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return self._first.pinned(shape)

    def detect(self, images: Images, threshold: float, max_faces: int | None) -> list[Detections]:
        if len(images) <= self.max_batch:
            return in_place(self._call(CudaPipeline.detect, images, threshold, max_faces))
        limits, in_flight = (threshold, max_faces), SLOTS * self.parallel
        return all_found(in_order(lambda batch: self.start(batch, *limits), images, self.max_batch, in_flight))

    def detect_on_gpu(self, images: Images, threshold: float, max_faces: int | None) -> list[DeviceDetections]:
        """Detect as :meth:`detect` does, and leave the results on the GPU that computed them."""
        return in_place(self._call(CudaPipeline.detect_on_gpu, images, threshold, max_faces))

    def submit(self, images: Images, threshold: float, max_faces: int | None) -> Future[list[Detections]]:
        runs = Runs(self._call(CudaPipeline.submit, images, threshold, max_faces))
        if len(runs.parts) == 1:
            return cast("Future[list[Detections]]", runs.parts[0][0])
        return self._workers.submit(runs.result)

    def start(self, images: Images, threshold: float, max_faces: int | None) -> Pending[Outcome]:
        return Runs(self._call(CudaPipeline.start, images, threshold, max_faces))

    def _call(self, method: Callable[..., Any], images: Images, *limits: Any) -> Iterator[tuple[Any, list[int]]]:
        """Call a method of the pipelines for what each GPU processes."""
        for index, places in self._shares(images).items():
            yield method(self._pipelines[index], [images[place] for place in places], *limits), places

    def _shares(self, images: Images) -> dict[int, list[int]]:
        """Return the places of the images that each GPU processes."""
        shares: defaultdict[int, list[int]] = defaultdict(list)
        planned: Counter[int] = Counter()
        for first in range(0, len(images), self.max_batch):
            idle = min(self._pipelines, key=lambda index: self._pipelines[index].in_flight + planned[index])
            planned[idle] += 1
            for place in range(first, min(first + self.max_batch, len(images))):
                home = _home(images[place])
                shares[home if home in self._pipelines else idle].append(place)
        return shares

    def close(self) -> None:
        """Close all pipelines, even if one raises; a second call does nothing."""
        with ExitStack() as stack:
            stack.callback(self._workers.close)
            for pipeline in self._pipelines.values():
                stack.callback(pipeline.close)


def _home(image: Any) -> int | None:
    """Return the number of the GPU that an image is on; None for the host."""
    image = image.image if isinstance(image, Look) else image
    array = image.y if isinstance(image, YUVImage) else image
    return None if isinstance(array, np.ndarray) else gpu_of(array)
