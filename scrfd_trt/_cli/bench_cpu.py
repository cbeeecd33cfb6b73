"""Measure detection on the CPU: whole ``detect()`` calls, and the stages that they consist of."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import console
from scrfd_trt._decode import decode, merge
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._heads import check
from scrfd_trt._letterbox import normalize_into
from scrfd_trt._nms import nms
from scrfd_trt._options import DetectorOptions
from scrfd_trt._passes import as_look
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt.backends import Backend

Image = NDArray[np.uint8]

WARM_UP = 10
STAGES = ("letterbox", "model", "decode", "nms", "result")
AROUND_MODEL = ("letterbox", "decode", "nms", "result")


@dataclass(frozen=True)
class Timings:
    """Seconds of each run of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    @property
    def images_per_second(self) -> float:
        """Images per second over all runs, with one image a run."""
        return len(self.seconds) / sum(self.seconds)

    def as_dict(self) -> dict[str, float]:
        """Return median and minimum in milliseconds."""
        return {"median": self.median * 1000.0, "best": min(self.seconds) * 1000.0}

    def __str__(self) -> str:
        runs = console.count(len(self.seconds), "run")
        rate, median = f"{self.images_per_second:,.1f} images/s", f"median {self.median * 1000:.3f} ms"
        return f"{rate}, {median} ({runs} after one to warm up)"


def time_detect(detector: SCRFDDetector, image: Image, repeat: int) -> tuple[Detections, float, Timings | None]:
    """Detect the faces of an image; return them, the (median) seconds of ``detect()``, and ``repeat`` more timings."""
    faces, seconds = _timed(detector, image)
    if not repeat:
        return faces, seconds, None
    with console.muted():
        timings = Timings(tuple(_timed(detector, image)[1] for _ in range(repeat)))
    return faces, timings.median, timings


def _timed(detector: SCRFDDetector, image: Image) -> tuple[Detections, float]:
    start = time.perf_counter()
    faces = detector.detect(image)
    return faces, time.perf_counter() - start


@dataclass(frozen=True)
class CpuFigures:
    """The measurements of :func:`measure_cpu`."""

    stages: dict[str, Timings]  # by name of STAGES
    around: Timings  # all stages but the model
    detect: Timings
    faces: Detections
    scales: tuple[tuple[int, int], ...]
    inputs: tuple[tuple[int, int], ...]  # what the model ran at
    description: str

    @property
    def ratio(self) -> float:
        """Median of ``detect()`` divided by the median of the model."""
        return self.detect.median / self.stages["model"].median


class StagedDetection:
    """Runs the stages of :class:`~scrfd_trt._pipelines.HostPipeline` for one image and measures each."""

    def __init__(self, backend: Backend, pipeline: HostPipeline, options: DetectorOptions) -> None:
        self.backend = backend
        self.pipeline = pipeline
        self.options = options
        self.batch = backend.input.shape[0] or 1
        self.blobs: dict[tuple[int, int], NDArray[np.float32]] = {}

    def run(self, image: Image) -> tuple[Detections, dict[str, float]]:
        """Return the faces of an image, and the seconds of each stage, summed over the passes."""
        seconds: dict[str, float] = defaultdict(float)
        source = (image.shape[1], image.shape[0])
        candidates = []
        layout = self.pipeline.layout
        for view in self.pipeline.plan(as_look(image, self.options)):
            box = view.box
            width, height = size = box.target
            if size not in self.blobs:
                self.blobs[size] = np.zeros((self.batch, 3, height, width), np.float32)
            blob = self.blobs[size]
            with _add_time(seconds, "letterbox"):
                normalize_into(blob[0], image, box)
            with _add_time(seconds, "model"):
                outputs = self.backend.run(blob)
            with _add_time(seconds, "decode"):
                check(layout, outputs, size)
                candidates.append(decode(layout, outputs, 0, size, self.options.threshold).to_source(box))
        with _add_time(seconds, "nms"):
            found = merge(candidates)
            kept = found.select(nms(found.boxes, found.scores, self.options.iou)[: self.options.max_faces])
        with _add_time(seconds, "result"):
            faces = Detections(kept.boxes, kept.scores, kept.landmarks, image_size=source)._by_score()
        return faces, seconds


@contextmanager
def _add_time(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - start


def measure_cpu(backend: Backend, options: DetectorOptions, image: Image, runs: int) -> CpuFigures:
    """Measure ``runs`` of stages and ``detect()`` in turns, so that other processes slow both; close the backend."""
    pipeline = HostPipeline(backend, options)
    staged = StagedDetection(backend, pipeline, options)
    parts: list[dict[str, float]] = []
    whole: list[float] = []
    with SCRFDDetector._of(pipeline, options, device="cpu") as detector:
        order: list[Callable[[], None]] = [
            lambda: parts.append(staged.run(image)[1]),
            lambda: whole.append(_timed(detector, image)[1]),
        ]
        for _ in range(WARM_UP + runs):
            for step in order:
                step()
            order.reverse()
        faces, description = detector.detect(image), detector.description
    del parts[:WARM_UP], whole[:WARM_UP]
    return CpuFigures(
        stages={name: Timings(tuple(part[name] for part in parts)) for name in STAGES},
        around=Timings(tuple(sum(part[name] for name in AROUND_MODEL) for part in parts)),
        detect=Timings(tuple(whole)),
        faces=faces,
        scales=pipeline.scales,
        inputs=tuple(view.target for view in pipeline.plan(as_look(image, options))),
        description=description,
    )
