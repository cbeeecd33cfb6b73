"""Measure a detection stage by stage, with the very functions that the pipeline is made of."""

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
from scrfd_trt._letterbox import Letterbox, normalize_into
from scrfd_trt._nms import nms
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt.backends import Backend


@dataclass(frozen=True)
class Pace:
    """What it took to find the faces of one image several times.

    Attributes
    ----------
    seconds
        Of each ``detector.detect()``; reading and drawing are not in it.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    @property
    def images_per_second(self) -> float:
        """Images that were done in a second, over all runs."""
        return len(self.seconds) / sum(self.seconds)

    def __str__(self) -> str:
        runs = len(self.seconds)
        return (
            f"{self.images_per_second:,.1f} images/s, median {self.median * 1000:.3f} ms "
            f"({runs:,} run{'' if runs == 1 else 's'} after one to warm up)"
        )


def find(detector: SCRFDDetector, image: NDArray[np.uint8], repeat: int) -> tuple[Detections, float, Pace | None]:
    """Find the faces of an image.

    Parameters
    ----------
    detector
        Finds them.
    image
        ``(H, W, 3)`` uint8 BGR.
    repeat
        How often to do it again, on the clock.

    Returns
    -------
    tuple
        The faces; the seconds that it took, or the median of doing it again; and the pace, None without repetition.
    """
    faces, seconds = _timed(detector, image)
    if not repeat:
        return faces, seconds, None
    with console.hushed():
        pace = Pace(tuple(_timed(detector, image)[1] for _ in range(repeat)))
    return faces, pace.median, pace


def _timed(detector: SCRFDDetector, image: NDArray[np.uint8]) -> tuple[Detections, float]:
    start = time.perf_counter()
    faces = detector.detect(image)
    return faces, time.perf_counter() - start


WARM_UP = 10
NETWORK = "network"
AROUND = ("letterbox", "decode", "nms", "result")
"""All that is done around the network."""


@dataclass(frozen=True)
class Times:
    """Seconds of one thing, run by run.

    Attributes
    ----------
    seconds
        One a run.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in milliseconds."""
        return statistics.median(self.seconds) * 1000.0

    @property
    def best(self) -> float:
        """Shortest in milliseconds."""
        return min(self.seconds) * 1000.0


@dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes
    ----------
    stages
        Times by stage: letterbox, network, decode, nms, result.
    around
        Letterbox, decode, nms and result of a run together.
    detect
        ``detector.detect()`` as a whole.
    faces
        What was found.
    scales
        Width and height of each pass in pixels.
    description
        What ran, and how.
    """

    stages: dict[str, Times]
    around: Times
    detect: Times
    faces: Detections
    scales: tuple[tuple[int, int], ...]
    description: str

    @property
    def ratio(self) -> float:
        """Median of ``detect()``, in medians of the network's own run."""
        return self.detect.median / self.stages[NETWORK].median


class Stages:
    """Does by hand what :class:`~scrfd_trt._pipelines.HostPipeline` does with one image, on the clock.

    Parameters
    ----------
    backend
        Runs the network; it stays the caller's.
    pipeline
        Gives layout and scales.
    options
        Of the detector.
    """

    def __init__(self, backend: Backend, pipeline: HostPipeline, options: DetectorOptions) -> None:
        self.backend = backend
        self.layout = pipeline.layout
        self.options = options
        batch = backend.input.shape[0] or 1
        self.blobs = {
            (width, height): np.zeros((batch, 3, height, width), np.float32) for width, height in pipeline.scales
        }

    def run(self, image: NDArray[np.uint8]) -> tuple[Detections, dict[str, float]]:
        """Return the faces of an image, and the seconds of each stage, over all passes."""
        spent: dict[str, float] = defaultdict(float)
        source = (image.shape[1], image.shape[0])
        candidates = []
        for scale, blob in self.blobs.items():
            with _clock(spent, "letterbox"):
                box = Letterbox.fit(source, scale)
                normalize_into(blob[0], image, box)
            with _clock(spent, NETWORK):
                outputs = self.backend.run(blob)
            with _clock(spent, "decode"):
                check(self.layout, outputs, scale)
                candidates.append(decode(self.layout, outputs, 0, scale, self.options.threshold).to_source(box))
        with _clock(spent, "nms"):
            found = merge(candidates)
            kept = found.take(nms(found.boxes, found.scores, self.options.iou)[: self.options.max_faces])
        with _clock(spent, "result"):
            faces = Detections(kept.boxes, kept.scores, kept.landmarks, image_size=source)
        return faces, spent


def measure(
    backend: Backend, options: DetectorOptions, image: NDArray[np.uint8], runs: int, *, device: str = "cpu"
) -> Measured:
    """Measure the stages and ``detect()`` in turn, so that whatever else the machine does hits both alike.

    Parameters
    ----------
    backend
        Runs the network. It is closed at the end.
    options
        Of the detector.
    image
        ``(H, W, 3)`` uint8 BGR.
    runs
        How often, at least 1; a few more come before, to warm up.
    device
        What the backend runs on.
    """
    pipeline = HostPipeline(backend, options)
    stages = Stages(backend, pipeline, options)
    parts: list[dict[str, float]] = []
    whole: list[float] = []
    with SCRFDDetector(pipeline, options, device=device) as detector:

        def by_hand() -> None:
            parts.append(stages.run(image)[1])

        def as_a_whole() -> None:
            start = time.perf_counter()
            detector.detect(image)
            whole.append(time.perf_counter() - start)

        order: list[Callable[[], None]] = [by_hand, as_a_whole]
        for _ in range(WARM_UP + runs):
            for step in order:
                step()
            order.reverse()
        faces, description = detector.detect(image), detector.description
    del parts[:WARM_UP], whole[:WARM_UP]
    return Measured(
        stages={name: Times(tuple(part[name] for part in parts)) for name in (AROUND[0], NETWORK, *AROUND[1:])},
        around=Times(tuple(sum(part[name] for name in AROUND) for part in parts)),
        detect=Times(tuple(whole)),
        faces=faces,
        scales=pipeline.scales,
        description=description,
    )


@contextmanager
def _clock(spent: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent[name] += time.perf_counter() - start
