"""The pipeline on several GPUs: each batch goes to the GPU with the fewest in flight, or to the one where it is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cuda.interop import gpu_of
from scrfd_trt._detections import Detections
from scrfd_trt._image_arrays import YUVImage
from scrfd_trt._pipelines.base import Outcome
from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.pipeline import CudaPipeline
from scrfd_trt._pipelines.cuda.pool import SLOTS
from scrfd_trt._pipelines.streaming import Pending, in_order
from scrfd_trt._pipelines.workers import Workers
from scrfd_trt.errors import OptionError

Images = Sequence[Any]


class SpreadPipeline:
    """One pipeline a GPU, with the same options; the methods are those of :class:`Pipeline`.

    It owns the pipelines and closes them. Raises OptionError if their engines run at different sizes.
    """

    cuts_padding = False

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
        if len(images) > self.max_batch:
            start = partial(self._start, threshold, max_faces)
            return list(in_order(start, images, self.max_batch, SLOTS * self.parallel))
        return _merged(
            [(pipeline.detect(part, threshold, max_faces), places) for pipeline, part, places in self._shares(images)]
        )

    def detect_on_gpu(self, images: Images, threshold: float, max_faces: int | None) -> list[DeviceDetections]:
        """Detect as :meth:`detect` does, and leave the results on the GPU that computed them."""
        return _merged(
            [
                (pipeline.detect_on_gpu(part, threshold, max_faces), places)
                for pipeline, part, places in self._shares(images)
            ]
        )

    def submit(self, images: Images, threshold: float, max_faces: int | None) -> Future[list[Detections]]:
        futures = [
            (pipeline.submit(part, threshold, max_faces), places) for pipeline, part, places in self._shares(images)
        ]
        return futures[0][0] if len(futures) == 1 else self._workers.submit(_wait, futures)

    def start(self, images: Images, threshold: float, max_faces: int | None) -> Pending[Outcome]:
        runs = _Runs()
        try:
            for pipeline, part, places in self._shares(images):
                runs.parts.append((pipeline.start(part, threshold, max_faces), places))
        except BaseException:
            with suppress(Exception):
                runs.result()
            raise
        return runs.parts[0][0] if len(runs.parts) == 1 else runs

    def _start(self, threshold: float, max_faces: int | None, images: Images) -> Pending[Any]:
        return self.start(images, threshold, max_faces)

    def _shares(self, images: Images) -> list[tuple[CudaPipeline, Images, list[int]]]:
        """Return what each GPU processes: the images, and their places among all."""
        shares: defaultdict[int, list[int]] = defaultdict(list)
        planned: Counter[int] = Counter()
        for first in range(0, len(images), self.max_batch):
            idle = min(self._pipelines, key=lambda index: self._pipelines[index].in_flight + planned[index])
            planned[idle] += 1
            for place in range(first, min(first + self.max_batch, len(images))):
                home = _home(images[place])
                shares[home if home in self._pipelines else idle].append(place)
        return [
            (self._pipelines[index], [images[place] for place in places], places) for index, places in shares.items()
        ]

    def close(self) -> None:
        """Close all pipelines, even if one raises; a second call does nothing."""
        with ExitStack() as stack:
            stack.callback(self._workers.close)
            for pipeline in self._pipelines.values():
                stack.callback(pipeline.close)


class _Runs:
    """Runs of one batch on several GPUs, with the places of their images."""

    def __init__(self) -> None:
        self.parts: list[tuple[Pending[Outcome], list[int]]] = []

    def done(self) -> bool:
        return all(run.done() for run, _ in self.parts)

    def result(self) -> list[Outcome]:
        return _wait(self.parts)


def _wait(parts: Sequence[tuple[Any, list[int]]]) -> list[Any]:
    """Wait for all runs, then return the results in the order of the images, or raise the first error."""
    with ExitStack() as stack:
        for run, _ in parts:
            stack.callback(_end, run)
        return _merged([(run.result(), places) for run, places in parts])


def _end(run: Pending[Any]) -> None:
    with suppress(Exception):
        run.result()


def _merged(parts: Sequence[tuple[Sequence[Any], list[int]]]) -> list[Any]:
    found = {place: result for results, places in parts for place, result in zip(places, results, strict=True)}
    return [found[place] for place in range(len(found))]


def _home(image: Any) -> int | None:
    """Return the number of the GPU that an image is on, None for the host or an unknown place."""
    array = image.y if isinstance(image, YUVImage) else image
    return None if isinstance(array, np.ndarray) else gpu_of(array)
