"""Measure a detector on a GPU: the engine alone, each step, and detection as a whole, in one run."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import samples
from scrfd_trt.backends import Backend
from scrfd_trt.cli.gpu_frames import SOURCES, Frames, Source
from scrfd_trt.cuda import Device, PinnedBuffer
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.options import DetectorOptions
from scrfd_trt.pipelines import HostPipeline
from scrfd_trt.pipelines.cuda import CudaPipeline
from scrfd_trt.pipelines.cuda.timing import Replay, StepTimes, engine_alone, step_times

STREAMED: tuple[Source, ...] = ("gpu", "pinned", "numpy")
"""What throughput is measured with."""

FRAME = "group-640x480"
"""The drawn scene that latency and throughput are measured with."""

ROUND = 50
"""Calls that are made of one kind before it is another's turn."""

WARM_UP = 10
WARMING, MEASURED = 150.0, 300.0
"""Milliseconds of the engine's own time that images go through for."""

COPYING_THREADS = 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds of ``detect()`` for one image.

    Attributes
    ----------
    name
        What image.
    source
        Where it lies: on the GPU, as plain memory or as a tensor of PyTorch, which brings a stream to wait for; in
        page-locked memory; or in an ordinary array.
    faces
        How many are found in it.
    p50, p99
        Median, and what one call in a hundred exceeds.
    """

    name: str
    source: Source
    faces: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Throughput:
    """Images in a second through ``stream()``.

    Attributes
    ----------
    batch, in_flight
        As for :meth:`scrfd_trt.SCRFDDetector.stream`.
    source
        As for :class:`Latency`.
    images_per_second
        Over all images.
    """

    batch: int
    in_flight: int
    source: Source
    images_per_second: float


@dataclass(frozen=True)
class OrtCuda:
    """ONNX Runtime on CUDA in the host's pipeline, with the frame of 640×480 pixels.

    Attributes
    ----------
    p50
        Milliseconds of ``detect()``.
    images_per_second
        In batches of the largest size.
    """

    p50: float
    images_per_second: float


@dataclass(frozen=True)
class GpuFigures:
    """What came out.

    Attributes
    ----------
    steps
        Times of each step by the number of images.
    engine
        Milliseconds of the engine alone with one image, measured in turns with ``latencies``.
    latencies, throughputs
        Of detection as a whole.
    copied_per_second
        Images that two threads copy into page-locked memory in a second: what ordinary arrays cannot exceed.
    memory
        Bytes on the GPU that the first ``detect()`` took, beside the engine's weights.
    ort_cuda
        What it was compared with, if it was.
    """

    steps: dict[int, StepTimes]
    engine: float
    latencies: list[Latency]
    throughputs: list[Throughput]
    copied_per_second: float
    memory: int
    ort_cuda: OrtCuda | None = None


def measure_gpu(
    opened: Callable[[], CudaPipeline],
    image: NDArray[np.uint8],
    *,
    threshold: float,
    runs: int,
    batches: Sequence[int],
    in_flights: Sequence[int],
) -> GpuFigures:
    """Measure a pipeline.

    Parameters
    ----------
    opened
        Opens it, with room for the largest batch.
    image
        ``(H, W, 3)`` uint8 BGR; latency is measured with it too, and all else with a drawn scene of 640×480 pixels.
    threshold
        Lowest score of a face.
    runs
        How often each latency is measured.
    batches, in_flights
        What throughput is measured with; batches that are larger than the engine takes are left out.
    """
    frame = samples.load(FRAME).image
    with ExitStack() as opening:
        pipeline = opened()
        batches = [count for count in batches if count <= pipeline.images_at_once] or [pipeline.images_at_once]
        before = _used_memory(pipeline.device)
        detector = opening.enter_context(SCRFDDetector(pipeline, pipeline.options, device="cuda"))
        detector.detect(frame)
        memory = _used_memory(pipeline.device) - before
        small = Frames(frame, 2 * max(batches), detector=detector, device=pipeline.device, opening=opening)
        large = Frames(image, 2, detector=detector, device=pipeline.device, opening=opening)
        steps = {
            count: step_times(pipeline, small.gpu[:count], threshold, runs=max(20, runs // 10))
            for count in sorted({1, *batches})
        }
        with engine_alone(pipeline, small.gpu[:1], threshold) as replay:
            engine, latencies = _latencies(detector, replay, [("640×480", small), (_size(image), large)], runs)
        throughputs = [
            _throughput(
                detector,
                small.of(source),
                batch=batch,
                in_flight=in_flight,
                source=source,
                engine=steps[batch].engine,
            )
            for batch, in_flight, source in itertools.product(batches, in_flights, STREAMED)
        ]
        copied = _copying(frame, pipeline.device, max(batches))
    return GpuFigures(steps, engine, latencies, throughputs, copied, memory)


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"


def _latencies(
    detector: SCRFDDetector, engine: Replay, pictures: Sequence[tuple[str, Frames]], runs: int
) -> tuple[float, list[Latency]]:
    """Measure the engine and all cases by turns, so that whatever else the machine does hits all alike."""
    cases = [(name, source, images) for name, frames in pictures for source in SOURCES if (images := frames.of(source))]
    seconds: list[list[float]] = [[] for _ in cases]
    alone = []
    for _ in range(0, runs, ROUND):
        alone.append(engine.span(ROUND))
        for spent, (_, _, images) in zip(seconds, cases, strict=True):
            for number in range(-WARM_UP, ROUND):
                image = images[number % len(images)]
                start = time.perf_counter()
                detector.detect(image)
                if number >= 0:
                    spent.append(time.perf_counter() - start)
    found = []
    for spent, (name, source, images) in zip(seconds, cases, strict=True):
        p50, p99 = np.percentile(spent, [50, 99]) * 1000.0
        faces = len(detector.detect(images[0]))
        found.append(Latency(name, source, faces, float(p50), float(p99)))
    return statistics.median(alone), found


def _throughput(
    detector: SCRFDDetector, images: list[Any], *, batch: int, in_flight: int, source: Source, engine: float
) -> Throughput:
    """Let images through for a while, after some to warm up; the best of two counts."""

    def run(milliseconds: float) -> float:
        count = max(4 * in_flight, int(milliseconds / engine)) * batch
        start = time.perf_counter()
        for _ in detector.stream(itertools.islice(itertools.cycle(images), count), batch=batch, in_flight=in_flight):
            pass
        return count / (time.perf_counter() - start)

    run(WARMING)
    return Throughput(batch, in_flight, source, max(run(MEASURED), run(MEASURED)))


def _copying(frame: NDArray[np.uint8], device: Device, count: int) -> float:
    """Return how many frames a second threads copy into page-locked memory, each its own ones."""
    rounds = max(1, 400 // count)

    def work(targets: list[NDArray[np.uint8]], sources: list[NDArray[np.uint8]]) -> None:
        for _ in range(rounds):
            for target, source in zip(targets, sources, strict=True):
                np.copyto(target, source)

    with ExitStack() as opening:
        threads = []
        for _ in range(COPYING_THREADS):
            buffers = [opening.enter_context(PinnedBuffer(frame.nbytes, device)) for _ in range(count)]
            targets = [buffer.view(frame.shape, np.uint8) for buffer in buffers]
            sources = [frame.copy() for _ in range(count)]
            work(targets[:1], sources[:1])
            threads.append(threading.Thread(target=work, args=(targets, sources)))
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return COPYING_THREADS * count * rounds / (time.perf_counter() - start)


def _used_memory(device: Device) -> int:
    with device.current():
        free, total = device.memory()
    return total - free


def measure_ort_cuda(backend: Backend, options: DetectorOptions, batch: int, runs: int) -> OrtCuda:
    """Measure the host's pipeline around a network that ONNX Runtime runs on the GPU.

    Parameters
    ----------
    backend
        Runs the network. It is closed at the end.
    options
        Of the detector.
    batch
        Images at a time.
    runs
        How often latency is measured.
    """
    frame = samples.load(FRAME).image
    with SCRFDDetector(HostPipeline(backend, options), options, device="cuda") as detector:
        seconds = []
        for _ in range(WARM_UP + runs):
            start = time.perf_counter()
            detector.detect(frame)
            seconds.append(time.perf_counter() - start)
        images = [frame.copy() for _ in range(batch)]
        detector.detect_batch(images)
        start, rounds = time.perf_counter(), 10
        for _ in range(rounds):
            detector.detect_batch(images)
        rate = rounds * batch / (time.perf_counter() - start)
    return OrtCuda(float(np.median(seconds[WARM_UP:])) * 1000.0, rate)
